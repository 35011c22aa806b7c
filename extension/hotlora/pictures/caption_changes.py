"""Operations on many captions at once: tags added, removed, replaced, sorted; patterns; the trigger word. Pure functions on texts.

Each line of a caption of several lines is changed by itself, as ``enable_wildcard`` learns them. Must not import any host.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine.errors import UserError
from .caption_filter import fold, split_tags
from .captions import put_trigger_first
from .config import PictureConfig

_PATTERN_SECONDS = 5.0  # for all captions; some patterns need longer than the world is old
_GARBLED = re.compile(r"\ufffd|Ã[\u0080-\u00bf]|Â[\u0080-\u00bf]|â€")


@dataclass(frozen=True)
class Change:
    """One operation, as it is asked for."""

    operation: str  # a key of OPERATIONS
    text: str = ""  # tags, or a pattern
    by: str = ""  # what is to stand there instead


@dataclass(frozen=True)
class _Terms:
    """What a change works with."""

    tags: Sequence[str]
    by: Sequence[str]
    config: PictureConfig

    def split(self, line: str) -> list[str]:
        return split_tags(line, self.config.caption_separator)

    def join(self, tags: Sequence[str]) -> str:
        return f"{self.config.caption_separator.rstrip()} ".join(tags)

    @property
    def trigger(self) -> list[str]:
        return self.split(self.config.trigger_word)

    def count_leading(self, tags: Sequence[str]) -> int:
        """The tags that stay in front: the trigger word's, and as many as ``keep_tokens`` says."""
        trigger = self.trigger
        has_trigger = bool(trigger) and _equal(tags[: len(trigger)], trigger)
        return max(len(trigger) if has_trigger else 0, self.config.keep_tokens)


def _equal(tags: Sequence[str], others: Sequence[str]) -> bool:
    return [fold(tag) for tag in tags] == [fold(tag) for tag in others]


def _without(tags: Sequence[str], others: Sequence[str]) -> list[str]:
    keys = {fold(other) for other in others}
    return [tag for tag in tags if fold(tag) not in keys]


def _add_front(tags: list[str], terms: _Terms) -> list[str]:
    """Behind the trigger word, which training would else put there once more."""
    trigger = terms.trigger
    at = len(trigger) if _equal(tags[: len(trigger)], trigger) else 0
    return [*tags[:at], *_without(terms.tags, tags), *tags[at:]]


def _add_end(tags: list[str], terms: _Terms) -> list[str]:
    return [*tags, *_without(terms.tags, tags)]


def _remove(tags: list[str], terms: _Terms) -> list[str]:
    return _without(tags, terms.tags)


def _replace(tags: list[str], terms: _Terms) -> list[str]:
    """In the place of the first of them; what stands there already is not written twice."""
    keys = {fold(tag) for tag in terms.tags}
    at = next((place for place, tag in enumerate(tags) if fold(tag) in keys), None)
    if at is None:
        return tags
    return [*_without(tags[:at], terms.by), *terms.by, *_without(tags[at:], [*terms.tags, *terms.by])]


def _sort(tags: list[str], terms: _Terms) -> list[str]:
    first = terms.count_leading(tags)
    return [*tags[:first], *sorted(tags[first:], key=fold)]


def _drop_doubles(tags: list[str], terms: _Terms) -> list[str]:
    first: dict[str, str] = {}
    for tag in tags:
        first.setdefault(fold(tag), tag)
    return list(first.values())


def _lead_with_trigger(tags: list[str], terms: _Terms) -> list[str]:
    return [*terms.trigger, *_without(tags, terms.trigger)]


@dataclass(frozen=True)
class Operation:
    """What can be done with captions."""

    label: str
    kept: str  # what is told of captions that it leaves as they are, behind their number
    change: Callable[[list[str], _Terms], list[str]] | None  # the tags of a line; None where it changes captions as a whole
    needs_text: bool = False
    needs_by: bool = False
    is_placed: bool = False  # it puts something in one place, also where there is no caption yet
    make: Callable[[Change], Callable[[str], str]] = lambda change: str  # of one that changes captions as a whole


def find_garbled(caption: str) -> bool:
    """Whether it has letters that come of UTF-8 which was read as Windows-1252."""
    return bool(_GARBLED.search(caption))


def mend_letters(caption: str) -> str:
    """``Ã¼`` becomes ``ü``: letters that are UTF-8 read as Windows-1252 are read rightly. Others stay, and what is lost stays lost."""
    return re.sub(r"[^\x00-\x7f]+", lambda found: _read_rightly(found.group()), caption) if find_garbled(caption) else caption


def _read_rightly(letters: str) -> str:
    """The same letters where they are no such mistake."""
    try:
        read = b"".join(_to_byte(letter) for letter in letters).decode("utf-8")
    except UnicodeError:
        return letters
    return letters if re.search(r"[\x80-\x9f]", read) else read  # nobody writes those


