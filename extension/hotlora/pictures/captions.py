"""What becomes of a caption each time its picture is used.

Owns trigger word, prefix and suffix, wildcards, shuffling and dropout. Knows nothing of files or pictures; must not
import torch or any host.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from .config import PictureConfig

_WORDS_OF_A_TAG = 6
_WILDCARD = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")


def render_caption(caption: str, config: PictureConfig, rng: random.Random, *, with_trigger: bool = True) -> str:
    """The text to train on this time.

    The order is sd-scripts': dropout of the whole caption, line, prefix and suffix, wildcards, shuffle, tag dropout; tags
    that went through the last two are joined by ", ". Three differences, so that nothing a user typed is lost: without
    `enable_wildcard` the lines of a caption are joined, where sd-scripts takes the first; with it, the line is chosen before
    prefix and suffix are put on it; and `keep_tokens_separator` is taken out of the text even when nothing is shuffled.

    Args:
        caption: as it was written, one or several lines.
        rng: where chance comes from. Nothing is drawn for an option that is off.
        with_trigger: False for regularisation pictures, which show the class without the LoRA.
    """
    if config.caption_dropout_rate and rng.random() < config.caption_dropout_rate:
        return ""
    line = _choose_line(caption, config, rng)
    text = " ".join(part for part in (config.caption_prefix, line, config.caption_suffix) if part)
    if config.enable_wildcard:
        text = _choose_wildcards(text, rng)
    trigger = config.trigger_word if with_trigger else ""
    text = put_trigger_first(text, trigger, config.caption_separator)
    marker = config.keep_tokens_separator
    if not (config.shuffle_caption or config.caption_tag_dropout_rate or (marker and marker in text)):
        return text
    first, loose, last = _split_tags(text, trigger, config)
    if config.shuffle_caption:
        rng.shuffle(loose)
    if config.caption_tag_dropout_rate:
        loose = [tag for tag in loose if rng.random() >= config.caption_tag_dropout_rate]
    return ", ".join(first + loose + last)


def render_fixed(caption: str, config: PictureConfig, *, with_trigger: bool = True) -> str:
    """The caption with nothing random about it, as for validation and for people to look at."""
    return make_renderer(config)(caption, with_trigger=with_trigger)


def make_renderer(config: PictureConfig) -> Callable[..., str]:
    """:func:`render_fixed` of many captions: ``render(caption, with_trigger=True)``."""
    calm = replace(config, caption_dropout_rate=0.0, caption_tag_dropout_rate=0.0, shuffle_caption=False, enable_wildcard=False)
    rng = random.Random(0)  # nothing is drawn
    return lambda caption, with_trigger=True: render_caption(caption, calm, rng, with_trigger=with_trigger)


def put_trigger_first(text: str, trigger: str, separator: str = ",") -> str:
    """The text led by the trigger word, unless it is already; case does not matter to the text encoders."""
    if not trigger or _starts_with(text, trigger):
        return text
    return f"{trigger}{separator.rstrip()} {text}" if text else trigger


def tag_frequency(captions: Iterable[tuple[str, str]], config: PictureConfig) -> dict[str, dict[str, int]]:
    """How many captions of each folder contain a tag: kohya's `ss_tag_frequency`.

    Args:
        captions: (folder, caption) of every picture once, however often it repeats. Tags are cut at ",", stripped and
            lowercased; the trigger word counts as written into each caption.
    """
    counts: dict[str, Counter] = {}
    for folder, caption in captions:
        text = put_trigger_first(caption, config.trigger_word)
        tags = {tag.strip().lower(): None for tag in text.replace("\n", ",").split(",") if tag.strip()}
        counts.setdefault(folder, Counter()).update(tags.keys())
    return {folder: dict(counter) for folder, counter in counts.items()}


def _starts_with(text: str, word: str) -> bool:
    following = text[len(word) : len(word) + 1]
    return text[: len(word)].casefold() == word.casefold() and not (following.isalnum() or following == "_")


def _choose_line(caption: str, config: PictureConfig, rng: random.Random) -> str:
    lines = [line.strip() for line in caption.splitlines() if line.strip()]
    if len(lines) < 2:
        return caption.strip()
    return rng.choice(lines) if config.enable_wildcard else join_lines(lines, config.caption_separator)


def join_lines(lines: Sequence[str], separator: str = ",") -> str:
    """Several lines as one: sentences follow each other, tags are parted as they are elsewhere."""
    text = lines[0]
    for line in lines[1:]:
        ended = text.endswith((separator, ".", "!", "?", ":", ";", ",", "。", "！", "？", "，"))
        text += f" {line}" if ended or len(line.split()) > _WORDS_OF_A_TAG else f"{separator.rstrip()} {line}"
    return text


def _choose_wildcards(text: str, rng: random.Random) -> str:
    """`{a|b}` -> one of them; `{{` and `}}` stand for the braces themselves."""

    def choose(match: re.Match) -> str:
        return match[0][0] if match[1] is None else rng.choice(match[1].split("|"))

    return _WILDCARD.sub(choose, text)


def _split_tags(text: str, trigger: str, config: PictureConfig) -> tuple[list[str], list[str], list[str]]:
    """Tags that lead, tags that may be shuffled and dropped, tags that close.

    `keep_tokens` counts from the caption's very beginning, trigger word included, as people who type the trigger word
    into their captions are used to; the trigger word leads even where it is 0.
    """

    def tags(part: str) -> list[str]:
        return [tag.strip() for tag in part.split(config.caption_separator) if tag.strip()]

    marker = config.keep_tokens_separator
    if marker and marker in text:
        first, loose, last = (text.split(marker, 2) + [""])[:3]
        return tags(first), tags(loose), tags(last)
    every = tags(text)
    kept = max(config.keep_tokens, len(tags(trigger)))
    return every[:kept], every[kept:], []
