"""Runs in plain values, as the HTTP API tells them. Knows nothing of HTTP."""

import itertools
import math
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..engine.entries import Entry
from ..engine.errors import UserError
from ..engine.history import History
from ..engine.jobs import Jobs
from ..engine.outlook import Outlook
from ..engine.search_plan import is_search, read_search
from ..engine.searching import BEST_NAME
from ..engine.yaml_file import read_yaml

_LONGEST_SHOWN = 80
_MEASURED = ("total_steps", "steps_per_epoch", "trainable_parameters", "seconds_per_step", "memory_bytes", "free_bytes", "notes")


def describe_run(jobs: Jobs, name: str) -> dict[str, Any]:
    """What stands in a list of runs. None for what is not known yet."""
    entry = jobs.look_up(name)
    return _describe_entry(entry, jobs.explain_wait() if entry.status == "waiting" else "")


def describe_all(jobs: Jobs) -> list[dict[str, Any]]:
    """The same of every run. One that cannot be read does not hide the others."""
    held_up = jobs.explain_wait()
    return [_describe_entry(entry, held_up) for entry in jobs.list_all()]


def _describe_entry(entry: Entry, held_up: str) -> dict[str, Any]:
    """``held_up``: what holds up those that wait."""
    if entry.problem:
        return {"name": entry.name, "status": None, "message": entry.problem}
    outline, status = entry.outline, entry.status
    return {
        "name": entry.name,
        "status": status,
        "step": outline.step,
        "total_steps": outline.started.total_steps if outline.started else None,
        "trainable_parameters": outline.started.trainable_parameters if outline.started else None,
        "seconds_left": outline.seconds_left if status in ("training", "searching") else None,
        "share_of_time": None if entry.share is None else round(entry.share, 3),
        "loss": _finite(outline.steps[-1].average) if outline.steps else None,
        "validation_loss": _finite(min(judged.loss for judged in outline.validations)) if outline.validations else None,
        "started_at": outline.log[0][0] if outline.log else None,
        "message": (held_up if status == "waiting" else getattr(outline.latest, "message", None)) or None,
    }


def describe_search(jobs: Jobs, name: str) -> dict[str, Any] | None:
    """What a search has tried and found; None where this is none."""
    history, folder = jobs.history(name), jobs.find_folder(name)
    if not is_search(folder):
        return None
    plan, _ = read_search(folder)
    found, best = history.conclusion, folder / BEST_NAME
    return {
        "plan": asdict(plan),
        "trials": [asdict(row) for row in history.trials.values()],
        "verdict": found.words if found else None,
        "proposal": found.proposal if found else None,
        "best": read_yaml(best) if best.is_file() else None,
    }


def describe_details(jobs: Jobs, name: str) -> dict[str, Any]:
    """What is longer than a line in a list."""
    history = jobs.history(name)
    return {
        "options": jobs.values(name),
        "summary": history.started.summary if history.started else {},
        "files": [{"kind": file.kind, "step": file.step, "path": file.path} for file in history.files],
        "samples": [
            {"step": made.step, "prompt": made.prompt, "weight": made.weight, "seed": made.seed, "file": Path(made.path).name}
            for made in history.samples
        ],
        "sheet": find_sheet(history),
        "log": [{"time": at, "text": text} for at, text in history.log],
    }


def find_sheet(history: History) -> str | None:
    """The name of the comparison's file, where there is one."""
    sheet = getattr(history.outcome, "files", {}).get("sheet")
    return Path(sheet).name if sheet else None


def read_lines(path: Path, since: int, limit: int) -> list[str]:
    """At most ``limit`` lines of a file, from the one with index ``since`` on; without one that is still being written."""
    if not path.exists():
        return []
    since = min(since, sys.maxsize - limit)  # no file is that long
    with open(path, "rb") as file:
        return [line.decode("utf-8") for line in itertools.islice(file, since, since + limit) if line.endswith(b"\n")]


def explain(error: Exception) -> str:
    """The sentence for what a user can mend; empty for bugs."""
    if isinstance(error, UserError):
        return printable(str(error))
    if isinstance(error, OSError) and error.filename is not None:
        name = os.fsdecode(error.filename)
        shown = name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}…"
        return printable(f"cannot use '{shown}': {error.strerror}. Choose another file or folder.")
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return "cannot find that home folder (~): there is no such user on this computer. Write the whole path."
    if isinstance(error, UnicodeEncodeError) or (isinstance(error, ValueError) and "null byte" in str(error)):
        return "cannot use a text with characters that no file name can hold. Type it again."
    return ""


def printable(text: str) -> str:
    """Halves of surrogate pairs, as names of files may hold, are written out: nobody could be sent them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def describe_outlook(outlook: Outlook) -> dict[str, Any]:
    """How far a look ahead is, or what it has found."""
    progress, estimate = outlook.progress, outlook.estimate
    return {
        "busy": outlook.busy,
        "progress": {"what": progress.what, "done": progress.done, "total": progress.total} if progress else None,
        "estimate": {**{name: getattr(estimate, name) for name in _MEASURED}, "seconds": estimate.seconds} if estimate else None,
        "summary": dict(outlook.summary),
        "warnings": list(outlook.warnings),
        "proposals": [
            {"changes": dict(made.changes), "seconds_per_step": made.seconds_per_step, "memory_bytes": made.memory_bytes}
            for made in outlook.proposals
        ],
        "cancelled": outlook.cancelled,
        "error": outlook.error or None,
    }


def _finite(number: float) -> float | None:
    """JSON knows neither infinity nor nan."""
    return number if math.isfinite(number) else None
