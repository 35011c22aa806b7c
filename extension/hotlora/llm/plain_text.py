"""Rows out of plain text: what is said in it, rows of JSON or of a table that only its ending hides, or else all of it. Pure."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

from .columns import normalise
from .located import Located

_SPEAKERS = {
    "q": ("a", "answer"),
    "question": ("answer", "a"),
    "user": ("assistant", "bot", "ai"),
    "human": ("assistant", "bot", "ai", "gpt"),
}
_SPOKEN = re.compile(r"\s*(?:\*\*|__)?([^\W\d_]{1,20}) ?\d{0,4}[.)]?(?:\*\*|__)?\s*[:：](?:\*\*|__)?\s*(.*)", re.DOTALL)


def read_plain(text: str) -> Iterator[Located]:
    """The whole text; or what is said in it, where it is nothing but lines of `Q: …` and `A: …`, or of `User: …` and `Assistant: …`, in
    whatever language, numbered (`Q1: …`) and in bold letters too.

    Each Q has its A. Users go on talking, until more empty lines come than there are before answers.
    """
    turns = _read_turns(text)
    if not turns:
        yield Located("", text)
        return
    in_pairs = turns[0].speaker in ("q", "question")
    gap = max(turn.blanks for turn in turns[1::2])
    begins = [place for place in range(0, len(turns), 2) if place == 0 or in_pairs or turns[place].blanks > gap]
    for begin, end in zip(begins, [*begins[1:], len(turns)], strict=True):
        said = turns[begin:end]
        roles = [{"role": role, "content": turn.text} for turn, role in zip(said, cycle(("user", "assistant")))]
        yield Located(f"line {said[0].number}", [turn.text for turn in said] if in_pairs else roles)


@dataclass
class _Turn:
    speaker: str
    lines: list[str]
    number: int  # of its first line
    blanks: int  # empty lines before it

    @property
    def text(self) -> str:
        return "".join(self.lines)


def _read_turns(text: str) -> list[_Turn]:
    """Question, answer, question, …; nothing where it is no strict alternation from the first line to the last."""
    turns: list[_Turn] = []
    blanks = 0
    for number, line in enumerate(io.StringIO(text), 1):
        spoken = _SPOKEN.fullmatch(line)
        speaker = normalise(spoken.group(1)) if spoken else ""
        if spoken and speaker in _list_expected(turns):
            turns.append(_Turn(speaker, [spoken.group(2)], number, blanks))
        elif speaker and any(speaker == turn.speaker for turn in turns[:2]) or not turns and line.strip():
            return []
        elif turns:
            turns[-1].lines.append(line)
        blanks = 0 if line.strip() else blanks + 1
    return turns if len(turns) % 2 == 0 else []


def _list_expected(turns: list[_Turn]) -> tuple[str, ...]:
    """Who may speak next."""
    if not turns:
        return tuple(_SPEAKERS)
    return (turns[len(turns) % 2].speaker,) if len(turns) > 1 else _SPEAKERS[turns[0].speaker]
