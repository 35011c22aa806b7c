"""The cache folder, and what is remembered there of picture files so that the next start need not read them again.

Must not import any host; knows nothing of captions.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import UserError
from ..engine.files import write_text
from ..engine.interfaces import Progress
from .entries import list_sources
from .reading import check_picture, read_bytes

if TYPE_CHECKING:
    from .config import PictureConfig

CACHE_NAME = ".hotlora-cache"
_CLOCK_SECONDS = 3.0  # coarsest clock of a file system (FAT: 2 s): a younger file may change again under the same time stamp
_CHUNK = 32


@dataclass(frozen=True)
class Seen:
    """A picture file that was found sound."""

    digest: str  # sha256 of the file's bytes
    size: tuple[int, int]  # (width, height), upright
    is_black: bool = False  # all over


def choose_cache_folder(config: "PictureConfig") -> Path:
    """`cache_dir`, or `.hotlora-cache` beside the pictures of the run's first folder, or the run's own folder where that cannot be written.

    Raises:
        UserError: when no such folder can be written.
    """
    if config.cache_dir:
        candidates = [Path(config.cache_dir).expanduser()]
    else:
        first = next((source.root for source in list_sources(config) if source.use == "train"), Path())
        candidates = [first / CACHE_NAME, Path(config.output_dir) / CACHE_NAME]
    reasons = []
    for folder in candidates:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as error:
            reasons.append(str(error))
    raise UserError(f"cannot write the cache folder {candidates[-1]}: {'; '.join(reasons)}. Set cache_dir to a folder that can be written.")


class PictureIndex:
    """Content digest and size of picture files, kept in one file in the cache folder.

    A file is read again when its size or time stamp changed. Pictures that cannot be read are not kept: they are tried
    again each time.

    Attributes:
        note: what people should hear about that file; empty for nothing.
    """

    def __init__(self, folder: Path):
        self._path, self.note = folder / "index.json", ""
        self._entries = self._load()
        self._changed = False

    def inspect(self, paths: Sequence[Path]) -> Iterator[tuple[Progress, dict[Path, Seen | UserError]]]:
        """Look at pictures, several at a time; yields how far it is and what was found since the last time."""
        try:
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
                for start in range(0, len(paths), _CHUNK):
                    chunk = paths[start : start + _CHUNK]
                    known = {path: self._find_known(path) for path in chunk}
                    unknown = [path for path, seen in known.items() if not seen]
                    looked_at = dict(zip(unknown, pool.map(self._inspect_one, unknown), strict=True))
                    found = {path: seen or looked_at[path] for path, seen in known.items()}
                    yield Progress("checking pictures", start + len(chunk), len(paths)), found
        finally:
            self._save()

    def _find_known(self, path: Path) -> Seen | None:
        """What it was when it was read last; None where it is another one since, or new."""
        known = self._entries.get(os.path.abspath(path))
        try:
            status = os.stat(path) if known else None
        except OSError:  # said by whoever reads it
            return None
        same = known and status and known[:2] == [status.st_size, status.st_mtime_ns]
        return Seen(known[2], (known[3], known[4]), known[5:] == [True]) if known and same else None

    def _inspect_one(self, path: Path) -> Seen | UserError:
        try:
            key, status = os.path.abspath(path), path.stat()
            data = read_bytes(path)
            seen = Seen(hashlib.sha256(data).hexdigest(), *check_picture(data, path))
        except UserError as error:
            return error
        except OSError as error:
            return UserError(f"cannot read the picture {path}: {error.strerror or error}. Mend its rights, or remove it.")
        if time.time() - status.st_mtime > _CLOCK_SECONDS:
            self._entries[key] = [status.st_size, status.st_mtime_ns, seen.digest, *seen.size, seen.is_black]
            self._changed = True
        return seen

    def _load(self) -> dict[str, list]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            entries = dict(content["pictures"])
            sound = content["sha256"] == _checksum(content["pictures"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            sound = False
        if sound:
            return entries
        self.note = f"{self._path} was damaged or of another version, so every picture was read again."
        return {}

    def _save(self) -> None:
        if self._changed:
            entries = {path: entry for path, entry in self._entries.items() if os.path.exists(path)}
            write_text(self._path, json.dumps({"sha256": _checksum(entries), "pictures": entries}))
            self._changed = False


def _checksum(entries: Any) -> str:
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()
