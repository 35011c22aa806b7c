"""What the program itself can do about a finding of the report about texts: leave rows out of a file, or mend their letters.

Files as they were are kept in ``.hotlora-originals`` beside them, which no run reads, and a change is undone from there byte for byte.
Rows are called by their places, which hold for a file as it is: so a remedy says which state of the files it is for. Must not import any
host.
"""

import functools
import hashlib
import json
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..engine.errors import UserError
from ..engine.examples import Finding, Remedy
from ..engine.files import write_bytes
from ..engine.plurals import counted
from .config import TextConfig
from .errors import RowError
from .formats import find_files
from .garbled import mend_garbled
from .parts import find_data
from .spans import SUFFIXES, Rows, Written, find_rows, read_written, take_out
from .threads import is_message

LEAVE_OUT, LETTERS = "leave_out", "letters"
ORIGINALS = ".hotlora-originals"
LABELS = {  # of the buttons, by the finding's kind
    "same": "Keep one of each, leave the others out",
    "contradiction": "Leave out",
    "empty": "Leave out",
    "hollow": "Leave out",
    "language": "Leave out",
    "encoding": "Mend the letters",
}
_KEPT = 20  # changes that can be undone
_STEP = "step.json"
_UNFIT = f"Nothing is mended here in: {{names}}. Rows are left out of {', '.join(SUFFIXES)} files whose rows stand alone, one by one."
_WRITING = threading.Lock()


def propose_remedy(kind: str, names: Sequence[str]) -> Remedy | None:
    """What could be done about these rows. ``names``: of those that would be changed."""
    label = LABELS.get(kind)
    return Remedy(label, LETTERS if kind == "encoding" else LEAVE_OUT, tuple(names)) if label and names else None


def offer_remedies(findings: Iterable[Finding], config: TextConfig) -> Iterator[Finding]:
    """The findings, with those remedies only that can be carried out; and a note of the files in which none can."""
    files = _Files(config)
    for finding in findings:
        yield replace(finding, remedy=files.fit(finding.remedy)) if finding.remedy else finding
    if files.unfit:
        yield Finding("unfit", _UNFIT.format(names=", ".join(files.unfit)), (), is_note=True)


@dataclass(frozen=True)
class _File:
    path: Path
    written: Written
    rows: Rows

    @property
    def is_table(self) -> bool:
        return self.path.suffix.lower() in (".csv", ".tsv")


class _Files:
    """Those of the data, as they are now. Raises UserError where there are none.

    Attributes:
        unfit: names of those in which something could be done if they were of another form.
    """

    def __init__(self, config: TextConfig):
        self._config, place = config, find_data(config)
        self._paths = dict(find_files(place))
        self.folder = place if place.is_dir() else place.parent
        self._known: dict[str, _File | None] = {}
        self.unfit: dict[str, None] = {}

    @functools.cached_property
    def state(self) -> str:
        """Another one where anything about the files is."""
        whole = hashlib.sha256()
        for name, path in self._paths.items():
            if path.suffix.lower() in SUFFIXES:
                whole.update(f"{name}\0{_look(path)}\0".encode("utf-8", "surrogateescape"))
        return whole.hexdigest()[:16]

    def fit(self, remedy: Remedy) -> Remedy | None:
        """For as many rows as it can be carried out for; none of a file of which nothing would be left."""
        places = self.place(remedy.names)
        fitting = {
            name
            for file, wheres in places.items()
            for where, name in wheres.items()
            if remedy.operation == LETTERS or len(wheres) < len(self._known[file].rows.spans)  # type: ignore[union-attr]
        }
        names = tuple(name for name in remedy.names if name in fitting)
        return replace(remedy, names=names, state=self.state) if names else None

    def place(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """File -> place in it -> name, of those rows that are found there."""
        found: dict[str, dict[str, str]] = {}
        for name in names:
            file = max((one for one in self._paths if name == one or name.startswith(f"{one}, ")), key=len, default="")
            opened = self.open(file) if file else None
            where = name.removeprefix(f"{file}, ")
            if opened and where in opened.rows.spans:
                found.setdefault(file, {})[where] = name
            elif file:
                self.unfit[file] = None
        return found

    def open(self, name: str) -> _File | None:
        """None for a file of another form."""
        if name not in self._known:
            self._known[name] = self._read(self._paths[name])
        return self._known[name]

    def find(self, name: str) -> Path:
        """The file of that name."""
        return self._paths[name]

    def change(self, names: Sequence[str], operation: str) -> dict[str, bytes]:
        """File -> what it is to hold. Raises UserError where that would not be what is meant."""
        return {name: self._change(name, wheres, operation) for name, wheres in self.place(names).items()}

    def _change(self, name: str, wheres: Collection[str], operation: str) -> bytes:
        file = self.open(name)
        assert file
        if operation == LETTERS:
            text = _mend_rows(file, wheres)
        else:
            text = take_out(file.written.text, file.rows, wheres)
            if len(self._find_rows(text, file.path).spans) != len(file.rows.spans) - len(wheres):
                raise UserError(f"cannot leave rows out of {name}: its form is another than it seems. Take them out by hand.")
        try:
            return file.written.encode(text)
        except UnicodeError:
            raise UserError(f"cannot mend {name}: its encoding lacks letters that were meant. Save it as UTF-8 first.") from None

    def _find_rows(self, text: str, path: Path) -> Rows:
        try:
            return find_rows(text, path.suffix.lower(), self._config.columns)
        except RowError:
            return Rows({})

    def _read(self, path: Path) -> _File | None:
        written = read_written(path, self._config.encoding) if path.suffix.lower() in SUFFIXES else None
        file = _File(path, written, self._find_rows(written.text, path)) if written else None
        return file if file and file.rows.spans and not _holds_messages(file) else None


def _holds_messages(file: _File) -> bool:
    """Whether a conversation is spread over several rows, of which none can go alone."""
    begin, end = next(iter(file.rows.spans.values()))
    return not file.is_table and is_message(json.loads(file.written.text[begin:end]))


class TextMender:
    """Each method raises UserError for what cannot be done; then nothing was changed."""

    def mend(self, config: TextConfig, remedy: Mapping[str, Any]) -> str:
        """Carry out what the health report offers (``engine.examples.Remedy``); returns what was done."""
        names, operation = [str(name) for name in remedy.get("names") or ()], remedy.get("operation")
        with _WRITING:
            files = _Files(config)
            if operation not in (LEAVE_OUT, LETTERS) or not names:
                raise UserError("cannot mend texts so: that is nothing that the report has offered. Make the report anew.")
            if remedy.get("state") != files.state:
                raise UserError("cannot mend texts: they were changed since the report was made. Make the report anew.")
            fitting = files.fit(Remedy("", operation, names))
            if not fitting or len(fitting.names) < len(names):
                raise UserError("cannot mend all of these texts: some of them are not written row by row. Make the report anew.")
            changes = files.change(names, operation)
            done = "Left out" if operation == LEAVE_OUT else "Mended the letters in"
            told = f"{done} {counted(len(names), 'row')} of {', '.join(changes)}"
            _Originals(files.folder).carry_out(told, {files.find(file): data for file, data in changes.items()})
        return f"{told}. As it was before, it is kept in {ORIGINALS}."

    def count_steps(self, config: TextConfig) -> int:
        """How many changes can be undone."""
        place = find_data(config)
        return len(_Originals(place if place.is_dir() else place.parent).list_steps(place))

    def undo(self, config: TextConfig) -> str:
        """The last change; returns what it was."""
        place = find_data(config)
        with _WRITING:
            return f"Undone: {_Originals(place if place.is_dir() else place.parent).undo(place)}"


def _mend_rows(file: _File, wheres: Collection[str]) -> str:
    text = file.written.text
    for begin, end in sorted((file.rows.spans[where] for where in wheres), reverse=True):
        text = text[:begin] + _mend(text[begin:end], is_json=not file.is_table) + text[end:]
    return text


def _mend(piece: str, *, is_json: bool) -> str:
    """A row with its letters as they were meant, also where JSON writes them by their numbers."""
    mended = mend_garbled(piece)
    if mended != piece or not is_json or "\\u" not in piece:
        return mended
    end = piece[len(piece.rstrip()) :]
    return json.dumps(_mend_value(json.loads(piece)), ensure_ascii=False) + end


def _mend_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _mend_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_mend_value(item) for item in value]
    return mend_garbled(value) if isinstance(value, str) else value


