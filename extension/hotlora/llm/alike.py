"""Which of many texts are nearly the same, by MinHash (Broder 1997, "On the resemblance and containment of documents").

Each text is a set of pieces of five letters; how much two sets share is guessed from 64 small numbers each, and computed for those pairs
alone that the guess puts together. What many texts share, such as an instruction before each, says nothing and is not counted.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_PIECE, _ROWS, _BANDS = 5, 4, 16  # bands of four find nearly all pairs that share four fifths
_ALIKE = 0.8
_FEWEST_PIECES, _MOST_PIECES = 10, 4000
_COMMON_SHARE, _COMMON_LEAST = 0.1, 6
_COMPARED = 20  # with each text of those that the guess puts together
_NUMBERS = re.compile(r"\d+")


class _Cut(NamedTuple):
    """Question and answer as plain words, as the numbers of their pieces, and as those of pieces that few texts have."""

    words: tuple[str, str]
    pieces: tuple[np.ndarray, np.ndarray]
    rare: tuple[np.ndarray, np.ndarray]


def group_alike(texts: Sequence[tuple[str, str]]) -> list[list[int]]:
    """Places of texts that are nearly the same, those of each group together, in their order.

    Args:
        texts: (question, answer) of each; both must be alike, numbers in them be the same.
    """
    words = [(_simplify(question), _simplify(answer)) for question, answer in texts]
    pieces = [(_cut(question), _cut(answer)) for question, answer in words]
    common = _find_common(pieces)
    cuts = [_Cut(pair, cut, (_without(cut[0], common), _without(cut[1], common))) for pair, cut in zip(words, pieces, strict=True)]
    owner = list(range(len(texts)))
    for one, other in _guess_pairs(cuts):
        if _find(owner, one) != _find(owner, other) and _are_alike(cuts[one], cuts[other]):
            owner[max(_find(owner, one), _find(owner, other))] = min(_find(owner, one), _find(owner, other))
    groups: dict[int, list[int]] = {}
    for place in range(len(texts)):
        groups.setdefault(_find(owner, place), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _simplify(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _cut(text: str) -> np.ndarray:
    """A number for each different piece, sorted."""
    codes = np.frombuffer(text.encode("utf-32-le", errors="replace"), dtype=np.uint32).astype(np.uint64)
    if len(codes) < _PIECE:
        return np.zeros(0, dtype=np.uint64)
    value = np.zeros(len(codes) - _PIECE + 1, dtype=np.uint64)
    for place in range(_PIECE):
        value = value * np.uint64(0x9E3779B97F4A7C15) + codes[place : len(codes) - _PIECE + 1 + place]
    value ^= value >> np.uint64(29)
    return np.unique(value * np.uint64(0xBF58476D1CE4E5B9))


def _find_common(pieces: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Pieces of many texts."""
    if not pieces:
        return np.zeros(0, dtype=np.uint64)
    every, counts = np.unique(np.concatenate([np.union1d(*pair) for pair in pieces]), return_counts=True)
    return every[counts > max(_COMMON_LEAST, _COMMON_SHARE * len(pieces))]


def _without(numbers: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Both sorted."""
    if not len(others):
        return numbers
    return numbers[others[np.searchsorted(others, numbers).clip(max=len(others) - 1)] != numbers]


def _guess_pairs(cuts: Sequence[_Cut]) -> list[tuple[int, int]]:
    rng = np.random.default_rng(1)
    factors = rng.integers(1, 2**63, _ROWS * _BANDS, dtype=np.uint64) | np.uint64(1)
    boxes: dict[object, list[int]] = {}
    for place, cut in enumerate(cuts):
        numbers = np.union1d(*cut.rare)[:_MOST_PIECES]
        boxes.setdefault(cut.words, []).append(place)
        if len(numbers) >= _FEWEST_PIECES:
            least = (numbers[:, None] * factors).min(axis=0)
            for band in range(_BANDS):
                boxes.setdefault((band, least[band * _ROWS : (band + 1) * _ROWS].tobytes()), []).append(place)
    pairs = {(one, other) for box in boxes.values() for at, one in enumerate(box) for other in box[at + 1 : at + 1 + _COMPARED]}
    return sorted(pairs)


def _are_alike(one: _Cut, other: _Cut) -> bool:
    if one.words == other.words:
        return True
    if _NUMBERS.findall(" ".join(one.words)) != _NUMBERS.findall(" ".join(other.words)):
        return False
    return all(
        one.words[part] == other.words[part]
        or min(len(one.rare[part]), len(other.rare[part])) >= _FEWEST_PIECES
        and _share(one.rare[part], other.rare[part]) >= _ALIKE
        and _share(one.pieces[part], other.pieces[part]) >= _ALIKE
        for part in (0, 1)
    )


def _share(one: np.ndarray, other: np.ndarray) -> float:
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)


def _find(owner: list[int], place: int) -> int:
    while owner[place] != place:
        owner[place] = owner[owner[place]]
        place = owner[place]
    return place
