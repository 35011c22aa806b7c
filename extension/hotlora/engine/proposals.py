"""What makes a step fit into memory, in the order of what it costs: which options are changed, and what was measured with them."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .config import RunConfig

CHECKPOINTING: Mapping[str, Any] = {"gradient_checkpointing": True}
_AT_ONCE = ("gradient_checkpointing", "optimizer")  # on the model and the data that are there


@dataclass(frozen=True)
class Taken:
    """What a step took."""

    seconds: float = 0.0
    memory_bytes: int = 0
    lacked_memory: bool = False
    largest_batch: int | None = None  # that fitted, where memory was lacking
    notes: tuple[str, ...] = ()
    refusal: str = ""  # where not even one example fits
    total_steps: int = 0
    steps_per_epoch: int = 0
    trainable_parameters: int = 0


@dataclass(frozen=True)
class Proposal:
    """Options with which whole batches fit; measured, never reckoned."""

    changes: Mapping[str, Any]
    seconds_per_step: float
    memory_bytes: int  # at the step's peak
    before: Taken = field(repr=False)  # with the options as they are

    def name(self) -> str:
        """As in a run file."""
        return ", ".join(f"{key}: {str(value).lower() if isinstance(value, bool) else value}" for key, value in self.changes.items())

    def tell(self) -> str:
        """In a sentence."""
        than = "" if self.before.refusal else f", {self.before.seconds:.2f} s as it is"
        memory = f"{self.memory_bytes / 2**30:.1f} GB in use"
        return f"With {self.name()} whole batches fit (tried: {memory}, {self.seconds_per_step:.2f} s a step{than})."


def list_changes(config: RunConfig, *, loads: bool = True) -> list[dict[str, Any]]:
    """What would take less memory than the options as they are, each to be tried with those before it.

    Args:
        loads: whether the host loads the model as the run asks for.
    """
    return [change for change in config.save_memory() if loads or not change.keys() & set(config.OF_THE_MODEL)]


def is_tried_at_once(change: Mapping[str, Any]) -> bool:
    """Whether neither the model has to be loaded nor the data to be prepared for it."""
    return all(key in _AT_ONCE for key in change)


def change_batch(config: RunConfig, largest: int | None) -> dict[str, Any]:
    """The largest batch that fits and divides what a step learns from; nothing where that is the batch as it is."""
    size = next((size for size in range(min(largest or 1, config.batch_size), 0, -1) if config.batch_size % size == 0), 1)
    if size == config.batch_size:
        return {}
    return {"batch_size": size, "gradient_accumulation_steps": config.gradient_accumulation_steps * config.batch_size // size}


@contextlib.contextmanager
def with_changes(config: RunConfig, changes: Mapping[str, Any]) -> Iterator[None]:
    """These options, for who has the config already."""
    before = {key: getattr(config, key) for key in changes}
    try:
        for key, value in changes.items():
            setattr(config, key, value)
        yield
    finally:
        for key, value in before.items():
            setattr(config, key, value)
