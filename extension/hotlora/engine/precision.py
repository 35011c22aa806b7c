"""Precisions by their short names, and trained numbers in that of a file. No file with numbers that are none leaves a run."""

import torch

from .errors import UserError

_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def name_precision(dtype: torch.dtype) -> str:
    """``fp32``, ``fp16`` or ``bf16``; of anything else torch's own name."""
    return _NAMES.get(dtype, str(dtype).removeprefix("torch."))


def describe_precision(asked: str, dtype: torch.dtype) -> str:
    """What a run computes in, for people, and whether it was chosen for them."""
    return name_precision(dtype) + (" (auto)" if asked == "auto" else "")


def to_precision(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor as a file holds it, on the CPU.

    Raises:
        UserError: where a value does not fit.
        RuntimeError: where it was no finite number before; whoever writes has looked for that.
    """
    if not torch.isfinite(tensor).all():
        raise RuntimeError(f"refused to save {name}: it holds values that are not finite")
    cast = tensor.detach().to("cpu", dtype).contiguous()
    if not torch.isfinite(cast).all():
        grown = f"{name} has grown to {tensor.abs().max().item():.3g}, which does not fit into it"
        raise UserError(
            f"cannot save the adapter in {name_precision(dtype)}: {grown}. "
            "Set save_precision: fp32 and resume; if that is not what it should have learned, start anew at a lower learning_rate."
        )
    return cast
