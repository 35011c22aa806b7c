"""The last changes to a data set's captions, and what puts back the files as they were. Kept in the cache folder, so that they survive the
page and the program.

A step is written before anything is changed: after a kill in the middle of it, it can still be undone. One that grows, such as the writing
of captions, is a line for each time it grew. Must not import any host.
"""

import base64
import hashlib
import json
import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import UserError
from ..engine.files import write_text
from .caption_editing import write_file
from .config import PictureConfig
from .folders import open_folder
from .index import choose_cache_folder
from .parts import find_metadata, find_sources

_KEPT = 20
_FLUSHED = 10  # files; of more the disk is not waited for: after a power failure the step still holds what was in them
_SHOWN = 3
_WRITING = threading.RLock()  # the album's changes and a captioner's meet here


@dataclass(frozen=True)
class _Step:
    told: str
    files: Mapping[Path, tuple[bytes | None, str]]  # content before (None: there was no such file), digest after
    moves: Sequence[tuple[Path, Path]]  # from, to
    between: frozenset[str] = frozenset()  # digests of what a file held while the step grew

    def grow(self, later: "_Step") -> "_Step":
        """Both as one."""
        files = dict(self.files)
        for path, (before, after) in later.files.items():
            files[path] = (files[path][0] if path in files else before, after)
        between = self.between.union(after for path, (_, after) in self.files.items() if path in later.files)
        return _Step(later.told, files, [*self.moves, *later.moves], between)

    def find_changed(self) -> list[Path]:
        """What is neither as the step left it nor as it was before."""
        left = _digest(b"")  # by a power failure
        known = {path: {after, _digest(before), left} | self.between for path, (before, after) in self.files.items()}
        changed = [path for path, digests in known.items() if _digest(_read(path)) not in digests]
        return changed + [source for source, target in self.moves if source.exists() == target.exists()]

    def put_back(self) -> None:
        for source, target in self.moves:
            if not source.exists():
                move_file(target, source)
        for path, (before, _) in self.files.items():
            write_file(path, before, flush=len(self.files) <= _FLUSHED)


class CaptionHistory:
    """The steps of the data set that the options name. Raises UserError where there is none."""

    def __init__(self, config: PictureConfig):
        sources = find_sources(config)
        folders = "\n".join(os.path.abspath(source.root) for source in sources if source.use == "train")
        key = hashlib.sha256(folders.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        self._folder = choose_cache_folder(config) / f"undo-{key}"
        self._allowed = [source.root for source in sources]
        self._allowed += [open_folder(source.config.mask_dir, "mask_dir") for source in sources if source.config.mask_dir]
        self._allowed += [find_metadata(source.metadata_path, source.root) for source in sources if source.metadata_path]

    def carry_out(self, told: str, files: Mapping[Path, bytes | None], moves: Sequence[tuple[Path, Path]] = (), *, behind: str = "") -> str:
        """Write these files (None: remove it) and move those, so that it can be undone.

        Args:
            told: what it is, for the one who undoes it.
            behind: the step that this goes on with: it is undone together with it, unless another has come between.

        Returns:
            The step, for ``behind``.

        Raises:
            UserError: where something cannot be written; what was done until then can be undone.
        """
        with _WRITING:
            step = _Step(told, {path: (_read(path), _digest(content)) for path, content in files.items()}, moves)
            key = self._write(step, behind)
            for path, content in files.items():
                write_file(path, content, flush=len(files) <= _FLUSHED)
            for source, target in moves:
                move_file(source, target)
            return key

    def _write(self, step: _Step, behind: str) -> str:
        """As a file of its own, or at the end of the newest, where that is the one."""
        paths = self._list_files()
        if behind and paths and _read_key(paths[-1]) == behind:
            with open(paths[-1], "a", encoding="utf-8") as file:  # a line that a kill cuts short has changed nothing yet
                file.write("\n" + _write_step(step, behind))
                file.flush()
                os.fsync(file.fileno())
            return behind
        key, number = secrets.token_hex(8), int(paths[-1].stem) + 1 if paths else 1
        write_text(self._folder / f"{number:06}.json", _write_step(step, key))
        for old in paths[: len(paths) + 1 - _KEPT]:
            old.unlink(missing_ok=True)
        return key

    def list_steps(self) -> int:
        """How many can be undone."""
        return len(self._list_files())

    def undo(self) -> str:
        """Put back what the last step has changed; returns what it was.

        Raises:
            UserError: where there is none, or something of it was changed meanwhile: then nothing is put back.
        """
        with _WRITING:
            paths = self._list_files()
            if not paths:
                raise UserError("cannot undo anything: nothing was changed here that is remembered. Change captions first.")
            step = self._read_step(paths[-1])
            changed = step.find_changed()
            if changed:
                names = ", ".join(path.name for path in changed[:_SHOWN]) + (" …" if len(changed) > _SHOWN else "")
                raise UserError(f"cannot undo '{step.told}': {names} was changed meanwhile. Change those by hand.")
            step.put_back()
            paths[-1].unlink()
            return step.told

    def _list_files(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("*.json") if path.stem.isdecimal())

    def _read_step(self, path: Path) -> _Step:
        """Raises UserError for a damaged one, and for one that leads out of the data folders: it may have come with them."""
        try:
            first, *later = path.read_text(encoding="utf-8").split("\n")
            step = _parse_step(first)
            for place, line in enumerate(later, 1):
                try:
                    step = step.grow(_parse_step(line))
                except ValueError:
                    if place < len(later):
                        raise
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"cannot undo the last change: {path} is damaged. Remove that file to undo the one before.") from None
        if not all(self._allows(place) for place in [*step.files, *(place for move in step.moves for place in move)]):
            raise UserError(f"cannot undo the last change: {path} leads out of the data folders. Remove that file.")
        return step

    def _allows(self, path: Path) -> bool:
        place = Path(os.path.abspath(path))
        return any(place.is_relative_to(os.path.abspath(folder)) for folder in self._allowed)


def move_file(source: Path, target: Path) -> None:
    """Into a folder that is made for it. Raises UserError where that is not allowed."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source, target)
    except OSError as error:
        raise UserError(
            f"cannot move {source} to {target}: {error.strerror or error}. Close what has it open, or mend its rights."
        ) from error


def _read_key(path: Path) -> str:
    """Which step it is; nothing for a damaged one."""
    try:
        with open(path, encoding="utf-8") as file:
            return str(json.loads(file.readline()).get("key", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _parse_step(line: str) -> _Step:
    content = json.loads(line)
    files = {Path(name): (None if before is None else base64.b64decode(before), str(after)) for name, before, after in content["files"]}
    return _Step(str(content["told"]), files, [(Path(source), Path(target)) for source, target in content["moves"]])


def _write_step(step: _Step, key: str) -> str:
    files = [
        [os.path.abspath(path), None if before is None else base64.b64encode(before).decode("ascii"), after]
        for path, (before, after) in step.files.items()
    ]
    moves = [[os.path.abspath(source), os.path.abspath(target)] for source, target in step.moves]
    return json.dumps({"key": key, "told": step.told, "files": files, "moves": moves})


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}. Mend its rights, or remove it.") from error


def _digest(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()
