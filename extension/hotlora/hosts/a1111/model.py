"""The WebUI's loaded model, CompVis or SGM classes, as every Stable Diffusion looks to training.

Nothing is loaded or copied: each call goes to the modules that are there, through the entry points at which ``--medvram``
moves them. Imports none of the WebUI's ``modules``.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ...engine.errors import UserError
from ...sd.config import ImageConfig
from ...sd.file_hashes import file_hashes
from ...sd.model import Conditioning, SdSampleRequest
from ...sd.names import name_text_layers, name_unet_layers
from ..shared.devices import autocast
from ..shared.forwards import replace_forward
from ..shared.image_models import check_clip_skip, fingerprint_vae, settle_schedule
from ..shared.text_encoders import inner_of
from ..webui.models import check_options, choose_compute_dtype, choose_zero_snr, encode_moments
from .memory import WebuiSpare, needs_room
from .sampling import sample_picture
from .text import encode_captions, encoder_of, is_transformers

_SIZES = {"original_size_as_tuple": slice(0, 2), "crop_coords_top_left": slice(2, 4), "target_size_as_tuple": slice(4, 6)}


class A1111Model:
    """Implements :class:`hotlora.sd.model.ImageModel`.

    Args:
        loaded: ``ldm``'s LatentDiffusion or ``sgm``'s DiffusionEngine, as the WebUI prepared it.
        device: where the WebUI computes.
        sampled_at_zero_snr: the WebUI is set to sample with the zero-terminal-SNR schedule.

    Raises:
        UserError: where options do not fit the model or the device.
    """

    def __init__(self, loaded: Any, config: ImageConfig, *, device: torch.device, sampled_at_zero_snr: bool = False):
        info = loaded.sd_checkpoint_info
        self._loaded, self.device = loaded, torch.device(device)
        self._embedders = find_text_embedders(loaded)
        self._file = Path(info.filename)
        self.path: Path | None = self._file
        self.name = self._file.name
        self.family = "sdxl" if loaded.is_sdxl else "sd2" if loaded.is_sd2 else "sd1"
        self.unet, self.vae = loaded.model.diffusion_model, loaded.first_stage_model
        self.text_encoders: list[nn.Module] = [encoder_of(embedder) for embedder in self._embedders]
        self._spare = WebuiSpare([self.vae, *([] if config.train_text_encoder else self.text_encoders)])
        held = next(self.unet.parameters()).dtype
        remedy = "Start the WebUI with --no-half."
        self.compute_dtype = choose_compute_dtype(config, held, self.device, name=self.name, remedy=remedy)
        self.prediction_type = "v_prediction" if loaded.parameterization == "v" else "epsilon"
        self.zero_terminal_snr = choose_zero_snr(config, self.prediction_type, self._file, sampled_so=sampled_at_zero_snr)
        self.alphas_cumprod = settle_schedule(getattr(loaded, "alphas_cumprod_original", loaded.alphas_cumprod))  # not the one for sampling
        self.scaling_factor = float(loaded.scale_factor)
        self.fingerprint = info.sha256 or file_hashes(self._file).sha256
        self.vae_fingerprint = fingerprint_vae(self.vae)
        self.warnings: list[str] = []
        self._check_options(config)

    def _check_options(self, config: ImageConfig) -> None:
        if self._loaded.lowvram and config.train_text_encoder:
            raise UserError(
                "cannot train the text encoder with --medvram, which takes it away during a step. Set train_text_encoder: false."
            )
        self.warnings += check_options(config, self.name, self.prediction_type, self.zero_terminal_snr, vae_setting="Settings > VAE")
        check_clip_skip(config, self.family, self._count_text_layers())

    def _count_text_layers(self) -> int:
        """Layers that clip_skip may choose from."""
        first = self._embedders[0]
        if is_transformers(first):
            return len(inner_of(first.wrapped.transformer).encoder.layers)
        return len(first.wrapped.model.transformer.resblocks) - first.wrapped.layer_idx

    def unet_layers(self) -> Mapping[str, nn.Module]:
        return name_unet_layers(self.unet, self.family)

    def text_layers(self) -> Mapping[str, nn.Module]:
        """SD 1.x only: open_clip keeps query, key and value in one matrix, which is no layer of its own."""
        return name_text_layers(self.text_encoders, self.family) if self.family == "sd1" else {}

    def encode_pixels(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with self._spare.at_hand(self.vae):
            return encode_moments(self.vae, self.vae.encode, pixels.to(self.device))

    def count_tokens(self, caption: str) -> int:
        return max(len(embedder.tokenize([caption])[0]) for embedder in self._embedders)

    def encoding(self) -> contextlib.AbstractContextManager[None]:
        return self._spare.at_hand(*self.text_encoders)

    def encode_text(self, captions: Sequence[str], *, clip_skip: int | None, max_token_length: int) -> Conditioning:
        if self._loaded.lowvram and self.family == "sdxl":
            _summon(self._loaded.conditioner)
        with self.encoding(), autocast(self.device, self.compute_dtype):
            return encode_captions(captions, self._embedders, clip_skip=clip_skip, max_token_length=max_token_length, device=self.device)

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, cond: Conditioning, size_ids: torch.Tensor | None) -> torch.Tensor:
        """fp32, whatever precision it was computed in."""
        condition: Any = cond.context
        if self.family == "sdxl":
            assert cond.pooled is not None and size_ids is not None, "SDXL was trained on both"
            condition = {"crossattn": cond.context, "vector": self._join_vector(cond.pooled, size_ids)}
        with autocast(self.device, self.compute_dtype):
            return self._loaded.apply_model(noisy, timesteps, condition).float()

    def _join_vector(self, pooled: torch.Tensor, size_ids: torch.Tensor) -> torch.Tensor:
        """SDXL's pooled text and embedded sizes side by side, by the model's own embedders. [batch, width + 6 * 256]"""
        embedders = [embedder for embedder in self._loaded.conditioner.embedders if getattr(embedder, "input_key", None) in _SIZES]
        return torch.cat([pooled, *(embedder(size_ids[:, _SIZES[embedder.input_key]]) for embedder in embedders)], dim=1)

    @contextlib.contextmanager
    def training(self, *, gradient_checkpointing: bool) -> Iterator[None]:
        """The classes' own checkpointing is the reentrant kind, through which no gradient passes to a frozen base."""
        if self._loaded.lowvram and next(self.unet.parameters()).device.type == self.device.type:
            self._loaded.model.to(self.device)  # adapters that were on the CPU when the U-Net was fetched
        with contextlib.ExitStack() as undo:
            if gradient_checkpointing:
                for block in self.unet.modules():
                    if hasattr(block, "_forward") and (hasattr(block, "checkpoint") or hasattr(block, "use_checkpoint")):
                        replace_forward(block, _checkpointed(block), undo)
            if not self._loaded.lowvram and needs_room(self.device):
                undo.enter_context(self._spare.away())
            yield

    def sample(self, request: SdSampleRequest) -> Any:
        with self._spare.at_hand():
            return sample_picture(self._loaded, request)


def find_text_embedders(loaded: Any) -> list[Any]:
    """The WebUI's wrappers around the text encoders: one, or SDXL's two."""
    if not hasattr(loaded, "conditioner"):
        return [loaded.cond_stage_model]
    return [embedder for embedder in loaded.conditioner.embedders if hasattr(embedder, "wrapped")]


def _summon(module: nn.Module) -> None:
    """``--medvram`` fetches a module in a hook before its forward, which is not what is called here."""
    for hook in module._forward_pre_hooks.values():
        hook(module, ())


def _checkpointed(block: Any) -> Callable[..., Any]:
    def forward(*inputs: Any, **options: Any) -> Any:
        return checkpoint(block._forward, *inputs, use_reentrant=False, **options)

    return forward
