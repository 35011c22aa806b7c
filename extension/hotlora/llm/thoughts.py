"""What a model thinks before it answers, as templates and data sets write it: `<think>…</think>` and its like. Pure."""

import re
from dataclasses import dataclass

_TAG = r"[\w:|]*(?:think|thought|reason)\w*"
_OPENING = re.compile(rf"(?:<(?P<tag>{_TAG})>|\[(?P<square>THINK)\])(?P<inside>\s*)(?P<end></(?P=tag)>|\[/THINK\])?\s*$", re.IGNORECASE)
_ENDED = re.compile(rf"(?P<end></{_TAG}>|\[/THINK\])\s*$", re.IGNORECASE)
_WHOLE = re.compile(rf"\s*(?:<(?P<tag>{_TAG})>|\[THINK\])(?P<thought>.*?)(?:</(?P=tag)>|\[/THINK\])\s*", re.IGNORECASE | re.DOTALL)
_UNOPENED = re.compile(rf"(?P<thought>.*?)(?:</{_TAG}>|\[/THINK\])\s*", re.IGNORECASE | re.DOTALL)
_ANY = re.compile(rf"</?{_TAG}>|\[/?THINK\]", re.IGNORECASE)


@dataclass(frozen=True)
class Opening:
    """How a prompt begins a thought.

    Attributes:
        start: where in the prompt.
        end: what ends it, such as `</think>`.
        closed: whether the prompt ends it too, so that the model answers at once.
    """

    start: int
    end: str
    closed: bool


def find_opening(prompt: str) -> Opening | None:
    """The thought that the prompt begins (or only ends, as DeepSeek's do), at its very end; None where it does not."""
    found = _OPENING.search(prompt)
    if not found:
        ended = _ENDED.search(prompt)
        return Opening(ended.start(), ended["end"], True) if ended else None
    end = f"</{found['tag']}>" if found["tag"] else "[/THINK]"
    return Opening(found.start(), end, bool(found["end"]))


def split_thought(said: str) -> tuple[str, str]:
    """(what was thought, the answer) of an answer that may begin with a thought, or with the rest of one."""
    found = _WHOLE.match(said) or _UNOPENED.match(said)
    return (found["thought"].strip(), said[found.end() :]) if found else ("", said)


def write_thought(thought: str, answer: str, *, opening: Opening | None = None, prompt: str = "") -> str:
    """What a model says that thinks and then answers; the rest of it after a prompt that has begun the thought."""
    if opening is None:
        return f"<think>\n{thought}\n</think>\n\n{answer}"
    line = "" if prompt.endswith("\n") else "\n"
    return f"{line}{thought}\n{opening.end}\n\n{answer}"


def mend_thought(before: str, after: str, thought: str) -> str:
    """``after``, a prompt with its answer as a template writes it, as a model has to go on from ``before``, the prompt alone.

    Templates of thinking models are made for chats, in which old thoughts are of no use: they begin a thought in the prompt that they
    leave out of answers that are given. A thought that the prompt itself ends is not the model's to say: it stays out.
    """
    opening = find_opening(before)
    said = after[len(before) :] if after.startswith(before) else None
    if opening and opening.closed:
        kept = said is not None
    else:
        kept = said is not None and thought in said and (opening is None or opening.end in said and not _WHOLE.match(said))
    if kept or said is None and opening is None:
        return after
    stem = before if opening is None else before[: opening.start]
    if not after.startswith(stem):
        stem = stem.rstrip()
    if not after.startswith(stem):
        return after
    answer = after[len(stem) :] if said is None else said
    if opening is None:
        return before + write_thought(thought, answer)
    answer = split_thought(answer)[1].lstrip("\n")
    return before + (answer if opening.closed else write_thought(thought, answer, opening=opening, prompt=before))


def knows_thoughts(template: str) -> bool:
    """Whether a chat template writes or reads thoughts."""
    return bool(_ANY.search(template))
