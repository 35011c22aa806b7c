"""``hotlora search``: joins the stand-alone host to a search, and prints what it has found."""

import argparse
import re
import sys
import time
from pathlib import Path

from ..engine.errors import UserError
from ..engine.events import Event, Tried
from ..engine.recipe import read_options
from ..engine.run import check_folder
from ..engine.search_plan import with_judge
from ..engine.search_report import tell_row
from ..engine.search_space import make_space
from ..engine.searching import Search
from ..engine.trials import Limits
from ..tasks import TASKS

_SECONDS = {"h": 3600, "m": 60, "s": 1}


def run(options: argparse.Namespace) -> int:
    """Search until time is over, or Ctrl-C; returns the exit code. Raises UserError for what is wrong before it starts."""
    limits = Limits(time.monotonic() + read_budget(options.budget), options.trials or float("inf"))
    config = with_judge(read_options({name: task.config_class for name, task in TASKS.items()}, options.config, options.set))
    space, task = make_space(config, options.over, options.keep), TASKS[config.TASK]
    task.check(config)
    task.check_model(config)
    folder = options.output or Path(f"{config.output_dir}-search")
    check_folder(folder, "--output" if options.output else "output_dir")
    search = Search(config, folder, space, pruner=options.pruner, tell=_tell)
    for note in config.notes:
        print(f"note: {note}", file=sys.stderr)
    search.prepare(task.make_host())
    try:
        search.work(limits)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
    print(*search.report(), sep="\n")
    return 0


def _tell(event: Event) -> None:
    if isinstance(event, Tried) and event.trial["state"] != "running":
        print(tell_row(event.trial), flush=True)


def read_budget(text: str) -> float:
    """Seconds of ``2h``, ``20m`` or ``90s``. Raises UserError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([hms])", text.strip().lower())
    if not found or not float(found[1]):
        raise UserError(f"cannot search for '{text}': it is no length of time. Write it as 2h, 20m or 90s.")
    return float(found[1]) * _SECONDS[found[2]]
