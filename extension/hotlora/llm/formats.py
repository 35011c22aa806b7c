"""Reading text data sets: one file, or a folder of them. What a file holds is found out, not asked for.

Owns which files count, and collecting what is wrong with them, so that people hear of all of it at once.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine.errors import UserError
from .config import TextConfig
from .conversation import Conversation, Document
from .readers import read_rows
from .rows import RowError, read_row

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".md")
ACCEPTED = "It takes questions and answers, conversations or texts in .json, .jsonl, .csv and .tsv files, and plain text in .txt and .md."

_TEXT, _TABLE, _ROWS, _PACKED = "Save it as plain text (.txt)", "Save it as CSV", "Export it as JSON lines (.jsonl)", "Unpack it"
_ADVICE = {
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".pages", ".html", ".htm", ".epub"), _TEXT),
    ".pdf": "Copy its text into a .txt file",
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), _TABLE),
    **dict.fromkeys((".parquet", ".arrow", ".feather", ".db", ".sqlite", ".pkl", ".yaml", ".yml", ".xml"), _ROWS),
    **dict.fromkeys((".zip", ".gz", ".zst", ".bz2", ".xz", ".7z", ".tar", ".rar"), _PACKED),
}
_ABOUT = re.compile(
    r"(readme|licen[cs]e|copying)([-.]\w+)*?(\.(md|txt|rst|html|pdf))?|(config|\w+_config|dataset_infos?|dataset_dict)\.json", re.IGNORECASE
)
_CLUTTER = re.compile(r"thumbs\.db|desktop\.ini|~\$.*", re.IGNORECASE)  # what Windows and Office leave in folders
_SHOWN_PROBLEMS = 20


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
    formats: dict[str, int] = field(default_factory=Counter)


def read_texts(place: Path, config: TextConfig) -> Texts:
    """All examples in a file, or in a folder and those below it; what is hidden there is passed over.

    A folder's README, licence and settings are left out, which `problems` says too but which stops nothing.

    Raises:
        UserError: where there is nothing, or (unless ``on_bad_data`` is ``skip``) where something cannot be used, with all of it.
    """
    files, texts = _find_files(place), Texts()
    about = [name for name, path in files if path != place and _ABOUT.fullmatch(path.name)]
    for name, path in files:
        if name not in about:
            _read_file(path, name, texts)
    notes = [f"{name}: it is about the data, so it was left out. Give it another name to train on it." for name in about]
    if not texts.examples:
        said = _list([*texts.problems, *notes])
        raise UserError(f"cannot train on '{place}': nothing in it can be used. {ACCEPTED}{said}")
    if texts.problems and config.on_bad_data == "stop":
        raise UserError(f"cannot use all of '{place}':{_list(texts.problems)}\nMend that, or set on_bad_data: skip to go on without.")
    texts.problems.extend(notes)
    return texts


def _find_files(place: Path) -> list[tuple[str, Path]]:
    """Files with the names people know them by, in the same order on every system."""
    try:
        if place.is_file():
            return [(_printable(place.name), place)]
        if not place.is_dir():
            raise UserError(f"cannot read '{place}': there is no such file or folder. {ACCEPTED}")
        found = [(path.relative_to(place), path) for path in place.rglob("*") if path.is_file()]
    except OSError as error:
        raise UserError(f"cannot read '{place}': {error.strerror or error}. Check the path and who may read it.") from error
    hidden = [any(part.startswith(".") for part in name.parts) or _CLUTTER.fullmatch(name.name) for name, _ in found]
    visible = [(_printable(name.as_posix()), path) for (name, path), is_hidden in zip(found, hidden, strict=True) if not is_hidden]
    if not visible:
        raise UserError(f"cannot train on '{place}': the folder is empty. Put the data into it. {ACCEPTED}")
    return sorted(visible)


def _read_file(path: Path, name: str, texts: Texts) -> None:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        kind = f"files of the kind {suffix} are" if suffix else "files without an ending such as .txt are"
        texts.problems.append(_printable(f"{name}: {kind} not read. {_ADVICE.get(suffix, 'Convert it to text, or take it away')}."))
        return
    known = len(texts.examples) + len(texts.problems)
    try:
        for where, row in read_rows(path):
            _add(row, f"{name}, {where}" if where else name, texts)
        if known == len(texts.examples) + len(texts.problems):
            raise RowError("it is empty")
    except RowError as error:
        texts.problems.append(_printable(f"{name}: {error}."))
    except OSError as error:
        texts.problems.append(f"{name}: it cannot be read ({error.strerror or error}).")


def _add(row: Any, source: str, texts: Texts) -> None:
    try:
        if isinstance(row, RowError):
            raise row
        example, shape = read_row(row, source)
    except RowError as error:
        texts.problems.append(_printable(f"{source}: {error}."))
    except RecursionError:
        texts.problems.append(f"{source}: it has too many lists or objects in each other.")
    else:
        texts.examples.append(example)
        texts.formats[shape] += 1


def _printable(text: str) -> str:
    """Names of files, and what stands in them, may be no text at all; messages must be."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _list(problems: list[str]) -> str:
    """The first of them, a line each."""
    rest = len(problems) - _SHOWN_PROBLEMS
    lines = [*problems[:_SHOWN_PROBLEMS], *([f"and {rest} more"] if rest > 0 else [])]
    return "".join(f"\n- {line}" for line in lines)
