"""Captions as people keep them: metadata.csv, metadata.jsonl, and text files beside the pictures.

Owns reading these files and what can be wrong with them. Must not import any host; does not look into pictures.
"""

import codecs
import csv
import difflib
import io
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import UserError
from .reading import SUFFIXES

METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
_FILE_COLUMNS = ("filename", "file_name", "file", "file_path", "filepath", "image", "image_path", "path", "picture")
_CAPTION_COLUMNS = ("prompt", "text", "caption", "description", "tags")
_DELIMITERS = ",;\t|"
_HINTS = 20  # looking for a similar name takes long in a large folder


@dataclass(frozen=True)
class Row:
    """One picture's caption in a metadata file."""

    picture: Path
    caption: str
    file: Path
    line: int

    @property
    def source(self) -> str:
        """Where it stands, for messages."""
        return f"{self.file} line {self.line}"


class MetadataCaptions:
    """The captions of all metadata files of a run. A file that is read earlier goes before later ones.

    Args:
        roots: the folders whose pictures count, all if empty. A name that leads out of them is not even looked for: the file
            may be somebody else's, and is not to find out what there is on this computer.
    """

    def __init__(self, roots: Iterable[Path] = ()):
        self.problems: list[str] = []
        self._roots = [path_key(root) for root in roots]
        self._rows: dict[str, Row] = {}

    def read(self, path: Path, root: Path | None = None) -> None:
        """Take in a metadata file. Its names are relative to its own folder, or else to ``root``.

        What is wrong with it goes to ``problems``: a picture that does not exist, two captions for one picture.
        """
        folders = [path.parent] if root is None else [path.parent, root]
        used, elsewhere = 0, []
        try:
            for line, name, caption, problem in _read_entries(path):
                places = [place for place in _list_places(name, folders) if self._counts(place)]
                if problem:
                    self.problems.append(f"{path} line {line}: {problem}")
                elif places:
                    used += 1
                    self._add(Row(next((place for place in places if place.exists()), places[0]), caption, path, line))
                else:
                    elsewhere.append(name)
        except UserError as error:
            self.problems.append(str(error))
        if elsewhere and not used:
            self.problems.append(f"{path}: all pictures it names are outside of the data folder, such as {elsewhere[0]}. Correct it.")

    def _counts(self, place: Path) -> bool:
        key = path_key(place)
        return not self._roots or any(key.startswith(os.path.join(root, "")) for root in self._roots)

    def find(self, picture: Path) -> Row | None:
        """The picture's row, however its path is spelled."""
        return self._rows.get(path_key(picture))

    def _add(self, row: Row) -> None:
        key = path_key(row.picture)
        known = self._rows.get(key)
        if known is None:
            problem = self._check_exists(row)
            if problem:
                self.problems.append(problem)
            else:
                self._rows[key] = row
        elif known.caption != row.caption and known.file.suffix == row.file.suffix:  # a csv simply goes before a jsonl
            self.problems.append(f"{row.picture}: it has two captions, in {known.source} and in {row.source}. Remove one of them.")

    def _check_exists(self, row: Row) -> str | None:
        if not row.picture.is_file():
            hint = " Remove the line or add the file."
            if len(self.problems) < _HINTS:
                siblings = [p.name for p in row.picture.parent.iterdir()] if row.picture.parent.is_dir() else []
                near = difflib.get_close_matches(row.picture.name, siblings, n=1, cutoff=0.8)
                hint = f" Did you mean '{near[0]}'?" if near else hint
            return f"{row.picture}: there is no such file, but {row.source} names it.{hint}"
        if row.picture.suffix.lower() not in SUFFIXES:
            return f"{row.picture}: {row.source} names it, but only {' '.join(SUFFIXES)} can be read. Convert it."
        return None


def path_key(path: Path) -> str:
    """Equal for two spellings of the same file: macOS decomposes accents, Windows ignores case."""
    return os.path.normcase(unicodedata.normalize("NFC", os.path.abspath(path)))


def read_caption_beside(picture: Path, names: set[str]) -> tuple[str, Path] | None:
    """The caption in `<stem>.txt` or else `<stem>.caption`, and that file; None where there is neither.

    Args:
        names: the file names in the picture's folder.

    Raises:
        UserError: when the file is not UTF-8.
    """
    for suffix in (".txt", ".caption"):
        if picture.stem + suffix in names:
            path = picture.with_name(picture.stem + suffix)
            return _read_text(path).strip(), path
    return None


def _list_places(name: str, folders: list[Path]) -> list[Path]:
    """Where the file of that name may be, whichever way its accents are spelled; the likeliest first."""
    name = name.replace("\\", "/")
    spellings = dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)))
    return [folder / spelling for folder in folders for spelling in spellings]


def _read_entries(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """(line, file name, caption, problem) of every line; a line with a problem has nothing else."""
    text = _read_text(path)
    return _read_jsonl(text) if path.suffix.lower() in (".jsonl", ".json") else _read_csv(text, path)


def _read_csv(text: str, path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Every row as in _read_entries."""
    for delimiter in _DELIMITERS:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        header = _next_row(rows, path)
        file_column, caption_column = _find_column(header, _FILE_COLUMNS), _find_column(header, _CAPTION_COLUMNS)
        if file_column is not None and caption_column is not None:
            break
    else:
        first = text.strip().partition("\n")[0].strip()[:60]
        raise UserError(f"cannot use {path}: its first line is '{first}'. Make that line 'filename,prompt', the names of its columns.")
    while (row := _next_row(rows, path)) is not None:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) > len(header) == caption_column + 1:
            row = [*row[:caption_column], f"{delimiter} ".join(row[caption_column:])]  # commas that nobody quoted
        if len(row) <= max(file_column, caption_column) or not row[file_column].strip():
            yield rows.line_num, "", "", f"it needs both {header[file_column].strip()} and {header[caption_column].strip()}."
        else:
            yield rows.line_num, row[file_column].strip(), row[caption_column].strip(), ""


def _next_row(rows: Iterator[list[str]], path: Path) -> list[str] | None:
    try:
        return next(rows, None)
    except csv.Error as error:
        raise UserError(f"cannot read {path} from line {rows.line_num} on: {error}. Save it as CSV again.") from error


def _find_column(header: list[str] | None, names: tuple[str, ...]) -> int | None:
    cells = [cell.strip().lower() for cell in header or []]
    return next((cells.index(name) for name in names if name in cells), None)


def _read_jsonl(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Every line as in _read_entries."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            yield number, "", "", f"it is no JSON object ({error})."
            continue
        values = record if isinstance(record, dict) else {}
        name, caption = (next((values[n] for n in names if n in values), None) for names in (_FILE_COLUMNS, _CAPTION_COLUMNS))
        if not (isinstance(name, str) and name.strip() and isinstance(caption, str)):
            yield number, "", "", 'it should be {"file_name": "…", "text": "…"}.'
        else:
            yield number, name.strip(), caption.strip(), ""


def _read_text(path: Path) -> str:
    """UTF-8 with or without mark, or UTF-16 with one, as Windows programs write them."""
    try:
        data = path.read_bytes()
        encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        return data.decode(encoding)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {path}: it is not UTF-8 text. Save it with the encoding UTF-8.") from error
