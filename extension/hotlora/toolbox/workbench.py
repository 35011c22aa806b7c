"""The tools for finished LoRAs as people use them, on a page or a command line: files in, a file and some sentences out.

Knows neither. What each tool computes is in the files beside this one. Must not import the stand-alone host.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .adapters import Adapter
from .adding import add_up
from .converting import convert
from .opening import read_adapter, write_adapter
from .resizing import Size, resize


def resize_file(lora: Path, output: Path, size: Size, *, precision: str = "", family: str = "") -> list[str]:
    """Write the nearest LoRA of that size; what people should know. Raises UserError, as all here do."""
    adapter = read_adapter(lora, family)
    made = resize(adapter, size)
    ranks = tell_ranks(made.adapter)
    write_adapter(made.adapter, output, precision, f"resized from {tell_ranks(adapter)} by {size.describe()} to {ranks}")
    return [*_tell_notes(adapter), f"{output}: {ranks}, was {tell_ranks(adapter)}.", tell_kept(made.kept)]


def merge_files(
    loras: Sequence[Path], weights: Sequence[float], output: Path, size: Size | None = None, *, precision: str = "", family: str = ""
) -> list[str]:
    """Write the sum of LoRAs, each at its weight (1 where none are given); the exact sum without a size."""
    adapters = [read_adapter(path, family) for path in loras]
    weights = weights or [1.0] * len(adapters)
    made = add_up(adapters, weights, size)
    change = "merged from " + " and ".join(f"{path.stem} at {weight:g}" for path, weight in zip(loras, weights, strict=True))
    write_adapter(made, output, precision, change)
    how = "nearest to the sum" if size else "the exact sum"
    return [*(note for adapter in adapters for note in _tell_notes(adapter)), f"{output}: {how}, {tell_ranks(made)}."]


def convert_file(lora: Path, output: Path, form: str, *, precision: str = "", family: str = "") -> list[str]:
    """Write the same LoRA in another form of file, see :data:`~.converting.FORMS`."""
    adapter = read_adapter(lora, family)
    made = convert(adapter, form)
    write_adapter(made, output, precision, f"converted from {adapter.form} to {form}")
    return [*_tell_notes(adapter), f"{output}: {len(made.layers)} layers in {form}'s form."]


def tell_ranks(adapter: Adapter) -> str:
    """In a few words."""
    ranks = [layer.rank for layer in adapter.layers.values()]
    return f"rank {ranks[0]}" if len(set(ranks)) == 1 else f"ranks {min(ranks)} to {max(ranks)}"


def tell_kept(kept: Mapping[str, float]) -> str:
    """A sentence on the shares of each layer's Frobenius norm, by name."""
    mean, worst = sum(kept.values()) / len(kept), min(kept, key=lambda name: kept[name])
    return f"Of each layer's change (Frobenius norm) {mean:.1%} is left on average, least {kept[worst]:.1%} ({worst})."


def _tell_notes(adapter: Adapter) -> list[str]:
    return [f"note: {note}" for note in adapter.notes]
