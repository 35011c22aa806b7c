"""ZIP files that people upload, unpacked: whatever is wrong with one is a sentence, and none fills the disk. Must not import gradio."""

import contextlib
import errno
import lzma
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import UserError
from ..engine.files import disk_full
from ..engine.names import clean_name

_JUNK = ("__macosx", "thumbs.db", "desktop.ini")
_MOST_FILES = 200_000
_MOST_BYTES = 50 * 2**30
_MOST_SQUEEZED = 100  # times; pictures are squeezed already, text shrinks some ten times
_SMALL_BYTES = 64 * 2**20  # that much may come out of any ZIP file
_LONGEST_NAME_BYTES = 240  # systems take 255, of which some are for what is put behind the name
_MOST_FOLDERS = 32  # one in the other
_DAMAGES: tuple[type[Exception], ...] = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError)
_DAMAGES += (LookupError, struct.error, zlib.error, lzma.LZMAError)  # what Python's readers raise for bytes that make no sense


@dataclass
class Allowance:
    """How much may still come out of the ZIP files of one upload."""

    files: int = 0
    bytes: int = 0

    def spend(self, entries: list[zipfile.ZipInfo], file: Path) -> None:
        """Raises UserError for a ZIP file that is made to fill a disk. Python unpacks no more of a file than its entry says."""
        start, packed, unpacked = f"cannot unpack '{file.name}'", file.stat().st_size, sum(entry.file_size for entry in entries)
        self.files, self.bytes = self.files + len(entries), self.bytes + unpacked
        if self.files > _MOST_FILES:
            raise UserError(f"{start}: {self.files:,} files would come out of it, and at most {_MOST_FILES:,} are taken at once. Split it.")
        if self.bytes > _MOST_BYTES:
            size = f"{self.bytes / 2**30:.1f} GB would come out of it, and at most {_MOST_BYTES / 2**30:.0f} GB are taken at once"
            raise UserError(f"{start}: {size}. Split it, or name the folder that holds the files.")
        if unpacked > _SMALL_BYTES + _MOST_SQUEEZED * packed:
            size = f"{unpacked / 2**20:.1f} MB would come out of {packed / 2**20:.1f} MB, more than {_MOST_SQUEEZED} times as much"
            raise UserError(f"{start}: {size}. Unpack it yourself, and see what it holds.")


def unpack(file: Path, folder: Path, allowance: Allowance) -> Iterator[tuple[Path, Path]]:
    """(path as packed, unpacked file below ``folder``, named by a number) of each file in it, without what systems hide.

    Raises:
        UserError: where it is damaged, locked, too large, or leads elsewhere. Then nothing of it must be used.
    """
    start = f"cannot unpack '{file.name}'"
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
            allowance.spend(entries, file)
            folder.mkdir(exist_ok=True)
            if any(entry.flag_bits & 1 for entry in entries):
                raise UserError(f"{start}: it is locked with a password. Upload it without one.")
            for number, entry in enumerate(entries):
                parts = _read_parts(entry, start)
                if any(is_junk(part) for part in parts) or stat.S_ISLNK(entry.external_attr >> 16):
                    continue
                place, copy = clean_place(parts, start), folder / str(number)
                with archive.open(entry) as source, open(copy, "wb") as target:
                    shutil.copyfileobj(source, target)
                yield place, copy
    except _DAMAGES as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise disk_full(folder) from error
        raise UserError(f"{start}: it is no whole ZIP file ({error}). Pack it again.") from error


def _read_parts(entry: zipfile.ZipInfo, start: str) -> list[str]:
    """Folders and file name. Raises UserError where there are none, or they lead out of the folder it is unpacked in."""
    name = entry.filename
    if not entry.flag_bits & 0x800:  # not marked as UTF-8; but that is what macOS writes all the same
        with contextlib.suppress(UnicodeError):  # an old encoding then: readable or not, the same for a picture and its caption
            name = name.encode("cp437").decode("utf-8")
    parts = re.split(r"[/\\]", name)
    if not name.strip("./\\ "):
        raise UserError(f"{start}: it holds a file without a name. Pack it again.")
    if ".." in parts or not parts[0] or re.match(r"[A-Za-z]:", name):
        raise UserError(f"{start}: it holds '{name}', which would land outside of the data set. Do not use this file.")
    return [part for part in parts if part not in ("", ".")]


def clean_place(parts: list[str], start: str) -> Path:
    """A path that every system takes. Raises UserError for one that none does."""
    cleaned = [clean_name(part) for part in parts]
    long = next((part for part in cleaned if len(part.encode("utf-8", "replace")) > _LONGEST_NAME_BYTES), "")
    if long:
        raise UserError(f"{start}: the name '{long[:40]}…' is longer than {_LONGEST_NAME_BYTES} bytes. Shorten it.")
    if len(cleaned) > _MOST_FOLDERS:
        raise UserError(f"{start}: '{cleaned[-1]}' lies in more than {_MOST_FOLDERS} folders. Pack it again, in fewer.")
    return Path(*cleaned)


def is_junk(name: str) -> bool:
    """What systems put beside people's files."""
    return name.startswith(".") or name.lower() in _JUNK
