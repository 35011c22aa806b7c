"""The one interface behind which every Stable Diffusion implementation looks alike.

A host gives an :class:`ImageModel` over the modules it already holds (diffusers classes, CompVis or SGM classes); what
an image example is, and what is learned from it, is written once against this interface.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..engine.interfaces import PreviewRequest
from ..pictures.prompts import SampleRequest, read_prompt
from .config import ImageConfig

FAMILIES = ("sd1", "sd2", "sdxl")


@dataclass(frozen=True)
class Conditioning:
    """What the text encoders made of a batch of captions."""

    context: torch.Tensor  # [batch, tokens, width]
    pooled: torch.Tensor | None = None  # [batch, width]; SDXL only

    def __len__(self) -> int:
        return len(self.context)


@dataclass(frozen=True)
class SdSampleRequest(SampleRequest):
    """A sample, with what only CLIP needs to know."""

    clip_skip: int | None = None
    max_token_length: int = 75


def read_sample(request: PreviewRequest, config: ImageConfig) -> SdSampleRequest:
    """The sample that is asked for; what the request leaves open is as in the options."""
    settled: dict[str, Any] = {**vars(read_prompt(request.prompt, config, request.seed)), **request.settings}
    return SdSampleRequest(**settled, clip_skip=config.clip_skip, max_token_length=config.max_token_length)


class ImageModel(Protocol):
    """A borrowed Stable Diffusion model."""

    name: str  # as people know it: the checkpoint's file or folder name
    path: Path | None  # the checkpoint file, for its hashes in metadata
    fingerprint: str  # changes when the base weights change
    family: str  # one of FAMILIES
    prediction_type: str  # "epsilon" or "v_prediction"
    zero_terminal_snr: bool
    alphas_cumprod: torch.Tensor  # [1000] fp32 on the CPU, as trained: before any zero-terminal-SNR rewrite
    scaling_factor: float  # latents = scaling_factor * VAE mean
    vae_fingerprint: str  # which VAE: part of the latent cache's key
    device: torch.device
    compute_dtype: torch.dtype  # of the U-Net's arithmetic
    unet: nn.Module
    text_encoders: list[nn.Module]
    warnings: list[str]  # what people should know about it

    def unet_layers(self) -> Mapping[str, nn.Module]:
        """Every Linear and Conv2d of the U-Net that a LoRA may go on, by its exported (kohya) name."""
        ...

    def text_layers(self) -> Mapping[str, nn.Module]:
        """Likewise for the text encoders."""
        ...

    def encode_pixels(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[batch, 3, height, width] in -1..1 -> mean and standard deviation, each [batch, 4, height/8, width/8] fp32 on
        the CPU, not yet scaled. No gradient."""
        ...

    def count_tokens(self, caption: str) -> int:
        """Tokens of a caption without special ones, in the encoder that makes most of it."""
        ...

    def encoding(self) -> AbstractContextManager[None]:
        """To be entered around many calls of :meth:`encode_text`, each of which may otherwise have to fetch the encoders."""
        ...

    def encode_text(self, captions: Sequence[str], *, clip_skip: int | None, max_token_length: int) -> Conditioning:
        """[batch] captions -> context [batch, tokens, width] and, of SDXL, pooled [batch, width]. With gradient where the
        encoders' adapters are attached and grad mode is on."""
        ...

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, cond: Conditioning, size_ids: torch.Tensor | None) -> torch.Tensor:
        """The U-Net's output for scaled noisy latents [batch, 4, h, w], timesteps [batch] int64; ``size_ids`` [batch, 6]
        is SDXL's (original h, w, crop top, left, target h, w) in pixels."""
        ...

    def training(self, *, gradient_checkpointing: bool) -> AbstractContextManager[None]:
        """Whatever modes training needs, entered at the start of every turn with adapters attached; undone at its end."""
        ...

    def sample(self, request: SdSampleRequest) -> Any:
        """A PIL picture from the host's own sampler, with whatever adapters are attached."""
        ...
