"""What people have written on a run: a note, that it is put away, and the names it had before. A small file in the run's folder."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

from .errors import UserError
from .events import Event, Finished, Previewed, Saved
from .files import write_text

FILE = "marks.json"
_LONGEST_NOTE = 2000


@dataclasses.dataclass(frozen=True)
class Marks:
    """``was``: the folders in which the run lay before it was renamed, whose paths its events may still name."""

    note: str = ""
    archived: bool = False
    was: tuple[str, ...] = ()


def read_marks(folder: Path) -> Marks:
    """None set where there is no such file, or it is damaged: a note is not worth a run that cannot be looked at."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Marks()
    if not isinstance(found, dict):
        return Marks()
    was = found.get("was")
    folders = tuple(str(path) for path in was) if isinstance(was, list) else ()
    return Marks(str(found.get("note") or ""), bool(found.get("archived")), folders)


def write_marks(folder: Path, marks: Marks) -> None:
    """Raises UserError where they cannot be written, and for a note that is too long."""
    if len(marks.note) > _LONGEST_NOTE:
        raise UserError(f"cannot keep a note of {len(marks.note)} characters: {_LONGEST_NOTE} are the most. Shorten it.")
    try:
        write_text(folder / FILE, json.dumps(dataclasses.asdict(marks), ensure_ascii=False))
    except OSError as error:
        raise UserError(f"cannot write in '{folder}': {error.strerror}. See who may write there.") from error


def follow(folder: Path, marks: Marks) -> Callable[[Event], Event]:
    """What makes events of a renamed run name the files where they lie now."""
    places = [str(place) + os.sep for place in marks.was]

    def move(path: str) -> str:
        old = next((place for place in places if path.startswith(place)), None)
        return path if old is None else str(folder / path[len(old) :])

    def moved(event: Event) -> Event:
        if isinstance(event, (Saved, Previewed)):
            return dataclasses.replace(event, path=move(event.path))
        if isinstance(event, Finished):
            return dataclasses.replace(event, files={kind: move(path) for kind, path in event.files.items()})
        return event

    return moved
