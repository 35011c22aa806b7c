"""Rows out of data files: JSON and JSON lines here; plain text, tables, workbooks, Word, PDF and Parquet files in files of their own.

Owns how files are cut into rows, and what a row's place is called. What a row means is rows.py's, what a file is encoded in encodings.py's.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .columns import find_pair, knows_shape, normalise, rename_row
from .errors import RowError
from .json_text import parse_json
from .located import Located
from .parquet import read_parquet
from .pdf import join_pages, read_pages
from .plain_text import read_plain
from .rows import USES
from .tables import name_rows, read_table
from .turns import is_turn
from .word import WordTable, read_parts
from .workbooks import read_workbook

_ROW_LISTS = ("data", "rows", "train", "examples", "conversations", "items")

TEXT_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".md")  # what is in an encoding
OFFICE_SUFFIXES = (".xlsx", ".xlsm", ".docx", ".pdf", ".parquet")  # what says itself how it is to be read
_NO_NAMES: Mapping[str, str] = MappingProxyType({})


def read_rows(path: Path, encoding: str, columns: Mapping[str, str] = _NO_NAMES) -> Iterator[Located]:
    """Every row of a file, one after the other: large files of lines are never in memory as a whole.

    JSON lines are counted as an editor does, rows of tables as a spreadsheet does, the header included.

    Args:
        encoding: of files that are text.
        columns: known name -> the name that the file has for it.

    Raises:
        RowError: where nothing can be read, or nothing from here on.
        OSError: as the system has it.
    """
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return read_table(path, encoding, columns)
    if suffix in (".xlsx", ".xlsm"):
        return read_workbook(path, columns)
    if suffix == ".docx":
        return _read_word(path, columns)
    if suffix == ".pdf":
        return _read_pdf(path)
    if suffix in (".txt", ".md"):
        return _read_text(path, encoding, columns)
    read = read_parquet(path) if suffix == ".parquet" else _read_json(path, encoding)
    return (_rename(located, columns) for located in read) if columns else read


def _read_text(path: Path, encoding: str, columns: Mapping[str, str]) -> Iterator[Located]:
    """What is said in plain text; rows of JSON and of tables with known names, where the file's ending hides that it holds such."""
    with path.open(encoding=encoding) as file:
        first = next((line for line in file if line.strip()), "").strip() if path.suffix.lower() == ".txt" else ""
    found: list[Located] = []
    try:
        if first.startswith(("{", "[")):
            found = list(_read_json(path, encoding))
        elif find_pair(normalise(name) for name in re.split(r"[,;\t]", first)):
            found = list(read_table(path, encoding, columns))
    except RowError:
        found = []
    if not found or not all(_is_row(located.row) for located in found):
        yield from read_plain(path.read_text(encoding))
        return
    yield found[0]._replace(note="of rows in a text file, which were read as rows and not as text")
    yield from found[1:]


def _is_row(value: Any) -> bool:
    """Whether it is certainly one, and no text in braces."""
    return isinstance(value, list) and bool(value) and not isinstance(value[0], str) or isinstance(value, Mapping) and knows_shape(value)


def _rename(located: Located, columns: Mapping[str, str]) -> Located:
    if not isinstance(located.row, Mapping):
        return located
    row, is_mapped = rename_row(located.row, columns)
    return located._replace(row=row, mapped=is_mapped)


# -- JSON ----------------------------------------------------------------------------------------------------------------


def _read_json(path: Path, encoding: str) -> Iterator[Located]:
    """A file that is one value, or a value in each line, whatever it is called."""
    is_json = path.suffix.lower() == ".json"
    with path.open(encoding=encoding) as file:
        first = next((line for line in file if line.strip()), "")
        more = any(line.strip() for line in file)
    value, in_lines = parse_json(first) if first else [], more or not is_json
    if isinstance(value, RowError) and more:  # it goes on in the next line
        value = parse_json(path.read_text(encoding))
        in_lines = isinstance(value, RowError) and not is_json
    if in_lines:
        yield from _read_json_lines(path, encoding)
    elif isinstance(value, RowError):
        raise value
    else:
        yield from _list_rows(value)