class _Originals:
    """Files as they were before the last changes, a folder for each change."""

    def __init__(self, folder: Path):
        self._data, self._folder = folder, folder / ORIGINALS

    def carry_out(self, told: str, changes: Mapping[Path, bytes]) -> None:
        """Keep what the files hold, then write them. Raises UserError where something cannot be written."""
        steps = self._list_folders()
        step = self._folder / f"{int(steps[-1].name) + 1 if steps else 1:06}"
        kept = []
        try:
            step.mkdir(parents=True)
            for number, (path, data) in enumerate(changes.items()):
                before = path.read_bytes()
                write_bytes(step / f"{number} {path.name}", before)
                kept.append([path.relative_to(self._data).as_posix(), f"{number} {path.name}", _digest(data)])
            write_bytes(step / _STEP, json.dumps({"told": told, "files": kept}, ensure_ascii=False).encode("utf-8", "surrogatepass"))
            for path, data in changes.items():
                write_bytes(path, data)
        except OSError as error:
            raise UserError(
                f"cannot write beside {self._data}: {error.strerror or error}. Give it and its files the rights for that."
            ) from error
        for old in steps[: len(steps) + 1 - _KEPT]:
            _remove(old)

    def list_steps(self, place: Path) -> list[Path]:
        """Those that changed this file, or files in this folder; the newest last."""
        return [step for step in self._list_folders() if self._read(step, place)]

    def undo(self, place: Path) -> str:
        """Put back what the last of these has changed; returns what it was. Raises UserError."""
        steps = self.list_steps(place)
        if not steps:
            raise UserError("cannot undo anything: no text was mended here. Mend some first.")
        told, files = self._read(steps[-1], place)  # type: ignore[misc]
        for path, original, after in files:
            if not path.is_file() or _digest(path.read_bytes()) not in (after, _digest(original.read_bytes())):
                raise UserError(f"cannot undo '{told}': {path.name} was changed meanwhile. What it held is {original}; copy from there.")
        for path, original, _ in files:
            write_bytes(path, original.read_bytes())
        _remove(steps[-1])
        return told

    def _list_folders(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("*/") if path.name.isdecimal())

    def _read(self, step: Path, place: Path) -> tuple[str, list[tuple[Path, Path, str]]] | None:
        """What was done, and of each file its path, its copy and its digest afterwards; None for a damaged step, and one of other files."""
        try:
            told = json.loads((step / _STEP).read_text(encoding="utf-8"))
            files = [(Path(os.path.abspath(self._data / name)), step / Path(copy).name, str(after)) for name, copy, after in told["files"]]
            said = str(told["told"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        whole = all(path.is_relative_to(os.path.abspath(place)) and original.is_file() for path, original, _ in files)
        return (said, files) if files and whole else None


def _look(path: Path) -> str:
    try:
        return _digest(path.read_bytes())
    except OSError:
        return ""  # which is told as what cannot be read


def _remove(step: Path) -> None:
    for path in step.iterdir():
        path.unlink(missing_ok=True)
    step.rmdir()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
