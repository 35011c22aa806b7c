"""Rows out of data files: JSON, JSON lines, tables (CSV, TSV) and plain text.

Owns how files are cut into rows, and what a row's place is called. What a row means is rows.py's, what a file is encoded in encodings.py's.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

from .columns import knows_shape, looks_like_header
from .errors import RowError
from .rows import USES
from .turns import is_turn

_ROW_LISTS = ("data", "rows", "train", "examples", "conversations", "items")
_DELIMITERS = "\t;|,"  # the rarest in prose first: that one wins where two fit
_NO_DELIMITER = "\x1f"  # in no text: a table of one column may have commas in it
_SNIFFED_LINES = 50
_SEPARATOR_LINE = re.compile(r'"?sep=([,;\t|])"?\s*')  # how Excel is told, in a line before the header
_SPEAKERS = {"q": ("a",), "question": ("answer",), "user": ("assistant", "bot", "ai"), "human": ("assistant", "bot", "ai", "gpt")}
_SPOKEN = re.compile(r"\s*(\w{1,10})\s*:\s*(.*)", re.DOTALL)


class Located(NamedTuple):
    """A row of a file.

    Attributes:
        where: where it stands, such as "row 12".
        row: the row, or the RowError why there is none.
        use: "validation" or "test" where the file says that it is for those.
        note: what people should hear about it, as the end of a sentence.
    """

    where: str
    row: Any
    use: str = ""
    note: str = ""


def read_rows(path: Path, encoding: str) -> Iterator[Located]:
    """Every row of a file, one after the other: large files of lines are never in memory as a whole.

    JSON lines are counted as an editor does, rows of tables as a spreadsheet does, the header included.

    Raises:
        RowError: where nothing can be read, or nothing from here on.
        OSError: as the system has it.
    """
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _read_table(path, encoding)
    if suffix in (".txt", ".md"):
        return _read_plain(path.read_text(encoding))
    return _read_json(path, encoding)


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
            rows = value if _is_list_of_rows(value) else [value]
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


def _is_list_of_rows(value: Any) -> bool:
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


# -- tables --------------------------------------------------------------------------------------------------------------


def _read_table(path: Path, encoding: str) -> Iterator[Located]:
    """Rows by the header; two columns without one are question and answer."""
    with path.open(encoding=encoding) as file:
        told = _SEPARATOR_LINE.fullmatch(file.readline())
        begin = 1 if told else 0
        file.seek(0)
        delimiter, names, guessed = _sniff_table(list(islice(file, begin, _SNIFFED_LINES)), told.group(1) if told else _DELIMITERS)
        file.seek(0)
        header_is_next = bool(names)
        for number, row in enumerate(_read_records(islice(file, begin, None), delimiter), 1):
            if isinstance(row, RowError):
                yield Located(f"row {number}", row)
            elif any(cell.strip() for cell in row):
                if not header_is_next:
                    yield Located(f"row {number}", _name_cells(row, names), note=guessed)
                header_is_next, guessed = False, "" if not header_is_next else guessed


def _sniff_table(sample: list[str], delimiters: str) -> tuple[str, list[str], str]:
    """(delimiter, the header's names or nothing where there is no header, what is to be said about that)."""
    records = {delimiter: [row for row in _read_records(sample, delimiter) if row] for delimiter in delimiters}
    for delimiter, rows in records.items():
        names = [name.strip() for name in rows[0]] if rows and isinstance(rows[0], list) else []
        if knows_shape(names):
            return (delimiter if len(names) > 1 else _NO_DELIMITER), names, ""
    pairs = {delimiter: sum(map(_is_pair, rows)) / max(1, len(rows)) for delimiter, rows in records.items()}
    best = max(pairs, key=lambda delimiter: pairs[delimiter])
    if pairs[best] > 0.5 and _is_pair(records[best][0]):
        first, *others = [row for row in records[best] if isinstance(row, list)]
        if looks_like_header(first, others):
            note = f"below the columns '{first[0][:40]}' and '{first[1][:40]}', which were taken for question and answer"
            return best, ["question", "answer"], note
        note = f"of a table without names above its columns: its first row ({first[0][:40]} …) is learned like the others"
        return best, [], note
    start = next((line.strip() for line in sample if line.strip()), "")
    if not start:
        raise RowError("it is empty")
    raise RowError(f"its first line ({start[:80]}) does not name columns that are known. Write question,answer above the columns")


def _is_pair(row: list[str] | RowError) -> bool:
    return isinstance(row, list) and len(row) == 2 and all(cell.strip() for cell in row)


def _read_records(lines: Iterable[str], delimiter: str) -> Iterator[list[str] | RowError]:
    """Records, empty ones too. After an odd one it goes on with the next line."""
    # The default limit, 128 KB, is the csv module's and not the table's: a cell may hold a chapter.
    csv.field_size_limit(2**31 - 1)
    records = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        try:
            yield next(records)
        except StopIteration:
            return
        except csv.Error as error:
            closed = "unexpected end" not in str(error)
            reason = f"its quotation marks are odd ({error})" if closed else "a quotation mark that opens in it is never closed"
            yield RowError(f'{reason}; write " inside of a cell as ""')


def _name_cells(row: list[str], names: list[str]) -> Any:
    """The row by its columns' names, or the RowError why not."""
    count = len(names) or 2
    while len(row) > count and not row[-1].strip():
        row = row[:-1]
    if len(row) != count:
        more = '; put "…" around cells that have a delimiter in them' if len(row) > count else ""
        return RowError(f"it has {len(row)} column{'s' * (len(row) != 1)} and not {count}{more}")
    return dict(zip(names, row, strict=True)) if names else row


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
