"""Rows out of tables: CSV and TSV files, and the cells of those that other files hold. A row's names stand above it."""

import csv
import io
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..engine.plurals import counted
from .columns import find_absent, is_known, knows_shape, looks_like_header, rename
from .errors import RowError
from .located import LeftOut, Located

_DELIMITERS = "\t;|,"  # the rarest in prose first: that one wins where two fit
_NO_DELIMITER = "\x1f"  # in no text: a table of one column may have commas in it
_SNIFFED_LINES = 50
_SEPARATOR_LINE = re.compile(r'"?sep=([,;\t|])"?\s*')  # how Excel is told, in a line before the header
_HEADER_AMONG = 10  # rows of a sheet: titles stand above it
_HOW = "Write question,answer above the columns, or say with columns which is which: {question: Frage, answer: Antwort}"


def read_table(path: Path, encoding: str, columns: Mapping[str, str]) -> Iterator[Located]:
    """Rows by the header; two columns without one are question and answer."""
    with path.open(encoding=encoding) as file:
        told = _SEPARATOR_LINE.fullmatch(file.readline())
        begin = 1 if told else 0
        file.seek(0)
        sample = list(islice(file, begin, _SNIFFED_LINES))
        delimiter, names, guessed, is_mapped = _sniff_table(sample, told.group(1) if told else _DELIMITERS, columns)
        file.seek(0)
        header_is_next = bool(names)
        for number, row in enumerate(_read_records(islice(file, begin, None), delimiter), 1):
            if isinstance(row, RowError):
                yield Located(f"row {number}", row)
            elif any(cell.strip() for cell in row):
                if not header_is_next:
                    yield Located(f"row {number}", _name_cells(row, names), note=guessed, mapped=is_mapped)
                header_is_next, guessed = False, "" if not header_is_next else guessed


def list_records(text: str, columns: Mapping[str, str]) -> Iterator[tuple[int, int, int]]:
    """(number, first line, line behind its last) of each row that :func:`read_table` reads of such a text; lines count from 0."""
    lines = list(io.StringIO(text, newline=None))
    told = _SEPARATOR_LINE.fullmatch(lines[0]) if lines else None
    begin = end = 1 if told else 0
    delimiter, names, _, _ = _sniff_table(lines[begin:_SNIFFED_LINES], told.group(1) if told else _DELIMITERS, columns)

    def count_lines() -> Iterator[str]:
        nonlocal end
        for line in lines[begin:]:
            end += 1
            yield line

    first, is_header = begin, bool(names)
    for number, row in enumerate(_read_records(count_lines(), delimiter), 1):
        if isinstance(row, list) and any(cell.strip() for cell in row):
            if not is_header:
                yield number, first, end
            is_header = False
        first = end


def cut_table(path: Path, encoding: str) -> list[list[str]]:
    """The first rows, cut where most of them come to as many cells; whatever stands above the columns."""
    with path.open(encoding=encoding) as file:
        sample = list(islice(file, _SNIFFED_LINES))
    told = _SEPARATOR_LINE.fullmatch(sample[0]) if sample else None
    best: list[list[str]] = []
    for delimiter in told.group(1) if told else _DELIMITERS:
        rows = [row for row in _read_records(sample[bool(told) :], delimiter) if isinstance(row, list) and row]
        width = statistics.mode(map(len, rows)) if rows else 0
        even = [row for row in rows if len(row) == width]
        if width > 1 and len(even) * width > sum(map(len, best)):
            best = even
    return best


