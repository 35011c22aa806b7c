"""Walking the folders of a data set: which files are examples, how often they repeat, which mask belongs to them.

Must not import any host; looks at names only, never into files.
"""

import difflib
import os
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from ..engine.errors import UserError
from ..engine.plurals import counted
from .caption_files import CAPTION_SUFFIXES, METADATA_NAMES, SideFiles, path_key
from .focus import FOCUS_NAME
from .left_out import LEFT_OUT, is_left_out
from .reading import HEIF_SUFFIXES, SUFFIXES, readable_suffixes

_REPEAT_FOLDER = re.compile(r"(\d+)_(.*)")
_FIRST = 3
_MOST_REPEATS_OF_ROOT = 300  # a larger number before a data folder's own name is a year or a date
_NO_DATA = {"@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "__macosx", "lost+found", "__pycache__"}
_ORDINARY_NAMES = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "license",
    "license.txt",
    "readme",
    "readme.txt",
}
_ORDINARY_SUFFIXES = (".npz", ".db", ".ini", ".md", ".log", ".lnk", ".url", ".bak", ".tmp", ".part")  # of other trainers, of systems


@dataclass(frozen=True)
class Found:
    """A picture file, not looked into yet."""

    path: Path
    folder: str  # name of its repeat folder, or of the data folder
    repeats: int
    class_words: str  # what stands after the number of a repeat folder: its pictures' caption if they have no other
    siblings: SideFiles = field(repr=False, compare=False)  # all file names in its folder


@dataclass(frozen=True)
class Contents:
    """What a data folder holds, in the order of names."""

    pictures: list[Found]
    metadata: list[Path]
    switched_off: list[Path] = field(default_factory=list)  # pictures in folders that repeat 0 times
    captions: list[Path] = field(default_factory=list)  # text files that may belong to a picture
    unread: list[Path] = field(default_factory=list)  # pictures of a kind that only a further package reads
    unknown: list[Path] = field(default_factory=list)  # everything else that nobody expects
    notes: list[str] = field(default_factory=list)
    left_out: list[Found] = field(default_factory=list)  # pictures in folders called `left out`
    focus: list[Path] = field(default_factory=list)  # files of focus points


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


def list_contents(root: Path, leave_out: Collection[Path], repeats: int | None = None) -> Contents:
    """Every picture and metadata file below ``root``, and what else lies there; but not in hidden folders nor in those of
    ``leave_out``; of folders called `left out` only the pictures, by themselves. Links are followed.

    A folder called `12_name` makes everything below it repeat 12 times, as in sd-scripts; 0 switches it off. That goes for
    ``root`` itself too. ``repeats`` goes before all of these but 0.
    """
    excluded, readable = {path_key(path) for path in leave_out}, readable_suffixes()
    contents, seen, told = Contents([], []), {os.path.realpath(root)}, set[str]()

    def cannot_look(error: OSError) -> None:
        contents.notes.append(f"The folder {show_name(Path(error.filename))} is left out: {error.strerror}. Mend its rights.")

    for place, folders, files in os.walk(root, followlinks=True, onerror=cannot_look):
        here = Path(place)
        folders[:] = sorted(f for f in folders if _is_data(f) and path_key(here / f) not in excluded and _is_new(here / f, seen))
        for aside in [name for name in folders if is_left_out(name)]:
            folders.remove(aside)
            contents.left_out.extend(list_contents(here / aside, leave_out).pictures)
        times, folder, class_words = _read_repeats(here, root)
        if repeats and times > 1 and times != repeats:
            told.add(folder)
        times = repeats if repeats and times else times
        siblings = SideFiles(files)
        for name in sorted(files):
            if not _is_data(name) or name.lower().endswith(_ORDINARY_SUFFIXES):
                continue
            found = Found(here / name, folder, times, class_words, siblings)
            _sort_in(found, contents, readable)
    contents.metadata.sort(key=lambda path: METADATA_NAMES.index(path.name.lower()))
    if told:
        listed = ", ".join(sorted(told)[:_FIRST]) + (" …" if len(told) > _FIRST else "")
        said = f"Each epoch shows the pictures of {root.name} {counted(repeats or 1, 'time')}, as repeats says"
        contents.notes.append(f"{said}, and not as often as the name of {listed} does.")
    elif contents.pictures and not repeats and _repeats_of_root(root)[0] != 1:
        contents.notes.append(_tell_repeats_of_root(contents, root))
    return contents


