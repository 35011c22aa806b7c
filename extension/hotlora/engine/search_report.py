"""What a search has found: a table, a verdict against the judge's own noise, and the settings that it proposes. Values only."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

REPEATS = 3  # of the config as given, and of what did best, each with another seed
_T_OF_TWO_MEANS = 2.776  # Student's t for 95 % and 2 * REPEATS - 2 degrees of freedom
_T_OF_ONE = 4.303  # likewise for REPEATS - 1
LEAST_GAIN = 0.005  # of the loss: a smaller difference is worth nobody's while, however sure it is


@dataclass(frozen=True)
class Row:
    """One trial. ``kind``: "as given", "search" or "repeat"; ``of``: the number of the trial that is repeated; ``loss`` is None where it
    has none in the end; ``state`` in words, and ``why`` there is no loss."""

    number: int
    kind: str
    chosen: dict[str, Any]
    state: str
    loss: float | None = None
    parameters: int = 0
    seconds: float = 0.0
    of: int | None = None
    seed: int = 0
    why: str = ""


@dataclass(frozen=True)
class Verdict:
    """The proposal (None: the config as given) and why."""

    proposal: Row | None
    gain: float  # of the mean kept-back loss
    margin: float  # what a gain has to exceed to be more than noise
    noise: float  # standard deviation of the loss from seed to seed
    words: str


def find_best(rows: Sequence[Row]) -> Row | None:
    """What did best among the searched settings, at one seed."""
    return min((row for row in rows if row.kind == "search" and row.loss is not None), key=_loss_of, default=None)


def conclude(rows: Sequence[Row]) -> Verdict:
    """Whether anything beats the config as given by more than chance, and what to take.

    Both are measured at :data:`REPEATS` seeds, that of the best at fresh ones: the seed at which it was chosen flatters it. The
    difference of the two means is held against Student's t at 95 % for the pooled spread.
    """
    given = [_loss_of(row) for row in rows if row.kind == "as given" and row.loss is not None][:REPEATS]
    if len(given) < REPEATS:
        words = f"Nothing can be said yet: the config as given has {len(given)} of {REPEATS} trials. Go on."
        return Verdict(None, 0.0, 0.0, 0.0, words)
    noise, mean = statistics.stdev(given), statistics.fmean(given)
    said = f"The config as given has a kept-back loss of {mean:.5f}; from seed to seed it differs by {noise:.5f} (standard deviation)."
    best = find_best(rows)
    if best is not None and is_worth_a_look(best, mean):
        repeats = [_loss_of(row) for row in rows if row.of == best.number and row.loss is not None][:REPEATS]
        if len(repeats) < REPEATS:
            luck = f"but was repeated {len(repeats)} of {REPEATS} times: that may be luck. Go on."
            words = f"{said} Trial {best.number} is at {best.loss:.5f}, {luck}"
            return Verdict(None, 0.0, 0.0, noise, words)
        gain, both = mean - statistics.fmean(repeats), [statistics.variance(given), statistics.variance(repeats)]
        chance_makes = _T_OF_TWO_MEANS * (2 * statistics.fmean(both) / REPEATS) ** 0.5
        margin = max(chance_makes, LEAST_GAIN * abs(mean))
        least = "chance makes up to" if margin == chance_makes else "half a percent, the least that counts, is"
        chance = f" at {REPEATS} fresh seeds, where {least} {margin:.5f}."
        if gain > margin:
            words = f"{said} Trial {best.number} beats it beyond that: by {gain:.5f}{chance}"
            return Verdict(best, gain, margin, noise, words)
        said += f" The best of the others, trial {best.number}, differs by {gain:+.5f}{chance}"
    return _propose_cheapest(rows, mean, noise, said)


def is_worth_a_look(best: Row, given: float) -> bool:
    """Whether it beats the config as given, whose mean loss is ``given``, by anything that counts."""
    return _loss_of(best) < given - LEAST_GAIN * abs(given)


def _propose_cheapest(rows: Sequence[Row], mean: float, noise: float, said: str) -> Verdict:
    margin = max(_T_OF_ONE * noise * (1 + 1 / REPEATS) ** 0.5, LEAST_GAIN * abs(mean))
    given = next(row for row in rows if row.kind == "as given" and row.loss is not None)
    near = [row for row in rows if row.kind == "search" and row.loss is not None and row.loss <= mean + margin]
    cheapest = min([given, *near], key=lambda row: (row.parameters, row.kind != "as given"))
    said += " Nothing is better beyond the noise"
    if cheapest is given:
        return Verdict(None, 0.0, margin, noise, f"{said}, and nothing as good is smaller: stay with the config as given.")
    share = cheapest.parameters / given.parameters
    words = f"{said}: take the cheapest that is no worse beyond it, trial {cheapest.number}, with {share:.0%} of the trained numbers."
    return Verdict(cheapest, mean - _loss_of(cheapest), margin, noise, words)


def _loss_of(row: Row) -> float:
    assert row.loss is not None
    return row.loss


def tell_row(row: Mapping[str, Any]) -> str:
    """A line on a trial that has ended. ``row``: a Row's fields."""
    what = row["why"] if row["loss"] is None else f"kept-back loss {row['loss']:.5f}"
    return f"trial {row['number']} ({row['kind']}): {what}"


def tell_settings(chosen: Mapping[str, Any]) -> str:
    """What a trial sets, in a line."""
    return ", ".join(f"{key} {_show(value)}" for key, value in chosen.items()) or "as given"


def write_table(rows: Sequence[Row]) -> list[str]:
    """Markdown, the best first, those without a loss last; a header and a line under it begin it."""
    lines = ["| trial | kind | kept-back loss | trained numbers | seconds | settings |", "|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: (row.loss is None, row.loss or 0.0, row.number)):
        settings = tell_settings(row.chosen)
        kind = f"repeat of {row.of}" if row.of is not None else row.kind
        loss = row.state if row.loss is None else f"{row.loss:.5f}"
        shown = settings.replace("|", "&#124;")  # which would end the cell
        lines.append(f"| {row.number} | {kind} | {loss} | {row.parameters:,} | {row.seconds:.0f} | {shown} |")
    return lines


def _show(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value) or "(all)"
