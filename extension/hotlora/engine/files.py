"""Writing files so that a kill at any instant leaves the previous one readable.

Every file goes to a temporary name beside it, is flushed to the disk and then renamed. On Windows a rename over a file
that another program has open fails; that is retried for a while.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import UserError

_REPLACE_SECONDS = 5.0


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it replaces ``path`` when the block ends without an error.

    Raises:
        UserError: when the disk is full. The previous file is untouched then, and the temporary one removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _flush(temporary)
        _replace(temporary, path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise disk_full(path) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


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


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file's content, all or nothing. Libraries that serialise should do so to memory first: only Python's
    own writes tell a full disk from other errors."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Replace the file's content as UTF-8, all or nothing."""
    write_bytes(path, text.encode("utf-8"))


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed process left behind."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)
