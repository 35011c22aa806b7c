"""The stand-alone host: a Stable Diffusion checkpoint in diffusers' and transformers' classes, and nobody else using it."""

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...engine.errors import UserError
from ...engine.interfaces import Trainee
from ...sd.config import ImageConfig
from ...sd.continuing import check_initial
from ...sd.file_hashes import hash_ahead
from ...sd.model import Conditioning, SdSampleRequest
from ...sd.names import name_text_layers, name_unet_layers
from ..shared.devices import autocast, choose_device, choose_dtype
from ..shared.image_models import check_clip_skip, fingerprint_vae, settle_schedule, warn_zero_snr
from ..shared.modes import in_mode
from ..shared.spare import SpareModules, is_short
from ..shared.text_encoders import encode_captions
from .checkpoints.checkpoint import Checkpoint, fingerprint_checkpoint
from .checkpoints.recognising import describe, describe_vae
from .few_bits import check_bits
from .host import StandaloneHost
from .loading import load_parts
from .sampling import check_sampler, read_alphas_cumprod, sample_picture


class DiffusersHost(StandaloneHost):
    """Loads a Stable Diffusion model."""

    def borrow(self, config: ImageConfig) -> Trainee:
        """Load the base model that the config names.

        Raises:
            UserError: when there is none, or it is none that can be trained.
        """
        from ...sd.trainee import ImageTrainee

        check_model(config)
        check_initial(config)
        checkpoint = describe(Path(config.base_model).expanduser())
        return ImageTrainee(DiffusersModel(checkpoint, config, choose_device(config.train_device)), config)


def check_model(config: ImageConfig) -> None:
    """Raise UserError for what can be seen to be wrong in a moment: no diffusers, no base model or VAE where one is named, an unknown
    sampler."""
    if not find_spec("diffusers"):
        raise UserError("cannot load a model here: the package diffusers is missing. Add it to the Python that this program runs with.")
    if not config.base_model:
        raise UserError("cannot train without a base model. Set base_model to a checkpoint file or a diffusers folder.")
    check_sampler(config.sample_sampler)
    path = Path(config.base_model).expanduser()
    if not path.exists():
        describe(path)  # which says what is near it
    vae = Path(config.vae).expanduser()
    if config.vae and not vae.exists():
        describe_vae(vae, "")