def _read_json_lines(path: Path, encoding: str) -> Iterator[Located]:
    with path.open(encoding=encoding) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            value = parse_json(line.rstrip())
            rows = value if is_list_of_rows(value) else [value]
            yield from (Located(f"line {number}", row) for row in rows)


def is_list_of_rows(value: Any) -> bool:
    """Whether a line holds several rows; else it is one."""
    return isinstance(value, list) and bool(value) and (isinstance(value[0], list) or isinstance(value[0], dict) and not is_turn(value[0]))


def _list_rows(value: Any) -> Iterator[Located]:
    if isinstance(value, dict):
        lists = {key: rows for key, rows in value.items() if _holds_rows(rows)}
        parts = {key: USES[key.lower()] for key in lists if key.lower() in USES}
        chosen = next((key for key in _ROW_LISTS if key in lists), None)
        if chosen not in (None, *parts):
            parts = {}
        read = [*parts] or [chosen]
        for key, rows in lists.items():
            if key not in read and read != [None] and all(isinstance(row, dict) for row in rows):
                yield Located(f"'{key}'", RowError(f"it lies beside '{read[0]}', which holds the rows, and is not read"))
        for key, use in parts.items():
            yield from (Located(f"{key}, row {number}", row, use) for number, row in enumerate(lists[key], 1))
        if parts:
            return
        value = lists.get(chosen) or _unfold(value) or value
    one_conversation = isinstance(value, list) and bool(value) and is_turn(value[0])
    rows = value if isinstance(value, list) and not one_conversation else [value]
    for number, row in enumerate(rows, 1):
        if is_list_of_rows(row) and not isinstance(row[0], list):
            yield from (Located(f"row {number}.{place}", inner) for place, inner in enumerate(row, 1))
        else:
            yield Located(f"row {number}", row)


def _unfold(value: Mapping[str, Any]) -> list[Any]:
    """Rows of a table that is written column by column, as pandas does, or of which each has a name; nothing where it is neither."""
    parts, columns = list(value.values()), find_pair(map(normalise, value)) is not None
    if columns and all(isinstance(part, list) and len(part) == len(parts[0]) for part in parts):
        return [dict(zip(value, cells, strict=True)) for cells in zip(*parts, strict=True)]
    if not all(isinstance(part, Mapping) for part in parts):
        return []
    if columns and all(part.keys() == parts[0].keys() for part in parts):
        return [{name: part[row] for name, part in value.items()} for row in parts[0]]
    return parts if all(knows_shape(part) for part in parts) else []


def _holds_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and not is_turn(value[0])


# -- Word and PDF --------------------------------------------------------------------------------------------------------


def _read_word(path: Path, columns: Mapping[str, str]) -> Iterator[Located]:
    """Rows of tables that have known names above them; where there are none, the whole text."""
    parts = read_parts(path)
    tables = [part for part in parts if isinstance(part, WordTable)]
    found: list[Located] = []
    for number, table in enumerate(tables, 1):
        place = f"table {number}, " if len(tables) > 1 else ""
        rows = [(f"{place}row {row}", cells) for row, cells in enumerate(table.rows, 1)]
        found += name_rows(rows, columns, guess=False)
    if found:
        others = sum(len(part.strip()) for part in parts if isinstance(part, str))
        note = f"of a Word file whose text outside of its tables is not learned ({others:,} characters)" if others else ""
        yield found[0]._replace(note=note)
        yield from found[1:]
        return
    lines = ["\n".join("\t".join(row).rstrip() for row in part.rows) if isinstance(part, WordTable) else part for part in parts]
    text = "\n".join(lines).strip("\n")
    if text.strip():
        yield from read_plain(text)


def _read_pdf(path: Path) -> Iterator[Located]:
    text, notes = join_pages(read_pages(path))
    for located in read_plain(text):
        yield located._replace(note=", and ".join(notes))
        notes = []
