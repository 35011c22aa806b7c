"""What became of another trainer's recipe: the options that were taken, what has no counterpart and why, what means something else.

Must not import torch or any host.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from ...engine.errors import UserError
from ...engine.plurals import counted
from ...engine.values import show

_OFF = ("", "0", "0.0", "none", "null", "false", "no", "off")


def is_off(value: Any) -> bool:
    """Whether an option is at what switches it off, so that nobody misses it."""
    if isinstance(value, str):
        return value.strip().casefold() in _OFF
    return not value


@dataclass
class Imported:
    """Options of ours, and a list of what happened to theirs."""

    source: str  # the trainer
    values: dict[str, Any] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)  # "network_dim: 32 -> lora_rank: 32"
    left_out: list[str] = field(default_factory=list)  # "xformers: true. It does not …"
    differs: list[str] = field(default_factory=list)
    off: list[str] = field(default_factory=list)  # keys without a counterpart that were switched off anyway

    def report(self) -> list[str]:
        """Everything, a line each."""
        lines = [f"Taken from {self.source}:", *(f"  {line}" for line in self.taken)]
        for heading, items in (("Differs in meaning:", self.differs), ("No counterpart:", self.left_out)):
            if items:
                lines += [heading, *(f"  {item}" for item in items)]
        if self.off:
            lines.append(f"Switched off there, and not needed here: {', '.join(self.off)}")
        return lines

    def summary(self) -> str:
        """The same for a page, in some sentences."""
        parts = [f"Imported from {self.source}: {counted(len(self.taken), 'option')}."]
        if self.differs:
            parts.append("Differs in meaning: " + " ".join(self.differs))
        if self.left_out:
            parts.append("Not taken: " + " ".join(self.left_out))
        return " ".join(parts)

    def as_yaml(self, file_name: str) -> str:
        """A run file, with what was not taken in comments above."""
        comments = [
            f"From {file_name} of {self.source}, by tools/import_recipe.py.",
            *self.differs,
            *(f"Not taken: {t}" for t in self.left_out),
        ]
        body = yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True, width=1000)
        return "".join(f"# {' '.join(comment.split())}\n" for comment in comments) + body


class Conversion:
    """A recipe on its way: keys are taken out of it until none is left."""

    def __init__(self, source: str, options: Mapping[str, Any]):
        self.left, self.result = dict(options), Imported(source)
        self._all = dict(options)
        self._told: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether it is there and not switched off."""
        return not is_off(self.left.get(key))

    def peek(self, key: str, default: Any = None) -> Any:
        return self.left.get(key, default)

    def put(self, option: str, value: Any, *keys: str, note: str = "") -> None:
        """Set an option of ours, for these keys of theirs."""
        there = [key for key in keys if key in self.left]
        self._told.update(there)
        for key in there:
            told = f"{key}: {show(self.left.pop(key))}"
            self.result.taken.append(f"{told} -> {option}: {show(value)}")
        if not there:
            self.result.taken.append(f"({keys[0] if keys else 'not set'}) -> {option}: {show(value)}")
        self.result.values[option] = value
        if note:
            self.differ(note)

    def differ(self, note: str) -> None:
        self.result.differs.append(note)

    def drop(self, key: str, why: str) -> None:
        """A key without a counterpart; said unless it is switched off."""
        if key not in self.left:
            return
        if is_off(self.left[key]):
            del self.left[key]
            self._told.add(key)
            self.result.off.append(key)
        else:
            self.refuse(key, why)

    def refuse(self, key: str, why: str) -> None:
        """A key that is not taken, whatever its value."""
        self._told.add(key)
        self.result.left_out.append(f"{key}: {show(self.left.pop(key))}. {why}")

    def finish(self, check: Callable[[Mapping[str, Any]], Any]) -> Imported:
        """The result, without values that our options do not take.

        Args:
            check: builds a config, or raises UserError.
        """
        for key in [key for key in self._all if key not in self._told and key not in self.result.off]:
            self.left[key] = self._all[key]
            self.drop(key, "It does not count beside the other options, or is told of with them.")
        allowing = {key: value for key, value in self.result.values.items() if key == "masked_loss"}
        for option, value in list(self.result.values.items()):
            try:
                plain = getattr(check({**allowing, option: value}), option)
                self.result.values[option] = value if option == "optimizer_args" else plain  # numbers that were text are numbers
            except UserError as error:
                if "cannot set" in str(error) or "cannot use" in str(error):
                    del self.result.values[option]
                    self.result.left_out.append(str(error))
        try:
            check(self.result.values)
        except UserError as error:
            self.differ(f"Before it can run: {error}")
        return self.result


def as_number(value: Any, default: float = 0.0) -> float:
    """A number however it is written; the default where there is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return default
