"""The tools for finished LoRAs as people use them, on a page or a command line: files in, a file and some sentences out.

Knows neither. What each tool computes is in the files beside this one. Must not import the stand-alone host.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..engine.errors import UserError
from ..engine.plurals import counted
from ..hosts.shared.tensor_file import list_weight_files
from .adapters import Adapter
from .adding import add_up
from .baking import bake, bake_text
from .converting import GGUF, convert
from .errands import Tell
from .extracting import extract
from .gguf_files import write_gguf
from .opening import is_text_lora, read_adapter, write_adapter
from .resizing import Size, resize

_MARGIN_BYTES = 100_000_000  # that a disk keeps


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


def convert_file(lora: Path, output: Path, form: str, *, precision: str = "", family: str = "", base: Path | None = None) -> list[str]:
    """Write the same LoRA in another form of file, see :data:`~.converting.FORMS`. ``base``: see write_gguf."""
    adapter = read_adapter(lora, family)
    if form == GGUF:
        architecture = write_gguf(adapter, output, precision or adapter.precision, base)
        return [
            *_tell_notes(adapter),
            f"{output}: {counted(len(adapter.layers), 'layer')} for GGUF models of the architecture {architecture}.",
        ]
    made = convert(adapter, form)
    write_adapter(made, output, precision, f"converted from {adapter.form} to {form}")
    return [*_tell_notes(adapter), f"{output}: {counted(len(made.layers), 'layer')} in {form}'s form."]


def extract_file(
    base: Path, tuned: Path, output: Path, size: Size, *, precision: str = "fp16", tell: Tell = lambda done, total: None
) -> list[str]:
    """Write the difference of two models as a LoRA."""
    found = extract(base, tuned, size, tell=tell)
    write_adapter(found.adapter, output, precision, f"the difference of {tuned.stem} and {base.stem}, by {size.describe()}")
    lines = [
        f"{output}: what differs in {counted(len(found.adapter.layers), 'layer')}, {tell_ranks(found.adapter)}.",
        tell_kept(found.kept),
    ]
    if found.left_out:
        first = ", ".join(found.left_out[:3]) + " …" * (len(found.left_out) > 3)
        lines.append(f"note: a difference in {counted(len(found.left_out), 'further tensor')} cannot be in a LoRA: {first}.")
    return lines


def bake_file(
    base: Path, loras: Sequence[Path], weights: Sequence[float], output: Path, *, tell: Tell = lambda done, total: None
) -> list[str]:
    """Write a model with LoRAs in it, each at its weight (1 where none are given)."""
    weights = weights or [1.0] * len(loras)
    if is_text_lora(loras[0]):
        notes = bake_text(base, loras, output, plain=list(weights) == [1.0])
    else:
        notes = bake(base, loras, weights, output, tell=tell)
    return [*(f"note: {note}" for note in notes), f"{output}: written, {_count_bytes(output) / 1e9:,.2f} GB."]


def foresee_baking(base: Path, output: Path) -> list[str]:
    """What baking into that model takes, before it is begun. Raises UserError where the disk has no place for it."""
    files = list_weight_files(base) if base.is_dir() else [base]
    needed, free = sum(file.stat().st_size for file in files if file.is_file()), shutil.disk_usage(output.parent).free
    if needed + _MARGIN_BYTES > free:
        raise UserError(
            f"cannot write '{output}': it takes {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free there. Make room on that disk."
        )
    takes = f"It takes {needed / 1e9:,.2f} GB of {free / 1e9:,.1f} GB that are free, and is written to {output}."
    return [takes, *(["The whole model is in memory meanwhile, in full precision."] if base.is_dir() else [])]


def _count_bytes(place: Path) -> int:
    return sum(file.stat().st_size for file in (place.rglob("*") if place.is_dir() else [place]) if file.is_file())


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
