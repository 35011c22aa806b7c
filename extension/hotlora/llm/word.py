"""Text and tables out of Word files (.docx), which are ZIP files of XML. Needs no package: Python's own library reads both.

What was deleted with changes tracked is left out, what was inserted so is read; of headers, footers, footnotes and comments nothing is.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from .errors import RowError

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"  # what stands there a second time, for old programs
_LEFT_OUT = (_FALLBACK, f"{_W}del", f"{_W}moveFrom", f"{_W}instrText", f"{_W}footnote", f"{_W}pPr", f"{_W}rPr")
_SIGNS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
_BODY = "word/document.xml"
_MOST_BYTES = 200_000_000  # of XML: more is no document but a file made to fill the memory


class WordTable(NamedTuple):
    """Its cells as texts, row by row. Of cells joined downwards each has the text; of those joined across only the first."""

    rows: list[list[str]]


def read_parts(path: Path) -> list[str | WordTable]:
    """Paragraphs and tables in their order.

    Raises:
        RowError: for what is no such file, is protected by a password, or is damaged.
        OSError: as the system has it.
    """
    try:
        with zipfile.ZipFile(path) as file:
            if file.getinfo(_BODY).file_size > _MOST_BYTES:
                raise RowError("it holds more than a document does. Save its text as plain text (.txt)")
            body = ElementTree.fromstring(file.read(_BODY)).find(f"{_W}body")
    except zipfile.BadZipFile:
        raise RowError(explain_no_zip(path, "Word document (.docx)")) from None
    except (KeyError, ElementTree.ParseError, RuntimeError, NotImplementedError, zipfile.LargeZipFile) as error:
        raise RowError(f"it is no sound Word file ({error}). Save it anew as Word document (.docx)") from error
    return list(_list_parts(body)) if body is not None else []


def read_word_text(path: Path) -> str:
    """The whole text, a line for each paragraph and for each row of a table, its cells parted by tabs. Raises like :func:`read_parts`."""
    lines: list[str] = []
    for part in read_parts(path):
        lines += ["\t".join(row).rstrip() for row in part.rows] if isinstance(part, WordTable) else [part]
    return "\n".join(lines).strip("\n")


def explain_no_zip(path: Path, kind: str) -> str:
    """Why an Office file is no ZIP file, as the end of a sentence. ``kind``: what it should be saved as."""
    with path.open("rb") as file:
        begin = file.read(8)
    if not begin:
        return "it is empty"
    if begin == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":  # how Office keeps what is encrypted, and what is of 2003 and before
        return f"it is protected by a password, or of an old format. Save it as {kind} without a password"
    return f"it is no {kind}, or damaged. Save it anew"


def _list_parts(element: ElementTree.Element) -> Iterator[str | WordTable]:
    for child in element:
        if child.tag == f"{_W}p":
            yield _read_text(child)
        elif child.tag == f"{_W}tbl":
            yield WordTable(_read_rows(child))
        elif child.tag not in _LEFT_OUT:  # a content control, an insertion
            yield from _list_parts(child)


def _read_text(element: ElementTree.Element) -> str:
    return "".join(_list_pieces(element)).strip("\n")


def _list_pieces(element: ElementTree.Element) -> Iterator[str]:
    for child in element:
        if child.tag in _LEFT_OUT:
            continue
        if child.tag == f"{_W}t":
            yield child.text or ""
        elif child.tag in _SIGNS:
            yield _SIGNS[child.tag]
        else:
            yield from _list_pieces(child)
            if child.tag == f"{_W}p":  # one within another: a text box
                yield "\n"


def _read_rows(table: ElementTree.Element) -> list[list[str]]:
    rows: list[list[str]] = []
    for row in _find(table, "tr"):
        cells: list[str] = []
        for cell in _find(row, "tc"):
            properties = cell.find(f"{_W}tcPr")
            joined = properties.find(f"{_W}vMerge") if properties is not None else None
            if joined is not None and joined.get(f"{_W}val") != "restart" and rows and len(cells) < len(rows[-1]):
                cells.append(rows[-1][len(cells)])
            else:
                cells.append("\n".join(part if isinstance(part, str) else _flatten(part) for part in _list_parts(cell)).strip())
            span = properties.find(f"{_W}gridSpan") if properties is not None else None
            cells += [""] * (int(span.get(f"{_W}val") or 1) - 1 if span is not None else 0)
        rows.append(cells)
    width = max(map(len, rows), default=0)
    return [[*cells, *[""] * (width - len(cells))] for cells in rows]


def _find(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Its children of this name, also within content controls and insertions, not those of tables inside."""
    for child in element:
        if child.tag == f"{_W}{name}":
            yield child
        elif child.tag not in (*_LEFT_OUT, f"{_W}tc", f"{_W}tbl", f"{_W}p"):
            yield from _find(child, name)


def _flatten(table: WordTable) -> str:
    return "\n".join("\t".join(row).rstrip() for row in table.rows)
