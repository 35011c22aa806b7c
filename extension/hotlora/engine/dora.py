"""DoRA the way image programs apply it: it keeps the norm of each *input* column, or of each output row.

DoRA (arXiv 2402.09353) splits a weight into direction and magnitude. peft keeps one magnitude per output row; the
programs that load image LoRAs (AUTOMATIC1111's WebUI, ComfyUI, OneTrainer) multiply by ``dora_scale`` of shape (1, in)
per input column. A file trained one way and applied the other is silently wrong, so image runs train what is applied.
LyCORIS' ``wd_on_out`` makes files with one per output row, (out, 1), which ComfyUI applies so.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class AxisDoRA(nn.Module):
    """W' = (W + dW) * m / ||W + dW||, the norm over all axes but one; output = W x + weight * (W' - W) x.

    Args:
        lora: a peft LoRA layer over a Linear or Conv2d; its ``lora_A`` and ``lora_B`` give dW = scale * B A.
        adapter: peft's name of the adapter in that layer.
        axis: of the weight, which each have a magnitude: 1 for inputs, 0 for outputs.
    """

    lora: Any  # its class is peft's

    def __init__(self, lora: Any, adapter: str, axis: int = 1):
        super().__init__()
        self.lora, self.adapter, self.axis, self.weight = lora, adapter, axis, 1.0
        self.dora_scale = nn.Parameter(_norm_along(axis, lora.base_layer.weight.detach().float()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out] over a Linear, [batch, in, height, width] -> [batch, out, height, width] over a Conv2d."""
        base = self.lora.base_layer
        frozen = base.weight.float()
        merged = frozen + self.lora.get_delta_weight(self.adapter)
        # the norm is a constant in the backward pass: section 4.3 of the paper
        change = merged * (self.dora_scale / _norm_along(self.axis, merged).detach()) - frozen
        dropped = self.lora.lora_dropout[self.adapter](x)
        if not torch.is_autocast_enabled():
            dropped = dropped.to(change.dtype)
        if isinstance(base, nn.Conv2d):
            extra = F.conv2d(dropped, change, None, base.stride, base.padding, base.dilation, base.groups)
        else:
            extra = F.linear(dropped, change)
        result = base(x)
        return result + (self.weight * extra).to(result.dtype)


def _norm_along(kept: int, weight: torch.Tensor) -> torch.Tensor:
    """[out, in, ...] -> [1, in, 1 ...] along 1, [out, 1, 1 ...] along 0."""
    axes = tuple(axis for axis in range(weight.dim()) if axis != kept)
    return torch.linalg.vector_norm(weight, dim=axes, keepdim=True)
