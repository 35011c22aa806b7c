"""Which runs stand in line, kept in a file, so that they are known when the program starts again.

The line itself is :class:`hotlora.engine.jobs.Jobs`'s.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import UserError
from .files import write_text

_NAME = "queue.json"


@dataclass(frozen=True)
class Left:
    """A run that stood in line when the program ended."""

    name: str
    step: int  # that it had got to
    lost_steps: int  # of those, how many are trained again, because they came after the last saved state
    trials: int = 0  # of a search, how many are done


class LineFile:
    """The line as it was written last, in the folder of all runs. Another program may share the folder: its runs stay in the file."""

    def __init__(self, folder: Path):
        self._path = folder / _NAME
        self._known: set[str] = set()  # every name that was read or written here

    def read(self) -> list[str]:
        """The runs' names in their order; none where there is no such file, or it is damaged."""
        names = self._read()
        self._known.update(names)
        return names

    def _read(self) -> list[str]:
        try:
            names = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return list(dict.fromkeys(name for name in names if isinstance(name, str))) if isinstance(names, list) else []

    def write(self, names: Sequence[str]) -> None:
        """What cannot be written costs no run its training."""
        self._known.update(names)
        names = [*names, *(name for name in self._read() if name not in self._known)]
        with contextlib.suppress(OSError, UserError):
            if names:
                write_text(self._path, json.dumps(names))
            else:
                self._path.unlink(missing_ok=True)
