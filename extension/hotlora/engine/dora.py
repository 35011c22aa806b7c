"""DoRA that keeps the norm of each *input* column, the way image programs apply it.

DoRA (arXiv 2402.09353) splits a weight into direction and magnitude. peft keeps one magnitude per output row; the
programs that load image LoRAs (AUTOMATIC1111's WebUI, ComfyUI, OneTrainer) multiply by ``dora_scale`` of shape (1, in)
per input column. A file trained one way and applied the other is silently wrong, so image runs train what is applied.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class InputAxisDoRA(nn.Module):
    """W' = (W + dW) * m / ||W + dW||, the norm over all axes but the input's; output = W x + weight * (W' - W) x.

    Args:
        lora: a peft LoRA layer over a Linear or Conv2d; its ``lora_A`` and ``lora_B`` give dW = scale * B A.
        adapter: peft's name of the adapter in that layer.
    """

    lora: Any  # its class is peft's

    def __init__(self, lora: Any, adapter: str):
        super().__init__()
        self.lora, self.adapter, self.weight = lora, adapter, 1.0
        self.dora_scale = nn.Parameter(_input_norm(lora.base_layer.weight.detach().float()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out] over a Linear, [batch, in, height, width] -> [batch, out, height, width] over a Conv2d."""
        base = self.lora.base_layer
        frozen = base.weight.float()
        merged = frozen + self.lora.get_delta_weight(self.adapter)
        # the norm is a constant in the backward pass: section 4.3 of the paper
        change = merged * (self.dora_scale / _input_norm(merged).detach()) - frozen
        dropped = self.lora.lora_dropout[self.adapter](x)
        if not torch.is_autocast_enabled():
            dropped = dropped.to(change.dtype)
        if isinstance(base, nn.Conv2d):
            extra = F.conv2d(dropped, change, None, base.stride, base.padding, base.dilation, base.groups)
        else:
            extra = F.linear(dropped, change)
        result = base(x)
        return result + (self.weight * extra).to(result.dtype)


def _input_norm(weight: torch.Tensor) -> torch.Tensor:
    """[out, in, ...] -> [1, in, 1 ...]."""
    axes = tuple(axis for axis in range(weight.dim()) if axis != 1)
    return torch.linalg.vector_norm(weight, dim=axes, keepdim=True)