def _sort_in(found: Found, contents: Contents, readable: tuple[str, ...]) -> None:
    """Put a file where it belongs."""
    path, name = found.path, found.path.name.lower()
    if not _is_usable_name(found.path) or not _is_ordinary(path):
        contents.unknown.append(path)
    elif name in METADATA_NAMES:
        contents.metadata.append(path)
    elif name == FOCUS_NAME:
        contents.focus.append(path)
    elif name.endswith(readable):
        if found.repeats:
            contents.pictures.append(found)
        else:
            contents.switched_off.append(path)
    elif name.endswith(CAPTION_SUFFIXES):
        contents.captions.append(path)
    elif name.endswith(HEIF_SUFFIXES):
        contents.unread.append(path)
    else:
        contents.unknown.append(path)


def show_name(path: Path) -> str:
    """A name for a message, also one that is no text."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _is_data(name: str) -> bool:
    """Whether it is not hidden, and none of what systems and network drives leave in every folder."""
    return not name.startswith(".") and name.lower() not in _NO_DATA and name.lower() not in _ORDINARY_NAMES


def _is_usable_name(path: Path) -> bool:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_ordinary(path: Path) -> bool:
    """Whether it is a file, or a link to one; a pipe would be waited for without end."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True  # a link to nowhere, or gone meanwhile: whoever reads it says so
    except OSError:
        return False


def _is_new(folder: Path, seen: set[str]) -> bool:
    """Whether a folder was not walked before: links may lead in circles."""
    if not folder.is_symlink() and not os.path.ismount(folder):
        return True
    real = os.path.realpath(folder)
    if any(real == known or known.startswith(os.path.join(real, "")) for known in seen):
        return False
    seen.add(real)
    return True


def read_class_words(folder: str) -> str:
    """What stands after the number in a repeat folder's name; empty where it is none."""
    match = _REPEAT_FOLDER.fullmatch(folder)
    return match[2].strip() if match else ""


def _repeats_of_root(root: Path) -> tuple[int, str]:
    """(repeats, class words) from the data folder's own name; (1, "") where it has none."""
    match = _REPEAT_FOLDER.fullmatch(root.resolve().name)
    if match and 1 <= int(match[1]) <= _MOST_REPEATS_OF_ROOT:
        return int(match[1]), match[2].strip()
    return 1, ""


def _tell_repeats_of_root(contents: Contents, root: Path) -> str:
    repeats, _ = _repeats_of_root(root)
    count = sum(found.folder == root.resolve().name for found in contents.pictures)
    often = f"{counted(count, 'picture')} {counted(repeats, 'time')}"
    return f"Each epoch shows {often}, as the name of the folder {root.name} says. Rename it for another number."


def require_pictures(contents: Contents, root: Path, option_name: str) -> None:
    """Raise UserError when there is nothing to train on, saying what the folder holds instead."""
    if contents.pictures:
        return
    there = [*contents.captions, *contents.unread, *contents.unknown, *contents.metadata]
    others = sorted({path.suffix.lower() for path in there if path.suffix})
    if contents.switched_off:
        reason = (
            f"what is there ({counted(len(contents.switched_off), 'picture')}) is in folders that begin with 0_, which switches them off"
        )
    elif contents.left_out:
        reason = (
            f"what is there ({counted(len(contents.left_out), 'picture')}) lies in the folder '{LEFT_OUT}', where nothing is trained on"
        )
    elif not any(root.iterdir()):
        reason = "the folder is empty"
    else:
        reason = f"it holds no pictures{', only ' + ' '.join(others[:8]) if others else ''}"
    raise UserError(f"cannot train on {root}: {reason}. Put {' '.join(SUFFIXES)} files into it, or correct {option_name}.")


class Masks:
    """The mask pictures of a run, found by name."""

    def __init__(self, folder: Path | None):
        self.contents, self._by_stem = Contents([], []), dict[str, Path]()
        if folder is None:
            return
        self.contents = list_contents(folder, ())
        for found in self.contents.pictures:
            self._by_stem.setdefault(found.path.relative_to(folder).with_suffix("").as_posix(), found.path)

    def find(self, picture: Path, root: Path) -> Path | None:
        """The mask of the same name, in the same sub-folder or directly in `mask_dir`."""
        same_place = picture.relative_to(root).with_suffix("").as_posix()
        return self._by_stem.get(same_place) or self._by_stem.get(picture.stem)


def _read_repeats(here: Path, root: Path) -> tuple[int, str, str]:
    """(repeats, folder name, class words) from the innermost repeat folder between ``here`` and ``root``, or from ``root`` itself."""
    for part in reversed(here.relative_to(root).parts):
        match = _REPEAT_FOLDER.fullmatch(part)
        if match:
            return int(match[1]), part, match[2].strip()
    repeats, class_words = _repeats_of_root(root)
    return repeats, root.resolve().name, class_words
