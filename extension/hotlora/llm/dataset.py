"""The run's texts: read, rendered, judged, and parted into what is learned and what is kept back to judge by."""

import hashlib
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..engine.errors import UserError
from ..engine.interfaces import Progress
from .config import TextConfig
from .conversation import Conversation, Document, TokenizedExample
from .formats import Texts
from .parts import read_parts
from .rendering import Renderer

_Key = tuple[int, ...]  # the tokens that a group begins with
_REPORT_EVERY = 200
_SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class TextDataset:
    """What a run trains on and is judged by.

    Attributes:
        problems: sentences about what was left out, and what is odd.
        facts: label, value: for people, and for the adapter's card.
    """

    train: list[TokenizedExample]
    validation: list[TokenizedExample]
    problems: list[str]
    facts: list[tuple[str, str]]


@dataclass(frozen=True)
class Judged:
    """A text as tokens, and what is wrong with it.

    Attributes:
        rendered: its examples in full length.
        used: what is trained on: those that fit, or fit once they are cut.
        problem: why nothing of it can be learned.
    """

    text: Conversation | Document
    rendered: Sequence[TokenizedExample] = ()
    used: Sequence[TokenizedExample] = ()
    problem: str = ""

    def groups(self) -> Iterator[Sequence[TokenizedExample]]:
        """Examples that must not be parted: one answer of a conversation is what the next one is asked after."""
        if isinstance(self.text, Document):
            yield from ([piece] for piece in self.used)
        elif self.used:
            yield self.used


def build_dataset(config: TextConfig, renderer: Renderer) -> Generator[Progress, None, TextDataset]:
    """Yields progress and returns the TextDataset, the same one for the same files and options.

    Raises:
        UserError: for data that is missing or cannot be read, or holds nothing to learn; and, with `on_bad_data: stop`, one that
            lists every example that cannot be learned from.
    """
    parts, judged = read_parts(config), {}
    for name, texts in parts.items():
        judged[name] = yield from _judge_all(texts, config, renderer)
    return assemble(parts, judged, config, renderer.template_name)


def judge_text(text: Conversation | Document, config: TextConfig, renderer: Renderer) -> Judged:
    """Render one text, and see what of it can be used."""
    try:
        rendered = renderer.encode_document(text) if isinstance(text, Document) else renderer.encode(text)
    except UserError as error:
        return Judged(text, problem=str(error))
    if not any(example.count for example in rendered):
        problem = f"cannot learn from {text.source}: the chat template '{renderer.template_name}' leaves no token of an answer in it."
        return Judged(text, rendered, problem=problem)
    return Judged(text, rendered, [fitted for example in rendered for fitted in _fit(example, config)])


def _fit(example: TokenizedExample, config: TextConfig) -> Iterator[TokenizedExample]:
    """The example within ``max_tokens``, or nothing where it is to be dropped or its answers are cut off."""
    longest = config.max_tokens
    if len(example.tokens) <= longest:
        yield example
    elif config.too_long == "truncate" and any(example.trained[:longest]):
        # A model that never saw an answer's end cannot be asked for exactly that answer.
        yield replace(example, tokens=example.tokens[:longest], trained=example.trained[:longest], question=(), answer="")


def _judge_all(texts: Texts, config: TextConfig, renderer: Renderer) -> Generator[Progress, None, list[Judged]]:
    judged, count = [], len(texts.examples)
    for number, text in enumerate(texts.examples, 1):
        judged.append(judge_text(text, config, renderer))
        if number % _REPORT_EVERY == 0 or number == count:
            yield Progress("reading texts", number, count)
    return judged


