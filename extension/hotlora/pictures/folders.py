"""Walking the folders of a data set: which files are examples, how often they repeat, which mask belongs to them.

Must not import any host; looks at names only, never into files.
"""

import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..engine.errors import UserError
from .caption_files import METADATA_NAMES, path_key
from .reading import SUFFIXES

_REPEAT_FOLDER = re.compile(r"(\d+)_(.*)")


@dataclass(frozen=True)
class Found:
    """A picture file, not looked into yet."""

    path: Path
    folder: str  # name of its repeat folder, or of the data folder
    repeats: int
    class_words: str  # what stands after the number of a repeat folder: its pictures' caption if they have no other
    siblings: set[str] = field(repr=False, compare=False)  # all file names in its folder


@dataclass(frozen=True)
class Contents:
    """What a data folder holds, in the order of names."""

    pictures: list[Found]
    metadata: list[Path]


def open_folder(value: str, option_name: str) -> Path:
    """The folder an option names.

    Raises:
        UserError: when it does not exist (naming the nearest folder there is) or is a file.
    """
    path = Path(value).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise UserError(f"cannot read pictures from {path}: it is a file. Set {option_name} to the folder it is in.")
    raise UserError(f"cannot read pictures from {path}: there is no such folder.{suggest_name(path)} Correct {option_name}.")


def suggest_name(path: Path) -> str:
    """' Did you mean …?' for a path that does not exist but nearly does; else nothing."""
    parent = path.absolute().parent
    names = [entry.name for entry in parent.iterdir()] if parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f" Did you mean {path.with_name(near[0])}?" if near else ""


def list_contents(root: Path, leave_out: Iterable[Path]) -> Contents:
    """Every picture and metadata file below ``root``, but not in hidden folders nor in those of ``leave_out``.

    A folder called `12_name` makes everything below it repeat 12 times, as in sd-scripts; 0 switches it off.
    """
    excluded = {path_key(path) for path in leave_out}
    contents = Contents([], [])
    for place, folders, files in os.walk(root):
        here = Path(place)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and path_key(here / f) not in excluded)
        repeats, folder, class_words = _read_repeats(here, root)
        siblings = set(files)
        for name in sorted(files):
            if name in METADATA_NAMES:
                contents.metadata.append(here / name)
            elif repeats and not name.startswith(".") and name.lower().endswith(SUFFIXES):
                contents.pictures.append(Found(here / name, folder, repeats, class_words, siblings))
    contents.metadata.sort(key=lambda path: METADATA_NAMES.index(path.name))
    return contents


def require_pictures(contents: Contents, root: Path, option_name: str) -> None:
    """Raise UserError when there is nothing to train on, saying what the folder holds instead."""
    if contents.pictures:
        return
    others = sorted({p.suffix.lower() for p in root.rglob("*") if p.is_file() and p.suffix and not p.name.startswith(".")})
    if not any(root.iterdir()):
        reason = "the folder is empty"
    else:
        reason = f"it holds no pictures{', only ' + ' '.join(others[:8]) if others else ''}"
    raise UserError(f"cannot train on {root}: {reason}. Put {' '.join(SUFFIXES)} files into it, or correct {option_name}.")


class Masks:
    """The mask pictures of a run, found by name."""

    def __init__(self, folder: Path | None):
        self._by_stem: dict[str, Path] = {}
        if folder is not None:
            for found in list_contents(folder, ()).pictures:
                self._by_stem.setdefault(found.path.relative_to(folder).with_suffix("").as_posix(), found.path)

    def find(self, picture: Path, root: Path) -> Path | None:
        """The mask of the same name, in the same sub-folder or directly in `mask_dir`."""
        same_place = picture.relative_to(root).with_suffix("").as_posix()
        return self._by_stem.get(same_place) or self._by_stem.get(picture.stem)


def _read_repeats(here: Path, root: Path) -> tuple[int, str, str]:
    """(repeats, folder name, class words) from the innermost repeat folder between ``here`` and ``root``."""
    for part in reversed(here.relative_to(root).parts):
        match = _REPEAT_FOLDER.fullmatch(part)
        if match:
            return int(match[1]), part, match[2].strip()
    return 1, root.resolve().name, ""
