"""What a row of a data file says: which of the usual shapes it has is told by its keys. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .conversation import Conversation, Document, Message

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
_PAIRS = (  # (question, answer, what that shape is called)
    ("instruction", "output", "alpaca"),
    ("instruction", "response", "alpaca"),
    ("prompt", "completion", "prompt/completion"),
    ("prompt", "response", "prompt/completion"),
    ("prompt", "output", "prompt/completion"),
    ("question", "answer", "question/answer"),
    ("q", "a", "question/answer"),
    ("query", "response", "question/answer"),
    ("query", "answer", "question/answer"),
    ("user", "assistant", "question/answer"),
    ("input", "output", "question/answer"),
    ("input", "target", "question/answer"),
    ("source", "target", "question/answer"),
)
_SYSTEM = ("system", "system_prompt", "system prompt")
_CONTEXT = ("input", "context")  # further text of an alpaca or question/answer row
_TURNS = ("messages", "conversations", "conversation", "dialog", "turns")
_PLAIN = ("text", "content")


class RowError(ValueError):
    """Why a row cannot be used, as the end of a sentence."""


def read_row(row: Any, source: str) -> tuple[Conversation | Document, str]:
    """An example, and what its shape is called.

    Raises:
        RowError: where there is no question or no answer in it, or its shape is none of those known.
    """
    if isinstance(row, str):
        return _document(row, source), "text"
    if isinstance(row, list):
        if len(row) == 2 and all(isinstance(part, str) for part in row):
            return _pair("", row[0], row[1], source), "question/answer"
        return _conversation(row, source), "messages"
    if not isinstance(row, Mapping):
        raise RowError("it is neither an object nor a list")
    keys = {str(key).strip().lower(): key for key in row}
    for name in _TURNS:
        if isinstance(row.get(keys.get(name)), list):
            system = _text(row, keys, _SYSTEM)
            shape = "ShareGPT" if any("from" in turn for turn in row[keys[name]] if isinstance(turn, Mapping)) else "messages"
            return _conversation(row[keys[name]], source, system), shape
    for question, answer, shape in _PAIRS:
        if question in keys and answer in keys:
            asked = _as_text(row[keys[question]])
            context = _text(row, keys, [key for key in _CONTEXT if key != question])
            asked = f"{asked}\n\n{context}".strip() if context else asked
            return _pair(_text(row, keys, _SYSTEM), asked, _as_text(row[keys[answer]]), source), shape
    for name in _PLAIN:
        if name in keys and isinstance(row[keys[name]], str):
            return _document(row[keys[name]], source), "text"
    raise RowError(f"its keys ({', '.join(map(str, list(row)[:8]))}) are none of a known format")


def _text(row: Mapping, keys: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((_as_text(row[keys[name]]) for name in names if name in keys), "")


def _as_text(value: Any) -> str:
    """Text as it is; what is none (an answer that is an object, a number) as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    return json.dumps(value, ensure_ascii=False)


def _pair(system: str, question: str, answer: str, source: str) -> Conversation:
    if not question.strip():
        raise RowError("its question is empty")
    if not answer.strip():
        raise RowError("its answer is empty")
    turns = [Message("user", question.strip()), Message("assistant", answer.strip())]
    return Conversation(tuple([Message("system", system), *turns] if system else turns), source)


def _document(text: str, source: str) -> Document:
    if not text.strip():
        raise RowError("it is empty")
    return Document(text, source)


def _conversation(turns: Sequence[Any], source: str, system: str = "") -> Conversation:
    messages = [Message("system", system)] if system else []
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise RowError("one of its turns is no object with role and content")
        role = str(turn.get("role") or turn.get("from") or "").strip().lower()
        if role not in _ROLES:
            raise RowError(f"it has a turn of '{role}', and known are {', '.join(sorted(_ROLES))}")
        content = _content(turn.get("content") if turn.get("content") is not None else turn.get("value"))
        if content or _ROLES[role] != "system":
            messages.append(Message(_ROLES[role], content))
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise RowError("nobody answers in it")
    if any(not answer.content for answer in answers):
        raise RowError("one of its answers is empty")
    return Conversation(tuple(messages), source)


def _content(value: Any) -> str:
    """Text, or a list of parts of which the texts count."""
    if isinstance(value, list):
        parts = [part.get("text", "") if isinstance(part, Mapping) else str(part) for part in value]
        return "\n".join(part for part in parts if part).strip()
    return _as_text(value)
