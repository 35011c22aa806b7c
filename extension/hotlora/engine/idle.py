"""Options that were set and have nothing to act on: a line each. Must import nothing of ours but ``engine``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .options import options_of
from .values import default_of, show

if TYPE_CHECKING:
    from .config import RunConfig

Uses = Mapping[str, tuple[bool, str]]  # option -> (whether it is used, why it is not)


def list_uses(config: "RunConfig") -> Uses:
    """Of the options that every run has, those that only count beside others."""
    judged = (bool(config.validation_split or config.validation_dir), "nothing is kept back to judge by (validation_split)")
    return {
        "scheduler_cycles": (config.scheduler == "cosine_with_restarts", "only scheduler cosine_with_restarts restarts"),
        "scheduler_power": (config.scheduler == "polynomial", "only scheduler polynomial has an exponent"),
        "keep_last": (bool(config.save_steps or config.save_epochs), "nothing is saved on the way (save_steps, save_epochs)"),
        "validation_every_steps": judged,
    }


def tell_idle(config: "RunConfig") -> list[str]:
    """A line for each option that somebody has set to no effect."""
    fields, notes = options_of(type(config)), []
    for key, (is_used, why) in config.list_uses().items():
        value = getattr(config, key)
        if key in config.given and not is_used and value != default_of(fields[key]):
            notes.append(f"{key} {show(value)} is not used: {why}.")
    return notes
