"""The run's folder, which is the run: its config, events, checkpoints and the state to resume from."""

import io
import os
from pathlib import Path
from typing import Any

import torch
import yaml

from .config import RunConfig
from .errors import UserError
from .events import EventLog
from .files import remove_leftovers, write_bytes, write_text
from .options import as_plain, options_of
from .yaml_file import read_yaml

_STATES_KEPT = 2


class Run:
    """Where everything about one run lies.

    ``config.yaml`` (fully resolved), ``events.jsonl``, ``run.log``, ``samples/``, ``checkpoints/``, ``state/``, ``logs/``
    (TensorBoard), and at the top the finished adapter with its sidecars.
    """

    def __init__(self, folder: Path, name: str, suffix: str = ".safetensors"):
        self.folder, self.name, self._suffix = folder, name, suffix
        self.config_path = folder / "config.yaml"
        self.log_path = folder / "run.log"
        self.samples = folder / "samples"
        self.checkpoints = folder / "checkpoints"
        self.states = folder / "state"
        self.tensorboard = folder / "logs"
        self.stem = folder / name  # of the finished adapter and what lies beside it
        self.final_path = folder / f"{name}{suffix}"
        self.best_path = folder / f"{name}-best{suffix}"
        self.events = EventLog(folder / "events.jsonl")

    @classmethod
    def start(cls, config: RunConfig) -> "Run":
        """A new run's folder. Raises UserError where one is already there; a start that failed before training is none."""
        folder = Path(config.output_dir)
        if has_trained(folder, config):
            raise UserError(
                f"cannot start a new run in '{folder}': there is one already. Go on with it (--resume \"{folder}\"), "
                "or choose another output_dir."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder '{folder}': {error.strerror}. Choose another output_dir.") from error
        for name in ("events.jsonl", "run.log"):
            (folder / name).unlink(missing_ok=True)
        run = cls(folder, config.name, config.FILE_SUFFIX)
        run.write_config(config)
        return run

    @classmethod
    def reopen(cls, config: RunConfig) -> "Run":
        """The folder of a run that is resumed; its config file is brought up to date."""
        run = cls(Path(config.output_dir), config.name, config.FILE_SUFFIX)
        remove_leftovers(run.folder)
        run.write_config(config)
        return run

    def write_config(self, config: RunConfig) -> None:
        """Write ``config.yaml``, with every option spelled out."""
        write_text(self.config_path, yaml.safe_dump(as_plain(config), sort_keys=False, allow_unicode=True))

    def checkpoint_path(self, label: str) -> Path:
        """``checkpoints/<name>-<label>.safetensors``, or a folder of that name."""
        return self.checkpoints / f"{self.name}-{label}{self._suffix}"

    def checkpoint_paths(self) -> list[Path]:
        """Those that are there, the oldest first; not what lies beside them."""
        paths = self.checkpoints.glob(f"{self.name}-step*{self._suffix}")
        return sorted(path for path in paths if self._suffix or path.is_dir())

    def save_state(self, state: dict[str, Any], step: int) -> None:
        """Write everything that resuming needs; the previous state stays until this one is whole."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(self.states / f"step-{step:08d}.pt", buffer.getvalue())
        for old in self._state_paths()[:-_STATES_KEPT]:
            old.unlink()

    def load_state(self) -> dict[str, Any] | None:
        """The newest state that can be read, or None."""
        for path in reversed(self._state_paths()):
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except (RuntimeError, EOFError, OSError) as error:
                self.log(f"{path.name} cannot be read ({error}); trying the one before")
        return None

    def _state_paths(self) -> list[Path]:
        return sorted(self.states.glob("step-*.pt"))

    def log(self, text: str) -> None:
        """Add to ``run.log``."""
        with open(self.log_path, "a", encoding="utf-8") as file:
            file.write(text.rstrip() + os.linesep)


def has_trained(folder: Path, config: RunConfig) -> bool:
    """Whether the folder holds a run that has got as far as a state or an adapter."""
    return any((folder / "state").glob("*.pt")) or (folder / f"{config.name}{config.FILE_SUFFIX}").exists()


def read_run_config(folder: Path) -> dict[str, Any]:
    """The options of an existing run. Raises UserError where there is none."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"cannot resume '{folder}': there is no run in it. Give the folder that holds its config.yaml.")
    values = read_yaml(path)
    values["output_dir"] = str(folder)
    return values


def check_unchanged(old: RunConfig, new: RunConfig) -> None:
    """Raise UserError where a resumed run's options contradict what was trained so far."""
    for key, field in options_of(type(new)).items():
        before, after = getattr(old, key), getattr(new, key)
        if field.metadata["fixed"] and before != after:
            raise UserError(
                f"cannot resume '{new.name}' with {key} {after}: it was trained with {key} {before}. "
                f"Set {key}: {before} or choose a new output_dir."
            )
