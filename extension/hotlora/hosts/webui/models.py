"""What A1111's and Forge's model objects are asked in the same way: precision, schedule, options, and moments of their VAE."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...engine.errors import UserError
from ...sd.config import ImageConfig
from ..shared.devices import choose_dtype, random_numbers_kept
from ..shared.image_models import warn_zero_snr
from ..shared.tensor_file import open_tensor_file

_HALF = {torch.float16: "fp16", torch.bfloat16: "bf16"}


def choose_compute_dtype(config: ImageConfig, held: torch.dtype, device: torch.device, *, name: str, remedy: str) -> torch.dtype:
    """What is asked for, or else the precision that the program computes in; where that is fp32, ``auto`` takes bf16 on cards that are
    made for it, and no fp16, which people may have switched off.

    Args:
        held: that precision.
        name: the checkpoint's.
        remedy: what to do where the device cannot train in it.
    Raises:
        UserError: where it cannot.
    """
    if config.mixed_precision in _HALF.values():
        return choose_dtype(config.mixed_precision, device)
    if held in _HALF:
        try:
            choose_dtype(_HALF[held], device)
        except UserError:
            raise UserError(f"cannot train on {name} in half precision on this device ({device.type}). {remedy}") from None
    elif config.mixed_precision == "auto" and choose_dtype("auto", device) == torch.bfloat16:
        return torch.bfloat16
    return held


def choose_zero_snr(config: ImageConfig, prediction_type: str, file: Path, *, sampled_so: bool) -> bool:
    """The option; else as pictures are made, and as the file says, where the model can learn it at all."""
    if config.zero_terminal_snr is not None:
        return config.zero_terminal_snr
    if prediction_type == "epsilon":
        return False
    return sampled_so or (file.suffix == ".safetensors" and file.is_file() and "ztsnr" in open_tensor_file(file).shapes)


def check_options(config: ImageConfig, name: str, prediction_type: str, zero_terminal_snr: bool, *, vae_setting: str) -> list[str]:
    """What people should know about their options. Raises UserError where one cannot be used in the program.

    Args:
        vae_setting: where people choose the VAE there.
    """
    if config.vae:
        raise UserError(f"cannot use the option vae in the WebUI: it has one loaded. Choose it in {vae_setting}, and leave vae empty.")
    warnings = []
    if config.quantization != "none":
        asked = f"quantization {config.quantization} was asked for"
        warnings.append(f"{asked}, but the WebUI has the model loaded already. It is trained as it is there.")
        config.quantization = "none"  # so that no file claims it
    if config.prediction_type not in ("auto", prediction_type):
        asked = f"prediction_type {config.prediction_type} was asked for"
        warnings.append(f"{asked}, but the WebUI runs {name} as {prediction_type}. That is what is trained.")
    return warnings + warn_zero_snr(zero_terminal_snr, prediction_type)


@torch.no_grad()
def encode_moments(vae: Any, encode: Callable[[torch.Tensor], object], pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of pictures in latent space, each [batch, 4, height/8, width/8] fp32 on the CPU. They are caught on
    their way: what comes out of the classes is already drawn from them.

    Args:
        vae: with ``quant_conv``; computes in fp32 for as long.
        encode: calls it.
        pixels: [batch, 3, height, width] in -1..1, where the VAE is.
    """
    caught: list[torch.Tensor] = []
    hook = vae.quant_conv.register_forward_hook(lambda module, inputs, moments: caught.append(moments))
    try:
        with _in_fp32(vae), random_numbers_kept(pixels.device):
            encode(pixels.float())
    finally:
        hook.remove()
    mean, log_variance = caught[0].float().chunk(2, dim=1)
    return mean.cpu(), (0.5 * log_variance.clamp(-30, 20)).exp().cpu()


@contextlib.contextmanager
def _in_fp32(module: nn.Module) -> Iterator[None]:
    """Half precision to fp32 and back is exact; so is the VAE's picture, which in fp16 may not even be finite."""
    dtype = next(module.parameters()).dtype
    module.float()
    try:
        yield
    finally:
        module.to(dtype)
