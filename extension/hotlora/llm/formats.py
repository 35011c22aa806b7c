"""Reading text data sets: JSON, JSON lines, CSV and plain text, one file or a folder of them. What a file holds is found out.

What is wrong is collected, so that people hear of all of it at once.
"""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine.errors import UserError
from .config import TextConfig
from .conversation import Conversation, Document
from .rows import RowError, read_row

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".md")
ACCEPTED = "JSON, JSONL or CSV files of questions and answers or of conversations, and .txt files"

_HINTS = {
    ".docx": "save it as plain text (.txt)",
    ".doc": "save it as plain text (.txt)",
    ".odt": "save it as plain text (.txt)",
    ".pdf": "copy its text into a .txt file",
    ".xlsx": "save it as CSV",
    ".xls": "save it as CSV",
    ".parquet": "export it as JSON lines",
    ".zip": "unpack it",
}
_NOT_DATA = re.compile(r"(readme|license|licence|notice|changelog|config|dataset_infos?)(\.\w+)?", re.IGNORECASE)
_ROW_LISTS = ("data", "rows", "train", "examples", "conversations", "items")
_SHOWN_PROBLEMS = 20
_ASKS = re.compile(r"^(q|question|user|human)\s*:\s*", re.IGNORECASE)
_ANSWERS = re.compile(r"^(a|answer|assistant|bot)\s*:\s*", re.IGNORECASE)


@dataclass
class Texts:
    """What a place holds.

    Attributes:
        examples: in the order of files and rows.
        problems: what was left out, a sentence each.
        formats: how many examples of each shape.
    """

    examples: list[Conversation | Document] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    formats: Counter = field(default_factory=Counter)


def read_texts(place: Path, config: TextConfig) -> Texts:
    """All examples in a file, or in a folder and those below it.

    Raises:
        UserError: where there is nothing, or (unless ``on_bad_data`` is ``skip``) where something cannot be used, with all of it.
    """
    files, texts = _find_files(place), Texts()
    for path in files:
        name = path.relative_to(place).as_posix() if place.is_dir() else path.name
        if path.suffix.lower() not in SUFFIXES:
            what = _HINTS.get(path.suffix.lower(), "files of this kind are not read")
            texts.problems.append(f"{name}: {what}.")
            continue
        if place.is_dir() and _NOT_DATA.fullmatch(path.name):
            continue  # about the data, as download folders have it
        _read_file(path, name, texts)
    if texts.problems and config.on_bad_data == "stop":
        more = f"\n… and {len(texts.problems) - _SHOWN_PROBLEMS} more" if len(texts.problems) > _SHOWN_PROBLEMS else ""
        shown = "\n".join(texts.problems[:_SHOWN_PROBLEMS])
        raise UserError(f"cannot use all of '{place}':\n{shown}{more}\nMend it, or set on_bad_data: skip to leave those out.")
    if not texts.examples:
        raise UserError(f"cannot train on '{place}': there is no example in it. It takes {ACCEPTED}.")
    return texts


def _find_files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UserError(f"cannot read '{place}': there is no such file or folder. It takes {ACCEPTED}.")
    found = sorted(path for path in place.rglob("*") if path.is_file())
    visible = [path for path in found if not any(part.startswith(".") for part in path.relative_to(place).parts)]
    if not visible:
        raise UserError(f"cannot train on '{place}': the folder is empty. It takes {ACCEPTED}.")
    return visible


def _read_file(path: Path, name: str, texts: Texts) -> None:
    suffix = path.suffix.lower()
    try:
        text = decode(path.read_bytes())
        if suffix in (".csv", ".tsv"):
            rows = _csv_rows(text)
        elif suffix in (".txt", ".md"):
            rows = _text_rows(text)
        else:
            rows = _json_rows(text, lines=suffix != ".json")
        for where, row in rows:
            _add(row, f"{name}, {where}" if where else name, texts)
    except (RowError, csv.Error) as error:
        texts.problems.append(f"{name}: {error}.")
    except OSError as error:
        texts.problems.append(f"{name}: it cannot be read ({error.strerror}).")


