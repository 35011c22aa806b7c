"""Where a model computes, and in what precision: the same answer for every host. Must not import any library of models."""

import contextlib
from collections.abc import Iterator

import torch

from ...engine.errors import UserError

_DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def choose_device() -> torch.device:
    """The fastest that is there."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        return torch.device("xpu")
    return torch.device("cpu")


def choose_dtype(mixed_precision: str, device: torch.device) -> torch.dtype:
    """Precision of the base model and its arithmetic.

    Raises:
        UserError: when the device cannot do it.
    """
    dtype = _DTYPES[mixed_precision]
    if dtype == torch.float32:
        return dtype
    if device.type == "cpu" and dtype == torch.float16:
        raise UserError("cannot train with mixed_precision fp16 on a processor: that needs a GPU. Set mixed_precision: no (or bf16).")
    try:
        torch.autocast(device.type, dtype)
    except RuntimeError as error:
        raise UserError(f"cannot train with mixed_precision {mixed_precision} on this device: {error}. Set mixed_precision: no.") from error
    return dtype


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[None]:
    """Arithmetic in ``dtype``: adapters are fp32 among weights that may not be."""
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


@contextlib.contextmanager
def random_numbers_kept(device: torch.device) -> Iterator[None]:
    """Whatever is drawn inside, torch's random numbers go on afterwards as if nothing had been."""
    cuda = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        yield
