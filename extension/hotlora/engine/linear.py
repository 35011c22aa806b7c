"""Linear layers that are none of torch's class: some programs make their own. peft asks for the class, so those are shown to it as it
knows them. Must not know any program."""

from typing import Any, cast

import torch
from torch import nn


class HeldLinear(nn.Linear):
    """Another linear layer as torch's class: no weights of its own, and its answers are that layer's.

    Args:
        layer: see :func:`is_linear`; it may be given other weights at any time.
    """

    def __init__(self, layer: nn.Module):
        nn.Module.__init__(self)
        self.held: Any = layer
        self.training = layer.training

    @property
    def in_features(self) -> int:  # type: ignore[override]
        return int(self.held.in_features)

    @property
    def out_features(self) -> int:  # type: ignore[override]
        return int(self.held.out_features)

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """[out, in]"""
        return cast(torch.Tensor, self.held.weight)

    @property
    def bias(self) -> torch.Tensor | None:  # type: ignore[override]
        return cast("torch.Tensor | None", self.held.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.held(x))


def is_linear(layer: nn.Module) -> bool:
    """Whether it is torch's linear layer, or one whose weight is kept as plainly: numbers of a floating type, [out, in]."""
    if isinstance(layer, nn.Linear):
        return True
    weight, shape = getattr(layer, "weight", None), (getattr(layer, "out_features", None), getattr(layer, "in_features", None))
    return isinstance(weight, torch.Tensor) and weight.is_floating_point() and tuple(weight.shape) == shape


def as_linear(layer: nn.Module) -> nn.Module:
    """What peft can put an adapter on: the layer itself, unless it is linear and none of torch's class."""
    return HeldLinear(layer) if is_linear(layer) and not isinstance(layer, nn.Linear) else layer
