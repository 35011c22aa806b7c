"""sd-scripts' numbers by part of the U-Net, a list for each half, as ranks and rates of whole blocks.

Facts from sd-scripts 48d368f, docs/train_network_README-ja.md. Must not import torch or any host.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .imported import Conversion, as_number

RATES = ("down_lr_weight", "mid_lr_weight", "up_lr_weight")
WORDS = (*RATES, "block_lr_zero_threshold", "block_dims", "block_alphas")


@dataclass(frozen=True)
class _Layout:
    """How one family's lists count the parts of a U-Net."""

    name: str
    lengths: tuple[int, int, int]  # down, middle, up
    before: int  # numbers of block_dims that stand before these
    after: int
    attention: Mapping[str, tuple[int, ...]]  # block -> places of its transformers, in the three lists as one
    all_layers: Mapping[str, tuple[int, ...]]  # likewise, with residual blocks, downsamplers and upsamplers


_SD1 = _Layout(
    "SD 1 and 2", (12, 1, 12), 0, 0,
    {f"down_blocks_{i}": (3 * i + 1, 3 * i + 2) for i in range(3)} | {"mid_block": (12,)}
    | {f"up_blocks_{i}": (3 * i + 13, 3 * i + 14, 3 * i + 15) for i in range(1, 4)},
    {f"down_blocks_{i}": (3 * i + 1, 3 * i + 2, 3 * i + 3) for i in range(3)} | {"down_blocks_3": (10, 11), "mid_block": (12,)}
    | {f"up_blocks_{i}": (3 * i + 13, 3 * i + 14, 3 * i + 15) for i in range(4)},
)  # fmt: skip
_SDXL = _Layout(
    "SDXL", (9, 3, 9), 2, 1,
    {f"input_blocks_{i}": (i,) for i in (4, 5, 7, 8)} | {"middle_block": (10,)} | {f"output_blocks_{i}": (12 + i,) for i in range(6)},
    {f"input_blocks_{i}": (i,) for i in range(1, 9)} | {"middle_block": (9, 10, 11)} | {f"output_blocks_{i}": (12 + i,) for i in range(9)},
)  # fmt: skip
_LAYOUTS = (_SD1, _SDXL)


class _Unfit(Exception):
    """Why these numbers are not taken, as sentences."""


def convert_blocks(change: Conversion) -> None:
    """Set block_lrs and block_ranks, or say why not. After rank, rates and optimizer, which they are relative to."""
    for keys, option, convert in ((RATES, "block_lrs", _convert_rates), (("block_dims", "block_alphas"), "block_ranks", _convert_ranks)):
        there = [key for key in keys if not _is_empty(change.peek(key), change)]
        if not there:
            continue
        try:
            if change.result.values.get("train_unet") is False:
                raise _Unfit("Only the text encoder is trained.")
            values = convert(change)
        except _Unfit as why:
            for key in there:
                change.refuse(key, str(why))
            continue
        if keys is RATES and "block_lr_zero_threshold" in change.left:
            there.append("block_lr_zero_threshold")
        if values:
            change.put(option, values, *there)
        else:
            change.result.off += there
            change.left = {key: value for key, value in change.left.items() if key not in there}


def _convert_rates(change: Conversion) -> dict[str, float]:
    lists = [_read_numbers(change, key) for key in RATES]
    layout = _find_layout(lists, change)
    least = as_number(change.peek("block_lr_zero_threshold"))
    numbers = [number for some, length in zip(lists, layout.lengths, strict=True) for number in some or [1.0] * length]
    weights = _join(layout, [number if number > least else 0.0 for number in numbers], change)
    if change.result.values.get("optimizer") == "Prodigy" and any(weight not in (0, 1) for weight in weights.values()):
        raise _Unfit("Prodigy finds one rate for all layers.")
    rate = change.result.values["learning_rate"]
    return {block: float(f"{weight * rate:.6g}") for block, weight in weights.items() if weight != 1}


def _convert_ranks(change: Conversion) -> dict[str, int]:
    values = change.result.values
    dims, alphas = (_read_numbers(change, key) for key in ("block_dims", "block_alphas"))
    if not dims:
        raise _Unfit("alpha / rank is the same in all blocks here.")
    layout = next((known for known in _LAYOUTS if len(dims) == known.before + sum(known.lengths) + known.after), None)
    if layout is None:
        raise _Unfit(f"It has {len(dims)} numbers; SD 1 and 2 have 25 parts there, SDXL 23. Set block_ranks.")
    if any(number != int(number) for number in dims):
        raise _Unfit("A rank is a whole number. Set block_ranks.")
    ranks = _join(layout, _cut(dims, layout), change)
    ratio = values["lora_alpha"] / values["lora_rank"]
    alone = alphas if alphas and len(alphas) == len(dims) else [values["lora_alpha"]] * len(dims)
    if any(dim and abs(alpha / dim - ratio) > 1e-6 for dim, alpha in zip(_cut(dims, layout), _cut(alone, layout), strict=True)):
        change.differ(f"alpha / rank is the same in all blocks here, {ratio:g}, where it differs by block_dims and block_alphas there.")
    if values.get("conv_rank") and 0 in ranks.values():
        change.differ("A block of rank 0 has no convolutions in the LoRA either, which it has there.")
    return {block: int(rank) for block, rank in ranks.items() if rank != values["lora_rank"]}


def _cut(numbers: list[float], layout: _Layout) -> list[float]:
    return numbers[layout.before : layout.before + sum(layout.lengths)]


def _find_layout(lists: list[list[float] | None], change: Conversion) -> _Layout:
    for layout in _LAYOUTS[1:] if change.has("sdxl") else _LAYOUTS:
        if all(some is None or len(some) == length for some, length in zip(lists, layout.lengths, strict=True)):
            return layout
    counts = ", ".join(str(len(some)) for some in lists if some)
    raise _Unfit(f"Lists of {counts} numbers: SD 1 and 2 have 12, 1 and 12 parts there, SDXL 9, 3 and 9. Set block_lrs.")


def _join(layout: _Layout, numbers: list[float], change: Conversion) -> dict[str, float]:
    """One number for each block. Raises _Unfit where its parts have several."""
    joined = {}
    for block, places in (layout.all_layers if change.result.values.get("conv_rank") else layout.attention).items():
        inside = list(dict.fromkeys(numbers[place] for place in places))
        if len(inside) > 1:
            shown = ", ".join(f"{number:g}" for number in inside)
            raise _Unfit(f"It differs inside {block} ({shown}), which has one number here. Choose one for each block.")
        joined[block] = inside[0]
    return joined


def _read_numbers(change: Conversion, key: str) -> list[float] | None:
    """None where it is empty. Raises _Unfit for what is no list of numbers."""
    value = change.peek(key)
    if _is_empty(value, change):
        return None
    items = value if isinstance(value, list) else str(value).strip("[]() ").split(",")
    numbers = [as_number(str(item), -1.0) for item in items]
    if any(not math.isfinite(number) or number < 0 for number in numbers):
        raise _Unfit(f"{key} is no list of numbers that are not negative, and curves by name would give each part another. Set block_lrs.")
    return numbers


def _is_empty(value: Any, change: Conversion) -> bool:
    """A page writes 0 and false for a field that is not used; as a word it is a weight."""
    return value in ("", None) or (not isinstance(value, str) and not value and not change.has("enable_block_weights"))
