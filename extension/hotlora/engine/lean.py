"""Plain LoRA layers with fewer passes over memory: peft's arithmetic, W x + scale * B A x, and peft's layers.

An adapter has a hundredth of a model's multiplications and took a tenth of a step: its answer was written, scaled and added in three
passes, and 1x1 convolutions went through the machinery of large ones. Here the scale and the addition are part of the last product. Owns
nothing but that forward; layers with dropout, DoRA or groups keep peft's.
"""

import types
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_ASKS_BY_DEVICE = hasattr(torch, "get_autocast_dtype")  # torch 2.4 and newer


def make_lean(layer: Any, adapter: str) -> None:
    """Give a peft LoRA layer the shorter forward, where that computes the same."""
    from peft.tuners.lora.layer import Conv2d, Linear

    base = layer.base_layer
    if type(layer) is Linear and isinstance(base, nn.Linear):
        forward = _forward_linear
    elif type(layer) is Conv2d and base.groups == 1:
        forward = _forward_conv
    else:
        return
    if layer.use_dora[adapter] or not isinstance(layer.lora_dropout[adapter], nn.Identity):
        return
    layer.forward = types.MethodType(lambda self, x, *given, **named: forward(self, adapter, x, self.base_layer(x, *given, **named)), layer)


def _forward_linear(layer: Any, adapter: str, x: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """``answer``: the layer's without the adapter, [..., out] of x [..., in]."""
    down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    low = F.linear(castable(x, down), down)
    if low.dtype != answer.dtype:
        return (answer + layer.scaling[adapter] * F.linear(low, up)).to(answer.dtype)
    rows = answer.reshape(-1, answer.shape[-1])
    return torch.addmm(rows, low.reshape(-1, low.shape[-1]), up.t(), alpha=layer.scaling[adapter]).view(answer.shape)


def _forward_conv(layer: Any, adapter: str, x: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """``answer``: the layer's without the adapter, [batch, out, height, width] of x [batch, in, height, width]."""
    down, up = layer.lora_A[adapter], layer.lora_B[adapter].weight.flatten(1)
    x = castable(x, down.weight)
    if down.kernel_size == (1, 1) and down.stride == (1, 1) and down.padding == (0, 0):
        low = torch.matmul(down.weight.flatten(1), x.flatten(2))
    else:
        low = down(x).flatten(2)
    if low.dtype != answer.dtype:
        change = torch.matmul(up, low).view(answer.shape)
        return (answer + layer.scaling[adapter] * change).to(answer.dtype)
    return torch.baddbmm(answer.flatten(2), up.expand(len(x), -1, -1), low, alpha=layer.scaling[adapter]).view(answer.shape)


def castable(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``x`` in the weight's precision, unless autocast brings both to another one anyway."""
    device = x.device.type
    if _ASKS_BY_DEVICE:
        casts = torch.is_autocast_enabled(device)
    else:
        casts = torch.is_autocast_cpu_enabled() if device == "cpu" else torch.is_autocast_enabled()
    return x if casts else x.to(weight.dtype)
