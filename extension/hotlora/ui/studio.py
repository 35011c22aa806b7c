"""What the page and the HTTP API work with: one :class:`Studio` per program, made where a host is joined to them."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..engine.config import RunConfig
from ..engine.examples import DataView
from ..engine.jobs import Jobs
from ..tasks import Task


class Shelf(Protocol):
    """The adapters on a program's model."""

    def names(self) -> list[str]:
        """What can be applied."""
        ...

    def applied(self) -> dict[str, float]:
        """Name -> weight."""
        ...

    def apply(self, weights: Mapping[str, float]) -> str:
        """These and no others; returns what people should know. Raises UserError."""
        ...


class Live(Protocol):
    """Whether a program's model answers with the run in training."""

    wanted: bool


@dataclass
class Studio:
    """A program that trains, as people see it."""

    jobs: Jobs
    look_at: Callable[[RunConfig], DataView]  # what people are shown of their data; raises UserError
    datasets: Path  # uploaded data sets, a folder each
    presets: Path  # the user's own, a YAML file each
    shipped_presets: Mapping[str, Path]  # name -> file
    upload_suffixes: Sequence[str]  # what a data set may hold
    read_caption: Callable[[RunConfig, str], str] | None = None  # of the example of that name; None where there is nothing to edit
    write_caption: Callable[[RunConfig, str, str], Any] | None = None
    data_word: str = "pictures"  # what the data is called on the page
    model_name: Callable[[], str] = lambda: ""  # what is loaded now; empty where nothing is
    why_not: Callable[[], str] = lambda: ""  # a sentence where what is loaded cannot be trained on now
    waits_for: Callable[[], str] = lambda: ""  # a sentence where a run would wait before it trains on it
    hides: Sequence[str] = ()  # options that make no sense in this program
    choices: Mapping[str, Callable[[], list[str]]] = field(default_factory=dict)  # option -> what the program offers for it
    defaults: Mapping[str, Any] = field(default_factory=dict)  # where they differ from the config class's own
    settings: Callable[[], Mapping[str, Any]] = dict  # options that are set elsewhere than on the page
    missing: Callable[[], str] = lambda: ""  # a sentence where a package is missing without which nothing trains
    uses_tag: bool = False  # whether adapters are called by <lora:name:weight> in a prompt box of the same page
    shelf: Shelf | None = None  # where adapters are put on the program's model itself
    live: Live | None = None  # whether that answers with the run in training
    has_live: bool = False  # whether that also works for the run in training


def open_studio(task: Task, jobs: Jobs, folder: Path, **of_the_program: Any) -> Studio:
    """The studio of a program that trains this task: what the task says of itself, and what the program says beyond or instead."""
    of_the_task: dict[str, Any] = {
        "look_at": task.look_at,
        "read_caption": task.read_caption,
        "write_caption": task.write_caption,
        "shipped_presets": task.presets,
        "upload_suffixes": task.list_suffixes(),
        "data_word": task.data_word,
        "choices": {option: functools.partial(list, offered) for option, offered in task.choices.items()},
    }
    return Studio(jobs=jobs, datasets=folder / "data", presets=folder / "presets", **(of_the_task | of_the_program))


_kept: dict[str, Studio] = {}


def keep_studio(program: str, make: Callable[[], Studio]) -> Studio:
    """The studio of this process: hosts run their entry script again at every reload of their page, while the package stays,
    and with it a run in training."""
    if program not in _kept:
        _kept[program] = make()
    return _kept[program]


@dataclass(frozen=True)
class BorrowedPrompt:
    """The host's own prompt widgets, whose values samples can take over."""

    widgets: Sequence[Any]
    read: Callable[..., dict[str, Any]]  # their values -> options
