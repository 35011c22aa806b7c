"""What in texts commonly makes a bad LoRA: a report before anybody trains. Each finding says what to do. Must not import any host.

Reads the data as training does, except that nothing stops it: what training would refuse is a finding here.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from ..engine.examples import Finding
from ..engine.interfaces import Progress
from ..engine.languages import guess_language
from ..engine.plurals import by_number, counted
from .alike import group_alike
from .config import TextConfig
from .conversation import Conversation, Document, plain
from .dataset import describe_lengths, judge_text
from .formats import Texts, read_texts
from .garbled import Garbled, find_entity, find_garbled
from .mending import offer_remedies, propose_remedy
from .parts import find_contradictions, find_data
from .rendering import Renderer
from .secrets import ACCOUNT, CARD, EMAIL, IDENTITY, KEY, PHONE, find_private

_SHOWN, _SHOWN_GROUPS = 3, 8
_SECONDS = 8.0  # for counting tokens, while somebody waits
_MAIN_SHARE = 0.8  # of the examples whose language is certain: less than that is a set of several languages
_LEAST_CERTAIN = 10
_SHARED, _SHARED_WORDS = 5, 3  # questions that have one answer, and the words of an answer that is no label
_EMPTY_REASONS = (
    "its answer is empty",
    "its question is empty",
    "one of its answers is empty",
    "one of its questions is empty",
    "it is empty",
)
_HOLLOW = "todo tbd tba fixme xxx ??? ? - -- … ... n/a na null none undefined"  # any may be a label, where it is many rows' answer
_NEVER_SAID = frozenset(("nan", "<na>", "nat", "#n/a", "#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!"))
_NO_ANSWERS = frozenset(_HOLLOW.split())
_PRIVATE = {
    KEY: "with a key or token that opens something: it would be said to anybody. Take it out, and have it withdrawn.",
    EMAIL: "with somebody's e-mail address. Take it out, or write one at example.com.",
    PHONE: "with a telephone number. Take it out where it is a person's.",
    CARD: "with the number of a payment card, by its check digit. Take it out.",
    ACCOUNT: "with a bank account (IBAN), by its check digits. Take it out where it is a person's.",
    IDENTITY: "with a person's number (a Chinese identity card, by its check digit, or American social security). Take it out.",
}


@dataclass(frozen=True)
class _Said:
    """An example as it is judged. ``asked``: all that is said before its last answer."""

    example: Conversation | Document
    asked: str
    answer: str

    @property
    def source(self) -> str:
        return self.example.source

    @property
    def whole(self) -> str:
        return f"{self.asked}\n{self.answer}"


def find_health(config: TextConfig, tokenizer: Any = None, host_template: str | None = None) -> Iterator[tuple[Progress, list[Finding]]]:
    """Yields how far it is; the findings come at the end.

    Args:
        tokenizer: as for :class:`~.rendering.Renderer`; None where no model is loaded, and nothing is said about tokens.

    Raises:
        UserError: for data that is missing, or of which nothing can be read.
    """
    lenient = replace(config, on_bad_data="skip")  # what is bad is told
    texts = read_texts(find_data(config), lenient)
    said = [_take_apart(example) for example in texts.examples]
    judged = [*_judge_rows(texts), *_judge_answers(said, config), *_judge_doubles(said), *_judge_letters(said)]
    findings = [*offer_remedies(judged, config)]
    if tokenizer is None:
        characters = describe_lengths([len(one.whole.strip()) for one in said])
        findings.append(Finding("lengths", f"Characters: {characters}.", (), is_note=True))
    else:
        findings += _judge_lengths(texts.examples, lenient, Renderer(tokenizer, lenient, host_template))
    yield Progress("looking for what is wrong", len(said), len(said)), findings


def report_health(config: TextConfig, tokenizer: Any = None) -> list[Finding]:
    """:func:`find_health` without its progress, and without notes."""
    return [finding for _, found in find_health(config, tokenizer) for finding in found if not finding.is_note]


def _take_apart(example: Conversation | Document) -> _Said:
    if isinstance(example, Document):
        return _Said(example, "", example.text)
    last = max(place for place, message in enumerate(example.messages) if message.role == "assistant")
    asked = "\n".join(message.content for message in example.messages[:last] if message.role != "system")
    return _Said(example, asked, example.messages[last].content)


# -- rows ----------------------------------------------------------------------------------------------------------------


def _judge_rows(texts: Texts) -> Iterator[Finding]:
    """What training refuses, or leaves out where it may."""
    empty = [place for reason, places in texts.bad.items() if reason in _EMPTY_REASONS for place in places]
    if empty:
        yield _tell("empty", empty, "without a question or an answer, and cannot be trained on. Fill in what is missing, or take it out.")
    others = [(f"cannot be trained on: {reason}.", places) for reason, places in texts.bad.items() if reason not in _EMPTY_REASONS]
    yield from _tell_groups("unusable", others)


def _judge_answers(said: Sequence[_Said], config: TextConfig) -> Iterator[Finding]:
    talks = [one for one in said if isinstance(one.example, Conversation)]
    hollow = [one.source for one in talks if plain(one.answer) in _NO_ANSWERS]
    if len(hollow) > max(1, len(talks) // 20):  # a label
        hollow = []
    hollow += [one.source for one in talks if plain(one.answer) in _NEVER_SAID]
    if hollow:
        yield _tell("hollow", hollow, "with an answer that says nothing, such as TODO or #N/A. Write what it should say.")
    if not config.several_answers:
        groups = find_contradictions([one.example for one in talks])
        what = "the same question with different answers, of which none can be learned. Keep the right one (or set several_answers)."
        yield from _tell_groups("contradiction", [(what, [example.source for example in group]) for group in groups])
    shared: dict[str, dict[str, str]] = defaultdict(dict)
    for one in talks:
        shared[plain(one.answer)].setdefault(plain(one.asked), one.source)
    usual = median(len(questions) for questions in shared.values()) if shared else 0
    many = [(answer, questions) for answer, questions in shared.items() if len(questions) >= max(_SHARED, _SHARED * usual)]
    for answer, questions in many:
        if len(answer.split()) >= _SHARED_WORDS:
            what = f"different questions with one answer ('{_shorten(answer)}'), which is then said to others too. Answer them one by one."
            yield _tell("one answer", [*questions.values()], what)


def _judge_doubles(said: Sequence[_Said]) -> Iterator[Finding]:
    same: dict[tuple[str, str], list[_Said]] = defaultdict(list)
    for one in said:
        same[plain(one.asked), plain(one.answer)].append(one)
    what = "the same, learned that much more often. Keep one."
    yield from _tell_groups("same", [(what, [one.source for one in group]) for group in same.values() if len(group) > 1], _list_exact(said))
    firsts = [group[0] for group in same.values()]
    alike = group_alike([(one.asked, one.answer) for one in firsts])
    what = "nearly the same, question and answer, and count as often. Keep the best."
    yield from _tell_groups("alike", [(what, [firsts[place].source for place in group]) for group in alike])


def _list_exact(said: Sequence[_Said]) -> frozenset[str]:
    """Those of which the same is there before, to the letter and with all that a conversation has."""
    seen, exact = set[Any](), set[str]()
    for one in said:
        whole = one.example.messages if isinstance(one.example, Conversation) else one.example.text
        if whole in seen:
            exact.add(one.source)
        seen.add(whole)
    return frozenset(exact)


# -- letters -------------------------------------------------------------------------------------------------------------


def _judge_letters(said: Sequence[_Said]) -> Iterator[Finding]:
    yield from _judge_encodings(said)
    guessed = {one.source: language for one in said if (language := guess_language(one.whole))}
    counts = Counter(guessed.values())
    main, count = counts.most_common(1)[0] if counts else ("", 0)
    if count >= max(_LEAST_CERTAIN, _MAIN_SHARE * len(guessed)):
        for language in counts:
            if language != main:
                what = f"in {language}, where nearly all others are in {main}. Leave such rows out, unless both are meant."
                yield _tell("language", [source for source, found in guessed.items() if found == language], what)
    private: dict[str, list[str]] = defaultdict(list)
    for one in said:
        system = [m.content for m in one.example.messages if m.role == "system"] if isinstance(one.example, Conversation) else []
        for kind in find_private("\n".join([*system, one.whole])):
            private[kind].append(one.source)
    for kind, what in _PRIVATE.items():
        if kind in private:
            yield _tell(kind, private[kind], what)


def _judge_encodings(said: Sequence[_Said]) -> Iterator[Finding]:
    garbled: dict[tuple[str, str], list[tuple[str, Garbled]]] = defaultdict(list)
    for one in said:
        wrong = find_garbled(one.whole)
        if wrong:
            garbled[wrong.codec, wrong.own].append((one.source, wrong))
    for (codec, own), found in garbled.items():
        shown = found[0][1]
        what = "with lost letters (� or ?? in words). Take them from where they came from once more, as UTF-8."
        if codec:
            what = f"{own} that was read as {codec}: '{shown.seen}' is '{shown.meant}'. Read the original as {own}, and save it as UTF-8."
        yield _tell("encoding", [source for source, _ in found], what, None if codec and own == "UTF-8" else ())
    spelled = {one.source: find_entity(one.whole) for one in said}
    sources = [source for source, (seen, _) in spelled.items() if seen]
    if sources:
        seen, meant = spelled[sources[0]]
        yield _tell("entities", sources, f"with letters as web pages spell them: '{seen}' is '{meant}'. Write the letters themselves.")


# -- tokens --------------------------------------------------------------------------------------------------------------


def _judge_lengths(examples: Sequence[Conversation | Document], config: TextConfig, renderer: Renderer) -> Iterator[Finding]:
    """How long they are, and those that do not fit, as far as there is time to count."""
    until, lengths = time.monotonic() + _SECONDS, dict[str, int]()
    for example in examples:
        if isinstance(example, Conversation):  # other texts are cut into pieces that fit
            rendered = judge_text(example, config, renderer).rendered
            lengths[example.source] = max((len(found.tokens) for found in rendered), default=0)
        if time.monotonic() > until:
            break
    if lengths:
        yield Finding("lengths", f"Tokens: {describe_lengths([*lengths.values()])}.", (), is_note=True)
    long = {source: length for source, length in lengths.items() if length > config.max_tokens}
    if long:
        fate = "left out (too_long: drop)" if config.too_long == "drop" else "cut, the end not learned"
        worst, it = f"{by_number(len(long), '', 'up to ')}{max(long.values()):,}", by_number(len(long), "it", "them")
        what = f"longer than {config.max_tokens} tokens ({worst}), and {fate}. Raise max_tokens, or shorten {it}."
        yield _tell("long", [*long], what)


# -- telling -------------------------------------------------------------------------------------------------------------


def _tell(kind: str, names: Sequence[str], said: str, mended: Collection[str] | None = None) -> Finding:
    """``mended``: those of them that a remedy would change, where those are not all."""
    remedy = propose_remedy(kind, [name for name in names if mended is None or name in mended])
    listed = "; ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
    return Finding(kind, f"{counted(len(names), 'example')} ({listed}): {said}", tuple(names), remedy)


def _tell_groups(kind: str, groups: Sequence[tuple[str, Sequence[str]]], mended: Collection[str] | None = None) -> Iterator[Finding]:
    """Each group (what is said of it, its members) by itself; those beyond the first few together."""
    yield from (_tell(kind, names, said, mended) for said, names in groups[:_SHOWN_GROUPS])
    rest = [name for _, names in groups[_SHOWN_GROUPS:] for name in names]
    if rest:
        yield _tell(kind, rest, f"of {counted(len(groups) - _SHOWN_GROUPS, 'more group')} of that kind.", mended)


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
