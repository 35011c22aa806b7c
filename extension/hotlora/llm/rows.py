"""What a row of a data file says: which of the usual shapes it has is told by its keys. Pure; must not read files."""

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
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
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
_QUESTIONS = {  # key, and what a shape with it is called; the first that a row has is its question
    "instruction": "alpaca",
    "prompt": "prompt/completion",
    "question": "question/answer",
    "q": "question/answer",
    "query": "question/answer",
    "user": "question/answer",
    "human": "question/answer",
    "input": "question/answer",
    "source": "question/answer",
}
_ANSWERS = ("output", "completion", "response", "answer", "a", "reply", "assistant", "gpt", "bot", "target")
_CONTEXT = ("input", "context")  # further text of an alpaca or question/answer row
_SYSTEM = ("system", "system_prompt")
_TURNS = ("messages", "conversations", "conversation", "dialog", "turns")
_PLAIN = ("text", "content")
_TEXT_PARTS = ("text", "input_text", "output_text")


class RowError(ValueError):
    """Why something cannot be used, as the end of a sentence."""


def read_row(row: Any, source: str) -> tuple[Conversation | Document, str]:
    """An example, and what its shape is called.

    Raises:
        RowError: where there is no question or no answer in it, or its shape is none of those known.
    """
    if isinstance(row, str):
        return _document(row, source), "text"
    if isinstance(row, list):
        if len(row) == 2 and all(isinstance(part, str) for part in row):
            return _pair(row[0], row[1], source), "question/answer"
        return _conversation(row, source), "messages"
    if not isinstance(row, Mapping):
        raise RowError("it is neither an object nor a list")
    return _read_cells({_normalise(key): value for key, value in row.items()}, row, source)


def knows_shape(names: Iterable[str]) -> bool:
    """Whether a row with these keys has a known shape."""
    keys = {_normalise(name) for name in names}
    return any(name in keys for name in (*_TURNS, *_PLAIN)) or _find_pair(keys) is not None


def is_turn(value: Any) -> bool:
    """Whether it is a message of a conversation, rather than a row of its own."""
    return isinstance(value, Mapping) and ("role" in value or "from" in value) and ("content" in value or "value" in value)


@functools.lru_cache(maxsize=4096)
def _normalise(key: str) -> str:
    return re.sub(r"[\s_-]+", "_", key.strip().lower())


def _read_cells(cells: Mapping[str, Any], row: Mapping[str, Any], source: str) -> tuple[Conversation | Document, str]:
    """A row by its normalised keys. ``row`` has them as they are written."""
    for name in _TURNS:
        turns = _parse_turns(cells.get(name))
        if turns is not None:
            shape = "ShareGPT" if any("from" in turn for turn in turns if isinstance(turn, Mapping)) else "messages"
            return _conversation(turns, source, _first(cells, _SYSTEM)), shape
    names = _find_pair(cells)
    if names:
        return _read_pair(cells, names, source), _QUESTIONS[names[0]]
    if is_turn(cells):
        raise RowError("it is a single turn; put all turns of a conversation into one row, as messages")
    for name in _PLAIN:
        if isinstance(cells.get(name), str):
            return _document(cells[name], source), "text"
    held = ", ".join(str(key)[:40] for key in list(row)[:8])
    if any(name in cells for name in _QUESTIONS):
        raise RowError(f"it has no answer among its keys ({held}); name that one answer, output or completion")
    raise RowError(f"its keys ({held}) are of no known format; name them question and answer, or messages, or text")


