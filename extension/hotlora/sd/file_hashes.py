"""Hashes of model files, which take seconds for gigabytes: each file is read once, in the background where nobody needs them yet."""

import contextlib
import functools
import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_one_at_a_time = threading.Lock()


class FileHashes(NamedTuple):
    """Both names that WebUIs know a model file by."""

    legacy: str  # 8 hex digits of the SHA-256 of 64 KiB at 1 MiB
    sha256: str  # of the whole file


def file_hashes(path: Path) -> FileHashes:
    """Hashes of a checkpoint or VAE file. The answer is kept while the file stays as it is, and waited for where it is being made."""
    about = path.stat()
    with _one_at_a_time:
        return _hash_file(path.resolve(), about.st_size, about.st_mtime_ns)


def hash_ahead(paths: Sequence[Path]) -> None:
    """Have them made in a thread of its own. What cannot be read is said to whoever asks for it."""

    def work() -> None:
        for path in paths:
            with contextlib.suppress(OSError):
                file_hashes(path)

    threading.Thread(target=work, name="hotlora hashes", daemon=True).start()


@functools.lru_cache(maxsize=32)
def _hash_file(path: Path, size_bytes: int, changed_ns: int) -> FileHashes:
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            whole.update(piece)
        file.seek(0x100000)
        legacy = hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
    return FileHashes(legacy, whole.hexdigest())
