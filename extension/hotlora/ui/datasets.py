"""Data sets that people put together by dropping files into the page: a named folder each.

Owns what happens to names, doubles and ZIP files. Nothing of a data set is ever lost: a picture of a name that is taken gets
another one, a text that replaces another leaves that beside it. Must not import gradio.
"""

import contextlib
import filecmp
import re
import shutil
import stat
import tempfile
import threading
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..engine.errors import UserError
from ..engine.files import replacing
from ..engine.names import check_name, clean_name

_TEXTS = (".txt", ".caption", ".csv", ".jsonl", ".json")  # about examples, as opposed to examples that something is said about
_BACKUP = ".bak"
_JUNK = ("__macosx", "thumbs.db", "desktop.ini")
_MOST_FILES = 200_000
_MOST_BYTES = 50 * 2**30
_MOST_SQUEEZED = 100  # times; pictures are squeezed already, text shrinks some ten times
_SMALL_BYTES = 64 * 2**20  # that much may come out of any ZIP file
_SHOWN_NAMES = 5

_one_at_a_time = threading.Lock()  # two uploads into the same folder must not choose the same free name


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
    with tempfile.TemporaryDirectory(dir=root, prefix=".incoming ") as unpacked, _one_at_a_time:
        found = [entry for place, file in enumerate(files) for entry in _open_upload(Path(file), Path(unpacked, str(place)))]
        wanted = [entry for entry in found if entry[0].suffix.lower() in suffixes]
        refused = [entry[0].name for entry in found if entry not in wanted]
        if not wanted:
            what = f"{_name_some(refused)} cannot be used" if refused else "there are no files"
            raise UserError(f"cannot add to the data set '{folder.name}': {what}. It takes {' '.join(suffixes)} and .zip files.")
        done = _place_all(wanted, folder)
    return folder, _tell(done, refused, folder.name, suffixes)


# -- what was uploaded -------------------------------------------------------------------------------------------------


def _open_upload(file: Path, unpacked: Path) -> Iterator[tuple[Path, Path]]:
    """(path within the data set, file to copy) of an uploaded file, or of each in a ZIP file. Without what systems hide."""
    if file.suffix.lower() == ".zip":
        yield from _unpack(file, unpacked)
    elif not _is_junk(file.name):
        yield Path(clean_name(file.name)), file


def _unpack(file: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """The files in a ZIP file, unpacked below ``folder`` under numbers. Raises UserError before anything of it is used."""
    start = f"cannot unpack '{file.name}'"
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_size(entries, file.stat().st_size, start)
            for number, entry in enumerate(entries):
                parts = _read_parts(entry, start)
                if any(_is_junk(part) for part in parts) or stat.S_ISLNK(entry.external_attr >> 16):
                    continue
                copy = folder / str(number)
                folder.mkdir(exist_ok=True)
                with archive.open(entry) as source, open(copy, "wb") as target:
                    shutil.copyfileobj(source, target)
                yield Path(*map(clean_name, parts)), copy
    except RuntimeError as error:  # what zipfile raises for encrypted ones
        raise UserError(f"{start}: it is locked with a password. Upload it without one.") from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{start}: it is no whole ZIP file ({error}). Pack it again.") from error


def _check_size(entries: Sequence[zipfile.ZipInfo], packed_bytes: int, start: str) -> None:
    """Refuse ZIP files that are made to fill a disk. Python unpacks no more of a file than its entry says."""
    unpacked_bytes = sum(entry.file_size for entry in entries)
    if len(entries) > _MOST_FILES or unpacked_bytes > min(_MOST_BYTES, _SMALL_BYTES + _MOST_SQUEEZED * packed_bytes):
        size = f"{len(entries)} files of {unpacked_bytes / 2**30:.1f} GB together"
        raise UserError(f"{start}: {size} would come out of {packed_bytes / 2**20:.1f} MB, which is too much. Unpack it yourself.")


def _read_parts(entry: zipfile.ZipInfo, start: str) -> list[str]:
    """Folders and file name. Raises UserError where they lead out of the folder it is unpacked in."""
    name = entry.filename
    if not entry.flag_bits & 0x800:  # not marked as UTF-8; but that is what macOS writes all the same
        with contextlib.suppress(UnicodeError):  # an old encoding then: readable or not, the same for a picture and its caption
            name = name.encode("cp437").decode("utf-8")
    parts = re.split(r"[/\\]", name)
    if ".." in parts or not parts[0] or re.match(r"[A-Za-z]:", name):
        raise UserError(f"{start}: it holds '{name}', which would land outside of the data set. Do not use this file.")
    return [part for part in parts if part not in ("", ".")]


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK


# -- into the data set -------------------------------------------------------------------------------------------------


def _place_all(files: Sequence[tuple[Path, Path]], folder: Path) -> Counter:
    """Copy files to their places; how many were added, renamed, replaced, or there already. What belongs to one example, by
    its stem, is renamed together."""
    groups: dict[Path, list[tuple[Path, Path]]] = defaultdict(list)
    for place, file in files:
        groups[folder / place.parent / place.stem].append((place, file))
    done: Counter = Counter()
    for wanted, group in groups.items():
        wanted.parent.mkdir(parents=True, exist_ok=True)
        stem = _find_stem(wanted, group)
        for place, file in group:
            done[_place(file, wanted.with_name(stem + place.suffix), is_renamed=stem != wanted.name)] += 1
    return done


def _find_stem(wanted: Path, group: Sequence[tuple[Path, Path]]) -> str:
    """The wanted stem, or the first numbered one that no other example has."""
    examples = {place.suffix.lower(): file for place, file in group if place.suffix.lower() not in _TEXTS}
    siblings = [path for path in wanted.parent.iterdir() if path.suffix.lower() not in (*_TEXTS, _BACKUP)] if examples else []
    number, stem = 1, wanted.name
    while True:
        there = [path for path in siblings if path.stem.casefold() == stem.casefold()]
        if all(path.suffix.lower() in examples and filecmp.cmp(path, examples[path.suffix.lower()], shallow=False) for path in there):
            return stem
        number += 1
        stem = f"{wanted.name} ({number})"


def _place(file: Path, target: Path, *, is_renamed: bool) -> str:
    """Copy one file; what was done, in a word."""
    if target.exists():
        if filecmp.cmp(file, target, shallow=False):
            return "known"
        target.rename(_find_backup(target))
        _copy(file, target)
        return "replaced"
    _copy(file, target)
    return "renamed" if is_renamed else "added"


def _find_backup(path: Path) -> Path:
    """A free name beside it that nothing reads."""
    number, backup = 1, path.with_name(path.name + _BACKUP)
    while backup.exists():
        number += 1
        backup = path.with_name(f"{path.name}.{number}{_BACKUP}")
    return backup


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


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
    return f"{number} file{'s' * (number != 1)}"


def _name_some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
