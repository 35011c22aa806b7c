"""A run's folder gets another name, or goes. Knows nothing of runs that train here; that nobody else does is asked of the folder."""

import dataclasses
import os
import shutil
import uuid
from pathlib import Path

from filelock import FileLock, Timeout

from .archive import DELETED
from .errors import UserError
from .marks import Marks, write_marks
from .names import check_name
from .run import LOCK_NAME


def rename_folder(folder: Path, name: str, marks: Marks) -> None:
    """All or nothing: the files in it keep their names, and where they lay is written down before.

    Raises:
        UserError: for a name that is none or is taken, and while another process trains in the folder or has a file of it open.
    """
    check_name(name, "the run")
    target = folder.with_name(name)
    if os.path.lexists(target) and not (os.path.exists(target) and os.path.samefile(folder, target)):
        raise UserError(f"cannot rename '{folder.name}' to '{name}': there is one already. Choose another name.")
    lock = FileLock(folder / LOCK_NAME, timeout=0)
    try:
        lock.acquire()
        lock.release()  # Windows renames no folder with an open file
    except Timeout:
        raise UserError(f"cannot rename '{folder.name}': another process trains it now. Wait until it has ended, or stop it.") from None
    write_marks(folder, dataclasses.replace(marks, was=tuple(dict.fromkeys([*marks.was, str(folder)]))))
    try:
        folder.rename(target)
    except OSError as error:
        raise UserError(_explain("rename", folder, error)) from error


def delete_folder(folder: Path) -> Path:
    """Take the run away, all or nothing; returns what is left to be removed. Raises UserError where a file of it is open (Windows)."""
    doomed = folder.with_name(f".{uuid.uuid4().hex}{DELETED}")
    try:
        folder.rename(doomed)
    except OSError as error:
        raise UserError(_explain("delete", folder, error)) from error
    return doomed


def remove(doomed: Path) -> None:
    """Remove what :func:`delete_folder` has taken away."""
    (doomed / "config.yaml").unlink()  # now it is no run
    shutil.rmtree(doomed)


def _explain(what: str, folder: Path, error: OSError) -> str:
    return f"cannot {what} '{folder.name}': {error.strerror}. Close what uses its folder (TensorBoard, a viewer) and try again."
