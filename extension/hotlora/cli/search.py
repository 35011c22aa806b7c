"""``hotlora search``: joins the stand-alone host to a search, and prints what it has found."""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ..engine.config import RunConfig
from ..engine.errors import UserError
from ..engine.options import as_plain, build
from ..engine.recipe import read_options
from ..tasks import TASKS
from ..toolbox.search_space import make_space
from ..toolbox.searching import Limits, Search

_SPLIT = 0.2
_SECONDS = {"h": 3600, "m": 60, "s": 1}


def run(options: argparse.Namespace) -> int:
    """Search until time is over, or Ctrl-C; returns the exit code. Raises UserError for what is wrong before it starts."""
    limits = Limits(time.monotonic() + read_budget(options.budget), options.trials or float("inf"))
    config = with_judge(read_options({name: task.config_class for name, task in TASKS.items()}, options.config, options.set))
    if config.init_lora:
        raise UserError(
            f"cannot search what goes on from '{config.init_lora}': rank and layers are settled by that file. Leave init_lora out."
        )
    space, task = make_space(config, options.over, options.keep), TASKS[config.TASK]
    task.check(config)
    task.check_model(config)
    folder = options.output or Path(f"{config.output_dir}-search")
    search = Search(config, folder, space, pruner=options.pruner, say=lambda line: print(line, flush=True))
    for note in config.notes:
        print(f"note: {note}", file=sys.stderr)
    search.prepare(task.make_host())
    try:
        search.work(limits)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
    print(*search.report(lambda values, comment: write_run_file(type(config), values, comment)), sep="\n")
    return 0


def read_budget(text: str) -> float:
    """Seconds of ``2h``, ``20m`` or ``90s``. Raises UserError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([hms])", text.strip().lower())
    if not found or not float(found[1]):
        raise UserError(f"cannot search for '{text}': it is no length of time. Write it as 2h, 20m or 90s.")
    return float(found[1]) * _SECONDS[found[2]]


def with_judge(config: RunConfig) -> RunConfig:
    """The same with some examples kept back, where none are; its notes say so."""
    if config.validation_split or config.validation_dir:
        return config
    values: dict[str, Any] = {key: getattr(config, key) for key in config.given}
    judged = build(type(config), {**values, "validation_split": _SPLIT})
    note = f"A fifth of the examples is kept back (validation_split {_SPLIT}), to judge by; the proposed run file says so too."
    return replace(judged, notes=[*config.notes, note], given=judged.given)


def write_run_file(kind: type, values: dict[str, Any], comment: Sequence[str]) -> str:
    """A run file of all options, with the comment above it."""
    plain = yaml.safe_dump(as_plain(build(kind, values)), sort_keys=False, allow_unicode=True)
    return "".join(f"# {line}\n" for line in comment) + plain
