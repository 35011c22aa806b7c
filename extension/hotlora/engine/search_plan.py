"""What people ask a search for, as it is kept beside it in ``search.json``, and what can be said of it before it begins."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .config import RunConfig
from .errors import UserError
from .files import write_text
from .options import as_plain, build, groups_of

FILE = "search.json"
SPLIT = 0.2  # of the examples, kept back to judge by where none are
PRUNERS = ("median", "hyperband")
_MOST_MINUTES = 60 * 24 * 30
_NO_MATTER = ("Saving", "Samples", "Program")  # groups of options that no loss depends on
_OF_A_RUN = ("output_dir", "output_name", "base_model")  # a model is known by its weights


@dataclass(frozen=True)
class SearchPlan:
    """What is asked for. ``trials``: searched settings at most; None: what there is time for. ``over``, ``keep``: see make_space."""

    minutes: float = 60.0
    trials: int | None = None
    over: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    pruner: str = PRUNERS[0]


def read_search_plan(values: Mapping[str, Any]) -> SearchPlan:
    """A plan from its fields as plain values.

    Raises:
        UserError: for what is no field of it, and for values of another kind.
    """
    known = asdict(SearchPlan())
    for key, value in values.items():
        if key not in known:
            raise UserError(f"cannot find settings with {key}: it takes {', '.join(known)}. Leave it out.")
        if not _fits(key, value):
            raise UserError(f"cannot find settings with {key} {value!r}: that is no such value. {_HOW[key]}")
    lists = {key: tuple(values[key]) for key in ("over", "keep") if key in values}
    return SearchPlan(**{**values, **lists})


_HOW = {
    "minutes": f"Give a number above 0, up to {_MOST_MINUTES:,}.",
    "trials": "Give a whole number above 0, or leave it out.",
    "over": "Give a list such as lora_rank=4,8.",
    "keep": "Give a list of options.",
    "pruner": f"Choose {' or '.join(PRUNERS)}.",
}


def _fits(key: str, value: Any) -> bool:
    if key == "pruner":
        return value in PRUNERS
    if key in ("over", "keep"):
        return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    if value is None:
        return key == "trials"
    if isinstance(value, bool) or not isinstance(value, int if key == "trials" else (int, float)):
        return False
    return math.isfinite(value) and 0 < value <= (10**9 if key == "trials" else _MOST_MINUTES)


def say_missing(how: str = "") -> tuple[str, str]:
    """Where Optuna is missing, which chooses what is tried next: that it is, and what to do. ``how``: it is added here, if not by pip."""
    if find_spec("optuna"):
        return "", ""
    return "cannot find settings: the package optuna is missing.", how or f'Install it: "{sys.executable}" -m pip install optuna'


def check_optuna() -> None:
    """Raise UserError where it is missing."""
    if any(said := say_missing()):
        raise UserError(" ".join(said))


def with_judge(config: RunConfig) -> RunConfig:
    """The same with some examples kept back, where none are; its notes say so. Raises UserError for a run that goes on from a file."""
    if config.init_lora:
        raise UserError(
            f"cannot search what goes on from '{config.init_lora}': rank and layers are settled by that file. Leave init_lora out."
        )
    if config.validation_split or config.validation_dir:
        return config
    values: dict[str, Any] = {key: getattr(config, key) for key in config.given}
    judged = build(type(config), {**values, "validation_split": SPLIT})
    note = f"A fifth of the examples is kept back (validation_split {SPLIT}), to judge by; the proposed run file says so too."
    return replace(judged, notes=[*config.notes, note], given=judged.given)


def settled_options(config: RunConfig) -> dict[str, Any]:
    """The options that were given and on which the losses depend: a search goes on with the same ones only."""
    free = {field.name for group, fields in groups_of(type(config)).items() if group in _NO_MATTER for field in fields}
    return {key: value for key, value in as_plain(config).items() if key in config.given and key not in (*_OF_A_RUN, *free)}


def is_search(folder: Path) -> bool:
    """Whether a search lies there, and no run."""
    return (folder / FILE).is_file()


def write_search(folder: Path, plan: SearchPlan, config: RunConfig) -> None:
    """``config``: of the run whose settings are searched; its options are kept as they were given, and the model that was borrowed."""
    options = {key: value for key, value in as_plain(config).items() if key in (*config.given, "base_model")}
    write_text(folder / FILE, json.dumps({"plan": asdict(plan), "options": options}, indent=1, ensure_ascii=False))


def read_search(folder: Path) -> tuple[SearchPlan, dict[str, Any]]:
    """The reverse. Raises UserError where the file is damaged."""
    try:
        kept = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return read_search_plan(kept["plan"]), dict(kept["options"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot go on with the search in '{folder}': its {FILE} cannot be read. Delete it, and begin anew.") from error
