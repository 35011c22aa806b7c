"""Of a run's checkpoints one is kept, and the others go: from its folder, and from the program's."""

import glob
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UserError
from .run import FINISHED, Run

if TYPE_CHECKING:
    from .jobs import Jobs


def find_doomed(run: Run, keep: str) -> list[Path]:
    """The adapters that go where the one of that label stays: all but the finished one, which is what the run came to.

    Args:
        keep: as of Run.list_adapters.
    Raises:
        UserError: where there is none of that label.
    """
    adapters = run.list_adapters()
    if keep not in adapters:
        raise UserError(f"cannot keep '{keep}' of '{run.name}': there is {', '.join(adapters) or 'none'}. Choose among those.")
    return [path for label, path in adapters.items() if label not in (keep, FINISHED)]


def keep_only(jobs: "Jobs", name: str, keep: str) -> list[str]:
    """Remove the other checkpoints of a run, their cards, and their copies where the program finds them; returns their names.

    Raises:
        UserError: where there is none of that label, while the run trains or waits, and where a file is in use.
    """
    run = open_run(jobs, name)
    if jobs.find_job(name):
        raise UserError(f"cannot remove checkpoints of '{name}': it is training or waiting. Stop it first.")
    run.take()
    try:
        doomed = find_doomed(run, keep)
        for path in doomed:
            if jobs.library:
                jobs.library.remove_copy(path.stem)
            _remove(path)
    finally:
        run.close()
    return [path.name for path in doomed]


def open_run(jobs: "Jobs", name: str) -> Run:
    """To look for its files. Raises UserError where there is none of that name."""
    folder = jobs.find_folder(name)
    return Run(folder, str(jobs.values(name).get("output_name") or name), jobs.config_class.FILE_SUFFIX)


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
