"""Writing files so that a kill at any instant leaves the previous one readable.

Every file goes to a temporary name beside it, is flushed to the disk and then renamed. On Windows a rename over a file
that another program has open fails; that is retried for a while.
"""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from .errors import UserError

_REPLACE_SECONDS = 5.0
_ABANDONED_SECONDS = 60.0
_ASIDE = ".aside"


@contextlib.contextmanager
def replacing(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; it replaces ``path`` when the block ends without an error.

    ``flush``: wait until the disk has it, without which a power failure may leave an empty file; not worth it for what has a checksum and
    can be made again.

    Raises:
        UserError: when the disk is full. The previous file is untouched then, and the temporary one removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _telling_full_disk(path):
            yield temporary
            if flush:
                _flush(temporary)
            _replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _telling_full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise disk_full(path) from error
        raise


def disk_full(path: Path) -> UserError:
    """The sentence for a full disk."""
    return UserError(f"cannot write {path}: the disk is full. Free some space and resume; what was saved before is whole.")


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _replace(source: Path, target: Path) -> None:
    until = time.monotonic() + _REPLACE_SECONDS
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def write_bytes(path: Path, data: bytes, *, flush: bool = True) -> None:
    """Replace the file's content, all or nothing. Libraries that serialise should do so to memory first: only Python's
    own writes tell a full disk from other errors."""
    with replacing(path, flush=flush) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Replace the file's content as UTF-8, all or nothing."""
    write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary path to make a folder at; it replaces the folder ``path`` when the block ends without an error.

    No system swaps two folders at once. So the old one is moved aside first, and :func:`remove_leftovers` moves it back where a
    kill came before the new one took its place.

    Raises:
        UserError: when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, aside = path.with_name(f".{path.name}.{os.getpid()}.tmp"), path.with_name(f".{path.name}{_ASIDE}")
    _bring_back(aside)
    try:
        with _telling_full_disk(path):
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            if path.exists():
                _replace(path, aside)
            _replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _bring_back(aside)


def _bring_back(aside: Path) -> None:
    """The folder that was moved aside takes its place again, unless another has."""
    path = aside.with_name(aside.name[1:].removesuffix(_ASIDE))
    if not aside.exists():
        return
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        _replace(aside, path)


def remove_dead_leftovers(folder: Path) -> None:
    """In a folder that several programs write to: only what a process left behind that is gone, and that for a minute (it may have been
    another computer's)."""
    for path in list(folder.rglob(".*.tmp")):
        process = path.name.split(".")[-2]
        with contextlib.suppress(OSError):
            if process.isdigit() and not psutil.pid_exists(int(process)) and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def is_leftover(path: Path) -> bool:
    """Whether a killed process was about to write it."""
    return path.name.startswith(".") and path.suffix == ".tmp"


def remove_leftovers(folder: Path) -> None:
    """Clean up after a killed process: what it was about to write goes, what it had moved aside comes back."""
    for aside in list(folder.rglob(f".*{_ASIDE}")):
        _bring_back(aside)
    for path in list(folder.rglob(".*.tmp")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
