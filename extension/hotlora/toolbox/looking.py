"""What is in a LoRA, and who loads it: read from its header, of which nothing is left out."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..engine.errors import UserError
from ..engine.file_heads import look_at_head
from ..llm.loading import judge_text_lora
from ..llm.peft_reading import CONFIG
from ..llm.peft_reading import find_weights as find_text_weights
from ..sd.lora_families import TITLES, describe_keys
from ..sd.lora_files import EMBEDDINGS, find_weights, open_lora, read_layer_names
from ..sd.readers import judge_image_lora
from ..sd.spelling import Names
from .gguf_files import SUFFIX, check_gguf
from .image_files import PRECISIONS, find_family, find_form
from .opening import are_text_keys, telling

_KINDS = {"hada_": "LoHa", "lokr_": "LoKr", "oft_": "OFT", "on_input": "(IA)3", "w_norm": "norms", "diff": "whole weights"}
_LONG = 300  # characters of a value, beyond which people are shown its beginning


class Header:
    """A file's table of contents.

    Raises:
        UserError: where it cannot be read.
    """

    def __init__(self, path: Path):
        self.path = path
        with telling(path):
            self.weights = find_weights(path)
            with open_lora(path) as file:
                self.metadata: dict[str, str] = file.metadata() or {}
                slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 (it is no dictionary)
                self.shapes = {key: tuple(slice.get_shape()) for key, slice in slices.items()}
                self.dtypes = {key: slice.get_dtype() for key, slice in slices.items()}
                self.alphas = {key: float(file.get_tensor(key).float().mean()) for key in slices if key.endswith(".alpha")}
        self.config = self._read_config()
        self.is_text = are_text_keys(self.shapes)

    def _read_config(self) -> dict[str, Any] | None:
        place = self.weights.parent / CONFIG
        if not (place.is_file() and self.weights.name.startswith("adapter_model")):
            return None
        try:
            said = json.loads(place.read_text(encoding="utf-8-sig"))
        except ValueError as problem:
            wrong = look_at_head(place)
            error = f"it {wrong}" if wrong else problem
            raise UserError(f"cannot read '{place}': {error}. Copy it again from where it came.") from problem
        return said if isinstance(said, dict) else {}

    def find_family(self) -> str:
        """ "sd1", "sd2" or "sdxl". Raises UserError where it is another."""
        sizes = {}
        for key, shape in self.shapes.items():
            for end in (".lora_down.weight", ".lora_A.weight", ".lora_A.default.weight", ".lora.down.weight", "_lora.down.weight"):
                if key.endswith(end) and len(shape) > 1:
                    sizes[key.removesuffix(end)] = shape[1]
        return find_family(sizes or dict.fromkeys((key.partition(".")[0] for key in self.shapes), 0), self.metadata, self.path)


def describe(path: Path, family: str = "") -> dict[str, Any]:
    """Everything in a LoRA, as plain values. Raises UserError where it cannot be read."""
    header = Header(path)
    facts: dict[str, Any] = {
        "file": str(header.weights),
        "bytes": header.weights.stat().st_size,
        "for": "text" if header.is_text else "images",
        "kind": _name_kind(header),
        "layers": _count_layers(header),
        "ranks": _count_ranks(header.shapes),
        "alphas": {f"{alpha:g}": count for alpha, count in sorted(Counter(header.alphas.values()).items())},
        "precisions": {PRECISIONS.get(name, name): count for name, count in sorted(Counter(header.dtypes.values()).items())},
        "parameters": sum(_count_numbers(shape) for shape in header.shapes.values()),
    }
    if not header.is_text:
        names = _list_names(header)
        facts["family"] = family or header.find_family()
        facts["form"] = find_form(names)
        facts["embeddings"] = sorted({key.split(".")[1] for key in header.shapes if key.startswith(EMBEDDINGS)})
    if header.config is not None:
        facts["peft config"] = header.config
    facts["metadata"] = {key: _decode(value) for key, value in sorted(header.metadata.items())}
    facts["tensors"] = {key: {"shape": list(shape), "dtype": header.dtypes[key]} for key, shape in header.shapes.items()}
    return facts


def _count_numbers(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def _name_kind(header: Header) -> str:
    keys = "\n".join(header.shapes)
    found = [kind for piece, kind in _KINDS.items() if f".{piece}" in keys]
    if ".lora_" in keys or ".lora." in keys or "_lora." in keys:
        found.insert(0, "LoRA")
    if any(len(shape) == 4 and shape[2:] != (1, 1) for shape in header.shapes.values()):
        found = ["LoCon" if kind == "LoRA" else kind for kind in found]
    magnitudes = "dora_scale" in keys or "lora_magnitude_vector" in keys
    return " and ".join(found or [describe_keys(list(header.shapes), [])]) + (" with DoRA" if magnitudes else "")


def _list_names(header: Header) -> dict[str, int]:
    """Layers as the file spells them; keys where it is of a kind that is not read here."""
    try:
        return dict.fromkeys(read_layer_names(header.path), 0)
    except UserError:
        return dict.fromkeys(header.shapes, 0)


def _count_layers(header: Header) -> dict[str, int]:
    if header.is_text:
        return dict(sorted(Counter(key.split(".lora_")[0].rpartition(".")[2] for key in header.shapes if ".lora_A" in key).items()))
    parts = Counter(_name_part(name) for name in _list_names(header))
    return {part: parts[part] for part in ("U-Net", "text encoder", "second text encoder") if parts[part]}


def _name_part(name: str) -> str:
    if name.startswith(("lora_te2", "text_encoder_2", "te2_")) or "clip_g" in name:
        return "second text encoder"
    return "text encoder" if name.startswith(("lora_te", "text_encoder", "te1_")) or "clip_l" in name else "U-Net"


def _count_ranks(shapes: Mapping[str, tuple[int, ...]]) -> dict[int, int]:
    firsts = (".lora_down.weight", ".lora_A.weight", ".lora.down.weight", "_lora.down.weight", ".hada_w1_b", ".lokr_w2_b")
    return dict(sorted(Counter(shape[0] for key, shape in shapes.items() if key.endswith(firsts)).items()))


def _decode(value: str) -> Any:
    """JSON in metadata as what it says."""
    if value[:1] in "{[":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def tell(facts: Mapping[str, Any]) -> list[str]:
    """The same for people: a line each, long values cut, tensors apart."""
    lines = [f"{key}: {_spell(value)}" for key, value in facts.items() if key not in ("tensors", "metadata") and value not in ({}, [])]
    lines[1] = f"size: {facts['bytes'] / 1e6:.2f} MB, {len(facts['tensors'])} tensors"
    return [
        *lines,
        "metadata:" if facts["metadata"] else "metadata: none",
        *(f"  {key}: {_spell(v)}" for key, v in facts["metadata"].items()),
    ]


def _spell(value: Any) -> str:
    if isinstance(value, Mapping) and all(isinstance(count, int) for count in value.values()):
        return ", ".join(f"{key} ({count})" for key, count in value.items())
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return TITLES.get(text, text) if len(text) <= _LONG else f"{text[:_LONG]}… ({len(text):,} characters; --json shows all)"


def check(path: Path, family: str = "", names: Names | None = None) -> list[str]:
    """A line for each program: whether it loads a LoRA, what of it would be dropped, and why. Raises UserError where it is none."""
    place = path.expanduser()
    if place.suffix.lower() == SUFFIX and place.is_file():
        return check_gguf(place)
    if place.is_dir() and not any(place.glob("*.safetensors")) and (place / CONFIG).is_file():
        find_text_weights(place)
        raise UserError(f"cannot check '{path}': its weights are pickled. Convert them to .safetensors with peft.")
    header = Header(path)
    damage = _list_damage(header)
    if header.is_text:
        return [*damage, *judge_text_lora(header.config, header.shapes)]
    verdicts = judge_image_lora(
        header.shapes,
        family or header.find_family(),
        alphas=header.alphas,
        names=names,
        in_peft_folder=header.config is not None,
    )
    return [*damage, *map(str, verdicts)]


def _list_damage(header: Header) -> list[str]:
    """What is wrong with a file that programs load all the same, and then draw black pictures or write nonsense."""
    with open_lora(header.path) as file:
        broken = [key for key in header.shapes if not torch.isfinite(file.get_tensor(key).float()).all()]
    packed = [key for key, kind in header.dtypes.items() if kind.startswith(("I", "U", "BOOL")) and len(header.shapes[key]) > 1]
    empty = [key for key, shape in header.shapes.items() if 0 in shape]
    odd = [f"{name}, down {down} and up {up}" for name, down, up in _pair_ranks(header.shapes) if down != up]
    told = {"hold values that are no numbers": broken, "hold no fractions": packed, "are empty": empty, "are of two ranks": odd}
    told["have no other half"] = [key for key in header.shapes if _lacks_half(key, header.shapes)]
    return [f"Damaged: {len(names)} of its tensors {what} ({names[0]}). Use another copy." for what, names in told.items() if names]


def _lacks_half(key: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Of plain LoRA."""
    pairs = (("lora_down", "lora_up"), ("lora_A", "lora_B"), ("lora_up", "lora_down"), ("lora_B", "lora_A"))
    return any(f".{one}." in key and key.replace(f".{one}.", f".{other}.") not in shapes for one, other in pairs)


def _pair_ranks(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, int, int]]:
    """(layer, rank of its first matrix, rank of its second) of plain LoRA."""
    for down, up in (("lora_down", "lora_up"), ("lora_A", "lora_B")):
        for key, shape in shapes.items():
            other = shapes.get(key.replace(f".{down}.", f".{up}."), ())
            if f".{down}." in key and len(shape) > 1 and len(other) > 1 and key.replace(f".{down}.", ".lora_mid.") not in shapes:
                yield key.partition(f".{down}.")[0], shape[0], other[1]
