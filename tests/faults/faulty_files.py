"""Files on which something happens at the n-th operation: the process is killed in the middle of it, or the disk is full.

Python's own writing goes through here, down to single writes to the system; what libraries write in another language does not.
"""

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITES = frozenset("wax+")


class FaultyFiles:
    """Counts operations on files below a folder, and calls ``act`` at the n-th one and all after it.

    Args:
        nth: counted from 1; 0 lets nothing happen, for counting.
        only_writes: leave out what needs no space.
    """

    def __init__(self, folder: Path, nth: int, act: Callable[[], None], *, only_writes: bool = False):
        self._folder, self._nth, self._act, self._only_writes = os.path.abspath(folder), nth, act, only_writes
        self.count = 0
        self._undo: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> "FaultyFiles":
        faults, real_open = self, io.open

        class Raw(io.FileIO):
            def write(self, data):
                if faults._happens_now():
                    super().write(bytes(data)[: len(data) // 2])
                    faults._act()
                return super().write(data)

        def open_watched(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
            if not _WRITES & set(mode) or not self._is_inside(file):
                return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
            raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
            buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

        self._replace(builtins, "open", open_watched)
        self._replace(io, "open", open_watched)
        for name in ("fsync",) if self._only_writes else ("fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir"):
            self._watch(name)
        return self

    def __exit__(self, *error) -> None:
        while self._undo:
            setattr(*self._undo.pop())

    def _watch(self, name: str) -> None:
        real = getattr(os, name)

        def watched(first, *rest, **named):
            if (isinstance(first, int) or self._is_inside(first)) and self._happens_now():
                self._act()
            return real(first, *rest, **named)

        self._replace(os, name, watched)

    def _replace(self, place: Any, name: str, new: Any) -> None:
        self._undo.append((place, name, getattr(place, name)))
        setattr(place, name, new)

    def _is_inside(self, path: Any) -> bool:
        return isinstance(path, (str, os.PathLike)) and os.path.abspath(os.fspath(path)).startswith(self._folder)

    def _happens_now(self) -> bool:
        self.count += 1
        return bool(self._nth) and self.count >= self._nth


def die() -> None:
    """As the system does it when it is short of memory, or the power is."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuse_space() -> None:
    """The disk is full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
