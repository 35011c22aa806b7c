"""What people are shown of their texts before they train on them: as rendered, what is learned marked, and what is wrong or odd.

Asks the same functions as training does, so that what is shown is what will be trained on.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..engine import examples as shown
from ..engine.errors import UserError
from .config import TextConfig
from .conversation import Conversation, Document, TokenizedExample
from .dataset import Judged, assemble, describe_lengths, judge_text
from .formats import Texts
from .parts import read_parts
from .rendering import Renderer

_LOOK_SECONDS = 10.0  # tokenising hundreds of thousands of texts takes minutes
_SHOWN_TOKENS, _SHOWN_CHARACTERS = 2000, 8000  # of one example
_SHOWN_NOTES = 20


@dataclass(frozen=True)
class _Card:
    """An example in full length as it is shown, or what stands in for one that could not be rendered."""

    example: TokenizedExample
    name: str
    wrong: str  # training refuses it
    odd: str  # training takes it, or leaves it out and goes on


def look_at_texts(config: TextConfig, tokenizer: Any, host_template: str | None = None, limit: int = 30) -> shown.DataView:
    """The first examples, those with problems before the others, and what is to be said about all of them.

    Args:
        tokenizer: as for :class:`~.rendering.Renderer`; None where no model is loaded, and texts are shown as they are.

    Raises:
        UserError: for data that is missing or holds no example at all, and for a template that cannot be used.
    """
    lenient = replace(config, on_bad_data="skip")  # what is bad is shown, not raised
    parts = read_parts(lenient)
    if tokenizer is None:
        return _show_untokenized(parts, limit)
    renderer = Renderer(tokenizer, lenient, host_template)
    judged, unread = _judge_for_a_while(parts, lenient, renderer)
    cards = list(_make_cards([text for texts in judged.values() for text in texts], lenient, renderer))
    first = sorted(cards, key=lambda card: 0 if card.wrong else 1 if card.odd else 2)[:limit]
    notes, facts = list(renderer.warnings), []
    try:
        dataset = assemble(parts, judged, lenient, renderer.template_name)
        notes, facts = [*notes, *dataset.problems], dataset.facts
    except UserError as error:
        notes.append(str(error))
    wrong = sum(bool(text.problem) for texts in judged.values() for text in texts) + sum(len(texts.problems) for texts in parts.values())
    if wrong and config.on_bad_data == "stop":
        notes.insert(0, f"{wrong} cannot be trained on. Mend that, or set on_bad_data to skip to leave them out.")
    if unread:
        notes.append(f"{unread} further texts are not looked at yet: training will.")
    examples = [show_example(card.example, renderer, card.name, card.wrong, card.odd) for card in first]
    return shown.DataView(len(cards) + unread, examples, tuple(facts), tuple(notes))


def show_example(example: TokenizedExample, renderer: Renderer, name: str = "", problem: str = "", warning: str = "") -> shown.Example:
    """The example as the model reads it, with what is learned."""
    start = replace(example, tokens=example.tokens[:_SHOWN_TOKENS], trained=example.trained[:_SHOWN_TOKENS])
    spans = (*mark_spans(start, renderer), *([(" …", False)] if len(example.tokens) > _SHOWN_TOKENS else []))
    return shown.Example(name or example.source, "".join(text for text, _ in spans), problem=problem, warning=warning, spans=spans)


def mark_spans(example: TokenizedExample, renderer: Renderer) -> tuple[tuple[str, bool], ...]:
    """The text in pieces, each with whether it is learned. A character that a border goes through belongs to what is before it."""
    whole, shown_length, spans = renderer.decode(example.tokens), 0, []
    for border, is_trained in _find_borders(example.trained):
        # Decoded from the start: some tokenizers drop a text's first space, and half of a character is none.
        text = renderer.decode(example.tokens[:border])
        while not whole.startswith(text) and border < len(example.tokens):
            border += 1
            text = renderer.decode(example.tokens[:border])
        if len(text) > shown_length:
            spans.append((whole[shown_length : len(text)], is_trained))
            shown_length = len(text)
    return tuple(spans)


def _find_borders(trained: Sequence[bool]) -> Iterator[tuple[int, bool]]:
    """(end, whether learned) of each stretch."""
    for place, is_trained in enumerate(trained):
        if place + 1 == len(trained) or trained[place + 1] != is_trained:
            yield place + 1, is_trained


def _judge_for_a_while(parts: Mapping[str, Texts], config: TextConfig, renderer: Renderer) -> tuple[dict[str, list[Judged]], int]:
    """What can be judged while somebody waits, and how many texts are left."""
    judged: dict[str, list[Judged]] = {name: [] for name in parts}
    until = time.monotonic() + _LOOK_SECONDS
    for name, texts in parts.items():
        for text in texts.examples:
            if judged[name] and time.monotonic() > until:
                break
            judged[name].append(judge_text(text, config, renderer))
    return judged, sum(len(texts.examples) - len(judged[name]) for name, texts in parts.items())


def _make_cards(judged: Sequence[Judged], config: TextConfig, renderer: Renderer) -> Iterator[_Card]:
    first: dict[tuple[int, ...], str] = {}
    for text in judged:
        for number, example in enumerate(text.rendered, 1):
            name = f"{example.source} ({number} of {len(text.rendered)})" if len(text.rendered) > 1 else example.source
            odd = _find_oddity(example, config)
            known = first.setdefault(example.tokens, name)
            if known != name:
                odd = f"{odd} It is the same as {known}.".strip()
            yield _Card(example, name, text.problem, odd)
        if not text.rendered:
            tokens = renderer.encode_plain(_write_plainly(text.text))
            stand_in = TokenizedExample(tuple(tokens), (False,) * len(tokens), text.text.source)
            yield _Card(stand_in, text.text.source, text.problem, "")


def _find_oddity(example: TokenizedExample, config: TextConfig) -> str:
    length, longest = len(example.tokens), config.max_tokens
    if length <= longest:
        return ""
    if config.too_long == "drop":
        return f"too long: {length} tokens, {longest} are allowed. It will be left out."
    return f"too long: of its {length} tokens the first {longest} are used." + (
        "" if any(example.trained[:longest]) else " None of them would be learned: it will be left out."
    )


def _show_untokenized(parts: Mapping[str, Texts], limit: int) -> shown.DataView:
    texts = [text for part in parts.values() for text in part.examples]
    notes = [problem for part in parts.values() for problem in part.problems][:_SHOWN_NOTES]
    notes += [note for part in parts.values() for note in part.notes()]
    notes.append("Load the model to see what is learned of each example, and how long they are: that takes its tokenizer.")
    kinds = ", ".join(f"{name} ({count:,})" for name, count in parts["train"].formats.items())
    lengths = [len(_write_plainly(text)) for text in parts["train"].examples]
    facts = (("examples", f"{len(lengths):,}"), ("characters", describe_lengths(lengths)), ("format", kinds))
    examples = [shown.Example(text.source, _write_plainly(text)[:_SHOWN_CHARACTERS]) for text in texts[:limit]]
    return shown.DataView(len(texts), examples, facts, tuple(notes))


def _write_plainly(text: Conversation | Document) -> str:
    if isinstance(text, Document):
        return text.text
    return "\n\n".join(f"{message.role}: {message.content}" for message in text.messages)