class DiffusersModel:
    """Implements :class:`hotlora.sd.model.ImageModel`. The base weights are frozen; the VAE is always fp32."""

    unet: Any  # of diffusers' and transformers' classes
    vae: Any
    text_encoders: list[Any]

    def __init__(self, checkpoint: Checkpoint, config: ImageConfig, device: torch.device):
        """Loads it.

        Raises:
            UserError: when files are incomplete or options do not fit the model or the device.
        """
        self.device, self.compute_dtype = device, choose_dtype(config.mixed_precision, device)
        self.name, self.family = checkpoint.path.name, checkpoint.family
        self.path = checkpoint.path if checkpoint.path.is_file() else None
        self.warnings: list[str] = []
        if config.quantization != "none":
            check_bits(config.quantization, device)
        hash_ahead(checkpoint.weight_files())  # while they are read
        parts = load_parts(checkpoint, vae=config.vae, device=device, dtype=self.compute_dtype, bits=config.quantization)
        self.unet, self.vae, self.text_encoders, self.tokenizers = parts.unet, parts.vae, list(parts.text_encoders), parts.tokenizers
        self._spare = SpareModules([self.vae, *([] if config.train_text_encoder else self.text_encoders)])
        self.scheduler_config = checkpoint.scheduler
        self.alphas_cumprod = settle_schedule(read_alphas_cumprod(self.scheduler_config))
        self.scaling_factor = float(self.vae.config.scaling_factor)
        self.fingerprint, self.vae_fingerprint = fingerprint_checkpoint(checkpoint), fingerprint_vae(self.vae)
        self.prediction_type = self._choose_prediction_type(checkpoint, config)
        self.zero_terminal_snr = checkpoint.zero_terminal_snr if config.zero_terminal_snr is None else config.zero_terminal_snr
        self.warnings += warn_zero_snr(self.zero_terminal_snr, self.prediction_type)
        check_clip_skip(config, self.family, self.text_encoders[0].config.num_hidden_layers)

    def _choose_prediction_type(self, checkpoint: Checkpoint, config: ImageConfig) -> str:
        if config.prediction_type != "auto":
            return config.prediction_type
        if checkpoint.prediction_type:
            return checkpoint.prediction_type
        found = self._probe_prediction_type()
        self.warnings.append(f"nothing in {self.name} says what it predicts; its answers look like {found}. If not, set prediction_type.")
        return found

    @torch.no_grad()
    def _probe_prediction_type(self) -> str:
        """AUTOMATIC1111's test for SD 2.x (``modules/sd_models_config.py``): a constant input at the last timestep. An
        epsilon model gives the input back, a v model the picture's negative, which is far below it."""
        noisy = torch.full((1, 4, 8, 8), 0.5, device=self.device)
        context = torch.full((1, 2, self.unet.config.cross_attention_dim), 0.5, device=self.device)
        answer = self.predict(noisy, torch.tensor([999], device=self.device), Conditioning(context), None)
        return "v_prediction" if (answer - noisy).mean().item() < -1 else "epsilon"

    def unet_layers(self) -> Mapping[str, nn.Module]:
        return name_unet_layers(self.unet, self.family)

    def text_layers(self) -> Mapping[str, nn.Module]:
        return name_text_layers(self.text_encoders, self.family)

    @torch.no_grad()
    def encode_pixels(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with self._spare.at_hand(self.vae):
            latents = self.vae.encode(pixels.to(self.device, torch.float32)).latent_dist
        return latents.mean.cpu(), latents.std.cpu()

    def count_tokens(self, caption: str) -> int:
        return max(len(tokenizer(caption, add_special_tokens=False, verbose=False).input_ids) for tokenizer in self.tokenizers)

    def encoding(self) -> contextlib.AbstractContextManager[None]:
        return self._spare.at_hand(*self.text_encoders)

    def encode_text(self, captions: Sequence[str], *, clip_skip: int | None, max_token_length: int) -> Conditioning:
        with self._spare.at_hand(*self.text_encoders), autocast(self.device, self.compute_dtype):
            return encode_captions(captions, self.text_encoders, self.tokenizers, clip_skip=clip_skip, max_token_length=max_token_length)

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, cond: Conditioning, size_ids: torch.Tensor | None) -> torch.Tensor:
        """fp32, whatever precision it was computed in."""
        added = None if size_ids is None else {"text_embeds": cond.pooled, "time_ids": size_ids}
        with autocast(self.device, self.compute_dtype):
            return self.unet(noisy, timesteps, encoder_hidden_states=cond.context, added_cond_kwargs=added, return_dict=False)[0].float()

    @contextlib.contextmanager
    def training(self, *, gradient_checkpointing: bool) -> Iterator[None]:
        """Train mode switches on adapters' dropout, and diffusers before 0.32 does not checkpoint without it; the base
        has no dropout of its own. What does not learn waits on the CPU where the card is short of memory."""
        spare = self._spare.away() if is_short(self.device) else contextlib.nullcontext()
        with spare, in_mode([self.unet, *self.text_encoders], training=True):
            if not gradient_checkpointing:
                yield
                return
            self._enable_checkpointing()
            try:
                yield
            finally:
                self.unet.disable_gradient_checkpointing()
                for encoder in self.text_encoders:
                    encoder.gradient_checkpointing_disable()

    def _enable_checkpointing(self) -> None:
        """Only the non-reentrant kind passes gradients on from frozen embeddings; older transformers lack it. The text
        encoders keep their activations there, which are small."""
        self.unet.enable_gradient_checkpointing()
        for encoder in self.text_encoders:
            if "gradient_checkpointing_kwargs" in inspect.signature(encoder.gradient_checkpointing_enable).parameters:
                encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def sample(self, request: SdSampleRequest) -> Any:
        with self._spare.at_hand():
            return sample_picture(self, request)
