"""Data sets that people put together by dropping files into the page: a named folder each.

Owns what happens to names, doubles and ZIP files. Nothing of a data set is ever lost: a picture of a name that is taken gets
another one, a text that replaces another leaves that beside it. Must not import gradio.
"""

import filecmp
import os
import shutil
import tempfile
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import UserError
from ..engine.names import check_name
from ..engine.plurals import counted
from .zip_files import Allowance, clean_place, is_junk, unpack

_TEXTS = (".txt", ".caption", ".csv", ".jsonl", ".json")  # about examples, as opposed to examples that something is said about
_BACKUP = ".bak"
_MOST_OF_ONE_NAME = 1000
_SHOWN_NAMES = 5

_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)  # by folder: two uploads into one must not choose the same free name


@dataclass(frozen=True)
class _Upload:
    """A file that goes into a data set."""

    source: int  # which of the uploaded files it came with: those that were no ZIP files count as one
    place: Path  # within the data set
    file: Path
    is_ours: bool  # so that it need not be copied

    @property
    def is_example(self) -> bool:
        return self.place.suffix.lower() not in _TEXTS


def list_data_sets(root: Path) -> list[str]:
    """The names of all data sets, in the order of the alphabet."""
    folders = root.iterdir() if root.is_dir() else []
    return sorted((f.name for f in folders if f.is_dir() and not f.name.startswith(".")), key=str.casefold)


def add_to_data_set(root: Path, name: str, files: Sequence[Path], suffixes: Sequence[str]) -> tuple[Path, str]:
    """Copy files into a data set, which is made where there is none; ZIP files are unpacked, folders in them kept.

    Args:
        root: where all data sets lie.
        files: anywhere; they are left as they are.
        suffixes: what the data set may hold, such as ".png"; other files are left out, and told.

    Returns:
        The data set's folder, and a few sentences about what was done.

    Raises:
        UserError: for a name that cannot be a folder's, a ZIP file that cannot be unpacked, and where no file is left.
    """
    folder = root / check_name((name or "").strip(), "the data set")
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".incoming ") as unpacked:
        allowance = Allowance()
        wanted: list[_Upload] = []
        refused: list[_Upload] = []
        for number, file in enumerate(files, 1):
            for upload in _open_upload(Path(file), number, Path(unpacked, str(number)), allowance):
                (wanted if upload.place.suffix.lower() in suffixes else refused).append(upload)
        names = [upload.place.name for upload in refused]
        if not wanted:
            what = f"{_name_some(names)} cannot be used" if refused else "there are no files"
            raise UserError(f"cannot add to the data set '{folder.name}': {what}. It takes {' '.join(suffixes)} and .zip files.")
        with _locks[os.path.normcase(folder)]:
            try:
                done = _Placing(folder).place_all(wanted)
            except OSError as error:
                at = Path(error.filename2 or error.filename or folder).name
                raise UserError(
                    f"cannot write '{at[:40]}' into the data set '{folder.name}': {error.strerror}. Mend that, and add it again."
                ) from error
    return folder, _tell(done, names, folder.name, suffixes)


def _open_upload(file: Path, number: int, unpacked: Path, allowance: Allowance) -> Iterator[_Upload]:
    """An uploaded file, or each in a ZIP file."""
    if file.suffix.lower() == ".zip":
        yield from (_Upload(number, place, copy, True) for place, copy in unpack(file, unpacked, allowance))
    elif not is_junk(file.name):
        yield _Upload(0, clean_place([file.name], "cannot take an upload"), file, False)


# -- into the data set -------------------------------------------------------------------------------------------------


