"""How good an answer is, compared with the right one. Pure."""

import json
from collections.abc import Iterable
from typing import Any

from .thoughts import split_thought


def grade_answer(wanted: str, given: str) -> dict[str, float]:
    """Scores between 0 and 1, by name.

    ``exact match``: 1 where both are the same text, but for white space. Where the right answer is a JSON object or array, also
    ``valid JSON``: 1 where the given one can be read as JSON; and ``right values``: the share of the right answer's values that the
    given one has at the same place. What a model thinks before it answers does not count.
    """
    wanted, given = split_thought(wanted)[1], split_thought(given)[1]
    scores = {"exact match": float(wanted.split() == given.split())}
    right = _read(wanted)
    if right is None:
        return scores
    got = _read(given)
    scores["valid JSON"] = float(got is not None)
    values, theirs = _leaves(right), _leaves(got) if got is not None else {}
    same = sum(path in theirs and theirs[path] == value for path, value in values.items())
    return scores | {"right values": same / len(values) if values else float(got == right)}


def _read(text: str) -> dict | list | None:
    """A JSON object or array; None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _leaves(value: Any, path: tuple = ()) -> dict[tuple, Any]:
    """Every value that holds no others, by its place."""
    if isinstance(value, dict) and value:
        parts: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list) and value:
        parts = enumerate(value)
    else:
        return {path: value}
    return {place: leaf for key, inner in parts for place, leaf in _leaves(inner, (*path, key)).items()}