def _parse_turns(value: Any) -> list[Any] | None:
    """The turns in a cell; a table holds them as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise RowError("its turns are no valid JSON") from None
    return value if isinstance(value, list) else None


def _find_pair(keys: Iterable[str]) -> tuple[str, str] | None:
    """The keys of question and answer."""
    question = next((name for name in _QUESTIONS if name in keys), None)
    answer = next((name for name in _ANSWERS if name in keys), None)
    return (question, answer) if question and answer else None


def _read_pair(cells: Mapping[str, Any], names: tuple[str, str], source: str) -> Conversation:
    asked, answered = cells[names[0]], cells[names[1]]
    system = _first(cells, _SYSTEM)
    if isinstance(asked, list) and asked and all(is_turn(turn) for turn in asked):  # turns up to the answer
        said = answered if isinstance(answered, list) and all(is_turn(turn) for turn in answered) else None
        return _conversation([*asked, *(said or [{"role": "assistant", "content": answered}])], source, system)
    if isinstance(asked, list | dict) and names[0] != "input":
        raise RowError(f"its {names[0]} is a {'list' if isinstance(asked, list) else 'JSON object'}, and should be text")
    context = _first(cells, [name for name in _CONTEXT if name != names[0]])
    parts = [part for part in (_as_text(asked), context) if part]
    return _pair("\n\n".join(parts), _as_text(answered), source, system)


def _first(cells: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((text for name in names if name in cells and (text := _as_text(cells[name]))), "")


def _as_text(value: Any) -> str:
    """Text as it is; what is none (an answer that is an object, a number) as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    return json.dumps(value, ensure_ascii=False)


def _pair(question: str, answer: str, source: str, system: str = "") -> Conversation:
    turns = [_message("user", question), _message("assistant", answer)]
    if not turns[0].content:
        raise RowError("its question is empty")
    if not turns[1].content:
        raise RowError("its answer is empty")
    return Conversation(tuple([_message("system", system), *turns] if system else turns), source)


def _document(text: str, source: str) -> Document:
    if not text.strip():
        raise RowError("it is empty")
    _check_characters(text)
    return Document(text.rstrip("\r\n"), source)


def _message(role: str, text: str) -> Message:
    _check_characters(text)
    return Message(role, text.strip())


def _check_characters(text: str) -> None:
    """JSON can spell half of a character, and no tokenizer takes that."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        broken = ascii(text[error.start])[1:-1]
        raise RowError(f"it has half of a character in it ({broken}); save the file again with a program that writes UTF-8") from None


def _conversation(turns: Sequence[Any], source: str, system: str = "") -> Conversation:
    messages = [message for turn in turns if (message := _turn(turn))]
    if system and not any(message.role == "system" for message in messages):
        messages.insert(0, _message("system", system))
    if not any(message.role == "assistant" for message in messages):
        raise RowError("no turn in it is the assistant's")
    for role, what in (("user", "questions"), ("assistant", "answers")):
        if any(message.role == role and not message.content for message in messages):
            raise RowError(f"one of its {what} is empty")
    return Conversation(tuple(messages), source)


def _turn(turn: Any) -> Message | None:
    """None for a system prompt that says nothing."""
    if not isinstance(turn, Mapping):
        raise RowError("one of its turns is no object with role and content")
    name = turn.get("role") or turn.get("from") or ""
    role = _ROLES.get(str(name).strip().lower())
    if role is None:
        raise RowError(f"it has a turn of '{str(name)[:40]}', and the roles known are {', '.join(_ROLES)}")
    content = _content(turn["content"] if turn.get("content") is not None else turn.get("value"))
    if not content and turn.get("tool_calls"):
        raise RowError("one of its answers only calls a tool, and calls are not read; write the call into its content")
    return _message(role, content) if content or role != "system" else None


def _content(value: Any) -> str:
    """Text, or the parts of one."""
    if isinstance(value, list) and value and all(isinstance(part, Mapping) and isinstance(part.get("type"), str) for part in value):
        other = next((part["type"] for part in value if part["type"] not in _TEXT_PARTS), None)
        if other:
            raise RowError(f"one of its turns has a part of type '{other[:40]}', and only text can be learned")
        return "".join(_as_part(part.get("text")) for part in value).strip()
    return _as_text(value)


def _as_part(text: Any) -> str:
    if not isinstance(text, str):
        raise RowError("one of its turns has a part of type 'text' without a text")
    return text