def _to_byte(letter: str) -> bytes:
    """Five bytes mean nothing in Windows-1252, and are read as they are. Raises UnicodeError for what no byte is read as."""
    return letter.encode("latin-1" if "\x80" <= letter <= "\x9f" else "cp1252")


def _make_replacing(change: Change) -> Callable[[str], str]:
    import regex  # which transformers needs too; Python's own cannot be stopped

    try:
        pattern = regex.compile(change.text)
    except (regex.error, ValueError) as error:
        raise UserError(
            f"cannot read the pattern '{change.text}': {error}. Mend it, or write \\ before signs that stand for themselves."
        ) from error
    until = time.monotonic() + _PATTERN_SECONDS

    def replace(caption: str) -> str:
        try:
            return pattern.sub(change.by, caption, timeout=max(until - time.monotonic(), 0.01), concurrent=True).strip()
        except TimeoutError as error:
            told = f"it takes longer than {_PATTERN_SECONDS:g} seconds"
            raise UserError(f"cannot use the pattern '{change.text}': {told}. Write it without repeats within repeats.") from error
        except (regex.error, IndexError) as error:
            raise UserError(f"cannot replace by '{change.by}': {error}. Use \\1 for the first group in parentheses.") from error

    return replace


OPERATIONS = {
    "add_front": Operation("Add tags in front", "had it already", _add_front, needs_text=True, is_placed=True),
    "add_end": Operation("Add tags at the end", "had it already", _add_end, needs_text=True, is_placed=True),
    "remove": Operation("Remove tags", "did not have it", _remove, needs_text=True),
    "replace": Operation("Replace a tag", "did not have it", _replace, needs_text=True, needs_by=True),
    "pattern": Operation("Replace by a pattern", "did not match", None, needs_text=True, make=_make_replacing),
    "sort": Operation("Sort tags", "were in order already", _sort),
    "drop_doubles": Operation("Remove doubled tags", "had none twice", _drop_doubles),
    "letters": Operation("Mend garbled letters", "had none that can be mended", None, make=lambda change: mend_letters),
    "trigger": Operation("Put the trigger word first", "began with it already", _lead_with_trigger, is_placed=True),
}


def read_change(values: dict[str, Any]) -> Change:
    """A change as a page or a program sends it. Raises UserError for what it is not."""
    change = Change(*(str(values.get(key) or "") for key in ("operation", "text", "by")))
    operation = OPERATIONS.get(change.operation)
    if operation is None:
        raise UserError(f"cannot change captions by '{change.operation}': there is no such operation. Use one of: {', '.join(OPERATIONS)}.")
    if operation.needs_text and not change.text.strip():
        raise UserError(f"cannot do '{operation.label}': it is not said what. Type the tags, or the pattern.")
    if operation.needs_by and not change.by.strip():
        raise UserError(f"cannot do '{operation.label}': it is not said by what. Type that, or remove the tag.")
    return change


def make_change(change: Change, config: PictureConfig) -> Callable[[str], str]:
    """What it makes of a caption; the same text where there is nothing to change.

    Raises:
        UserError: where the trigger word is wanted and there is none, or a pattern is wrong; the function itself where a pattern takes
            too long.
    """
    operation = OPERATIONS[change.operation]
    if operation.change is None:
        return operation.make(change)
    work, separator = operation.change, config.caption_separator
    terms = _Terms(split_tags(change.text, separator), split_tags(change.by, separator), config)
    if change.operation == "trigger" and not terms.trigger:
        raise UserError("cannot put the trigger word first: there is none. Type one into the field Trigger word.")

    def change_line(line: str) -> str:
        if change.operation == "trigger" and line and put_trigger_first(line, config.trigger_word, separator) == line:
            return line
        parts = _split_marked(line, config.keep_tokens_separator)
        at = len(parts) - 1 if change.operation == "add_end" else 0
        chosen = (at,) if operation.is_placed else range(len(parts))
        had = [tag for part in parts for tag in terms.split(part)]
        if operation.needs_text and operation.is_placed and not _without(terms.tags, had):
            return line
        changed = [_change_part(part, work, terms) if place in chosen else part.strip() for place, part in enumerate(parts)]
        return f" {config.keep_tokens_separator} ".join(changed) if changed != [part.strip() for part in parts] else line

    def change_caption(caption: str) -> str:
        lines = caption.splitlines() or ([""] if operation.is_placed else [])
        return "\n".join(change_line(line) if line.strip() or len(lines) == 1 else line for line in lines).strip()

    return change_caption


def _split_marked(line: str, marker: str) -> list[str]:
    """A line at `keep_tokens_separator`: tags stay on their side of it."""
    return line.split(marker) if marker else [line]


def _change_part(part: str, work: Callable[[list[str], _Terms], list[str]], terms: _Terms) -> str:
    tags = terms.split(part)
    changed = work(tags, terms)
    return terms.join(changed) if changed != tags else part.strip()
