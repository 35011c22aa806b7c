"""Uploaded files in named data sets: a folder each, in which nothing that is there is lost."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ..engine.errors import UserError
from ..engine.files import write_bytes

_LARGEST_BYTES = 200 * 2**20  # of one file in an archive
_MOST_BYTES = 4 * 2**30  # of all files in an archive


def list_data_sets(root: Path) -> list[str]:
    """The names of the data sets there are."""
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def add_to_data_set(root: Path, name: str, files: Sequence[Path], suffixes: Sequence[str]) -> tuple[Path, str]:
    """Copy files, or what is in ``.zip`` archives, into a data set. Returns its folder and what to tell people.

    A file that is there already with the same bytes is left; another of the same name is kept as ``name.ext.old``.

    Raises:
        UserError: for a name that is no folder name, and for files that no data set holds.
    """
    folder = root / check_name(name)
    found = [pair for file in files for pair in _read(file, suffixes)]
    if not found:
        raise UserError("cannot add nothing to a data set. Drop pictures into the field.")
    added = 0
    for relative, data in found:
        place = folder / relative
        if place.exists():
            if place.read_bytes() == data:
                continue
            write_bytes(place.with_name(place.name + ".old"), place.read_bytes())
        write_bytes(place, data)
        added += 1
    return folder, f"{added} files added to '{folder.name}'{f', {len(found) - added} were there already' if added < len(found) else ''}."


def check_name(name: str) -> str:
    """The name without blanks around it. Raises UserError where it is no folder name."""
    name = name.strip()
    if not name or name.startswith(".") or name.endswith(".") or any(c in '<>:"/\\|?*' or ord(c) < 32 for c in name):
        raise UserError(f"cannot name a data set '{name}'. Use letters, digits, spaces and dashes.")
    return name


def _read(file: Path, suffixes: Sequence[str]) -> Iterator[tuple[PurePosixPath, bytes]]:
    if file.suffix.lower() == ".zip":
        yield from _read_archive(file, suffixes)
        return
    if file.suffix.lower() not in suffixes:
        raise UserError(f"cannot add '{file.name}' to a data set: it takes {' '.join(suffixes)} and .zip.")
    yield PurePosixPath(file.name), file.read_bytes()


def _read_archive(file: Path, suffixes: Sequence[str]) -> Iterator[tuple[PurePosixPath, bytes]]:
    """What of an archive a data set takes; names that lead out of it are left."""
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise UserError(f"cannot read '{file.name}': it is no .zip archive.") from error
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if any(entry.file_size > _LARGEST_BYTES for entry in entries) or sum(entry.file_size for entry in entries) > _MOST_BYTES:
            raise UserError(f"cannot unpack '{file.name}': it is too large. Copy its pictures into a folder, and give that.")
        for entry in entries:
            path = PurePosixPath(entry.filename.replace("\\", "/"))
            hidden = any(part.startswith(".") or ":" in part for part in path.parts)
            if not path.is_absolute() and not hidden and path.suffix.lower() in suffixes:
                yield path, archive.read(entry)
