"""What a row of a data file says: which of the usual shapes it has is told by its keys. Pure; must not read files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .cells import Cells, as_text
from .columns import CHOSEN, CONTEXT, HISTORY, PLAIN, QUESTIONS, REJECTED, SOURCE, SYSTEM, THOUGHTS, TURNS, find_pair, guess_pair
from .conversation import Conversation, Document, Message
from .errors import RowError
from .turns import NOT_LEARNED, Notes, check_characters, is_turn, make_answer, make_conversation, make_message, parse_history, parse_turns
from .written import find_marks, strip_ends, take_apart

_SPLITS = ("split", "subset", "partition", "fold", "set", "data_split", "dataset_split", "dataset", "usage", "数据集", "划分", "分割")
_IS_USE = {"is_test": "test", "is_validation": "validation", "is_val": "validation", "is_eval": "validation"}
USES = {
    **dict.fromkeys(("train", "training", "trainset", "train_set", "训练", "训练集", "訓練", "学習", "обучение", "entrenamiento"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval", "evaluation", "valset", "devset", "evalset", "val_set"), "validation"),
    **dict.fromkeys(("验证", "验证集", "評価", "検証", "валидация", "validierung", "validación", "validação"), "validation"),
    **dict.fromkeys(("test", "testing", "holdout", "heldout", "testset", "test_set", "测试", "测试集", "測試", "テスト", "тест"), "test"),
}
_PREFERENCES = (
    "it is a preference pair ({keys}), and preferences are not learned here; keep the good answer alone, as answer, to learn that"
)


@dataclass(frozen=True)
class Row:
    """What a row says.

    Attributes:
        example: None where it is not to be learned, which the notes say.
        shape: what its shape is called.
        notes: what people should hear about it, as ends of sentences.
        unused: keys whose values are not used.
        use: "validation" or "test" where the row itself says that it is for those.
        origin: what it comes from, by the column that the option `columns` calls source.
    """

    example: Conversation | Document | None
    shape: str
    notes: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    use: str = ""
    origin: str = ""


def read_row(row: Any, source: str) -> Row:
    """What is in a row.

    Raises:
        RowError: where there is no question or no answer in it, or its shape is none of those known.
    """
    notes = Notes()
    if isinstance(row, str):
        example, shape = _read_plain(row, source, notes)
        return Row(example, shape, tuple(notes.said))
    if isinstance(row, list):
        if len(row) == 2 and all(isinstance(part, str) for part in row):
            return Row(_pair(row[0], row[1], source, notes), "question/answer", tuple(notes.said))
        return Row(make_conversation(row, source, "", notes), "messages", tuple(notes.said), tuple(notes.unused))
    if not isinstance(row, Mapping):
        raise RowError("it is neither an object nor a list")
    return _read_cells(Cells(row), source, notes)


def _read_cells(cells: Cells, source: str, notes: Notes) -> Row:
    _refuse_preferences(cells)
    example, shape = _read_shape(cells, source, notes)
    answer = example.messages[-1].content if isinstance(example, Conversation) else ""
    reason = cells.why_not_learned(judged=not isinstance(example, Document), answer=answer)
    if reason:
        example = None
        notes.said.append(NOT_LEARNED.format(reason=reason))
    origin, use = cells.first_text((SOURCE,)), _find_use(cells)
    return Row(example, shape, (*notes.said, *cells.notes), (*cells.unused(), *notes.unused), use, origin)


def _find_use(cells: Cells) -> str:
    """What a column such as `split` says that the row is for; nothing where there is none."""
    for name in _SPLITS:
        said = cells.peek(name)
        if isinstance(said, str) and said.strip().lower() in USES:
            return USES[str(cells.get(name)).strip().lower()]
    return next((use for name, use in _IS_USE.items() if cells.says_yes(name)), "")


def _read_shape(cells: Cells, source: str, notes: Notes) -> tuple[Conversation | Document | None, str]:
    """(example, what its shape is called)."""
    for name in TURNS:
        turns = parse_turns(cells.get(name)) if name in cells else None
        if turns is not None:
            shape = "ShareGPT" if any("from" in turn for turn in turns if isinstance(turn, Mapping)) else "messages"
            return make_conversation(turns, source, cells.first_text(SYSTEM), notes), shape
    names = find_pair(cells)
    if names:
        return _read_pair(cells, names, source, notes), QUESTIONS[names[0]]
    if is_turn(dict.fromkeys(cells)):
        raise RowError("it is a single turn; put all turns of a conversation into one row, as messages")
    for name in PLAIN:
        if isinstance(cells.peek(name), str):
            return _read_plain(cells.get(name), source, notes)
    guessed = guess_pair(cells.written.values())
    if guessed and not any(isinstance(cells.peek(cells.name_of(name)), list | dict) for name in guessed):
        notes.said.append(f"whose '{guessed[0][:40]}' and '{guessed[1][:40]}' were taken for question and answer")
        return _read_pair(cells, (cells.name_of(guessed[0]), cells.name_of(guessed[1])), source, notes), "question/answer"
    held = ", ".join(key[:40] for key in list(cells.written.values())[:8])
    if any(name in cells for name in QUESTIONS):
        raise RowError(f"it has no answer among its keys ({held}); name that one answer, output or completion")
    raise RowError(f"its keys ({held}) are of no known format; name them question and answer, or messages, or text")


def _refuse_preferences(cells: Cells) -> None:
    """Of two answers one is wanted and one is not: whoever learned both would learn the bad one, and the good one says too little."""
    bad = next((name for name in REJECTED if name in cells and isinstance(cells.peek(name), str | list | dict) and cells.peek(name)), "")
    if bad and not (isinstance(cells.peek(bad), str) and cells.peek(bad).strip().lower() in ("true", "false")):
        good = next((cells.written[name] for name in CHOSEN if name in cells), "")
        raise RowError(_PREFERENCES.format(keys=", ".join(key for key in (good, cells.written[bad]) if key)))
    output = cells.peek("output") if "instruction" in cells else None
    if isinstance(output, list) and len(output) == 2 and all(isinstance(part, str) and " " in part.strip() for part in output):
        raise RowError(_PREFERENCES.format(keys="two answers as output"))


def _read_pair(cells: Cells, names: tuple[str, str], source: str, notes: Notes) -> Conversation | None:
    asked, answered = cells.get(names[0]), cells.get(names[1])
    system, thought = cells.first_text(SYSTEM), cells.first_text(THOUGHTS)
    earlier = [turn for name in HISTORY if name in cells for turn in parse_history(cells.get(name))]
    if isinstance(asked, list) and asked and all(is_turn(turn) for turn in asked):  # turns up to the answer
        said = answered if isinstance(answered, list) and all(is_turn(turn) for turn in answered) else None
        answer = {"role": "assistant", "content": answered, "reasoning_content": thought}
        return make_conversation([*earlier, *asked, *(said or [answer])], source, system, notes)
    if isinstance(asked, list | dict) and names[0] != "input":
        raise RowError(f"its {names[0]} is a {'list' if isinstance(asked, list) else 'JSON object'}, and should be text")
    context = cells.first_text([name for name in CONTEXT if name != names[0]])
    question = "\n\n".join(part for part in (as_text(asked), context) if part)
    if earlier and question and as_text(answered):
        turns = [*earlier, {"role": "user", "content": question}, {"role": "assistant", "content": answered, "reasoning_content": thought}]
        return make_conversation(turns, source, system, notes)
    return _pair(question, as_text(answered), source, notes, system, thought)


def _pair(question: str, answer: str, source: str, notes: Notes, system: str = "", thought: str = "") -> Conversation | None:
    reply = make_answer(answer, notes, thought=thought)
    turns = _take_prompt_apart(question, notes) or [make_message("user", question)]
    if not turns[-1].content:
        raise RowError("its question is empty")
    if not reply.content:
        raise RowError("its answer is empty")
    if system and not any(turn.role == "system" for turn in turns):
        turns.insert(0, make_message("system", system))
    return Conversation((*turns, reply), source)


def _take_prompt_apart(question: str, notes: Notes) -> list[Message] | None:
    """The turns of a prompt that is written in a template already, up to where the assistant has to speak."""
    turns, form = take_apart(question) or take_apart(f"{question}\n") or (None, "")
    if turns and turns[-1] == {"role": "assistant", "content": ""} and turns[-2]["role"] == "user":
        notes.said.append(f"written in {form} form already, which was taken apart: the chat template writes its own")
        return [make_message(turn["role"], turn["content"]) for turn in turns[:-1]]
    mark = find_marks(question)
    if mark:
        notes.said.append(f"with {mark} in its question, which a chat template would write; it is learned as it is")
    return None


def _read_plain(text: str, source: str, notes: Notes) -> tuple[Conversation | Document | None, str]:
    """A text; or the conversation that it is, where it is written in some template from beginning to end."""
    if not text.strip():
        raise RowError("it is empty")
    check_characters(text)
    turns, form = take_apart(text) or (None, "")
    if turns and not turns[-1]["content"]:
        turns = turns[:-1]
    if turns and all(turn["content"] for turn in turns) and any(turn["role"] == "assistant" for turn in turns):
        notes.said.append(f"written in {form} form already, which was taken apart: the chat template writes its own")
        return make_conversation(turns, source, "", notes), f"{form} in a text"
    mark = find_marks(text)
    if mark:
        notes.said.append(f"with {mark} in its text, which a chat template would write; it is learned as it is")
    bare, end = strip_ends(text)
    if end:
        notes.said.append(f"ending with {end} already, which was taken off: the end of a text is put after each")
    return Document(bare.rstrip("\r\n"), source), "text"


def explain_unused(unused: Mapping[str, Sequence[str]]) -> str:
    """One line for all keys that no row's reading used; nothing where there are none."""
    told = ", ".join(f"{key} ({len(sources):,})" for key, sources in list(unused.items())[:20])
    more = f" and {len(unused) - 20} more keys" if len(unused) > 20 else ""
    first = next(iter(unused.values()))[0] if unused else ""
    return f"What these keys hold is not used: {told}{more}, first in {first}." if unused else ""
