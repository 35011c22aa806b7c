"""What a run's model draws as it stands, and what of it is compared: pictures, and latents that are folded to one size."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..engine.interfaces import PreviewRequest

_SIDE = 16  # of the grid that latents are compared on: pictures of all shapes, and small shifts count little


class Samples:
    """Samples of a trainee's model for as long as it stays as it is; none is drawn twice. A seed counts from the run's sample_seed."""

    def __init__(self, trainee: Any):
        self._trainee = trainee
        self._pictures: dict[tuple[str, int], Image.Image] = {}
        self._latents: dict[tuple[str, int], torch.Tensor] = {}

    def picture(self, caption: str, seed: int) -> Image.Image:
        """The sample of this prompt."""
        key = (caption, seed)
        if key not in self._pictures:
            self._pictures[key] = self._trainee.preview(PreviewRequest(caption, self._trainee.config.sample_seed + seed)).picture
        return self._pictures[key]

    def latent(self, caption: str, seed: int) -> torch.Tensor:
        """Its VAE's mean, folded: see :func:`fold`."""
        key = (caption, seed)
        if key not in self._latents:
            mean, _ = self._trainee.model.encode_pixels(_as_pixels(self.picture(caption, seed)))
            self._latents[key] = fold(mean[0])
        return self._latents[key]


def fold(latent: torch.Tensor) -> torch.Tensor:
    """[4, h, w] -> [4 * side * side], what is compared."""
    side = min(_SIDE, *latent.shape[1:])
    grid = F.adaptive_avg_pool2d(latent.float(), side)
    if side < _SIDE:
        grid = F.interpolate(grid[None], size=_SIDE, mode="nearest")[0]
    return grid.flatten()


def _as_pixels(picture: Image.Image) -> torch.Tensor:
    """[1, 3, height, width] in -1..1"""
    values = torch.from_numpy(np.array(picture.convert("RGB"))).float()
    return (values / 127.5 - 1).permute(2, 0, 1)[None]
