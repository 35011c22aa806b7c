"""Base models in 8 or 4 bits a weight, by bitsandbytes: what of them is packed, and that it stays as it was packed."""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from ...engine.errors import UserError

_FIRST_FOR_PROCESSORS = (0, 50)


def check_bits(bits: str, device: torch.device) -> None:
    """Raise UserError where the package is not here, or too old for a processor."""
    found = find_spec("bitsandbytes") and version("bitsandbytes")
    if not found or (device.type == "cpu" and not _is_at_least(found, _FIRST_FOR_PROCESSORS)):
        needed = "the package bitsandbytes" + (f" {'.'.join(map(str, _FIRST_FOR_PROCESSORS))} or newer" if device.type == "cpu" else "")
        here = f"{found} is here" if found else "it is not here"
        raise UserError(f"cannot load the model in {bits}: that needs {needed}, and {here}. Install it, or set quantization: none.")


def _is_at_least(found: str, wanted: tuple[int, int]) -> bool:
    parts = found.split(".")[:2]
    return all(map(str.isdigit, parts)) and tuple(map(int, parts)) >= wanted


def is_packable(path: str, layer: nn.Module) -> bool:
    """Whether a U-Net's layer of that name is a linear one in a transformer block: these hold most of its weights, and what is around them
    is small and reacts to rounding."""
    return type(layer) is nn.Linear and ".transformer_blocks." in path


def hold_in_few_bits(unet: nn.Module, bits: str, dtype: torch.dtype) -> Mapping[str, nn.Module]:
    """Put layers of bitsandbytes in the place of those that can be packed. 4 bits are NF4 with packed scales (arXiv 2305.14314), 8 bits
    LLM.int8 (arXiv 2208.07339).

    Args:
        unet: without memory for its weights.
        dtype: of the arithmetic.
    Returns: those layers by the name of their weight, which :func:`pack` makes.
    """
    bnb: Any = import_module("bitsandbytes")

    held: dict[str, nn.Module] = {}
    for path, layer in list(unet.named_modules()):
        if not (isinstance(layer, nn.Linear) and is_packable(path, layer)):
            continue
        shape, has_bias = (layer.in_features, layer.out_features), layer.bias is not None
        with torch.device("meta"):
            if bits == "4bit":
                small = bnb.nn.Linear4bit(*shape, bias=has_bias, compute_dtype=dtype, compress_statistics=True, quant_type="nf4")
            else:
                small = bnb.nn.Linear8bitLt(*shape, bias=has_bias, has_fp16_weights=False)
        parent, _, name = path.rpartition(".")
        setattr(unet.get_submodule(parent), name, small)
        held[f"{path}.weight"] = small
    return held


def pack(layer: Any, weight: torch.Tensor, device: torch.device) -> None:
    """Give one of those layers its weight [out, in]."""
    bnb: Any = import_module("bitsandbytes")

    if isinstance(layer, bnb.nn.Linear4bit):
        layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, compress_statistics=True, quant_type="nf4", module=layer).to(device)
    else:
        layer.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False).to(device)


def is_packed(net: nn.Module) -> bool:
    """Whether all layers that bitsandbytes packs are: they also take weights that are not, and fail when they compute."""
    tests = {"Linear4bit": lambda weight: hasattr(weight, "quant_state"), "Linear8bitLt": lambda weight: weight.dtype == torch.int8}
    return all(tests[kind](module.weight) for module in net.modules() if (kind := type(module).__name__) in tests)


def keep_packing(net: Any) -> None:
    """Where a processor has instructions for it, bitsandbytes packs 4-bit weights anew, and rounds their scales, at the first answer: the
    model would train on another one after a sample than before it."""
    for module in net.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
