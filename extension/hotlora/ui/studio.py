"""What the page and the HTTP API work with: one :class:`Studio` per program, made where a host is joined to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine.config import RunConfig
from ..engine.examples import DataView
from ..engine.jobs import Jobs


@dataclass
class Studio:
    """A program that trains, as people see it."""

    jobs: Jobs
    look_at: Callable[[RunConfig], DataView]  # what people are shown of their data; raises UserError
    datasets: Path  # uploaded data sets, a folder each
    presets: Path  # the user's own, a YAML file each
    upload_suffixes: Sequence[str]  # what a data set may hold
    model_name: Callable[[], str] = lambda: ""  # what is loaded now; empty where nothing is
    hides: Sequence[str] = ()  # options that make no sense in this program
    choices: Mapping[str, Callable[[], list[str]]] = field(default_factory=dict)  # option -> what the program offers for it
    defaults: Mapping[str, Any] = field(default_factory=dict)  # where they differ from the config class's own
    missing: Callable[[], str] = lambda: ""  # a sentence where a package is missing without which nothing trains
    use_tag: bool = False  # whether adapters are called by <lora:name:weight> in a prompt box of the same page
    borrow_prompt: Sequence[Any] = ()  # the host's own prompt widgets, see page.py
