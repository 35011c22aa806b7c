"""Weights that autograd takes: Forge loads and moves its models in inference mode, and no gradient passes through what comes of that.

Nothing is copied: a tensor of its own over the same numbers stands in its place, and whatever Forge does next works with that. Must not
import anything of Forge.
"""

from collections.abc import Iterable

import torch
from torch import nn


def make_ordinary(trees: Iterable[nn.Module]) -> None:
    """Every parameter and buffer of the trees as autograd takes it. What is one object in two places stays one.

    Anew after everything that may have moved a model. Parameters that were made outside of inference mode, such as adapters', stay the
    objects that they are.
    """
    made: dict[int, torch.Tensor] = {}
    for module in dict.fromkeys(module for tree in trees for module in tree.modules()):
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None and not is_ordinary(tensor):
                    held[name] = made.setdefault(id(tensor), tensor if _mend(tensor) else _wrap(tensor))  # type: ignore[assignment]


def is_ordinary(tensor: torch.Tensor) -> bool:
    """Whether autograd takes it. What inference mode has made and ordinary code has moved says that it is no inference tensor, and
    has no version counter all the same."""
    try:
        return tensor._version >= 0 and not tensor.is_inference()
    except RuntimeError:
        return False


def _mend(tensor: torch.Tensor) -> bool:
    """Whether other data have made it ordinary: that works for what was made outside of inference mode and moved inside."""
    if tensor.is_inference():
        try:
            tensor.data = _over_same_numbers(tensor)
        except RuntimeError:
            return False
    return is_ordinary(tensor)


def _wrap(tensor: torch.Tensor) -> torch.Tensor:
    data = _over_same_numbers(tensor)
    return nn.Parameter(data, requires_grad=False) if isinstance(tensor, nn.Parameter) else data


def _over_same_numbers(tensor: torch.Tensor) -> torch.Tensor:
    place = tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride()
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(*place)
