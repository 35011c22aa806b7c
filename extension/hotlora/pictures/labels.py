"""Machine-written captions beside those that people wrote.

Owns the label file (`filename,prompt`), the record of which of its rows a machine wrote, and the choice of pictures that
still need a caption. Must not import any host; the model that looks at pictures is the caller's.
"""

import csv
import io
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import UserError
from ..engine.files import write_text
from .caption_files import MetadataCaptions, path_key, read_caption_beside
from .folders import Contents, Found

_COLUMNS = ("filename", "prompt")
_CAMERA_WORDS = {"img", "dsc", "dscn", "dscf", "pxl", "mvi", "image", "picture", "photo", "pic", "screenshot", "untitled", "unnamed"}


@dataclass
class _Row:
    """A line of the label file: its cells, and the text it came from so that nobody's writing is reformatted."""

    cells: list[str]
    text: str | None = None


class LabelFile:
    """A `filename,prompt` file whose rows people may edit between runs.

    Which captions came from a machine is kept beside it, in `<stem>.auto.json`: file name -> the caption as the machine
    wrote it. A row counts as machine-written only while both are equal, so a caption that somebody corrected is theirs
    from then on, and the csv itself keeps the two columns that every trainer reads.
    """

    def __init__(self, path: Path, root: Path):
        """``root``: the data folder. Names are relative to the file's own folder where that holds ``root``, else to ``root``.

        Raises:
            UserError: when there is such a file but it cannot be added to.
        """
        self._path = path
        self._record_path = path.with_suffix(".auto.json")
        holds_root = Path(os.path.abspath(root)).is_relative_to(os.path.abspath(path.parent))
        self._base = path.parent if holds_root else root
        self._head, *self._rows = _read_rows(path)
        self._width = len(self._head.cells)
        self._file, self._prompt = (self._head.cells.index(name) for name in _COLUMNS)
        self._row_of = {path_key(self._base / row.cells[self._file].replace("\\", "/")): row for row in self._rows}
        self._record = _read_record(self._record_path)
        self._changed = False

    def caption(self, picture: Path) -> str:
        """The picture's caption here; empty where there is none."""
        row = self._row_of.get(path_key(picture))
        return ",".join(row.cells[self._prompt_cells(row)]).strip() if row else ""

    def is_machine_written(self, picture: Path) -> bool:
        """Is the caption here exactly what a machine wrote?"""
        return bool(self.caption(picture)) and self._record.get(self._name(picture)) == self.caption(picture)

    def put(self, picture: Path, caption: str) -> None:
        """Set a machine-written caption."""
        row = self._row_of.get(path_key(picture))
        if row is None:
            row = _Row([""] * self._width)
            row.cells[self._file] = self._name(picture)
            self._row_of[path_key(picture)] = row
            self._rows.append(row)
        row.cells[self._prompt_cells(row)] = [caption]
        row.text = None
        self._record[self._name(picture)] = caption
        self._changed = True

    def drop(self, picture: Path) -> None:
        """Remove the picture's row."""
        row = self._row_of.pop(path_key(picture))
        self._rows = [other for other in self._rows if other is not row]
        self._record.pop(self._name(picture), None)
        self._changed = True

    def save(self) -> None:
        """Write what changed, all or nothing. A kill between the two files makes captions count as somebody's, never the reverse."""
        if self._changed:
            write_text(self._path, "".join(_format(row) for row in [self._head, *self._rows]))
            write_text(self._record_path, json.dumps(self._record, ensure_ascii=False, indent=0))
            self._changed = False

    def _prompt_cells(self, row: _Row) -> slice:
        """The caption's place; wider than one cell where it has commas that nobody quoted."""
        return slice(self._prompt, self._prompt + 1 + len(row.cells) - self._width)

    def _name(self, picture: Path) -> str:
        return Path(os.path.relpath(picture, self._base)).as_posix()


@dataclass(frozen=True)
class Plan:
    """What is to be labelled, and what is not."""

    pictures: list[Path]  # need a caption from the machine
    kept: int  # have one already
    problems: list[str]


def plan_labels(contents: Contents, labels: LabelFile, output: Path, *, missing_only: bool) -> Plan:
    """Choose the pictures that a machine may caption: those without caption, and with ``missing_only=False`` also those whose
    caption it wrote itself.

    A caption that a person wrote since, in a text file or another metadata file, wins: the machine's row is dropped.
    """
    others = MetadataCaptions()
    for path in contents.metadata:
        if path_key(path) != path_key(output):
            others.read(path)
    problems, pictures, kept = list(others.problems), [], 0
    for found in contents.pictures:
        try:
            written = _is_captioned_elsewhere(found, others)
        except UserError as error:
            problems.append(str(error))
            continue
        if written and labels.is_machine_written(found.path):
            labels.drop(found.path)
        if written or (labels.caption(found.path) and (missing_only or not labels.is_machine_written(found.path))):
            kept += 1
        else:
            pictures.append(found.path)
    return Plan(pictures, kept, problems)


def sentence_from_name(picture: Path) -> str:
    """A caption made of nothing but the picture's name: 'a picture of red apple' for `red-apple_02.png`.

    Numbers and what cameras call files say nothing about a picture; where nothing else is in its name, its folder's counts.
    """
    for name in (picture.stem, picture.absolute().parent.name):
        words = [word for word in re.split(r"[\W_]+", name) if word and not any(c.isdigit() for c in word)]
        words = [word for word in words if word.lower() not in _CAMERA_WORDS]
        if words:
            return f"a picture of {' '.join(words)}"
    return "a picture"


def _is_captioned_elsewhere(found: Found, others: MetadataCaptions) -> bool:
    row = others.find(found.path)
    beside = read_caption_beside(found.path, found.siblings)
    return bool((row and row.caption) or (beside and beside[0]))


def _read_rows(path: Path) -> list[_Row]:
    """The header and the rows of an existing label file, or the header of a new one."""
    rows = []
    try:
        lines = list(io.StringIO(path.read_bytes().decode("utf-8"), newline="")) if path.exists() else []
        reader = csv.reader((line.removeprefix("\ufeff") for line in lines), skipinitialspace=True)
        first = 0
        for cells in reader:
            if any(cells):
                rows.append(_Row(cells, "".join(lines[first : reader.line_num])))
            first = reader.line_num
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot add captions to {path}: {error}. Save it as a UTF-8 csv file, or choose another --output.") from error
    if not rows:
        return [_Row(list(_COLUMNS))]
    rows[0].cells = [cell.strip().lower() for cell in rows[0].cells]
    if not set(_COLUMNS) <= set(rows[0].cells):
        raise UserError(
            f"cannot add captions to {path}: its first line is '{(rows[0].text or '').strip()}', not 'filename,prompt'. "
            "Rename its columns, or choose another --output."
        )
    for row in rows:
        row.cells += [""] * (len(rows[0].cells) - len(row.cells))
    return rows


def _format(row: _Row) -> str:
    if row.text is not None:
        return row.text if row.text.endswith(("\n", "\r")) else row.text + "\n"
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(row.cells)
    return text.getvalue()


def _read_record(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(caption) for name, caption in record.items()}
    except (OSError, ValueError, AttributeError):
        return {}  # damaged: every caption counts as a person's then, which only keeps too much
