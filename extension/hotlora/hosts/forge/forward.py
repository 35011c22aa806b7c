"""Forge's U-Net made fit for a backward pass, for the length of a turn, without changing a number of its forward pass.

Its transformer blocks add to their residual in place, which overwrites what normalisation keeps for the backward pass; its own gradient
checkpointing is not there; and some of the attention that it may be set to has no backward pass.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..shared.forwards import replace_forward

_NO_BACKWARD = ("sage", "flash")  # of attention functions, by their names


@contextlib.contextmanager
def differentiable(unet: nn.Module, *, gradient_checkpointing: bool) -> Iterator[None]:
    """The U-Net's residuals, attention and, where it is wanted, checkpointing."""
    with contextlib.ExitStack() as undo:
        block: Any
        for block in unet.modules():
            if _adds_in_place(block):
                for norm in (block.norm1, block.norm2, block.norm3):
                    undo.callback(norm.register_forward_pre_hook(_take_a_copy).remove)
            if gradient_checkpointing and (forward := _find_checkpointed(block)):
                replace_forward(block, forward, undo)
        _put_in_attention(unet, undo)
        yield


def _adds_in_place(block: Any) -> bool:
    """Whether it is a transformer block: all of those do, and a copy more harms none."""
    return all(isinstance(getattr(block, name, None), nn.Module) for name in ("norm1", "norm2", "norm3", "attn1"))


def _take_a_copy(norm: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a norm keeps is then nobody else's to overwrite."""
    return (inputs[0].clone(), *inputs[1:]) if torch.is_grad_enabled() else inputs


def _find_checkpointed(block: Any) -> Callable[..., Any] | None:
    """A spatial transformer as a whole, because its blocks write over their own inputs; a residual block by what its own checkpointing
    would call."""
    if hasattr(block, "transformer_blocks"):
        return _checkpoint(block.forward)
    if hasattr(block, "_forward") and hasattr(block, "use_checkpoint") and not _adds_in_place(block):
        return _checkpoint(block._forward)
    return None


def _checkpoint(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Computed again in the backward pass, with the options as they were: blocks count in them."""

    def again(*inputs: Any, **named: Any) -> Any:
        kept = [dict(value) if isinstance(value, dict) else value for value in inputs]
        options: Any = {name: dict(value) if isinstance(value, dict) else value for name, value in named.items()}
        return checkpoint(forward, *kept, use_reentrant=False, **options)

    return again


def _put_in_attention(unet: nn.Module, undo: contextlib.ExitStack) -> None:
    """PyTorch's, in place of one without a backward pass; the U-Net's module has it by name."""
    home, attention = sys.modules.get(type(unet).__module__), sys.modules.get("backend.attention")
    found = getattr(home, "attention_function", None)
    plain = getattr(attention, "attention_pytorch", None)
    if found is not None and plain is not None and any(word in found.__name__ for word in _NO_BACKWARD):
        undo.callback(setattr, home, "attention_function", found)
        home.attention_function = plain  # type: ignore[union-attr]
