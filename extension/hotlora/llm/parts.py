"""Which of the texts are for what: trained on, kept back to judge by, kept out; and that one question has one answer."""

from collections.abc import Sequence
from pathlib import Path

from ..engine.errors import UserError
from ..engine.plurals import counted
from .config import TextConfig
from .conversation import Conversation, Document, bare
from .formats import Texts, read_texts

_LISTED = 20


def read_parts(config: TextConfig) -> dict[str, Texts]:
    """The run's texts by their use: train, validation.

    Raises:
        UserError: for a place that cannot be used; and, with `on_bad_data: stop`, one that lists every question with several answers.
    """
    train = read_texts(find_data(config), config)
    parts = {"train": train}
    if config.validation_dir:
        judge = read_texts(Path(config.validation_dir).expanduser(), config)
        judge.examples += [example for examples in judge.aside.values() for example in examples]  # whatever they are called there
        parts["validation"] = judge
    _place_aside(train, parts, config)
    if not config.several_answers:
        _settle_contradictions(train, config)
    if "validation" in parts:
        _compare(train, parts["validation"], several_answers=config.several_answers)
    return parts


def find_data(config: TextConfig) -> Path:
    """Where the texts are. Raises UserError where that is not said."""
    if not config.train_data_dir:
        raise UserError("cannot train without data. Set train_data_dir to a file or folder of questions and answers, or of texts.")
    return Path(config.train_data_dir).expanduser()


def _place_aside(train: Texts, parts: dict[str, Texts], config: TextConfig) -> None:
    """What is called validation or test is judged by, where nothing else is asked for; else it is kept out, which is said."""
    chosen = next((use for use in ("validation", "test") if train.aside.get(use)), None)
    if config.validation_dir or config.validation_split:
        chosen = None
    for use, examples in train.aside.items():
        sources = [example.source for example in examples]
        if use == chosen:
            parts["validation"] = Texts(examples)
            train.noted[f"kept back to judge by, as its name says ({use})"] = sources
        else:
            given = next(
                (option for option in ("validation_dir", "validation_split") if getattr(config, option)), "the validation examples"
            )
            train.noted[f"not used, as its name says ({use}), and judged by {given}"] = sources


def _compare(train: Texts, judge: Texts, *, several_answers: bool) -> None:
    """Say what is judged and trained on in other letters, which no comparison of tokens finds, and what is answered otherwise."""
    talks = [example for example in train.examples if isinstance(example, Conversation)]
    exact, known = {talk.messages for talk in talks}, {_whole(talk) for talk in talks}
    judged = [example for example in judge.examples if isinstance(example, Conversation)]
    same = [talk.source for talk in judged if talk.messages not in exact and _whole(talk) in known]
    if same:
        train.noted["that is one of training but for how it is written: validation will look better than it is"] = same
    trained = {id(talk) for talk in talks}
    groups = [] if several_answers else find_contradictions([*talks, *judged])
    apart = [group for group in groups if len({id(talk) in trained for talk in group}) > 1]
    if apart:
        train.noted["kept back to judge by that training answers otherwise"] = [t.source for g in apart for t in g if id(t) not in trained]


def _whole(talk: Conversation) -> tuple[tuple[str, str], ...]:
    return tuple((message.role, bare(message.content)) for message in talk.messages)


def _settle_contradictions(train: Texts, config: TextConfig) -> None:
    """Leave out, or refuse, questions that are answered in several ways: a model can learn neither of two answers."""
    groups = find_contradictions(train.examples)
    if not groups:
        return
    said = [f"'{_name(group[0])}' is answered differently in {'; '.join(example.source for example in group[:4])}." for group in groups]
    shown = said[:_LISTED] + ([f"and {len(said) - _LISTED} more"] if len(said) > _LISTED else [])
    if config.on_bad_data == "stop":
        listed = "".join(f"\n- {line}" for line in shown)
        raise UserError(
            f"cannot train on {counted(len(said), 'question')} with contradictory answers:{listed}\n"
            "Mend that, set several_answers: true where all of them are right, or on_bad_data: skip to go on without them."
        )
    left_out = {id(example) for group in groups for example in group}
    train.examples = [example for example in train.examples if id(example) not in left_out]
    train.problems += [f"{line} Left out as contradictory." for line in said]
    if not train.examples:
        raise UserError(
            f"cannot train on '{config.train_data_dir}': all of its questions have contradictory answers. "
            "Set several_answers: true where all of them are right."
        )


def find_contradictions(examples: Sequence[Conversation | Document]) -> list[list[Conversation]]:
    """Conversations with the same turns up to the last answer, which is another; in the order of the first of each."""
    asked: dict[tuple, list[Conversation]] = {}
    for example in examples:
        if isinstance(example, Conversation):
            last = max(place for place, message in enumerate(example.messages) if message.role == "assistant")
            before = tuple((message.role, bare(message.content)) for message in example.messages[:last])
            if any(role == "user" for role, _ in before):
                asked.setdefault(before, []).append(example)
    return [group for group in asked.values() if len({bare(_last_answer(example)) for example in group}) > 1]


def _last_answer(example: Conversation) -> str:
    return next(message.content for message in reversed(example.messages) if message.role == "assistant")


def _name(example: Conversation) -> str:
    asked = next((message.content for message in reversed(example.messages) if message.role == "user"), "")
    return " ".join(asked.split())[:80]
