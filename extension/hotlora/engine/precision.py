"""Trained numbers in the precision of a file. No file with numbers that are none leaves a run."""

import torch

from .errors import UserError


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
        precision = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, str(dtype))
        raise UserError(
            f"cannot save the adapter in {precision}: {name} has grown to {tensor.abs().max().item():.3g}, which does not fit into it. "
            "Set save_precision: fp32 and resume; if that is not what it should have learned, start anew at a lower learning_rate."
        )
    return cast