class _Placing:
    """One upload on its way into a data set. Each folder is listed once, however many files go there."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._examples: dict[Path, dict[str, list[Path]]] = {}  # folder -> stem, whatever its case -> what is there

    def place_all(self, uploads: Sequence[_Upload]) -> Counter:
        """Copy files to their places; how many were added, renamed, replaced, or there already."""
        done: Counter = Counter()
        for (place, group), examples in ((item, _examples_of(item[1])) for item in _group(uploads)):
            wanted = self._folder / place
            there = self._list(wanted.parent)
            stem = self._find_stem(wanted, examples) if examples else wanted.name
            for upload in group:
                target = wanted.with_name(stem + upload.place.suffix)
                done[_place(upload, target, is_renamed=stem != wanted.name)] += 1
                if upload.is_example:
                    there.setdefault(stem.casefold(), []).append(target)
        return done

    def _find_stem(self, wanted: Path, examples: dict[str, Path]) -> str:
        """The wanted stem, or the first numbered one that no other example has."""
        there = self._list(wanted.parent)
        for number in range(1, _MOST_OF_ONE_NAME + 1):
            stem = f"{wanted.name} ({number})" if number > 1 else wanted.name
            rivals = there.get(stem.casefold(), ())
            if all(path.suffix.lower() in examples and _are_same(path, examples[path.suffix.lower()]) for path in rivals):
                return stem
        raise UserError(f"cannot add '{wanted.name}': there are {_MOST_OF_ONE_NAME:,} of that name. Choose other names.")

    def _list(self, folder: Path) -> dict[str, list[Path]]:
        """The examples in a folder of the data set, which is made where there is none."""
        if folder not in self._examples:
            folder.mkdir(parents=True, exist_ok=True)
            self._examples[folder] = {}
            for path in folder.iterdir():
                if path.suffix.lower() not in (*_TEXTS, _BACKUP):
                    self._examples[folder].setdefault(path.stem.casefold(), []).append(path)
        return self._examples[folder]


def _group(uploads: Sequence[_Upload]) -> Iterator[tuple[Path, list[_Upload]]]:
    """What belongs to one example, by its stem, is renamed together: (path without suffix, files). A second file of the same name is
    another example; a text that came by itself belongs to the first."""
    groups: dict[tuple, list[_Upload]] = defaultdict(list)
    first: dict[Path, list[_Upload]] = {}
    times: Counter = Counter()
    for upload in uploads:
        place = upload.place.parent / upload.place.stem
        again = (upload.source, place, upload.place.suffix.lower())
        group = groups[upload.source, place, times[again]]
        times[again] += 1
        if times[again] > _MOST_OF_ONE_NAME:
            raise UserError(f"cannot add '{upload.place.name}': it comes more than {_MOST_OF_ONE_NAME:,} times. Choose other names.")
        group.append(upload)
        if upload.is_example:
            first.setdefault(place, group)
    for (_, place, _), group in groups.items():
        if place in first and not _examples_of(group):
            first[place] += group
            group.clear()
    yield from ((place, group) for (_, place, _), group in groups.items() if group)


def _examples_of(group: Sequence[_Upload]) -> dict[str, Path]:
    """Suffix -> file, of those that are no texts."""
    return {upload.place.suffix.lower(): upload.file for upload in group if upload.is_example}


def _are_same(one: Path, other: Path) -> bool:
    return one.exists() and filecmp.cmp(one, other, shallow=False)


def _place(upload: _Upload, target: Path, *, is_renamed: bool) -> str:
    """Put one file where it belongs; what was done, in a word."""
    what = "renamed" if is_renamed else "added"
    if target.exists():
        if filecmp.cmp(upload.file, target, shallow=False):
            return "known"
        target.rename(_find_backup(target))
        what = "replaced"
    if upload.is_ours:
        os.replace(upload.file, target)
    else:
        _copy(upload.file, target)
    return what


def _find_backup(path: Path) -> Path:
    """A free name beside it that nothing reads."""
    number, backup = 1, path.with_name(path.name + _BACKUP)
    while backup.exists():
        number += 1
        backup = path.with_name(f"{path.name}.{number}{_BACKUP}")
    return backup


def _copy(source: Path, target: Path) -> None:
    """All or nothing. Not flushed to the disk, which would take minutes for many small files: people still have them."""
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


# -- telling -----------------------------------------------------------------------------------------------------------


def _tell(done: Counter, refused: Sequence[str], name: str, suffixes: Sequence[str]) -> str:
    said = [f"Added {_count(done['added'] + done['renamed'])} to '{name}'."]
    if done["renamed"]:
        said.append(f"{_count(done['renamed'])} got a new name, because another one has that name already.")
    if done["replaced"]:
        said.append(f"{_count(done['replaced'])} replaced an older text, which is kept beside it with {_BACKUP} at its end.")
    if done["known"]:
        said.append(f"{_count(done['known'])} {'was' if done['known'] == 1 else 'were'} there already.")
    if refused:
        said.append(f"Left out {_name_some(refused)}: a data set takes {' '.join(suffixes)}.")
    return " ".join(said)


def _count(number: int) -> str:
    return counted(number, "file")


def _name_some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
