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

from .lean import castable


class AxisDoRA(nn.Module):
    """W' = (W + dW) * m / ||W + dW||, the norm over all axes but one; output = W x + weight * (W' - W) x.

    No W' is ever made: with c = m / ||W + dW|| by inputs, (W' - W) x = W ((c - 1) x) + dW (c x), and by outputs (c - 1) W x + c dW x.
    That c - 1 is taken first keeps small changes in half precision.

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
        self._frozen_squares = self.dora_scale.detach().flatten().square()  # of the frozen weight's norms

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out] over a Linear, [batch, in, height, width] -> [batch, out, height, width] over a Conv2d."""
        lora, adapter = self.lora, self.adapter
        given = castable(lora.lora_dropout[adapter](x), lora.lora_A[adapter].weight)
        factors = self.dora_scale.flatten() / self._norms()
        if isinstance(lora.base_layer, nn.Conv2d):
            factors = factors[:, None, None]
        if self.axis == 1:
            extra = self._apply_frozen((factors - 1) * given) + lora.scaling[adapter] * self._apply_low_rank(factors * given)
        else:
            extra = (factors - 1) * self._apply_frozen(given) + lora.scaling[adapter] * factors * self._apply_low_rank(given)
        result = lora.base_layer(x)
        return result + (self.weight * extra).to(result.dtype)

    def _apply_low_rank(self, x: torch.Tensor) -> torch.Tensor:
        return self.lora.lora_B[self.adapter](self.lora.lora_A[self.adapter](x))

    def _apply_frozen(self, x: torch.Tensor) -> torch.Tensor:
        """W x, without the bias."""
        base = self.lora.base_layer
        weight = castable(base.weight, self.dora_scale)
        if isinstance(base, nn.Conv2d):
            return F.conv2d(x, weight, None, base.stride, base.padding, base.dilation, base.groups)
        return F.linear(x, weight)

    @torch.no_grad()
    def _norms(self) -> torch.Tensor:
        """||W + dW|| along the axis, [in] or [out]; a constant in the backward pass (section 4.3 of the paper). By its square,
        |w|^2 + 2 w dw + |dw|^2 for each column or row, of which the last two need matrices of rank columns only."""
        lora, scale = self.lora, self.lora.scaling[self.adapter]
        with torch.autocast(self.dora_scale.device.type, enabled=False):
            weight = lora.base_layer.weight.float().flatten(1)
            down, up = lora.lora_A[self.adapter].weight.flatten(1), lora.lora_B[self.adapter].weight.flatten(1)
            if self.axis == 1:
                mixed, change = weight.T @ up * down.T, down.T @ (up.T @ up) * down.T
            else:
                mixed, change = weight @ down.T * up, up @ (down @ down.T) * up
            added = (2 * scale * mixed + scale**2 * change).sum(1)
            self._frozen_squares = self._frozen_squares.to(added.device)
            squares = self._frozen_squares + added.view(len(self._frozen_squares), -1).sum(1)
        return squares.clamp(min=0).sqrt()


def _norm_along(kept: int, weight: torch.Tensor) -> torch.Tensor:
    """[out, in, ...] -> [1, in, 1 ...] along 1, [out, 1, 1 ...] along 0."""
    axes = tuple(axis for axis in range(weight.dim()) if axis != kept)
    return torch.linalg.vector_norm(weight, dim=axes, keepdim=True)
