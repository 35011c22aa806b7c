"""The runs that lie in a folder, by name: what was asked of each, what happened in it, and what people have written on it."""

import dataclasses
from pathlib import Path
from typing import Any

from .archive import Archive
from .history import History
from .marks import Marks, write_marks


class KeptRuns:
    """Looks at runs, whether one trains or not. ``folder``: where they lie, a folder each."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._archive = Archive(folder)

    def names(self) -> list[str]:
        """Every run, the one that was worked on last first."""
        return self._archive.names()

    def find_folder(self, name: str) -> Path:
        """The folder of a run. Raises UserError where there is none of that name."""
        return self._archive.find(name)

    def history(self, name: str) -> History:
        """What has happened in a run so far. Raises UserError where there is none, or it cannot be read."""
        return self._archive.history(name)

    def outline(self, name: str) -> History:
        """The same, but with the last few steps only: much faster for a run that nobody has looked at yet."""
        return self._archive.outline(name)

    def values(self, name: str) -> dict[str, Any]:
        """The options of a run."""
        return self._archive.values(name)

    def marks(self, name: str) -> Marks:
        """What people have written on a run."""
        return self._archive.marks(name)

    def mark(self, name: str, **changes: Any) -> None:
        """Write on a run, see Marks: ``note``, ``archived``. Raises UserError where there is none."""
        folder = self.find_folder(name)
        write_marks(folder, dataclasses.replace(self._archive.marks(name), **changes))
        self._archive.forget_marks(name)
