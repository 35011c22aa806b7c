"""The conversations that text-generation-webui keeps of its user's, as data to train on.

It keeps each in a file of its own: ``user_data/logs/instruct/<id>.json``, and ``user_data/logs/chat/<character>/<id>.json`` of chats with
a character, where the id is the time it began or what the user has renamed it to. ``internal`` has a row per turn: what the user said and
what the model answered, as the model read and wrote it (``visible`` is the same for the page). A character's greeting answers a mark
and no question. ``metadata`` says of ``user_3`` what was attached to the fourth question, and of ``assistant_3`` which tools were called
for its answer.
"""

import datetime
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...engine.errors import UserError
from ...engine.files import write_text
from ...engine.names import check_name
from ...engine.plurals import by_number, counted

FILE = "chats.jsonl"
_GREETING = "<|BEGIN-VISIBLE-CHAT|>"
_CHANNEL = re.compile(r"<\|channel\|>(\w+)<\|message\|>(.*?)(?=<\|(?:end|return|start|channel)\|>|$)", re.DOTALL)  # as GPT-OSS answers
_BY_TIME = re.compile(r"\d{8}-\d{2}-\d{2}-\d{2}")
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Chat:
    """A conversation, as people choose it. ``partner``: the character; empty where it is with the model itself. ``turns``: answers."""

    key: str
    name: str
    partner: str
    day: str
    turns: int


@dataclass(frozen=True)
class _Messages:
    """What a history says; how many answers of it are read and not learned, because what they answer is not all there."""

    messages: list[dict[str, Any]]
    unlearned: int = 0

    @property
    def answers(self) -> int:
        """Those that are learned."""
        asked = [place for place, message in enumerate(self.messages) if message["role"] == "assistant" and place > 0]
        return len(asked) - self.unlearned


class ChatHistories:
    """Implements :class:`hotlora.ui.studio.Chats`.

    Args:
        logs: where the program keeps them.
        data: where data sets lie, a folder each.
    """

    def __init__(self, logs: Path, data: Path):
        self._logs, self._data = logs, data

    def list_chats(self) -> list[Chat]:
        """Those with an answer that can be learned, the one that was talked in last first."""
        found = []
        for path in self._find_files():
            read = _read(path)
            if read and read.answers:
                changed = path.stat().st_mtime
                day = datetime.datetime.fromtimestamp(changed).strftime("%Y-%m-%d %H:%M")
                chat = Chat(path.relative_to(self._logs).as_posix(), _name(path, read), self._name_partner(path), day, read.answers)
                found.append((changed, chat))
        return [chat for _, chat in sorted(found, key=lambda pair: pair[0], reverse=True)]

    def use(self, keys: Sequence[str], name: str) -> tuple[Path, str]:
        """Write these into a data set of that name, a line each; returns its folder, and what was done.

        Raises:
            UserError: where none is chosen, one is gone or damaged, or the data set has other chats already.
        """
        if not keys:
            raise UserError("cannot use chats: none is chosen. Tick some of them.")
        folder = self._data / check_name((name or "").strip() or "my chats", "the data set")
        there = {path.relative_to(self._logs).as_posix(): path for path in self._find_files()}
        lines, answers, unlearned = [], 0, 0
        for key in dict.fromkeys(keys):
            read = _read(there[key]) if key in there else None
            if read is None or not read.answers:
                raise UserError(f"cannot use the chat '{key}': it is not there any more, or nothing in it was answered. List them again.")
            lines.append(json.dumps({"messages": read.messages}, ensure_ascii=False))
            answers, unlearned = answers + read.answers, unlearned + read.unlearned
        text = "".join(f"{line}\n" for line in lines)
        path = folder / FILE
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise UserError(f"cannot write chats into the data set '{folder.name}': it has others already. Choose another name.")
        write_text(path, text)
        told = f"{counted(len(lines), 'chat')} with {counted(answers, 'answer')} {by_number(len(lines), 'is', 'are')} in {path}."
        if unlearned:
            further = by_number(unlearned, "answer is read and not learned: it is", "answers are read and not learned: they are")
            told += f" {unlearned} further {further} about attachments or from tools, which are not in it."
        return folder, told

    def _find_files(self) -> Iterator[Path]:
        yield from (self._logs / "instruct").glob("*.json")
        yield from (self._logs / "chat").glob("*/*.json")

    def _name_partner(self, path: Path) -> str:
        return "" if path.parent == self._logs / "instruct" else path.parent.name


def _name(path: Path, read: _Messages) -> str:
    """What its user has named it, else its first question."""
    if not _BY_TIME.fullmatch(path.stem):
        return path.stem
    asked = next((message["content"] for message in read.messages if message["role"] == "user"), "")
    words = " ".join(asked.split())
    return words if len(words) <= _LONGEST_NAME else f"{words[: _LONGEST_NAME - 1]}…"


def _read(path: Path) -> _Messages | None:
    """None for a file that is no conversation, or that somebody has damaged."""
    try:
        history = json.loads(path.read_bytes())
        rows = history.get("internal") or history.get("data") or []
        about = history.get("metadata") or {}
        return _collect(rows, about)
    except (OSError, ValueError, TypeError, AttributeError, LookupError):
        return None


def _collect(rows: Sequence[Sequence[str]], about: dict[str, Any]) -> _Messages:
    messages: list[dict[str, Any]] = []
    unlearned = 0
    for place, row in enumerate(rows):
        asked, answered = row[0].strip(), row[1].strip()
        if not answered:
            continue  # the answer was broken off before it began: what is said next was said without it
        if asked and asked != _GREETING:
            messages.append({"role": "user", "content": asked})
        answer = {"role": "assistant", **_split_channels(answered)}
        if _lacks(row, about.get(f"user_{place}") or {}, about.get(f"assistant_{place}") or {}) and len(messages):
            answer["train"] = False
            unlearned += 1
        messages.append(answer)
    return _Messages(messages, unlearned)


def _split_channels(said: str) -> dict[str, Any]:
    """The answer, and what was thought before it where a model writes that into a channel of its own. Thoughts between tags are told
    apart by whoever reads the row."""
    channels = dict(_CHANNEL.findall(said))
    if "final" not in channels:
        return {"content": said}
    return {"content": channels["final"].strip()} | ({"reasoning_content": channels["analysis"].strip()} if "analysis" in channels else {})


def _lacks(row: Sequence[str], asked: dict[str, Any], answered: dict[str, Any]) -> bool:
    """Whether the answer follows from more than was said."""
    return bool(asked.get("attachments") or answered.get("tool_sequence") or (len(row) > 2 and row[2]))