def assemble(parts: Mapping[str, Texts], judged: Mapping[str, Sequence[Judged]], config: TextConfig, template_name: str) -> TextDataset:
    """The data set out of judged texts. Raises UserError as :func:`build_dataset` does."""
    every = [text for texts in judged.values() for text in texts]
    wrong = [text.problem for text in every if text.problem]
    if wrong and config.on_bad_data == "stop":
        raise UserError(
            f"cannot train on {len(wrong)} of {len(every)} examples:{list_problems(wrong)}\n"
            "Mend that, or set on_bad_data: skip to go on without."
        )
    for name, option in (("train", "train_data_dir"), ("validation", "validation_dir")):
        if name in judged and not any(text.used for text in judged[name]):
            place = getattr(config, option) or f"{config.train_data_dir} (its {name} part)"
            raise UserError(f"cannot use {option} '{place}': {_explain_nothing(judged[name], config)}")
    train = [group for text in judged["train"] for group in text.groups()]
    origins = [find_origin(text.text, config) for text in judged["train"] for _ in text.groups()]
    kept_back = [group for text in judged.get("validation", []) for group in text.groups()]
    if config.validation_split:
        train, kept_back = split_validation(train, config.validation_split, config.seed, origins)
    dataset = TextDataset([e for group in train for e in group], [e for group in kept_back for e in group], [], [])
    left_out = [problem for texts in parts.values() for problem in texts.problems] + wrong
    notes = [note for texts in parts.values() for note in texts.notes()]
    dataset.problems.extend(_cap(left_out) + notes + _find_oddities(dataset, every, config))
    dataset.facts.extend(_list_facts(dataset, every, parts))
    if any(isinstance(text.text, Conversation) for text in every):
        dataset.facts.append(("chat template", template_name))
    return dataset


def find_origin(text: Conversation | Document, config: TextConfig) -> str:
    """What a text comes from, as far as `split_by` keeps that together; empty where it does not."""
    return text.file if config.split_by == "file" else text.origin if config.split_by == "auto" else ""


def split_validation(
    groups: Sequence[Sequence[TokenizedExample]], share: float, seed: int, origins: Sequence[str] = ()
) -> tuple[list[Sequence[TokenizedExample]], list[Sequence[TokenizedExample]]]:
    """(train, validation): whole groups, at least one of each, chosen by seed and content.

    Those that begin with the same question stay together: what is kept back must not be known by heart. The choice does not depend
    on order, and a text that is added moves at most one other across.

    Args:
        origins: what each group comes from, which stays together too; empty where that is not asked for. Then it is the number of examples
            that comes to about the share, and not that of questions.
    """
    keys = [group[0].question or group[0].tokens for group in groups]
    ranks = {key: hashlib.sha256(f"{seed} {key}".encode()).digest() for key in set(keys)}
    if any(origins):
        ranks = _rank_together(keys, origins, ranks)
    ranked = sorted(set(ranks.values()))
    if len(ranked) < 2:
        of = "a single question" if not any(origins) else "texts that all belong together (see split_by)"
        raise UserError(f"cannot keep back a validation_split of {of}. Add examples, or set validation_split: 0.")
    if any(origins):
        kept_back = _fill_up(ranked, Counter(ranks[key] for key in keys), share * len(keys))
    else:
        kept_back = set(ranked[: min(max(1, round(share * len(ranked))), len(ranked) - 1)])
    train = [group for key, group in zip(keys, groups, strict=True) if ranks[key] not in kept_back]
    return train, [group for key, group in zip(keys, groups, strict=True) if ranks[key] in kept_back]


def _rank_together(keys: Sequence[_Key], origins: Sequence[str], ranks: Mapping[_Key, bytes]) -> dict[_Key, bytes]:
    """One rank, the first of theirs, for all keys that an origin joins, directly or by way of others."""
    joined: dict[_Key | str, _Key | str] = {}

    def find(one: _Key | str) -> _Key | str:
        while joined.setdefault(one, one) != one:
            joined[one] = joined[joined[one]]
            one = joined[one]
        return one

    for key, origin in zip(keys, origins, strict=True):
        if origin:
            joined[find(key)] = find(origin)
    first: dict[_Key | str, bytes] = {}
    for key, rank in ranks.items():
        first[find(key)] = min(rank, first.get(find(key), rank))
    return {key: first[find(key)] for key in ranks}


def _fill_up(ranked: Sequence[bytes], sizes: Mapping[bytes, int], wanted: float) -> set[bytes]:
    """The first that together have no more than is wanted; the smallest one where all have more."""
    kept_back, left = set[bytes](), wanted
    for rank in ranked:
        if sizes[rank] <= left and len(kept_back) < len(ranked) - 1:
            kept_back.add(rank)
            left -= sizes[rank]
    return kept_back or {min(ranked, key=lambda rank: (sizes[rank], rank))}


# -- what is said about them -------------------------------------------------------------------------------------------