def _sniff_table(sample: list[str], delimiters: str, columns: Mapping[str, str]) -> tuple[str, list[str], str, bool]:
    """(delimiter, the header's names or nothing where there is no header, what is to be said about that, whether `columns` gave names)."""
    records = {delimiter: [row for row in _read_records(sample, delimiter) if row] for delimiter in delimiters}
    for delimiter, rows in records.items():
        names = _list_names(rows[0]) if rows and isinstance(rows[0], list) else []
        renamed, is_mapped = rename(names, columns)
        if is_mapped:
            _refuse_absent(names, columns)
        if knows_shape(renamed):
            return (delimiter if len(names) > 1 else _NO_DELIMITER), renamed, "", is_mapped
    pairs = {delimiter: sum(map(_is_pair, rows)) / max(1, len(rows)) for delimiter, rows in records.items()}
    best = max(pairs, key=lambda delimiter: pairs[delimiter])
    if pairs[best] > 0.5 and _is_pair(records[best][0]):
        first, *others = [row for row in records[best] if isinstance(row, list)]
        if looks_like_header(first, others):
            note = f"below the columns '{first[0][:40]}' and '{first[1][:40]}', which were taken for question and answer"
            return best, ["question", "answer"], note, False
        note = f"of a table without names above its columns: its first row ({first[0][:40]} …) is learned like the others"
        return best, [], note, False
    start = next((line.strip() for line in sample if line.strip()), "")
    if not start:
        raise RowError("it is empty")
    raise RowError(f"its first line ({start[:80]}) does not name columns that are known. {_HOW}")


def _refuse_absent(names: Sequence[str], columns: Mapping[str, str]) -> None:
    absent = find_absent(names, columns)
    if absent:
        raise RowError(f"columns names {', '.join(absent)}, and its columns are {', '.join(names)[:200]}. Correct columns")


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
        return RowError(f"it has {counted(len(row), 'column')} and not {count}{more}")
    return dict(zip(names, row, strict=True)) if names else row


# -- cells of sheets and of tables in documents --------------------------------------------------------------------------


def name_rows(rows: Sequence[tuple[str, Sequence[str | RowError]]], columns: Mapping[str, str], *, guess: bool) -> list[Located]:
    """Rows by the names above them, which stand in one of the first rows; what is above those is left out.

    Args:
        rows: the place of each and its cells, all as many; a cell may be the reason why it cannot be read.
        guess: whether two columns without known names are question and answer. Where not, and no name is known, there are no rows.

    Raises:
        RowError: where it may guess, and that does not help.
    """
    filled = [(where, [*cells]) for where, cells in rows if any(isinstance(cell, RowError) or cell.strip() for cell in cells)]
    for place, (_, cells) in enumerate(filled[:_HEADER_AMONG]):
        written = _list_names(cells)
        names, is_mapped = rename(written, columns)
        if knows_shape(name for name, cell in zip(names, cells, strict=True) if cell):
            if is_mapped:
                _refuse_absent(written, columns)
            above = [Located(where, LeftOut("it stands above the names of the columns, and is not read")) for where, _ in filled[:place]]
            return above + [Located(where, _name(row, names), mapped=is_mapped) for where, row in filled[place + 1 :]]
    return _guess_pairs(filled) if guess else []


def _guess_pairs(filled: Sequence[tuple[str, list[str | RowError]]]) -> list[Located]:
    if not filled:
        raise RowError("it is empty")
    used = [place for place in range(len(filled[0][1])) if any(cells[place] for _, cells in filled)]
    first, *others = [[str(cells[place]) for place in used] for _, cells in filled]
    if len(used) != 2 or not all(first):
        raise RowError(f"its first row ({', '.join(first)[:80]}) does not name columns that are known. {_HOW}")
    has_header = looks_like_header(first, others)
    note = f"of a table without names above its columns: its first row ({first[0][:40]} …) is learned like the others"
    if has_header:
        note = f"below the columns '{first[0][:40]}' and '{first[1][:40]}', which were taken for question and answer"
    names = ["question" if place == used[0] else "answer" if place == used[1] else "" for place in range(len(filled[0][1]))]
    found = [Located(where, _name(cells, names)) for where, cells in filled[has_header:]]
    return [found[0]._replace(note=note), *found[1:]] if found else []


def _list_names(cells: Sequence[str | RowError]) -> list[str]:
    """What stands in a row of names; columns without one, or with one that there is already, are called by their place."""
    written = [str(cell).strip() for cell in cells]
    return [
        name if name and name not in written[: place - 1] else f"{name or 'column'} {place}"[:40] for place, name in enumerate(written, 1)
    ]


def _name(cells: Sequence[str | RowError], names: Sequence[str]) -> Any:
    """A row by its names, or why one of the cells that are learned cannot be read."""
    named = dict(zip(names, cells, strict=True))
    wrong = next((cell for name, cell in named.items() if isinstance(cell, RowError) and is_known(name)), None)
    return wrong or {name: str(cell) for name, cell in named.items()}
