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
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine.errors import UserError
from .left_out import is_aside
from .reading import HEIF_SUFFIXES, SUFFIXES, readable_suffixes

if TYPE_CHECKING:
    from _csv import Reader

_KOHYA_NAMES = ("meta_lat.json", "meta_clean.json", "meta_cap_dd.json", "meta_cap.json")  # a later stage goes before
METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.json", *_KOHYA_NAMES)
CAPTION_SUFFIXES = (".txt", ".caption")
_FILE_COLUMNS = ("filename", "file_name", "file", "file_path", "filepath", "image", "image_path", "path", "picture")
_CAPTION_COLUMNS = ("prompt", "text", "caption", "description", "tags")
_DELIMITERS = ",;\t|"
_HINTS = 20  # looking for a similar name takes long in a large folder


class SideFiles(frozenset):
    """The names of a folder's files, found in whatever case and spelling of accents they are written."""

    def __init__(self, names: Iterable[str] = ()):
        self._by_fold = {_fold(name): name for name in sorted(self, reverse=True)}

    def find(self, wanted: str) -> str | None:
        """The name as it is written."""
        return wanted if wanted in self else self._by_fold.get(_fold(wanted))


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


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
        self.behind: list[Row] = []  # rows that say something else than those of a file that goes before
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
                places = [place for place in _list_places(name, folders, loosely=path.suffix.lower() == ".json") if self._counts(place)]
                if problem:
                    self.problems.append(f"{path} line {line}: {problem}")
                elif places:
                    used += 1
                    self._add(Row(next((place for place in places if self._is_there(place)), places[0]), caption, path, line))
                else:
                    elsewhere.append(name)
        except UserError as error:
            self.problems.append(str(error))
        if elsewhere and not used:
            self.problems.append(f"{path}: all pictures it names are outside of the data folder, such as {elsewhere[0]}. Correct it.")

    def _counts(self, place: Path) -> bool:
        key = path_key(place)
        return not self._roots or any(key.startswith(os.path.join(root, "")) for root in self._roots)

    def _is_there(self, place: Path) -> bool:
        """Or was, before it was left out: the row counts again when it is brought back."""
        return os.path.exists(place) or is_aside(place, self._roots)

    def find(self, picture: Path) -> Row | None:
        """The picture's row, however its path is spelled."""
        return self._rows.get(path_key(picture)) if self._rows else None

    def _add(self, row: Row) -> None:
        key = path_key(row.picture)
        known = self._rows.get(key)
        if known is None:
            problem = self._check_exists(row)
            if problem:
                self.problems.append(problem)
            else:
                self._rows[key] = row
        elif known.caption != row.caption and known.file.suffix != row.file.suffix:  # a csv simply goes before a jsonl
            self.behind.append(row)
        elif known.caption != row.caption:
            self.problems.append(f"{row.picture}: it has two captions, in {known.source} and in {row.source}. Remove one of them.")

    def _check_exists(self, row: Row) -> str | None:
        if not os.path.isfile(row.picture) and is_aside(row.picture, self._roots):
            return None
        if not os.path.isfile(row.picture):  # also for names that are too long to be one
            hint = " Remove the line or add the file."
            if len(self.problems) < _HINTS:
                near = _find_near(row.picture)
                hint = f" Did you mean '{near[0]}'?" if near else hint
            return f"{row.picture}: there is no such file, but {row.source} names it.{hint}"
        if row.picture.suffix.lower() not in readable_suffixes():
            return f"{row.picture}: {row.source} names it, but only {' '.join(readable_suffixes())} can be read. Convert it."
        return None


def _find_near(picture: Path) -> list[str]:
    """The name in the picture's folder that may be meant: without its ending, in another case, or nearly so written."""
    siblings = [p.name for p in picture.parent.iterdir()] if os.path.isdir(picture.parent) else []
    by_fold = {_fold(name): name for name in siblings if name.lower().endswith(SUFFIXES)}
    near = [name for fold, name in by_fold.items() if fold.rpartition(".")[0] == _fold(picture.name)]
    return near or [by_fold[fold] for fold in difflib.get_close_matches(_fold(picture.name), by_fold, n=1, cutoff=0.8)]


def path_key(path: Path) -> str:
    """Equal for two spellings of the same file: macOS decomposes accents, Windows ignores case."""
    return os.path.normcase(unicodedata.normalize("NFC", os.path.abspath(path)))


def list_captions_beside(picture: Path, names: Collection[str]) -> list[Path]:
    """The picture's own caption files, that which counts first: `<stem>.txt`, `<stem>.caption`, `<stem>.png.txt` ."""
    files = names if isinstance(names, SideFiles) else SideFiles(names)
    wanted = [start + suffix for start in (picture.stem, picture.name) for suffix in CAPTION_SUFFIXES]
    found = [files.find(name) for name in wanted]
    return [picture.with_name(name) for name in dict.fromkeys(found) if name and name != picture.name]


