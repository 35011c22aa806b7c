"""Where rows stand in the text of a file, so that some can be taken out, or mended, and all else stays as it is, letter by letter.

Only for files whose rows are pieces of text: JSON lines, JSON files that are a list, CSV and TSV. Places are called as in readers.py.
"""

import codecs
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from .encodings import find_encoding
from .errors import RowError
from .readers import is_list_of_rows
from .tables import list_records

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_MARKS = {"utf-8-sig": (codecs.BOM_UTF8,), "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)}
_WITHOUT = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}

_BETWEEN = re.compile(r"[\s,]*")

Span = tuple[int, int]  # begin and end, in characters


@dataclass(frozen=True)
class Written:
    """A file's text, and how to write it back."""

    text: str
    mark: bytes  # at its beginning
    codec: str

    def encode(self, text: str) -> bytes:
        """Raises UnicodeError for what cannot be written in the file's encoding."""
        return self.mark + text.encode(self.codec)


def read_written(path: Path, encoding: str) -> Written | None:
    """None where the text would not be written back byte for byte, or cannot be read."""
    try:
        data = path.read_bytes()
        codec = find_encoding(path, encoding).codec
        mark = next((mark for mark in _MARKS.get(codec, ()) if data.startswith(mark)), b"")
        codec = _WITHOUT[mark] if mark else "utf-8" if codec == "utf-8-sig" else codec
        written = Written(data[len(mark) :].decode(codec), mark, codec)
        return written if written.encode(written.text) == data else None
    except (RowError, UnicodeError, OSError):
        return None


@dataclass(frozen=True)
class Rows:
    """Place -> where that row stands. ``is_list``: they are the items of a JSON list, with commas between them."""

    spans: Mapping[str, Span]
    is_list: bool = False


def find_rows(text: str, suffix: str, columns: Mapping[str, str]) -> Rows:
    """Those that share their piece of text with no other. Raises RowError for a table that cannot be read."""
    if suffix in (".csv", ".tsv"):
        return Rows(_list_records(text, columns))
    if suffix == ".json" and _is_json(text):
        return Rows(dict(_list_items(text)), is_list=True)
    return Rows({f"line {number}": span for number, span in enumerate(_list_lines(text), 1) if _is_row(text[slice(*span)])})


def take_out(text: str, rows: Rows, places: Collection[str]) -> str:
    """The text without these rows."""
    kept, at = [], 0
    for begin, end in _find_cuts(rows, places):
        kept.append(text[at:begin])
        at = end
    return "".join(kept) + text[at:]


def _find_cuts(rows: Rows, places: Collection[str]) -> Iterator[Span]:
    """Of lines the lines themselves; of a list's items what parts them from the next as well, or from the last one that stays."""
    listed = sorted((span, place in places) for place, span in rows.spans.items())
    if not rows.is_list:
        yield from (span for span, goes in listed if goes)
        return
    last = max((number for number, (_, goes) in enumerate(listed) if not goes), default=-1)
    for ((begin, _), goes), ((following, _), _) in pairwise(listed[: last + 1]):
        if goes:
            yield begin, following
    if last + 1 < len(listed):
        yield listed[last][0][1] if last >= 0 else listed[0][0][0], listed[-1][0][1]


def _list_lines(text: str) -> Iterator[Span]:
    at = 0
    for line in io.StringIO(text, newline=""):
        yield at, at + len(line)
        at += len(line)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_row(line: str) -> bool:
    """A line that holds one row, and no list of several."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict | list) and not is_list_of_rows(value)


def _list_items(text: str) -> Iterator[tuple[str, Span]]:
    """Of a file that is one list."""
    at = len(text) - len(text.lstrip())
    if text[at : at + 1] != "[":
        return
    decoder, number = json.JSONDecoder(), 0
    at += 1
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
        if text[at : at + 1] in ("]", ""):
            return
        number += 1
        _, end = decoder.raw_decode(text, at)
        yield f"row {number}", (at, end)
        at = end


def _list_records(text: str, columns: Mapping[str, str]) -> dict[str, Span]:
    lines = list(_list_lines(text))
    return {f"row {number}": (lines[first][0], lines[last - 1][1]) for number, first, last in list_records(text, columns)}
