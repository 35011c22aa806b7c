"""Rows out of Excel workbooks (.xlsx), by the package openpyxl: what their sheets show, as text.

A formula is its value; dates are written 2026-11-26; what is joined downwards holds for each of its rows.
"""

import datetime
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from .errors import RowError
from .located import LeftOut, Located
from .packages import say_missing
from .rows import USES
from .tables import name_rows
from .word import explain_no_zip

_FIRST_ROWS = 20
_KIND = "Excel workbook (.xlsx)"
_DECIMALS = re.compile(r"0(?:\.(0+))?(%?)")
_Row = tuple[str, list[str | RowError]]


def read_workbook(path: Path, columns: Mapping[str, str]) -> Iterator[Located]:
    """Every row of the sheets that are not hidden.

    Raises:
        RowError: where openpyxl is missing, for what is no such file, is protected or damaged, and where no sheet can be used.
        OSError: as the system has it.
    """
    book = _open(path, values=True)
    shown = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
    formulas = _Formulas(path)
    sheets = {sheet.title: list(_list_rows(sheet, formulas)) for sheet in shown}
    filled = {title: rows for title, rows in sheets.items() if rows}
    if not filled:
        raise RowError("it is empty: no sheet that is not hidden has a row")
    places = {title: f"sheet {title}, " if len(filled) > 1 else "" for title in filled}
    found = {title: name_rows(_place(rows, places[title]), columns, guess=False) for title, rows in filled.items()}
    knows = any(found.values())
    uses = {title: USES[title.strip().lower()] for title in filled if title.strip().lower() in USES and found[title]}
    if all(title in uses and uses[title] != "train" for title in filled):
        uses = {}  # nothing else is there
    for title, rows in filled.items():
        if knows and not found[title]:
            yield Located(f"sheet {title}", LeftOut("no names of columns that are known stand in it, and it is not read"))
        else:
            read = found[title] or name_rows(_place(rows, places[title]), columns, guess=True)
            yield from (row._replace(use=uses.get(title, "")) for row in _note_hidden(read, shown, title))
    for sheet in book.worksheets:
        if sheet not in shown and sheet.max_row > 1:
            yield Located(f"sheet {sheet.title}", LeftOut("it is hidden, and is not read"))


def read_first_rows(path: Path) -> list[list[str]]:
    """Of the first sheet that is not hidden and has several columns. Raises like :func:`read_workbook`."""
    formulas = _Formulas(path)
    for sheet in _open(path, values=True).worksheets:
        if sheet.sheet_state == "visible" and sheet.max_column > 1:
            return [[str(cell) for cell in cells] for _, cells in islice(_list_rows(sheet, formulas), _FIRST_ROWS)]
    return []


def _place(rows: list[tuple[int, list[str | RowError]]], sheet: str) -> list[_Row]:
    return [(f"{sheet}row {number}", cells) for number, cells in rows]


def _note_hidden(located: list[Located], shown: list[Any], title: str) -> Iterator[Located]:
    """The rows; those that a filter hides are learned like others, which is said."""
    sheet = next(sheet for sheet in shown if sheet.title == title)
    hidden = {number for number, size in sheet.row_dimensions.items() if size.hidden}
    for row in located:
        is_hidden = int(row.where.rpartition(" ")[2]) in hidden and not isinstance(row.row, LeftOut)
        yield row._replace(note="in hidden rows of a sheet, learned like the others") if is_hidden and not row.note else row


def _open(path: Path, *, values: bool) -> Any:
    try:
        import openpyxl
    except ImportError:
        raise RowError(say_missing("openpyxl", "Save the table as CSV")) from None
    try:
        with path.open("rb") as file:
            return openpyxl.load_workbook(file, data_only=values)
    except BadZipFile:
        raise RowError(explain_no_zip(path, _KIND)) from None
    except OSError:
        raise
    except Exception as error:  # its own classes and Python's, one for each way in which a file can be wrong
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise RowError(f"it is no sound {_KIND} ({reason[:200]}). Save it anew, or as CSV") from error


class _Formulas:
    """The same workbook with formulas instead of values, which is opened where a cell has no value only."""

    def __init__(self, path: Path):
        self._path = path
        self._book: Any = None

    def has(self, sheet: Any, cell: Any) -> bool:
        if self._book is None:
            self._book = _open(self._path, values=False)
        return self._book[sheet.title][cell.coordinate].data_type == "f"


def _list_rows(sheet: Any, formulas: _Formulas) -> Iterator[tuple[int, list[str | RowError]]]:
    """(number, cells) of rows that are not empty; all have as many cells."""
    joined = dict[tuple[int, int], Any]()
    for area in sheet.merged_cells.ranges:
        for number in range(area.min_row + 1, area.max_row + 1):
            joined[number, area.min_col] = sheet.cell(area.min_row, area.min_col)
    for row in sheet.iter_rows():
        cells = [joined.get((cell.row, cell.column), cell) for cell in row]
        if any(cell.value is not None for cell in cells):
            yield row[0].row, [_read_cell(cell, sheet, formulas) for cell in cells]


def _read_cell(cell: Any, sheet: Any, formulas: _Formulas) -> str | RowError:
    """What Excel shows of it."""
    value, shape = cell.value, str(cell.number_format or "")
    if value is None:
        lost = formulas.has(sheet, cell)
        return RowError(f"the file does not hold what the formula in {cell.coordinate} comes to. Save it in Excel once") if lost else ""
    if cell.data_type == "e":
        return RowError(f"its cell {cell.coordinate} is the error {value}. Mend the formula, or write what it should say")
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ", "minutes")
    if isinstance(value, datetime.time):
        return value.isoformat("minutes")
    return _write_number(value, shape) if isinstance(value, int | float) else str(value).replace("_x000D_", "").strip()


def _write_number(value: float, shape: str) -> str:
    """With as many decimals as the cell's format shows, and as per cent where it does; without signs for thousands."""
    told = _DECIMALS.search(shape.partition(";")[0]) if shape not in ("General", "@") else None
    if told is None:
        return format(value, ".15g") if isinstance(value, float) else str(value)
    decimals, percent = told.groups()
    return f"{value * (100 if percent else 1):.{len(decimals or '')}f}{percent}"
