"""Captions and tables that are not UTF-8: what they are in, and what saves them as UTF-8. One person's captions mostly are in one encoding,
so a folder's are judged together: a single caption is often too short to tell. Must not import any host.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..engine.encodings import KNOWN, TextError, recognise
from ..engine.errors import UserError
from ..engine.examples import Finding
from .caption_editing import USES, Captioned, list_captions
from .caption_files import read_text
from .config import PictureConfig
from .parts import find_metadata, name_picture, open_parts
from .remedies import make_finding

_WIDE = {"utf-16-le": "UTF-16 without its mark", "utf-16-be": "UTF-16 without its mark"}
_SHOWN = 30  # letters


def find_foreign(config: PictureConfig, captioned: Mapping[str, Captioned]) -> Iterator[Finding]:
    """A finding for each encoding that files are in, and one for those of which nobody can tell."""
    tables = _list_tables(config)
    captions = {name: found.beside for name, found in captioned.items() if not found.is_readable and found.beside}
    for files, what, word in ((captions, "picture", "with a caption"), (tables, "table", "of captions")):
        codecs = _recognise_all(files.values())
        for codec in dict.fromkeys(codecs.values()):
            names = [name for name, path in files.items() if codecs.get(path) == codec]
            if codec:
                shown = _shorten(files[names[0]].read_bytes().decode(codec))
                said = f"{word} in {(KNOWN | _WIDE)[codec]}, and not read ('{shown}'). Save it as UTF-8."
            else:
                said = f"{word} in an encoding that cannot be told, and not read. Save it as UTF-8 where it was written."
            if names:
                yield make_finding("foreign", names, said, text=codec, what=what)


def plan_utf8(config: PictureConfig, names: Sequence[str], codec: str) -> dict[Path, bytes]:
    """What the files hold as UTF-8 that belong to these pictures, or are tables of these names; nothing is written.

    Raises:
        UserError: for an encoding that is none of those known, a file that is gone, or is not in it.
    """
    if codec not in KNOWN and codec not in _WIDE:
        raise UserError(f"cannot read captions in '{codec}': it is none of {', '.join(KNOWN)}. Make the report anew.")
    there = {name: found.beside for name, found in list_captions(config, USES).items() if not found.is_readable and found.beside}
    there |= _list_tables(config)
    planned = {}
    for name in names:
        path = there.get(name)
        if path is None:
            raise UserError(f"cannot save the caption of '{name}' as UTF-8: it is gone, or is UTF-8 by now. Make the report anew.")
        try:
            planned[path] = path.read_bytes().decode(codec).encode("utf-8")
        except UnicodeDecodeError:
            raise UserError(f"cannot save {path} as UTF-8: it is not in {codec}. Save it so in the program that wrote it.") from None
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}. Mend its rights, or remove it.") from error
    return planned


def _list_tables(config: PictureConfig) -> dict[str, Path]:
    """The metadata files that cannot be read for their encoding, by their names."""
    tables = {}
    for part in open_parts(config):
        option = part.source.metadata_path
        for path in [find_metadata(option, part.root)] if option else part.contents.metadata:
            if _is_foreign(path):
                tables[name_picture(path, part) if path.is_relative_to(part.root) else path.name] = path
    return tables


def _is_foreign(path: Path) -> bool:
    """Not read, though the system would let us."""
    try:
        read_text(path)
    except UserError as error:
        return isinstance(error.__cause__, UnicodeError)
    return False


def _recognise_all(paths: Iterable[Path]) -> dict[Path, str]:
    """The codec of each; nothing where nobody can tell."""
    contents = {}
    for path in dict.fromkeys(paths):
        try:
            contents[path] = path.read_bytes()
        except OSError:  # said by whoever reads it
            continue
    narrow = [data for data in contents.values() if b"\0" not in data]
    shared = _recognise(b"\n".join(narrow)) if narrow else ""
    found = {}
    for path, data in contents.items():
        if b"\0" in data:
            found[path] = _recognise_wide(data)
        else:
            found[path] = shared if shared and _is_in(data, shared) else _recognise(data)
    return found


def _recognise(data: bytes) -> str:
    try:
        return recognise(data).codec
    except TextError:
        return ""


def _recognise_wide(data: bytes) -> str:
    """UTF-16 whose mark is missing: the order of bytes in which there are more plain letters."""
    plain = {codec: sum(letter.isascii() and letter != "\0" for letter in data.decode(codec)) for codec in _WIDE if _is_in(data, codec)}
    best = max(plain, key=lambda codec: plain[codec], default="")
    return best if best and plain[best] and "\0" not in data.decode(best) else ""


def _is_in(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"
