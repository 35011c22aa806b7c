"""LoKr's scale where peft leaves it out: versions such as 0.13 compute the product without alpha / rank, newer ones with."""

import functools
from typing import Any

import torch
from torch import nn


def ensure_scaled(layer: Any) -> None:
    """Make a peft LoKr layer scale its weight change of each adapter by ``layer.scaling``, as newer versions do by themselves."""
    if _peft_scales():
        return
    unscaled = layer.get_delta_weight
    layer.get_delta_weight = lambda name: unscaled(name) * layer.scaling[name]


@functools.cache
def _peft_scales() -> bool:
    from peft import LoKrConfig, inject_adapter_in_model

    parent: Any = nn.Sequential(nn.Linear(4, 4))
    with torch.random.fork_rng(devices=[]):
        inject_adapter_in_model(LoKrConfig(r=2, target_modules=["0"], init_weights=False), parent, "probe")
    parent[0].scaling["probe"] = 0.0
    return not parent[0].get_delta_weight("probe").any()
