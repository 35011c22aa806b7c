"""The folder of all runs: which there are, and what has happened in each. Knows nothing of runs that train.

Pages look at all runs every other second. So a look asks the file system twice for every run, and reads only what has been written
since the look before. Of most runs no more is kept in memory than a line in a list needs.
"""

import os
import threading
from pathlib import Path
from typing import Any

from .errors import UserError
from .history import History
from .marks import FILE, Marks, follow, read_marks
from .run import read_run_config
from .search_plan import is_search

_HISTORIES_KEPT = 16  # those that somebody looks at, with all their steps
DELETED = ".deleted"  # ends the name of a folder that is being deleted, and is no run any more; a dot begins it
_NAMES_TOLD = 10


class Archive:
    """The runs in one folder, a folder each."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._spellings: frozenset[str] = frozenset()  # the entries of the folder, when it was listed last
        self._lock = threading.Lock()  # for all below
        self._outlines: dict[str, History] = {}
        self._histories: dict[str, History] = {}  # what was asked for last, last
        self._values: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}
        self._marks: dict[str, Marks] = {}

    # -- which there are -----------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Every run, the one that was worked on last first."""
        try:
            entries = [entry for entry in os.listdir(self.folder) if not _is_deleted(entry)]
        except (FileNotFoundError, NotADirectoryError):
            entries = []
        self._spellings = frozenset(entries)
        changes = {entry: change for entry in entries if (change := _last_change(os.path.join(self.folder, entry))) is not None}
        return sorted(changes, key=lambda name: (-changes[name], name))

    def find(self, name: str) -> Path:
        """The folder of a run. Raises UserError where there is none of exactly that name."""
        if not self._holds(name):
            known = ", ".join(self.names()[:_NAMES_TOLD]) or "none yet"
            raise UserError(f"cannot find a run called '{name}'. There are: {known}.")
        return self.folder / name

    def _holds(self, name: str) -> bool:
        """Only what the folder itself spells so is a name: no path, and not the other names by which Windows and macOS would find
        the same folder."""
        if name not in self._spellings:
            try:
                self._spellings = frozenset(os.listdir(self.folder))
            except OSError:
                return False
        is_spelled_so = name in self._spellings and not _is_deleted(name)
        return is_spelled_so and _stat(os.path.join(self.folder, name, "config.yaml")) is not None

    # -- what has happened ---------------------------------------------------------------------------------------------

    def history(self, name: str) -> History:
        """All that has happened in a run so far. Raises UserError where it cannot be read."""
        folder = self.find(name)
        with self._lock:
            history = self._histories.pop(name, None) or History(follow=follow(folder, self.marks(name)))
            self._histories[name] = history
            while len(self._histories) > _HISTORIES_KEPT:
                del self._histories[next(iter(self._histories))]
            return _read_on(history, folder)

    def outline(self, name: str) -> History:
        """The same, but with the last few steps only."""
        folder = self.find(name)
        with self._lock:
            return self._read_outline(name, folder)

    def look(self) -> dict[str, History | UserError]:
        """The outlines of all runs, in the order of their names; the reason, where one cannot be read."""
        found: dict[str, History | UserError] = {}
        with self._lock:
            names = self.names()
            for name in names:
                try:
                    found[name] = self._read_outline(name, self.folder / name)
                except UserError as error:
                    found[name] = error
            for gone in self._outlines.keys() - found.keys():
                self._forget(gone)
        return found

    def _read_outline(self, name: str, folder: Path) -> History:
        if name not in self._outlines:
            self._outlines[name] = History(is_outline=True, follow=follow(folder, self.marks(name)))
        return _read_on(self._outlines[name], folder)

    def marks(self, name: str) -> Marks:
        """What people have written on a run; none where nobody has. Read once, and after :meth:`forget_marks`: a look at all runs asks
        the file system for no more than it must."""
        if name not in self._marks:
            there = _stat(os.path.join(self.folder, name, FILE)) is not None
            self._marks[name] = read_marks(self.folder / name) if there else Marks()
        return self._marks[name]

    def forget_marks(self, name: str) -> None:
        """They are written anew."""
        self._marks.pop(name, None)

    def find_bearer(self, name: str) -> str | None:
        """The renamed run whose files still have this name."""
        wanted = os.path.normcase(name)
        renamed = [run for run in self.names() if self.marks(run).was and not is_search(self.folder / run)]
        return next((run for run in renamed if os.path.normcase(str(self.values(run).get("output_name"))) == wanted), None)

    def values(self, name: str) -> dict[str, Any]:
        """The options of a run; parsed only if its file has changed. Raises UserError where it cannot be read."""
        folder = self.find(name)
        found = _stat(os.path.join(folder, "config.yaml"))
        state = (found.st_size, found.st_mtime_ns) if found else (0, 0)
        with self._lock:
            known = self._values.get(name)
        if known is None or known[0] != state:
            known = (state, read_run_config(folder))
            with self._lock:
                self._values[name] = known
        return dict(known[1])

    def forget(self, name: str) -> None:
        """The run is deleted, or begins anew."""
        with self._lock:
            self._forget(name)

    def _forget(self, name: str) -> None:
        for kept in (self._outlines, self._histories, self._values, self._marks):
            kept.pop(name, None)


def _is_deleted(entry: str) -> bool:
    return entry.startswith(".") and entry.endswith(DELETED)


def _read_on(history: History, folder: Path) -> History:
    path = folder / "events.jsonl"
    try:
        return history.read_on(path)
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror}. Close what uses it, or see who may read it.") from error


def _last_change(folder: str) -> float | None:
    """Seconds since 1970; None where no run is in the folder (any more)."""
    config = _stat(os.path.join(folder, "config.yaml"))
    if config is None:
        return None
    return (_stat(os.path.join(folder, "events.jsonl")) or config).st_mtime


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None