def _add(row: Any, source: str, texts: Texts) -> None:
    if isinstance(row, RowError):
        texts.problems.append(f"{source}: {row}.")
        return
    try:
        example, shape = read_row(row, source)
    except RowError as error:
        texts.problems.append(f"{source}: {error}.")
        return
    texts.examples.append(example)
    texts.formats[shape] += 1


def decode(data: bytes) -> str:
    """UTF-8, UTF-16 where it says so, else what Windows programs write. Raises RowError for what is no text."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings: tuple[str, ...] = ("utf-16",)
    else:
        encodings = ("utf-8-sig", "cp1252")
    if b"\0" in data[:4096] and encodings[0] != "utf-16":
        raise RowError("it is no text file")
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise RowError("it is no text in UTF-8. Save it as UTF-8")


def _json_rows(text: str, *, lines: bool) -> Iterator[tuple[str, Any]]:
    """(where, row); a row that cannot be read is a RowError."""
    if not lines:
        try:
            yield from _rows_in(json.loads(text))
            return
        except ValueError as error:
            first = next((line for line in text.splitlines() if line.strip()), "")
            if not _is_json(first):
                raise RowError(f"it is no valid JSON ({error})") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except ValueError as error:
                yield f"line {number}", RowError(f"it is no valid JSON ({error})")


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict | list)
    except ValueError:
        return False


def _rows_in(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key in _ROW_LISTS:
            inner = value.get(key)
            if isinstance(inner, list) and inner and not (isinstance(inner[0], dict) and {"from", "role"} & inner[0].keys()):
                value = inner
                break
    if isinstance(value, list) and value and isinstance(value[0], dict) and "role" in value[0]:
        value = [value]  # one conversation
    rows = value if isinstance(value, list) else [value]
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row


def _csv_rows(text: str) -> Iterator[tuple[str, Any]]:
    """Rows by the header; two columns without a header are question and answer."""
    csv.field_size_limit(2**31 - 1)
    first = text.splitlines()[0] if text.splitlines() else ""
    delimiter = max(",;\t|", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = next(reader, [])
    names = [name.strip().lower() for name in header]
    begin = reader.line_num + 1
    if not _is_header(names):
        if len(header) != 2:
            raise RowError(f"its first line has no names of columns that are known ({', '.join(header[:6])}); write question,answer")
        yield "line 1", list(header)
        names = ["question", "answer"]
    for row in reader:
        if any(cell.strip() for cell in row):
            here = f"line {begin}"
            if len(row) != len(names):
                yield here, RowError(f"it has {len(row)} columns, and the first line {len(names)}")
            else:
                yield here, dict(zip(names, row, strict=True))
        begin = reader.line_num + 1


def _is_header(names: list[str]) -> bool:
    """Whether rows with these columns would be understood."""
    try:
        read_row(dict.fromkeys(names, "x"), "")
    except RowError:
        return False
    return True


def _text_rows(text: str) -> Iterator[tuple[str, Any]]:
    """The whole text; or its pairs, where it is nothing but lines of `Q: …` and `A: …`."""
    pairs = _read_pairs(text)
    if not pairs:
        yield "", text
    for number, (question, answer) in pairs:
        yield f"line {number}", [question, answer]


def _read_pairs(text: str) -> list[tuple[int, tuple[str, str]]]:
    pairs: list[tuple[int, list[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        asks, answers = _ASKS.match(line), _ANSWERS.match(line)
        if asks:
            if pairs and len(pairs[-1][1]) == 1:
                return []  # two questions in a row
            pairs.append((number, [line[asks.end() :]]))
        elif answers:
            if not pairs or len(pairs[-1][1]) != 1:
                return []
            pairs[-1][1].append(line[answers.end() :])
        elif pairs:
            pairs[-1][1][-1] += "\n" + line
        elif line.strip():
            return []
    if any(len(parts) != 2 for _, parts in pairs):
        return []
    return [(number, (parts[0].strip(), parts[1].strip())) for number, parts in pairs]
