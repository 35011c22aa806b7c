"""Which column is which: the first rows of a table, and what its columns are taken for, for people to put right by looking at them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..engine.errors import UserError
from ..engine.examples import Columns
from .columns import ANSWERS, CONTEXT, MAPPED, PLAIN, PLURALS, QUESTIONS, SYSTEM, TURNS, knows_shape, normalise, rename
from .config import TextConfig
from .encodings import find_encoding
from .errors import RowError
from .formats import find_files
from .parts import find_data
from .readers import TEXT_SUFFIXES, read_rows
from .tables import cut_table
from .word import WordTable, read_parts
from .workbooks import read_first_rows

_ROWS, _LETTERS, _HEADER_AMONG = 5, 120, 10
_WORDS = {"question": tuple(QUESTIONS), "answer": ANSWERS, "system": SYSTEM, "context": CONTEXT, "text": PLAIN, "messages": TURNS}


def look_at_columns(config: TextConfig) -> Columns:
    """The first table of the data whose columns are not known; where all are, the first table.

    Raises:
        UserError: where there is no data, or no table in it that can be read.
    """
    first = None
    for name, path in find_files(find_data(config)):
        try:
            seen = _look(name, path, config)
        except (RowError, OSError):
            continue  # is told where the data is looked at
        if seen and not seen.is_known:
            return seen
        first = first or seen
    if first is None:
        raise UserError(f"cannot show columns of '{config.train_data_dir}': it holds no table. Choose one, or leave columns empty.")
    return first


def _look(name: str, path: Path, config: TextConfig) -> Columns | None:
    rows = _read_cells(path, config)
    if not rows:
        return None
    header = _find_header(rows, config.columns)
    names = [cell.strip() or f"column {place}" for place, cell in enumerate(rows[header], 1)]
    renamed, is_mapped = rename(names, config.columns)
    told = rows[header + 1 : header + 1 + _ROWS]
    shown = [[_shorten(cell) for cell in row] for row in told]
    meant = {known: column for known, column in config.columns.items() if column in names} if is_mapped else {}
    return Columns(name, names, shown, MAPPED, _guess(renamed, names, meant), knows_shape(renamed))


def _find_header(rows: Sequence[Sequence[str]], columns: Mapping[str, str]) -> int:
    """The place of the first row whose names are known; where none is, of the first that has the most cells."""
    first = rows[:_HEADER_AMONG]
    known = next((place for place, row in enumerate(first) if knows_shape(rename(list(row), columns)[0])), None)
    if known is not None:
        return known
    filled = [sum(bool(cell.strip()) for cell in row) for row in first]
    return filled.index(max(filled))


def _guess(renamed: Sequence[str], names: Sequence[str], meant: Mapping[str, str]) -> dict[str, str]:
    """What each part is taken from, by its name."""
    plain = [PLURALS.get(normalise(name), normalise(name)) for name in renamed]
    guessed = dict(meant)
    for part, words in _WORDS.items():
        column = next((names[plain.index(word)] for word in words if word in plain), None)
        if part not in guessed and column is not None and column not in guessed.values():
            guessed[part] = column
    return guessed


def _read_cells(path: Path, config: TextConfig) -> list[list[str]]:
    """The first rows with what stands above them, all as long; nothing where the file is no table."""
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return cut_table(path, find_encoding(path, config.encoding).codec)
    if suffix in (".xlsx", ".xlsm"):
        return read_first_rows(path)
    if suffix == ".docx":
        return next((part.rows for part in read_parts(path) if isinstance(part, WordTable)), [])
    if suffix in (".json", ".jsonl", ".ndjson", ".parquet"):
        return _list_keys(path, find_encoding(path, config.encoding).codec if suffix in TEXT_SUFFIXES else "")
    return []


def _list_keys(path: Path, codec: str) -> list[list[str]]:
    rows = list(islice(_list_mappings(path, codec), _ROWS))
    names = [*dict.fromkeys(str(key) for row in rows for key in row)]
    return [names, *[[_write(row.get(name)) for name in names] for row in rows]] if names else []


def _list_mappings(path: Path, codec: str) -> Iterator[Mapping[str, Any]]:
    return (located.row for located in read_rows(path, codec) if isinstance(located.row, Mapping))


def _write(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _shorten(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"
