"""Changing captions in a table of many: ``metadata.csv`` and ``metadata.jsonl``, in the form that the file has.

Every other row stays as it is, byte for byte, and the file is replaced as a whole or not at all. Must not import any host.
"""

import codecs
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from ..engine.errors import UserError
from .caption_files import Row, find_caption_key, find_columns, read_text

TABLE_SUFFIXES = (".csv", ".jsonl")


def change_rows(path: Path, changes: Sequence[tuple[Row, str]]) -> bytes:
    """What a table holds when each of these rows of it has its new caption; nothing is written. An empty caption removes the row, or only
    the caption where the row says more than that.

    Raises:
        UserError: where the file is of another form, or has changed since the rows were read.
    """
    first = changes[0][0]
    if not is_editable(path):
        raise UserError(f"cannot change the caption in {first.source} here: it is no csv or jsonl file. Change it there.")
    text = read_text(path)
    change = _change_jsonl if path.suffix.lower() == ".jsonl" else _change_csv
    return _encode_like(change(text, path, {row.line: (row, caption.strip()) for row, caption in changes}), path.read_bytes())


def _change_csv(text: str, path: Path, changes: dict[int, tuple[Row, str]]) -> str:
    delimiter, header, _, column = find_columns(text, path)
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    left, changed, first = dict(changes), list[str](), 0
    for cells in reader:
        row, caption = left.pop(reader.line_num, (None, ""))
        if row is None:
            changed += lines[first : reader.line_num]
        else:
            changed.append(_replace_cell(cells, (column, len(header)), (row, caption), (delimiter, lines[first])))
        first = reader.line_num
    for row, _ in left.values():
        raise _gone(row)
    return "".join([*changed, *lines[first:]])


def _replace_cell(cells: list[str], place: tuple[int, int], change: tuple[Row, str], style: tuple[str, str]) -> str:
    """The line with another caption; nothing where it says nothing else than an empty one."""
    (column, width), (row, caption), (delimiter, before) = place, change, style
    if column + 1 == width:
        cells[column:] = [f"{delimiter} ".join(cells[column:])]  # commas that nobody quoted
    if len(cells) <= column or cells[column].strip() != row.caption:
        raise _gone(row)
    cells[column] = caption
    is_all = sum(bool(cell.strip()) for cell in cells) <= 1
    return "" if is_all else _format_csv(cells, delimiter, before)


def _format_csv(cells: list[str], delimiter: str, before: str) -> str:
    """A line that ends as the one before it did."""
    ending = before[len(before.rstrip("\r\n")) :]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=ending).writerow(cells)
    return text.getvalue()


def _change_jsonl(text: str, path: Path, changes: dict[int, tuple[Row, str]]) -> str:
    lines = text.split("\n")
    for number, (row, caption) in sorted(changes.items(), reverse=True):  # from the end: lines that go move those behind them
        try:
            record = json.loads(lines[number - 1])
            key = find_caption_key(record)
        except (IndexError, ValueError) as error:
            raise _gone(row) from error
        if key is None or record[key].strip() != row.caption:
            raise _gone(row)
        ending = "\r" if lines[number - 1].endswith("\r") else ""
        record[key] = caption
        if caption or len(record) > 2:
            lines[number - 1] = json.dumps(record, ensure_ascii=False) + ending
        else:
            del lines[number - 1]
    return "\n".join(lines)


def _gone(row: Row) -> UserError:
    return UserError(f"cannot change the caption in {row.source}: the file has changed meanwhile. Look at the pictures again.")


def _encode_like(text: str, before: bytes) -> bytes:
    """As the file was encoded, with the mark that it had."""
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if before.startswith(mark):
            return mark + text.encode(encoding)
    return text.encode("utf-8")


def is_editable(path: Path) -> bool:
    """Whether captions in a file of that name can be changed."""
    return path.suffix.lower() in TABLE_SUFFIXES
