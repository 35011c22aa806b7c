"""The run's folder, which is the run: its config, events, checkpoints and the state to resume from."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from .config import RunConfig
from .errors import UserError
from .events import EventLog, find_last_step
from .files import is_leftover, remove_leftovers, write_text
from .options import as_plain, options_of
from .sealed import read_sealed, write_sealed
from .search_plan import is_search
from .values import default_of
from .yaml_file import read_yaml

_STATES_KEPT = 2
_WRITTEN = ("loss.png", "ranks.json")
_FOLDERS = ("checkpoints", "samples", "state", "grid")
LOCK_NAME = ".lock"
FINISHED = "finished"  # label of the adapter that a run ended with


def list_adapters(folder: Path, name: str, suffix: str) -> dict[str, Path]:
    """Of the run in a folder: label -> adapter, in the order of training: "step 250" and so on; the best and the finished one last. Changes
    nothing there, whoever trains in it. ``name``, ``suffix``: as for :class:`Run`."""
    files = {f"step {int(path.name.rpartition('-step')[2][:8]):,}": path for path in _find_checkpoints(folder, name, suffix)}
    last = {"best": folder / f"{name}-best{suffix}", FINISHED: folder / f"{name}{suffix}"}
    return files | {label: path for label, path in last.items() if path.exists()}


def _find_checkpoints(folder: Path, name: str, suffix: str) -> list[Path]:
    paths = (folder / "checkpoints").glob(f"{glob.escape(name)}-step{'[0-9]' * 8}{suffix}")  # no copy under a name of somebody's own
    return sorted(path for path in paths if suffix or path.is_dir())


class Run:
    """Where everything about one run lies.

    Args:
        adapter_name: of the finished adapter; seldom another than the folder's.
        suffix: of an adapter's file; empty where it is a folder.

    ``config.yaml`` (fully resolved), ``events.jsonl``, ``run.log``, ``samples/``, ``checkpoints/``, ``state/``, ``logs/``
    (TensorBoard), and at the top the finished adapter with its sidecars.
    """

    def __init__(self, folder: Path, adapter_name: str, suffix: str):
        self.folder, self.adapter_name, self._suffix = folder, adapter_name, suffix
        self.config_path = folder / "config.yaml"
        self.log_path = folder / "run.log"
        self.samples = folder / "samples"
        self.checkpoints = folder / "checkpoints"
        self.states = folder / "state"
        self.tensorboard = folder / "logs"
        self.stem = folder / adapter_name  # of the finished adapter and what lies beside it
        self.final_path = folder / f"{adapter_name}{suffix}"
        self.best_path = folder / f"{adapter_name}-best{suffix}"
        self.small_path = folder / f"{adapter_name}-small{suffix}"
        self.ranks_path = folder / "ranks.json"
        self.events = EventLog(folder / "events.jsonl")
        self.is_reopened = False
        self._lock = FileLock(folder / LOCK_NAME, timeout=0, thread_local=False)

    @property
    def name(self) -> str:
        """The folder's name, by which people find the run."""
        return self.folder.name

    @classmethod
    def start(cls, config: RunConfig) -> "Run":
        """A new run's folder. Raises UserError where one is already there; a start that failed before training is none."""
        folder = Path(config.output_dir)
        if has_trained(folder, config):
            raise UserError(
                f"cannot start a new run in '{folder}': there is one already. Go on with it (--resume \"{folder}\"), "
                "or choose another output_dir."
            )
        if taken := _list_in_the_way(folder, config):
            raise UserError(
                f"cannot start a new run in '{folder}': it would write over {', '.join(taken)}, and no run there says that it may. "
                "Move that away, or choose another output_dir."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder '{folder}': {error.strerror}. Choose another output_dir.") from error
        run = cls(folder, config.name, config.FILE_SUFFIX)
        run.take()
        remove_leftovers(folder)
        for name in ("events.jsonl", "run.log"):
            (folder / name).unlink(missing_ok=True)
        run.write_config(config)
        return run

    @classmethod
    def reopen(cls, config: RunConfig) -> "Run":
        """The folder of a run that is resumed; its config file is brought up to date."""
        run = cls(Path(config.output_dir), config.name, config.FILE_SUFFIX)
        run.take()
        run.is_reopened = True
        remove_leftovers(run.folder)
        run.write_config(config)
        return run

    def take(self) -> None:
        """Keep other processes out of the folder, until :meth:`close` or this process's end.

        Raises:
            UserError: where another is in it.
        """
        try:
            self._lock.acquire()
        except Timeout:
            raise UserError(
                f"cannot train in '{self.folder}': another process trains there now. Wait until it has ended, or stop it."
            ) from None
        except OSError as error:
            raise UserError(f"cannot write in '{self.folder}': {error.strerror or error}. Choose another output_dir.") from error

    def close(self) -> None:
        """Let others into the folder."""
        self._lock.release()

    def write_config(self, config: RunConfig) -> None:
        """Write ``config.yaml``, with every option spelled out."""
        write_text(self.config_path, yaml.safe_dump(as_plain(config), sort_keys=False, allow_unicode=True))

    def has_results(self) -> bool:
        """Whether an adapter was saved here."""
        return self.final_path.exists() or bool(self.checkpoint_paths())

    def checkpoint_path(self, label: str) -> Path:
        """``checkpoints/<name>-<label>.safetensors``, or a folder of that name."""
        return self.checkpoints / f"{self.adapter_name}-{label}{self._suffix}"

    def checkpoint_paths(self) -> list[Path]:
        """Those that are there, the oldest first; not what lies beside them."""
        return _find_checkpoints(self.folder, self.adapter_name, self._suffix)

    def list_adapters(self) -> dict[str, Path]:
        """See :func:`list_adapters`."""
        return list_adapters(self.folder, self.adapter_name, self._suffix)

    def save_state(self, state: dict[str, Any], step: int) -> None:
        """Write everything that resuming needs; the previous state stays until this one is whole."""
        if not self.folder.is_dir():
            raise UserError(f"cannot go on: the run's folder '{self.folder}' was deleted. Start a new run.")
        write_sealed(self.states / f"step-{step:08d}.pt", state)
        for old in self._state_paths()[:-_STATES_KEPT]:
            old.unlink()

    def read_states(self) -> Iterator[tuple[str, dict[str, Any] | Exception]]:
        """(file name, state) from the newest to the oldest; in place of a state that is damaged, what is wrong with it."""
        for path in reversed(self._state_paths()):
            try:
                yield path.name, read_sealed(path)
            except Exception as error:  # a damaged file makes the reader raise nearly anything
                yield path.name, error

    def _state_paths(self) -> list[Path]:
        return sorted(self.states.glob("step-*.pt"))

    def log(self, text: str) -> None:
        """Add to ``run.log``."""
        with open(self.log_path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text.rstrip() + os.linesep)


def describe_changes(before: dict[str, Any], config: RunConfig, step: int) -> list[str]:
    """What a resumed run does otherwise from now on than by the options of before, for people."""
    now, changed = as_plain(config), []
    for key, field in options_of(type(config)).items():
        known = key in before or default_of(field) is None  # what is unset is left out; others are younger than the run
        was, will_be = before.get(key), now.get(key)
        call = _call_place if field.metadata["path"] else lambda value: value
        if known and key != "output_dir" and call(was) != call(will_be):
            changed.append(f"{key} {_name_value(will_be)} (was {_name_value(was)})")
    return [f"From step {step + 1} on: {', '.join(changed)}."] if changed else []


def _call_place(value: Any) -> Any:
    """What was only moved is the same."""
    return Path(value).name if isinstance(value, str) else value


def _name_value(value: Any) -> str:
    return "empty" if value in (None, "", [], {}) else str(value)


def has_trained(folder: Path, config: RunConfig) -> bool:
    """Whether the folder holds a run that has got as far as a state, a step or an adapter, or a search."""
    has_state = any((folder / "state").glob("*.pt")) or find_last_step(folder / "events.jsonl") > 0
    return is_search(folder) or has_state or bool(list_adapters(folder, config.name, config.FILE_SUFFIX))


def _list_in_the_way(folder: Path, config: RunConfig) -> list[str]:
    """What a new run would replace or remove there, and no start that failed has left."""
    names = [*_WRITTEN, f"{config.name}-small{config.FILE_SUFFIX}", *(name.format(name=config.name) for name in config.ALSO_WRITES)]
    found = [name for name in names if (folder / name).exists()]
    found += [name for name in _FOLDERS if (folder / name).is_file() or not all(map(is_leftover, (folder / name).glob("*")))]
    return found + ([] if _is_own_config(folder / "config.yaml") else ["config.yaml"])


def _is_own_config(path: Path) -> bool:
    """Whether a run wrote it, or there is none: people seldom write all options."""
    try:
        return not path.exists() or {"task_type", "output_dir", "slice_seconds"} <= read_yaml(path).keys()
    except UserError:
        return False


def check_folder(folder: Path, option: str) -> None:
    """Before anything slow: raise UserError where there is no such folder and none can be made, or nothing can be written."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"cannot make the folder '{folder}': '{there}' is a file. Choose another {option}.")
    if not os.access(there, os.W_OK):
        raise UserError(f"cannot write in '{there}': it is read-only. Choose another {option}, or mend its rights.")


def describe_place(config: RunConfig) -> list[str]:
    """What people should know of the folder of a run that is looked at before it starts.

    Raises:
        UserError: where no run can be made there.
    """
    folder = Path(config.output_dir)
    check_folder(folder, "output_dir")
    if has_trained(folder, config):
        return [f"'{folder}' holds a run already, so a new one cannot start there: choose another output_dir, or go on with it (--resume)."]
    return []


def find_state_step(folder: Path) -> int:
    """The step of a run's newest state; 0 where it has none."""
    return max((int(path.stem.partition("-")[2]) for path in (folder / "state").glob("step-*.pt")), default=0)


def read_run_config(folder: Path) -> dict[str, Any]:
    """The options of an existing run. Raises UserError where there is none."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"cannot resume '{folder}': there is no run in it. Give the folder that holds its config.yaml.")
    values = read_yaml(path)
    if not values:
        raise UserError(f"cannot resume '{folder}': its config.yaml is empty. Copy the run's options into it, or start a new run.")
    values["output_dir"] = str(folder)
    return values


def check_unchanged(old: RunConfig, new: RunConfig) -> None:
    """Raise UserError where a resumed run's options contradict what was trained so far."""
    for key, field in options_of(type(new)).items():
        before, after = getattr(old, key), getattr(new, key)
        if field.metadata["fixed"] and before != after:
            was, advice = f"with {key} {before}", f"Set {key}: {before}"
            if _name_value(before) == "empty":
                was, advice = "without it", f"Leave {key} out"
            raise UserError(
                f"cannot resume '{new.name}' with {key} {_name_value(after)}: it was trained {was}. {advice} or choose a new output_dir."
            )
