"""Files of tensors and plain values that know when they were damaged: torch's format, and behind it the SHA-256 of all before."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from .files import write_bytes

_MARK = b"hotlora sha256 "
_SEAL_BYTES = len(_MARK) + hashlib.sha256().digest_size


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write it, all or nothing."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    write_bytes(path, data + _MARK + hashlib.sha256(data).digest())


def read_sealed(path: Path) -> dict[str, Any]:
    """What was written, on the CPU.

    Raises:
        ValueError: when the file was changed since, or cut off. Files of before there were seals raise what torch raises.
    """
    file = path.read_bytes()
    data, seal = file[:-_SEAL_BYTES], file[-_SEAL_BYTES:]
    if not seal.startswith(_MARK):
        data = file
    elif seal != _MARK + hashlib.sha256(data).digest():
        raise ValueError("its checksum is wrong")
    load = torch.serialization.load  # AUTOMATIC1111 puts its own in the place of torch.load, which does not rewind what it has looked into
    content = load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise ValueError("it holds something else")
    return content
