"""Forge's loaded model as every Stable Diffusion looks to training.

Nothing is loaded or copied: each call goes to the modules that are there. Imports none of Forge's ``modules``.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...sd.config import ImageConfig
from ...sd.file_hashes import file_hashes
from ...sd.model import Conditioning, SdSampleRequest
from ...sd.names import name_text_layers, name_unet_layers
from ..shared.devices import autocast
from ..shared.image_models import check_clip_skip, fingerprint_vae, settle_schedule
from ..shared.text_encoders import inner_of
from ..webui.models import check_options, choose_compute_dtype, choose_zero_snr, encode_moments
from .forward import differentiable
from .memory import load
from .sampling import sample_picture
from .text import encode, encoder_of, find_engines


class ForgeModel:
    """Implements :class:`hotlora.sd.model.ImageModel`.

    Args:
        loaded: Forge's engine, such as ``StableDiffusionXL``.
        sampled_at_zero_snr: Forge is set to sample with the zero-terminal-SNR schedule.

    Raises:
        UserError: where options do not fit the model or the device.
    """

    def __init__(self, loaded: Any, config: ImageConfig, *, sampled_at_zero_snr: bool = False):
        info, held = loaded.sd_checkpoint_info, loaded.forge_objects_original
        self._loaded, self._held = loaded, held
        self._engines = find_engines(loaded)
        self.device = torch.device(held.unet.load_device)
        self.path: Path | None = Path(info.filename)
        self.name = self.path.name
        self.family = "sdxl" if loaded.is_sdxl else "sd2" if getattr(loaded, "is_sd2", False) else "sd1"
        self.unet, self.vae = held.unet.model.diffusion_model, held.vae.first_stage_model
        self.text_encoders: list[Any] = [encoder_of(engine) for engine in self._engines]
        self._input_dtype: torch.dtype = held.unet.model.computation_dtype
        remedy = "Start the WebUI with --all-in-fp32."
        self.compute_dtype = choose_compute_dtype(config, self._input_dtype, self.device, name=self.name, remedy=remedy)
        predictor = held.unet.model.predictor
        self.prediction_type: str = predictor.prediction_type
        said = sampled_at_zero_snr or bool(getattr(loaded.model_config, "ztsnr", False))
        self.zero_terminal_snr = choose_zero_snr(config, self.prediction_type, self.path, sampled_so=said)
        self.alphas_cumprod = settle_schedule(predictor.alphas_cumprod.clone())
        self.scaling_factor = float(self.vae.scaling_factor)
        self.fingerprint = info.sha256 or file_hashes(self.path).sha256
        self.vae_fingerprint = fingerprint_vae(self.vae)
        self.warnings = check_options(
            config, self.name, self.prediction_type, self.zero_terminal_snr, vae_setting="VAE / Text Encoder at the top of the page"
        )
        check_clip_skip(config, self.family, len(inner_of(self.text_encoders[0]).encoder.layers))

    def unet_layers(self) -> Mapping[str, nn.Module]:
        return name_unet_layers(self.unet, self.family)

    def text_layers(self) -> Mapping[str, nn.Module]:
        return name_text_layers(self.text_encoders, self.family)

    def encode_pixels(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._load(self._held.vae.patcher)
        return encode_moments(self.vae, self.vae.encode, pixels.to(self._held.vae.device))

    def count_tokens(self, caption: str) -> int:
        return max(len(engine.tokenize([caption])[0]) for engine in self._engines)

    def encoding(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def encode_text(self, captions: Sequence[str], *, clip_skip: int | None, max_token_length: int) -> Conditioning:
        self._load()
        cond = encode(captions, self._engines, clip_skip=clip_skip, max_token_length=max_token_length)
        return Conditioning(cond.context.to(self.device), None if cond.pooled is None else cond.pooled.to(self.device))

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, cond: Conditioning, size_ids: torch.Tensor | None) -> torch.Tensor:
        """fp32, whatever precision it was computed in."""
        dtype, more = self._input_dtype, {}
        if self.family == "sdxl":
            assert cond.pooled is not None and size_ids is not None, "SDXL was trained on both"
            more["y"] = self._join_vector(cond.pooled, size_ids).to(dtype)
        with autocast(self.device, self.compute_dtype):
            answer = self.unet(noisy.to(dtype), timesteps.float(), context=cond.context.to(dtype), transformer_options={}, **more)
        return answer.float()

    def _join_vector(self, pooled: torch.Tensor, size_ids: torch.Tensor) -> torch.Tensor:
        """SDXL's pooled text and embedded sizes side by side. [batch, width + 6 * 256]"""
        embedded = self._loaded.embedder(size_ids.flatten()).to(pooled)
        return torch.cat([pooled, embedded.reshape(len(pooled), -1)], dim=1)

    @contextlib.contextmanager
    def training(self, *, gradient_checkpointing: bool) -> Iterator[None]:
        with differentiable(self.unet, gradient_checkpointing=gradient_checkpointing):
            yield

    def sample(self, request: SdSampleRequest) -> Any:
        """A picture may push the U-Net off the device, adapters and all, and whatever it moves is inference mode's."""
        try:
            return sample_picture(self._loaded, request)
        finally:
            self._load()

    def _load(self, *more: Any) -> None:
        """What a step needs, and these, at once."""
        load([self._held.unet, self._held.clip.patcher, *more])
