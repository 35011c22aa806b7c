"""Turns of conversations, as data sets write them. Pure."""

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .cells import Cells, as_text
from .columns import THOUGHTS, find_pair, normalise
from .conversation import Conversation, Message
from .errors import RowError
from .written import strip_ends, take_apart

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
_TEXT_PARTS = ("text", "input_text", "output_text")
NOT_LEARNED = "not learned, as {reason} says"
_ENDED = "ending with {end} already, which was taken off: the chat template writes its own end"


class Notes:
    """What is said about a row's parts: ends of sentences, and keys that were not used."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.unused: list[str] = []


def is_turn(value: Any) -> bool:
    """Whether it is a message of a conversation, rather than a row of its own."""
    return isinstance(value, Mapping) and ("role" in value or "from" in value) and ("content" in value or "value" in value)


def parse_turns(value: Any) -> list[Any] | None:
    """The turns in a cell; a table holds them as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _parse_list(value)
    return value if isinstance(value, list) else None


def _parse_list(text: str) -> Any:
    """JSON, or what Python writes for a list. Raises RowError."""
    try:
        return json.loads(text)
    except ValueError:
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise RowError("its turns are no valid JSON; export them as JSON lines (.jsonl)") from None


def parse_history(value: Any) -> list[dict[str, Any]]:
    """Earlier turns: pairs of question and answer, or turns as they are.

    Raises:
        RowError: where they are neither.
    """
    turns: list[dict[str, Any]] = []
    parts = parse_turns(value)
    if parts is None and as_text(value):
        taken = take_apart(as_text(value))
        if taken is None:
            raise RowError("its history is a text in no form that is known; write it as a list of questions and answers")
        return list(taken[0])
    for part in parts or []:
        if is_turn(part):
            turns.append(part)
        elif isinstance(part, list) and len(part) == 2 and all(isinstance(said, str) for said in part):
            turns += [{"role": "user", "content": part[0]}, {"role": "assistant", "content": part[1]}]
        elif isinstance(part, Mapping) and len(part) == 2 and all(isinstance(said, str) for said in part.values()):
            cells = Cells(part)
            asked, answered = find_pair(cells) or tuple(cells)
            turns += [{"role": "user", "content": cells.get(asked)}, {"role": "assistant", "content": cells.get(answered)}]
        else:
            raise RowError("its history is no list of questions and answers")
    return turns


def make_conversation(turns: Sequence[Any], source: str, system: str, notes: Notes) -> Conversation | None:
    """The conversation; None where nothing of it is to be learned, which the notes say.

    Raises:
        RowError: where a turn is none, of an unknown role, or empty.
    """
    messages = [message for turn in turns if (message := _read_turn(turn, notes))]
    if system and not any(message.role == "system" for message in messages):
        messages.insert(0, make_message("system", system))
    elif system and system not in [message.content for message in messages]:
        notes.said.append("whose system prompt beside its turns is not used: another is among them")
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise RowError("no turn in it is the assistant's")
    for role, what in (("user", "questions"), ("assistant", "answers")):
        if any(message.role == role and not message.content for message in messages):
            raise RowError(f"one of its {what} is empty")
    if messages[-1].role == "user":
        notes.said.append("ending with a question that nobody answers, which only train_on: everything reads")
    return Conversation(tuple(messages), source) if any(message.learned for message in answers) else None


def make_message(role: str, text: str, *, thought: str = "", learned: bool = True) -> Message:
    """Raises RowError for text that is none."""
    check_characters(text + thought)
    return Message(role, text.strip(), learned=learned, thought=thought.strip())


def make_answer(text: str, notes: Notes, *, thought: str = "", learned: bool = True) -> Message:
    """An assistant's turn, without what ends it in some template."""
    text, end = strip_ends(text)
    if end:
        notes.said.append(_ENDED.format(end=end))
    return make_message("assistant", text, thought=thought, learned=learned)


def check_characters(text: str) -> None:
    """JSON can spell half of a character, and no tokenizer takes that."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        broken = ascii(text[error.start])[1:-1]
        raise RowError(f"it has half of a character in it ({broken}); save the file again with a program that writes UTF-8") from None


def _read_turn(turn: Any, notes: Notes) -> Message | None:
    """None for a system prompt that says nothing."""
    if not isinstance(turn, Mapping):
        raise RowError("one of its turns is no object with role and content")
    cells = Cells(turn)
    name = cells.get("role") or cells.get("from") or ""
    role = _ROLES.get(str(name).strip().lower()) or _ROLES.get(normalise(str(name)))
    if role is None:
        raise RowError(f"it has a turn of '{str(name)[:40]}', and the roles known are {', '.join(_ROLES)}")
    content = cells.get("content")
    content = _read_content(content if content is not None else cells.get("value"))
    if not content and cells.get("tool_calls"):
        raise RowError("one of its answers only calls a tool, and calls are not read; write the call into its content")
    if role != "assistant":
        cells.why_not_learned()  # of no use: nothing but answers is learned
        notes.unused += [f"{key} (of turns)" for key in cells.unused()]
        return make_message(role, content) if content or role != "system" else None
    reason, thought = cells.why_not_learned(), cells.first_text(THOUGHTS)
    if reason:
        notes.said.append(f"with an answer that is {NOT_LEARNED.format(reason=reason)}")
    notes.said += cells.notes
    notes.unused += [f"{key} (of turns)" for key in cells.unused()]
    return make_answer(content, notes, thought=thought, learned=not reason)


def _read_content(value: Any) -> str:
    """Text, or the parts of one."""
    if isinstance(value, list) and value and all(isinstance(part, Mapping) and isinstance(part.get("type"), str) for part in value):
        other = next((part["type"] for part in value if part["type"] not in _TEXT_PARTS), None)
        if other:
            raise RowError(f"one of its turns has a part of type '{other[:40]}', and only text can be learned")
        return "".join(_as_part(part.get("text")) for part in value).strip()
    return as_text(value)


def _as_part(text: Any) -> str:
    if not isinstance(text, str):
        raise RowError("one of its turns has a part of type 'text' without a text")
    return text
