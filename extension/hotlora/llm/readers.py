"""Rows out of data files: JSON, JSON lines and plain text here; tables, workbooks, Word, PDF and Parquet files in files of their own.

Owns how files are cut into rows, and what a row's place is called. What a row means is rows.py's, what a file is encoded in encodings.py's.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .columns import rename_row
from .errors import RowError
from .located import Located
from .parquet import read_parquet
from .pdf import join_pages, read_pages
from .rows import USES
from .tables import name_rows, read_table
from .turns import is_turn
from .word import WordTable, read_parts
from .workbooks import read_workbook

_ROW_LISTS = ("data", "rows", "train", "examples", "conversations", "items")
_SPEAKERS = {"q": ("a",), "question": ("answer",), "user": ("assistant", "bot", "ai"), "human": ("assistant", "bot", "ai", "gpt")}
_SPOKEN = re.compile(r"\s*(\w{1,10})\s*:\s*(.*)", re.DOTALL)


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
        return _read_plain(path.read_text(encoding))
    read = read_parquet(path) if suffix == ".parquet" else _read_json(path, encoding)
    return (_rename(located, columns) for located in read) if columns else read


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
    value, in_lines = _parse(first) if first else [], more or not is_json
    if isinstance(value, RowError) and more:  # it goes on in the next line
        value = _parse(path.read_text(encoding))
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
            value = _parse(line.rstrip())
            rows = value if is_list_of_rows(value) else [value]
            yield from (Located(f"line {number}", row) for row in rows)


def _parse(text: str) -> Any:
    """The value, or the RowError why there is none. What is no number (pandas writes NaN for empty cells) is nothing."""
    try:
        return json.loads(text, parse_constant=lambda name: None)
    except json.JSONDecodeError as error:
        place = f"in line {error.lineno} " if "\n" in text.strip() else ""
        return RowError(f"it is no valid JSON: {error.msg.removesuffix(' at')} {place}at character {error.colno}")
    except (ValueError, RecursionError):
        return RowError("its JSON has a number of too many digits, or too many lists in each other")


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
        value = lists.get(chosen, value)
    one_conversation = isinstance(value, list) and bool(value) and is_turn(value[0])
    rows = value if isinstance(value, list) and not one_conversation else [value]
    for number, row in enumerate(rows, 1):
        yield Located(f"row {number}", row)


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
        yield from _read_plain(text)


def _read_pdf(path: Path) -> Iterator[Located]:
    text, notes = join_pages(read_pages(path))
    for located in _read_plain(text):
        yield located._replace(note=", and ".join(notes))
        notes = []


# -- plain text ----------------------------------------------------------------------------------------------------------


def _read_plain(text: str) -> Iterator[Located]:
    """The whole text; or what is said in it, where it is nothing but lines of `Q: …` and `A: …`, or of `User: …` and `Assistant: …`.

    Each Q has its A. Users go on talking, until more empty lines come than there are before answers.
    """
    turns = _read_turns(text)
    if not turns:
        yield Located("", text)
        return
    in_pairs = turns[0].speaker in ("q", "question")
    gap = max(turn.blanks for turn in turns[1::2])
    begins = [place for place in range(0, len(turns), 2) if place == 0 or in_pairs or turns[place].blanks > gap]
    for begin, end in zip(begins, [*begins[1:], len(turns)], strict=True):
        said = turns[begin:end]
        roles = [{"role": role, "content": turn.text} for turn, role in zip(said, cycle(("user", "assistant")))]
        yield Located(f"line {said[0].number}", [turn.text for turn in said] if in_pairs else roles)


@dataclass
class _Turn:
    speaker: str
    lines: list[str]
    number: int  # of its first line
    blanks: int  # empty lines before it

    @property
    def text(self) -> str:
        return "".join(self.lines)


def _read_turns(text: str) -> list[_Turn]:
    """Question, answer, question, …; nothing where it is no strict alternation from the first line to the last."""
    turns: list[_Turn] = []
    blanks = 0
    for number, line in enumerate(io.StringIO(text), 1):
        spoken = _SPOKEN.fullmatch(line)
        speaker = spoken.group(1).lower() if spoken else ""
        if spoken and speaker in _list_expected(turns):
            turns.append(_Turn(speaker, [spoken.group(2)], number, blanks))
        elif speaker and any(speaker == turn.speaker for turn in turns[:2]) or not turns and line.strip():
            return []
        elif turns:
            turns[-1].lines.append(line)
        blanks = 0 if line.strip() else blanks + 1
    return turns if len(turns) % 2 == 0 else []


def _list_expected(turns: list[_Turn]) -> tuple[str, ...]:
    """Who may speak next."""
    if not turns:
        return tuple(_SPEAKERS)
    return (turns[len(turns) % 2].speaker,) if len(turns) > 1 else _SPEAKERS[turns[0].speaker]