def list_problems(problems: Sequence[str]) -> str:
    """The first of them, a line each."""
    return "".join(f"\n- {line}" for line in _cap(problems))


def _cap(problems: Sequence[str]) -> list[str]:
    rest = len(problems) - _SHOWN_PROBLEMS
    return [*problems[:_SHOWN_PROBLEMS], *([f"and {rest} more"] if rest > 0 else [])]


def _explain_nothing(judged: Sequence[Judged], config: TextConfig) -> str:
    lengths = [len(example.tokens) for text in judged if not text.problem for example in text.rendered]
    if not lengths:
        return f"none of its examples can be used:{list_problems([text.problem for text in judged])}"
    return (
        f"all of its examples are longer than {config.max_tokens} tokens, the shortest has {min(lengths)}. "
        "Set max_tokens higher, or too_long: truncate."
    )


def count_too_long(judged: Sequence[Judged], config: TextConfig) -> int:
    """Examples of more than ``max_tokens``, cut or not."""
    return sum(len(example.tokens) > config.max_tokens for text in judged for example in text.rendered)


def count_doubles(examples: Sequence[TokenizedExample]) -> int:
    """How many are there once more, token for token."""
    return sum(count - 1 for count in Counter(example.tokens for example in examples).values())


def _find_oddities(dataset: TextDataset, judged: Sequence[Judged], config: TextConfig) -> list[str]:
    said, longest = [], config.max_tokens
    sound = [text for text in judged if not text.problem]
    long = count_too_long(sound, config)
    dropped = sum(len(text.rendered) - len(text.used) for text in sound)
    if dropped:
        said.append(
            f"{_count(dropped)} longer than {longest} tokens and left out. Set max_tokens higher"
            + (" or too_long: truncate to use them." if config.too_long == "drop" else " to use them: all of their answers are cut off.")
        )
    if long > dropped:
        said.append(f"{_count(long - dropped)} cut at {longest} tokens, and what is cut off is not learned, the end least of all.")
    doubles = count_doubles(dataset.train)
    if doubles:
        said.append(f"{_count(doubles)} the same as one before, token for token, and learned that much more often.")
    known = {example.tokens for example in dataset.train}
    leaked = sum(example.tokens in known for example in dataset.validation)
    if leaked:
        said.append(f"{_count(leaked)} both in validation and in training: validation will look better than it is.")
    return said


def _count(number: int) -> str:
    return f"{number} example{'s are' if number != 1 else ' is'}"


def _list_facts(dataset: TextDataset, judged: Sequence[Judged], parts: Mapping[str, Texts]) -> Iterator[tuple[str, str]]:
    lengths = [len(example.tokens) for example in dataset.train]
    learned = sum(example.count for example in dataset.train)
    yield "examples", f"{len(lengths):,}"
    if dataset.validation:
        yield "kept back for validation", f"{len(dataset.validation):,}"
    yield "tokens", f"{sum(lengths):,} ({describe_lengths(lengths)})"
    yield "learned tokens", f"{learned:,.0f} ({learned / sum(lengths):.0%})"
    dropped = sum(len(text.rendered) - len(text.used) for text in judged if not text.problem)
    if dropped:
        yield "too long", f"{dropped:,}"
    doubles = count_doubles(dataset.train)
    if doubles:
        yield "doubles", f"{doubles:,}"
    yield "format", ", ".join(f"{name} ({count:,})" for name, count in parts["train"].formats.items())
    encodings = {name: told for texts in parts.values() for name, told in texts.encodings.items()}
    if encodings:
        yield "encoding", ", ".join(f"{told} ({name})" for name, told in list(encodings.items())[:_SHOWN_PROBLEMS])


def describe_lengths(lengths: Sequence[int]) -> str:
    """How long they are: the mean, what nine of ten do not exceed, and the longest."""
    most = sorted(lengths)[max(0, -(-9 * len(lengths) // 10) - 1)]
    return f"{sum(lengths) / len(lengths):.0f} each, nine of ten up to {most:,}, {max(lengths):,} at most"


def fingerprint_examples(examples: Sequence[TokenizedExample]) -> str:
    """SHA-256 over the tokens that are learned from, in their order."""
    whole = hashlib.sha256()
    for example in examples:
        whole.update(repr((example.tokens, example.trained)).encode())
    return whole.hexdigest()
