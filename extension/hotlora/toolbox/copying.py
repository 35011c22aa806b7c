"""Whether samples copy: how near each comes to a training picture, in the VAE's latent space, against how near those are to each other."""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .samples import Samples, fold

_COPY = 0.4  # of the training pictures' typical distance from their nearest: nothing farther is a copy
_CLOSER = 0.5  # of how near samples come to pictures that were kept back: what is nearer to a trained one was learned by heart
_COPY_WITHOUT_CONTROL = 0.35  # where nothing was kept back


@dataclass(frozen=True)
class Nearest:
    """The training picture that a sample comes nearest to.

    Attributes:
        share: the distance, where 1 is how far a training picture typically is from its own nearest.
    """

    prompt: str
    picture: str
    share: float
    is_copy: bool


@dataclass(frozen=True)
class Pictures:
    """Some of a run's pictures: files, captions, and latents [count, 4 * side * side] to compare."""

    paths: list[Path]
    captions: list[str]
    latents: torch.Tensor

    @classmethod
    def of(cls, trainee: Any, *, kept_back: bool) -> "Pictures":
        found = list(trainee.known_examples(kept_back=kept_back))
        latents = [fold(latent) for _, _, latent in found]
        return cls(
            [path for path, _, _ in found], [caption for _, caption, _ in found], torch.stack(latents) if latents else torch.empty(0)
        )

    def choose(self, count: int) -> list[int]:
        """So many places, evenly over all."""
        total = len(self.paths)
        count = min(count, total)
        return [place * total // count for place in range(count)]


class Spread:
    """The training pictures among each other, and those that were kept back.

    Attributes:
        trained: those that were trained on.
        typical: how far a training picture is from its nearest, in the middle of all.
    """

    def __init__(self, trained: Pictures, kept_back: Pictures):
        self.trained, self._kept_back = trained, kept_back
        apart = torch.cdist(trained.latents, trained.latents)
        apart.fill_diagonal_(float("inf"))
        nearest = apart.min(1).values
        nearest = nearest[nearest > 1e-3]  # twice the same picture says nothing
        self.typical = nearest.median().item() if len(nearest) else float("nan")

    @classmethod
    def of(cls, trainee: Any) -> "Spread | None":
        """None for less than three pictures, or the same all over, which say nothing about what is near."""
        trained = Pictures.of(trainee, kept_back=False)
        spread = cls(trained, Pictures.of(trainee, kept_back=True)) if len(trained.paths) > 2 else None
        return spread if spread and math.isfinite(spread.typical) else None

    def find_nearest(self, samples: Samples, count: int) -> tuple[list[Nearest], float | None]:
        """Draw so many pictures by training captions, spread over all, and look for each one's nearest.

        Returns:
            These, and as control how near samples by captions that were kept back come to their own pictures (the median, in the same
            measure): a model that has learned a style or knows the subject comes near to those too, one that copies does not.
        """
        own = self._kept_back.choose(count)
        shares = [self._measure(samples, self._kept_back.captions[place], place, self._kept_back.latents[place][None])[0] for place in own]
        control = statistics.median(shares) if shares else None
        limit = _COPY_WITHOUT_CONTROL if control is None else min(_COPY, _CLOSER * control)
        found = []
        for place in self.trained.choose(count):
            caption = self.trained.captions[place]
            share, nearest = self._measure(samples, caption, place, self.trained.latents)
            found.append(Nearest(caption, self.trained.paths[nearest].name, share, share < limit))
        return found, control

    def _measure(self, samples: Samples, caption: str, seed: int, latents: torch.Tensor) -> tuple[float, int]:
        """(distance of a sample by that caption from the nearest of the latents, its place among them)."""
        distances = torch.cdist(samples.latent(caption, seed)[None], latents)[0]
        place = int(distances.argmin())
        return distances[place].item() / self.typical, place
