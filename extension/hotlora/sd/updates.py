"""What an image LoRA of any kind adds to a weight, as a whole matrix. Formulas: LoRA arXiv 2106.09685, LoHa 2108.06098, LoKr 2212.10650,
their Tucker forms as LyCORIS writes them, and DoRA (2402.09353) as image programs apply it.

Must not import a model library.
"""

import re
from collections.abc import Mapping

import torch

_SPATIAL = re.compile(r"_(conv[12]|in_layers_2|out_layers_3|op|conv|conv_in|conv_out|input_blocks_0_0|out_2)$")
_ONE_BY_ONE = re.compile(r"_(conv_shortcut|skip_connection)$")
_PROJECTION = re.compile(r"_proj_(in|out)$")


def compute_product(kind: str, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """[out, in * kernel] fp32, not yet scaled by alpha / rank.

    Args:
        kind: "lora", "loha" or "lokr".
        parts: tensors under peft's names.
    """
    if kind == "lora":
        return parts["lora_B"].flatten(1) @ parts["lora_A"].flatten(1)
    if kind == "loha":
        first, second = (_join(parts.get(f"hada_t{number}"), parts[f"hada_w{number}_a"], parts[f"hada_w{number}_b"]) for number in (1, 2))
        return first * second
    left, right = (_factor(parts, number) for number in (1, 2))
    if right.dim() == 4:
        left = left[:, :, None, None]
    return torch.kron(left, right.contiguous()).flatten(1)


def decompose_magnitude(weight: torch.Tensor, change: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """DoRA's change of a weight: (W + dW) m / |W + dW| - W, the norm along the axis that ``magnitude`` [1, in, ...] or [out, 1, ...] has.

    Args:
        weight, change: [out, in, ...]; the change already scaled.
    """
    moved = weight + change
    axes = tuple(axis for axis in range(moved.dim()) if axis != (1 if magnitude.shape[0] == 1 else 0))
    norm = torch.linalg.vector_norm(moved, dim=axes, keepdim=True)
    return moved * (magnitude.reshape(norm.shape) / norm.clamp(min=torch.finfo(norm.dtype).eps)) - weight


def guess_kernel(name: str, family: str) -> tuple[int, ...]:
    """(3, 3), (1, 1) or, of a linear layer, (): by a layer's exported name. Files of some kinds do not say it."""
    if _SPATIAL.search(name) and "_ff_" not in name:
        return (3, 3)
    if _ONE_BY_ONE.search(name) or (family == "sd1" and _PROJECTION.search(name)):
        return (1, 1)
    return ()


def _join(core: torch.Tensor | None, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """first @ second [out, inputs], or with a core [r, r, h, w] between them as Tucker's form has it: sum over both ranks."""
    if core is None:
        return first @ second
    return torch.einsum("ijkl,ip,jr->prkl", core, first, second).flatten(1)


def _factor(parts: Mapping[str, torch.Tensor], number: int) -> torch.Tensor:
    """One of LoKr's two factors, whole."""
    if f"lokr_w{number}" in parts:
        return parts[f"lokr_w{number}"]
    first, second = parts[f"lokr_w{number}_a"], parts[f"lokr_w{number}_b"]
    core = parts.get("lokr_t2") if number == 2 else None
    return first @ second if core is None else torch.einsum("ijkl,ip,jr->prkl", core, first, second)
