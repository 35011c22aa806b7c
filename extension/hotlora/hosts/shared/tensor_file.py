"""Reading checkpoint files: names and shapes at once, tensors one by one.

Owns the two formats of single files, ``.safetensors`` and (weights only) ``.ckpt``/``.pt``/``.bin``. Tensors of the former are
read, not mapped by the library: mapped pages count as the process's memory for as long as loading takes, which doubles
its peak. Knows no model. Must not import diffusers or transformers.
"""

import json
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...engine.errors import UserError
from ...engine.pickled import load_pickled

_PICKLED = (".ckpt", ".pt", ".pth", ".bin")
SUFFIXES = (".safetensors", *_PICKLED)
_HEADER_LIMIT_BYTES = 100_000_000
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class TensorFile:
    """A file's table of contents. ``get`` reads one tensor into memory of its own; KeyError if there is none of that name."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]
    get: Callable[[str], torch.Tensor]
    dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)  # of every tensor


def open_tensor_file(path: Path) -> TensorFile:
    """Read the table of contents; of a ``.safetensors`` file nothing else.

    Raises:
        UserError: for an incomplete or broken file, and for one that only unpickling can read.
    """
    return _open_pickled(path) if path.suffix.lower() in _PICKLED else _open_safetensors(path)


def list_weight_files(folder: Path) -> list[Path]:
    """A component's weights as diffusers and transformers save them: one file, or the shards that an index names. Full
    precision goes before fp16, safetensors before pickles.

    Raises:
        UserError: when there are none.
    """
    for suffix in (".safetensors", ".fp16.safetensors", ".bin", ".fp16.bin"):
        for stem in ("diffusion_pytorch_model", "model", "pytorch_model"):
            single, index = folder / f"{stem}{suffix}", folder / f"{stem}{suffix}.index.json"
            if single.is_file():
                return [single]
            if index.is_file():
                return [folder / name for name in _read_shards(index)]
    raise UserError(f"cannot load the base model: there are no weights in '{folder}'. Get the complete folder.")


def _read_shards(index: Path) -> list[str]:
    """The names of the files that an index lists. Raises UserError where it is damaged."""
    try:
        shards = json.loads(index.read_text(encoding="utf-8-sig"))["weight_map"].values()
        return sorted({name for name in shards if Path(name).name == name})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"cannot read '{index}': it does not list the model's files ({error}). Get it again.") from None


def open_tensor_files(paths: Sequence[Path]) -> TensorFile:
    """Several shards as one.

    Raises:
        UserError: when one is missing or broken.
    """
    for path in paths:
        if not path.is_file():
            raise UserError(f"cannot load the base model: '{path}' is missing. Get the complete folder.")
    files = [open_tensor_file(path) for path in paths]
    holder = {name: file for file in files for name in file.shapes}
    shapes = {name: file.shapes[name] for name, file in holder.items()}
    dtypes = {name: file.dtypes[name] for name, file in holder.items()}
    return TensorFile(files[0].path, shapes, files[0].metadata, lambda name: holder[name].get(name), dtypes)


def _open_safetensors(path: Path) -> TensorFile:
    header, end = _read_header(path)
    metadata = header.pop("__metadata__", None) or {}
    damaged = next((name for name, entry in header.items() if not _is_entry(entry)), None)
    if damaged is not None or not isinstance(metadata, dict):
        raise UserError(f"cannot read '{path}': what it says of {str(damaged)[:60]!r} makes no sense, so it is damaged. Get it again.")
    shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
    wanted = end + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    size = path.stat().st_size
    if size < wanted:
        raise UserError(
            f"cannot read '{path}': it is {size:,} bytes long and should be {wanted:,}, so its download or copy was cut off. Get it again."
        )
    unknown = {entry["dtype"] for entry in header.values()} - _DTYPES.keys()
    if unknown:
        raise UserError(f"cannot read '{path}': it holds numbers of the kind {', '.join(sorted(unknown))}. Use an fp16, bf16 or fp32 file.")
    wrong = next(
        (name for name, entry in header.items() if _count_bytes(entry) != entry["data_offsets"][1] - entry["data_offsets"][0]), None
    )
    if wrong is not None:
        raise UserError(f"cannot read '{path}': the size of {wrong[:60]!r} is not that of its numbers, so it is damaged. Get it again.")

    def read(name: str) -> torch.Tensor:
        entry = header[name]
        first, last = entry["data_offsets"]
        data = bytearray(last - first)
        with open(path, "rb") as file:
            file.seek(end + first)
            file.readinto(data)
        return torch.frombuffer(data, dtype=_DTYPES[entry["dtype"]]).reshape(entry["shape"]) if data else torch.empty(entry["shape"])

    return TensorFile(path, shapes, metadata, read, {name: _DTYPES[entry["dtype"]] for name, entry in header.items()})


def write_tensor_file(path: Path, file: TensorFile, tensors: Callable[[str], torch.Tensor], dtypes: Mapping[str, torch.dtype]) -> None:
    """A ``.safetensors`` file with the names, shapes and metadata of another, one tensor in memory at a time.

    Args:
        path: to write to; whoever calls puts it into its place (see ``engine.files.replacing``).
        tensors: name -> the tensor to write, of the file's shape.
        dtypes: name -> as it is written.
    """
    names = {dtype: name for name, dtype in _DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {key: str(value) for key, value in file.metadata.items()}}
    end = 0
    for name, shape in file.shapes.items():
        first, end = end, end + math.prod(shape) * torch.empty(0, dtype=dtypes[name]).element_size()
        header[name] = {"dtype": names[dtypes[name]], "shape": list(shape), "data_offsets": [first, end]}
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)  # so that numbers begin at a multiple of 8 bytes
    with open(path, "wb") as output:
        output.write(len(text).to_bytes(8, "little"))
        output.write(text)
        for name in file.shapes:
            made = tensors(name).to(dtypes[name]).contiguous()
            output.write(made.reshape(-1).view(torch.uint8).numpy().data if made.numel() else b"")


def _is_entry(entry: Any) -> bool:
    """Whether a header says of a tensor what it has to."""
    if not (isinstance(entry, dict) and isinstance(entry.get("dtype"), str)):
        return False
    shape, places = entry.get("shape"), entry.get("data_offsets")
    if not (isinstance(shape, list) and isinstance(places, list) and len(places) == 2):
        return False
    return all(type(number) is int and number >= 0 for number in (*shape, *places)) and places[0] <= places[1]


def _count_bytes(entry: Mapping[str, Any]) -> int:
    return math.prod(entry["shape"]) * torch.empty(0, dtype=_DTYPES[entry["dtype"]]).element_size()


def _read_header(path: Path) -> tuple[dict, int]:
    """The header and where it ends: 8 bytes of little-endian length, then JSON."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        raw = file.read(length) if length <= _HEADER_LIMIT_BYTES else b""
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise UserError(f"cannot read '{path}': this is no safetensors file, or its beginning is broken. Get it again.")
    return header, 8 + length


def _open_pickled(path: Path) -> TensorFile:
    with open(path, "rb") as file:
        start = file.read(2)
    if start != b"PK" and start[:1] != b"\x80":  # zip, or pickle's own first byte in files before torch 1.6
        raise UserError(f"cannot read '{path}': this is no checkpoint, or its beginning is broken. Get it again.")
    try:
        content = load_pickled(path, mmap=start == b"PK")
    except pickle.UnpicklingError as error:
        raise UserError(
            f"cannot read '{path}': it holds more than tensors, and reading that would run whatever program is in it. "
            "Use the model's .safetensors file, or convert it with a tool you trust."
        ) from error
    except UserError:
        raise
    except Exception as error:  # of a damaged file torch raises nearly anything
        raise UserError(f"cannot read '{path}': it is broken or incomplete ({error}). Get it again.") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else {}
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    return TensorFile(path, shapes, {}, lambda name: tensors[name].clone(), {name: value.dtype for name, value in tensors.items()})
