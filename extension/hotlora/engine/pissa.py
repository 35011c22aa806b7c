"""PiSSA (arXiv 2404.02948): an adapter that begins along the main directions of its layer's weight.

The paper takes what the adapter begins with out of the weight. Borrowed weights are not touched, so here the layer subtracts the
start's own answer instead, which is the same sum: W x + s (B A - B0 A0) x.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_SPARE_DIRECTIONS = 3  # times the rank: the randomised SVD is exact for those far from its last ones
_ITERATIONS = 16  # as peft's `pissa_niter_16`


class ShiftedLora(nn.Module):
    """A peft LoRA layer less what it began with.

    Attributes:
        lora: the peft layer; its ``scaling`` applies to both.
        down: A0, [rank, in], fp32.
        up: B0, [out, rank], fp32.
    """

    lora: Any  # its class is peft's
    down: torch.Tensor  # plain attributes: they are not trained
    up: torch.Tensor

    def __init__(self, lora: Any, adapter: str):
        super().__init__()
        self.lora, self.adapter = lora, adapter

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out]."""
        answer = self.lora(x)
        with torch.autocast(x.device.type, enabled=False):
            start = F.linear(F.linear(x.float(), self.down), self.up)
        return answer - (self.lora.scaling[self.adapter] * start).to(answer.dtype)


@torch.no_grad()
def find_main_directions(layers: Mapping[str, Any], adapter: str, seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Name -> (A0 [rank, in], B0 [out, rank]), fp32 on the CPU, such that scale * B0 A0 is the weight's best approximation of
    the adapter's rank."""
    starts = {}
    with torch.random.fork_rng(devices=[]):
        for name, lora in layers.items():
            torch.manual_seed(seed)
            weight = _read_weight(lora)
            rank, scale = lora.r[adapter], lora.scaling[adapter]
            u, s, v = torch.svd_lowrank(weight, q=min(rank * (1 + _SPARE_DIRECTIONS), *weight.shape), niter=_ITERATIONS)
            root = (s[:rank] / scale).sqrt()
            starts[name] = (root[:, None] * v[:, :rank].T).contiguous(), (u[:, :rank] * root).contiguous()
    return starts


def _read_weight(lora: Any) -> torch.Tensor:
    """[out, in] in fp32 on the CPU, whatever it is stored in."""
    from peft.utils.integrations import dequantize_module_weight

    weight = dequantize_module_weight(lora.get_base_layer()).detach().float().cpu()
    return weight.T if lora.fan_in_fan_out else weight