def read_caption_beside(picture: Path, names: Collection[str]) -> tuple[str, Path] | None:
    """The caption in the first of :func:`list_captions_beside`, and that file; None where there is none.

    Args:
        names: the file names in the picture's folder.

    Raises:
        UserError: when the file is not UTF-8.
    """
    for path in list_captions_beside(picture, names):
        return read_text(path).strip(), path
    return None


def _list_places(name: str, folders: list[Path], *, loosely: bool = False) -> list[Path]:
    """Where the file of that name may be, whichever way its accents are spelled; the likeliest first.

    Args:
        loosely: the name may lack its suffix, and may have a path of the computer that it was written on.
    """
    name = name.replace("\\", "/")
    names = [name, name.rpartition("/")[2]] if loosely else [name]
    spellings = dict.fromkeys(form for n in names for form in (n, unicodedata.normalize("NFC", n), unicodedata.normalize("NFD", n)))
    if loosely and not name.lower().endswith((*SUFFIXES, *HEIF_SUFFIXES)):
        spellings = dict.fromkeys(spelling + suffix for spelling in spellings for suffix in SUFFIXES)
    return [folder / spelling for folder in folders for spelling in spellings]


def _read_entries(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """(line, file name, caption, problem) of every line; a line with a problem has nothing else."""
    text = read_text(path)
    if path.suffix.lower() == ".json":
        return _read_json(text, path)
    return _read_jsonl(text) if path.suffix.lower() == ".jsonl" else _read_csv(text, path)


def _read_json(text: str, path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Every picture of sd-scripts' `meta_cap.json` and its like, or of a list of records, as in _read_entries; the line is its place."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{") and "\n{" in text:
            yield from _read_jsonl(text)
            return
        raise UserError(f"cannot read {path}: it is no JSON ({error}). Mend or remove it.") from None
    if isinstance(content, dict):
        content = [{"file_name": name, **(record if isinstance(record, dict) else {"caption": record})} for name, record in content.items()]
    if not isinstance(content, list):
        raise UserError(f'cannot use {path}: it should be {{"a.png": {{"caption": "…"}}}}. Mend or remove it.')
    for number, record in enumerate(content, start=1):
        values = record if isinstance(record, dict) else {}
        name = next((values[key] for key in _FILE_COLUMNS if isinstance(values.get(key), str)), "")
        parts = [values[key] for key in _CAPTION_COLUMNS if isinstance(values.get(key), str) and values[key].strip()]
        caption = ", ".join(dict.fromkeys(part.strip() for part in parts))  # a sentence and tags, as sd-scripts joins them
        if not name.strip():
            yield number, "", "", "it names no picture."
        elif caption:
            yield number, name.strip(), caption, ""


def _read_csv(text: str, path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Every row as in _read_entries."""
    delimiter, header, file_column, caption_column = find_columns(text, path)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    _next_row(rows, path)
    while (row := _next_row(rows, path)) is not None:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) > len(header) == caption_column + 1:
            row = [*row[:caption_column], f"{delimiter} ".join(row[caption_column:])]  # commas that nobody quoted
        if len(row) <= max(file_column, caption_column) or not row[file_column].strip():
            yield rows.line_num, "", "", f"it needs both {header[file_column].strip()} and {header[caption_column].strip()}."
        else:
            yield rows.line_num, row[file_column].strip(), row[caption_column].strip(), ""


def find_columns(text: str, path: Path) -> tuple[str, list[str], int, int]:
    """How a csv file is written: (delimiter, header, the pictures' column, the captions'). Raises UserError where it has none such."""
    for delimiter in _DELIMITERS:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        header = _next_row(rows, path) or []
        file_column, caption_column = _find_column(header, _FILE_COLUMNS), _find_column(header, _CAPTION_COLUMNS)
        if file_column is not None and caption_column is not None:
            return delimiter, header, file_column, caption_column
    first = text.strip().partition("\n")[0].strip()[:60]
    raise UserError(f"cannot use {path}: its first line is '{first}'. Make that line 'filename,prompt', the names of its columns.")


def find_caption_key(record: object) -> str | None:
    """Under which key a line of a jsonl file has its caption."""
    values = record if isinstance(record, dict) else {}
    key = next((name for name in _CAPTION_COLUMNS if name in values), None)
    return key if key and isinstance(values[key], str) else None


def _next_row(rows: "Reader", path: Path) -> list[str] | None:
    try:
        return next(rows, None)
    except csv.Error as error:
        raise UserError(f"cannot read {path} from line {rows.line_num} on: {error}. Save it as CSV again.") from error


def _find_column(header: list[str], names: tuple[str, ...]) -> int | None:
    cells = [cell.strip().lower() for cell in header]
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


def read_text(path: Path) -> str:
    """A text file: UTF-8 with or without mark, or UTF-16 with one, as Windows programs write them."""
    try:
        data = path.read_bytes()
        encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        text = data.decode(encoding)
        if "\0" in text:  # what UTF-16 looks like where its mark is missing
            raise UnicodeError("no text has such signs")
        return text
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}. Mend its rights, or remove it.") from error
    except UnicodeError as error:
        raise UserError(
            f"cannot read {path}: it is not UTF-8 text. Save it with the encoding UTF-8; the health report on the page offers to."
        ) from error
