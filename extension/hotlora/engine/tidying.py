"""Of a run's checkpoints one is kept, and the others go: from its folder, and from the program's."""

import glob
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from .errors import UserError
from .run import FINISHED, LOCK_NAME, list_adapters

if TYPE_CHECKING:
    from .jobs import Jobs


def list_checkpoints(jobs: "Jobs", name: str) -> dict[str, Path]:
    """As of list_adapters, of a run by its name, whether it trains or not. Raises UserError where there is none of that name."""
    return list_adapters(jobs.find_folder(name), str(jobs.values(name).get("output_name") or name), jobs.config_class.FILE_SUFFIX)


def find_doomed(adapters: Mapping[str, Path], keep: str) -> list[Path]:
    """The adapters that go where the one of that label stays: all but the finished one, which is what the run came to."""
    return [path for label, path in adapters.items() if label not in (keep, FINISHED)]


def keep_only(jobs: "Jobs", name: str, keep: str) -> list[str]:
    """Remove the other checkpoints of a run, their cards, and their copies where the program finds them; returns their names.

    Args:
        keep: as of list_adapters.
    Raises:
        UserError: where there is none of that label, while the run trains or waits, and where a file is in use.
    """
    adapters = list_checkpoints(jobs, name)
    if keep not in adapters:
        raise UserError(f"cannot keep '{keep}' of '{name}': there is {', '.join(adapters) or 'none'}. Choose among those.")
    if jobs.find_job(name):
        raise UserError(f"cannot remove checkpoints of '{name}': it is training or waiting. Stop it first.")
    doomed = find_doomed(adapters, keep)
    try:
        with FileLock(jobs.find_folder(name) / LOCK_NAME, timeout=0):
            for path in doomed:
                if jobs.library:
                    jobs.library.remove_copy(path.stem)
                _remove(path)
    except Timeout:
        raise UserError(f"cannot remove checkpoints of '{name}': another process trains it now. Wait until it has ended.") from None
    return [path.name for path in doomed]


def _remove(path: Path) -> None:
    """With what lies beside it under its name."""
    try:
        for file in [*path.parent.glob(f"{glob.escape(path.stem)}.*"), path]:
            if file.is_dir():
                shutil.rmtree(file)
            else:
                file.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot delete {path}: {error.strerror}. Close what uses it and try again.") from error
