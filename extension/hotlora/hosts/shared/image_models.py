"""What every host of an image model says and checks in the same way, whatever classes hold the model."""

import hashlib

import torch
from torch import nn

from ...engine.errors import UserError
from ...sd.config import ImageConfig
from ...sd.objectives import scaled_linear_alphas_cumprod


def fingerprint_vae(vae: nn.Module) -> str:
    """Which VAE it is: SHA-256 over the numbers that encode pictures. Classes differ in what they call a layer, in the order of layers
    and in whether a linear one has the shape of a convolution, so none of that counts."""
    tensors = [tensor for name, tensor in vae.state_dict().items() if name.startswith(("encoder.", "quant_conv."))]
    each = sorted(hashlib.sha256(tensor.detach().float().cpu().contiguous().numpy()).digest() for tensor in tensors)
    return hashlib.sha256(b"".join(each)).hexdigest()


def settle_schedule(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """[timesteps] fp32 on the CPU. Programs round the published schedule along different ways; it is always taken in the same bits, so
    that every host trains the same."""
    held, published = alphas_cumprod.detach().float().cpu(), scaled_linear_alphas_cumprod()
    return published if held.shape == published.shape and torch.allclose(held, published, rtol=1e-4) else held


def check_clip_skip(config: ImageConfig, family: str, layers: int) -> None:
    """Raise UserError where ``clip_skip`` asks for a layer that the text encoder does not have. It means nothing in SDXL."""
    if config.clip_skip and family != "sdxl" and config.clip_skip > layers:
        raise UserError(f"cannot set clip_skip to {config.clip_skip}: this text encoder has {layers} layers. Choose at most {layers}.")


def warn_zero_snr(zero_terminal_snr: bool, prediction_type: str) -> list[str]:
    """What people should know about the two together."""
    if zero_terminal_snr and prediction_type == "epsilon":
        return ["zero_terminal_snr is on for a model that predicts epsilon, which has nothing to learn at timestep 999."]
    return []
