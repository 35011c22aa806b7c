"""The last changes to a data set's captions, and what puts back the files as they were. Kept in the cache folder, so that they survive the
page and the program.

A step is written before anything is changed: after a kill in the middle of it, it can still be undone. Must not import any host.
"""

import base64
import hashlib
import json
import os
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


@dataclass(frozen=True)
class _Step:
    told: str
    files: Mapping[Path, tuple[bytes | None, str]]  # content before (None: there was no such file), digest after
    moves: Sequence[tuple[Path, Path]]  # from, to

    def find_changed(self) -> list[Path]:
        """What is neither as the step left it nor as it was before."""
        left = _digest(b"")  # by a power failure
        changed = [path for path, (before, after) in self.files.items() if _digest(_read(path)) not in (after, _digest(before), left)]
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

    def carry_out(self, told: str, files: Mapping[Path, bytes | None], moves: Sequence[tuple[Path, Path]] = ()) -> None:
        """Write these files (None: remove it) and move those, so that it can be undone.

        Args:
            told: what it is, for the one who undoes it.

        Raises:
            UserError: where something cannot be written; what was done until then can be undone.
        """
        step = _Step(told, {path: (_read(path), _digest(content)) for path, content in files.items()}, moves)
        paths = self._list_files()
        number = int(paths[-1].stem) + 1 if paths else 1
        write_text(self._folder / f"{number:06}.json", _write_step(step))
        for old in paths[: len(paths) + 1 - _KEPT]:
            old.unlink(missing_ok=True)
        for path, content in files.items():
            write_file(path, content, flush=len(files) <= _FLUSHED)
        for source, target in moves:
            move_file(source, target)

    def list_steps(self) -> int:
        """How many can be undone."""
        return len(self._list_files())

    def undo(self) -> str:
        """Put back what the last step has changed; returns what it was.

        Raises:
            UserError: where there is none, or something of it was changed meanwhile: then nothing is put back.
        """
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
            content = json.loads(path.read_text(encoding="utf-8"))
            files = {
                Path(name): (None if before is None else base64.b64decode(before), str(after)) for name, before, after in content["files"]
            }
            moves = [(Path(source), Path(target)) for source, target in content["moves"]]
            step = _Step(str(content["told"]), files, moves)
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"cannot undo the last change: {path} is damaged. Remove that file to undo the one before.") from None
        if not all(self._allows(place) for place in [*files, *(place for move in moves for place in move)]):
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


def _write_step(step: _Step) -> str:
    files = [
        [os.path.abspath(path), None if before is None else base64.b64encode(before).decode("ascii"), after]
        for path, (before, after) in step.files.items()
    ]
    moves = [[os.path.abspath(source), os.path.abspath(target)] for source, target in step.moves]
    return json.dumps({"told": step.told, "files": files, "moves": moves})


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}. Mend its rights, or remove it.") from error


def _digest(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()
