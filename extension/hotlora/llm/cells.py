"""A row or a turn by its keys, which remembers what of it was used: nothing of people's data is left out in silence. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .columns import PLURALS, normalise

_NO = {"false", "0", "0.0", "0,0", "no", "n", "nein", "non", "não", "nee", "nie", "нет", "否", "いいえ", "아니요"}
_YES = {"true", "1", "1.0", "1,0", "yes", "y", "ja", "oui", "sí", "sim", "tak", "да", "是", "はい", "예"}
# How good an answer is, in words.
_BAD = {
    "-1",
    "-1.0",
    "bad",
    "rejected",
    "undesirable",
    "dispreferred",
    "wrong",
    "incorrect",
    "down",
    "thumbs_down",
    "thumbs down",
    "dislike",
}
_BAD |= {"disapproved", "👎", "差", "坏", "错误"}
_FINE = {
    "good",
    "chosen",
    "accepted",
    "desirable",
    "preferred",
    "right",
    "correct",
    "up",
    "thumbs_up",
    "thumbs up",
    "like",
    "approved",
    "👍",
}
_FINE |= {"好", "正确"}
# What says whether something is to be learned: by key, whether a yes means that it is.
_LEARNED = dict.fromkeys(("train", "training", "trainable", "train_on", "learn", "loss", "use_for_training", "include", "enabled"), True)
_LEARNED |= dict.fromkeys(("calculate_loss", "compute_loss", "is_train"), True)
_LEARNED |= dict.fromkeys(("masked", "ignore", "skip", "exclude", "excluded", "deleted", "do_not_train"), False)
_GOOD = dict.fromkeys(("label", "kto_tag", "kto_label", "desirable", "is_desirable", "is_good", "accepted", "is_accepted"), True)
_GOOD |= dict.fromkeys(("approved", "thumbs_up", "is_correct", "feedback", "user_feedback", "thumbs", "thumb", "verdict"), True)
_GOOD |= dict.fromkeys(("rejected", "is_rejected", "is_bad", "spam", "thumbs_down", "undesirable"), False)
_WEIGHTS = ("weight", "loss_weight", "loss_scale", "sample_weight")


class Cells:
    """Values by their normalised keys.

    Attributes:
        written: how the keys are written.
        notes: what is to be said about values, as ends of sentences.
    """

    def __init__(self, row: Mapping[str, Any]):
        self._values: dict[str, Any] = {}
        self.written: dict[str, str] = {}
        self._used: set[str] = set()
        self._doubled: list[str] = []
        self.notes: list[str] = []
        for key, value in row.items():
            name = normalise(key)
            if isinstance(value, str):
                name = PLURALS.get(name, name)
            if name in self._values:
                self._doubled.append(str(key))
            else:
                self._values[name], self.written[name] = value, str(key)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def name_of(self, written: str) -> str:
        """The normalised key of one that is written so."""
        return next(name for name, key in self.written.items() if key == written)

    def get(self, name: str) -> Any:
        """The value, which counts as used from here on; None where there is none."""
        self._used.add(name)
        return self._values.get(name)

    def peek(self, name: str) -> Any:
        """The value, without that it counts as used."""
        return self._values.get(name)

    def first_text(self, names: Sequence[str]) -> str:
        """The first that says something."""
        return next((text for name in names if name in self and (text := as_text(self.get(name)))), "")

    def unused(self) -> list[str]:
        """Keys, as they are written, of values that say something and were not used."""
        left = [self.written[name] for name, value in self._values.items() if name not in self._used and not _says_nothing(value)]
        return [key[:40] for key in (*left, *self._doubled)]

    def says_yes(self, name: str) -> bool:
        """Whether it is there and says so; it counts as used where it says yes or no."""
        said = _as_yes(self._values.get(name), graded=False)
        if said is not None:
            self._used.add(name)
        return bool(said)

    def why_not_learned(self, *, judged: bool = True, answer: str = "") -> str:
        """What says that this is not to be learned, such as `weight: 0`; nothing where nothing does. ``judged``: whether a label says
        how good it is, and not what it is about, as one that is the ``answer`` itself."""
        for name in (*_LEARNED, *(_GOOD if judged else ())):
            if name in _GOOD and answer and as_text(self._values.get(name)).casefold() == answer.casefold():
                continue
            value, wanted = self._values.get(name), (_LEARNED | _GOOD).get(name)
            known = _as_yes(value, graded=name in _GOOD)
            if known is not None:
                self._used.add(name)
                if known is not wanted:
                    return f"{self.written[name]}: {str(value).lower()}"
        return self._read_weights()

    def _read_weights(self) -> str:
        for name in _WEIGHTS:
            try:
                value = self._values[name]
                weight = float(value.replace(",", ".") if isinstance(value, str) else value)
            except (KeyError, TypeError, ValueError):
                continue
            self._used.add(name)
            if weight <= 0:
                return f"{self.written[name]}: {self._values[name]}"
            if weight != 1:
                self.notes.append(f"learned in full: weights other than 0 and 1 are not known ({self.written[name]})")
        return ""


def _as_yes(value: Any, *, graded: bool) -> bool | None:
    """What a cell says; None where it is neither. ``graded``: whether it may say it as people judge answers."""
    if not isinstance(value, str | bool | int | float):
        return None
    known = str(value).strip().lower()
    if known in _YES or graded and known in _FINE:
        return True
    return False if known in _NO or graded and known in _BAD else None


def as_text(value: Any) -> str:
    """Text as it is; what is none (an answer that is an object, a number) as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    return json.dumps(value, ensure_ascii=False)


def _says_nothing(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {} or isinstance(value, str) and not value.strip()
