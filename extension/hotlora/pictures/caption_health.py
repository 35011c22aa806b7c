"""What in a data set's captions commonly makes a bad LoRA. Asked by ``health``; must not import any host."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..engine.examples import Finding
from ..engine.languages import SMALL_WORDS
from .caption_changes import Change, find_garbled, make_change
from .caption_editing import Captioned, list_captions
from .caption_encodings import find_foreign
from .captions import render_fixed
from .config import PictureConfig
from .remedies import make_finding

_FEWEST = 5  # captions, before anything is said about what they have in common
_MANY = 10  # before anything is said about what only nearly all have
_NEARLY_ALL = 0.9
_TAG_WORDS = 3  # of a tag; what is longer is a piece of a sentence
_WORD = re.compile(r"[^\W\d_]{3,}")
_ABSORBED = "it is learned as '{word}', and the trigger word alone does not call it."
_SAYS_NOTHING = frozenset(  # beside the small words of languages
    re.findall(
        r"\w+",
        """photo photos photograph picture pictures image images depicting showing shows shown featuring view shot close side top background
        about after all also another any around because been before behind being below between both but can could does down else every few
        from front has have her his into its just like made make many more most near next not off one only other out over own same she some
        something such than their them then there these they thing things this those through two under very was where which while who will
        without""",
    )
)


def judge_captions(config: PictureConfig, count_tokens: Callable[[str], int] | None) -> tuple[list[Finding], set[str]]:
    """The findings, and the pictures whose captions cannot be changed."""
    captioned = list_captions(config)
    findings = [*find_foreign(config, captioned)]
    folders: dict[Path, dict[str, Captioned]] = {}
    for name, found in captioned.items():
        folders.setdefault(found.part.root, {})[name] = found
    for pictures in folders.values():
        some = next(iter(pictures.values()))
        findings += _judge_presence(pictures)
        captions = {name: found.caption for name, found in pictures.items() if found.caption and found.is_readable}
        findings += _judge_length(captions, some.config, count_tokens)
        findings += _judge_folder(captions, some.config, " ".join(set(_list_stand_ins(pictures).values())))
    return findings, {name for name, found in captioned.items() if found.refusal}


def _list_stand_ins(pictures: Mapping[str, Captioned]) -> dict[str, str]:
    """What is learned of each picture where it has no caption (``dataset``)."""
    listed = {found.path: found.class_words for picture in pictures.values() for found in picture.part.contents.pictures}
    return {
        name: picture.part.source.class_words or picture.config.trigger_word or listed[picture.path] for name, picture in pictures.items()
    }


def _judge_presence(pictures: Mapping[str, Captioned]) -> Iterator[Finding]:
    """Those that have no caption, or an empty one."""
    silent = {name: found for name, found in pictures.items() if found.is_readable and not found.caption}
    empty = [name for name, found in silent.items() if found.row or found.beside]
    if empty:
        yield make_finding("empty", empty, "with an empty caption, and cannot be trained on. Write something, or remove the empty file.")
    stand_ins = _list_stand_ins(pictures)
    missing = [name for name in silent if name not in set(empty)]
    without = [name for name in missing if not stand_ins[name]]
    if without:
        yield make_finding("missing", without, "without a caption, and cannot be trained on. Write one, or set a trigger word.")
    alone = [name for name in missing if stand_ins[name]]
    if alone and len(pictures) - len(silent) >= max(_FEWEST, len(alone)):
        word = _shorten(stand_ins[alone[0]])
        yield make_finding("missing", alone, f"without a caption, while most have one: learned as '{word}' alone. Write one.")


def _judge_length(captions: Mapping[str, str], config: PictureConfig, count_tokens: Callable[[str], int] | None) -> Iterator[Finding]:
    most = int(getattr(config, "max_token_length", 0))
    if not count_tokens or not most:
        return
    long = [name for name, caption in captions.items() if count_tokens(render_fixed(caption, config)) > most]
    if long:
        yield make_finding("long", long, f"with a caption of more than {most} tokens: the rest is not learned. Shorten it.")


def _judge_folder(captions: Mapping[str, str], config: PictureConfig, class_words: str) -> Iterator[Finding]:
    garbled = [name for name, caption in captions.items() if find_garbled(caption)]
    if garbled:
        said = "with garbled letters in its caption. Mend the caption, or save it anew as UTF-8."
        yield make_finding("encoding", garbled, said, _list_changed("letters", captions, config))
    same = defaultdict(list)
    for name, caption in captions.items():
        same[caption].append(name)
    for caption, names in same.items():
        if len(names) >= _FEWEST:
            yield make_finding(
                "identical", names, f"captioned '{_shorten(caption)}', all the same. Say what differs, or use a trigger word alone."
            )
    yield from _judge_tags(captions, config)
    yield from _judge_words(captions, config, class_words)


def _judge_tags(captions: Mapping[str, str], config: PictureConfig) -> Iterator[Finding]:
    """Of captions that are lists of tags: one that all have, or that nearly all begin with."""
    separator = config.caption_separator
    tags = {name: [tag.strip() for tag in caption.split(separator) if tag.strip()] for name, caption in captions.items()}
    tags = {name: listed for name, listed in tags.items() if len(listed) > 1}
    doubled = _list_changed("drop_doubles", {name: captions[name] for name in tags}, config)
    if doubled:
        yield make_finding("doubles", doubled, "with a caption that says the same tag twice. Remove the second one.")
    if len(tags) < max(_FEWEST, len(captions) // 2):
        return
    first, times = Counter(listed[0] for listed in tags.values()).most_common(1)[0]
    yield from _judge_shared(captions, tags, config, first)
    without = [name for name, listed in tags.items() if first not in listed]
    if 0 < len(without) <= len(tags) // 5 and times >= len(tags) - len(without) and first != config.trigger_word.strip():
        said = f"without '{_shorten(first)}', which all others begin with. Set it as trigger_word, or add it."
        yield make_finding("trigger", without, said, text=first)


def _judge_shared(captions: Mapping[str, str], tags: Mapping[str, Sequence[str]], config: PictureConfig, first: str) -> Iterator[Finding]:
    """Tags that all have, or nearly all. ``first``: the one that most begin with."""
    counts, trigger = Counter(tag for listed in tags.values() for tag in set(listed)), config.trigger_word.strip()
    every = "every one" if len(tags) == len(captions) else "every caption of more than one tag"
    for tag, count in counts.items():
        if tag == trigger:
            continue
        shown = _shorten(tag)
        if count == len(tags):
            said = f"have the tag '{shown}', {every}: it comes to mean all that they share. Make it the trigger word, or leave it out."
            yield make_finding("everywhere", [*tags], said, [*tags] if tag != first else [], tag)  # what all begin with is a trigger word
        elif trigger and tag != first and len(tags) >= _MANY and count >= _NEARLY_ALL * len(tags):
            having = [name for name, listed in tags.items() if tag in listed]
            said = (
                f"have the tag '{shown}', nearly every one: {_ABSORBED.format(word=shown)} Leave it out if it is part of what is learned."
            )
            yield make_finding("absorbed", having, said, text=tag)


def _judge_words(captions: Mapping[str, str], config: PictureConfig, class_words: str) -> Iterator[Finding]:
    """Of captions that are sentences: a word that nearly all have, and that says what should be the trigger's to say.

    Not told of: small words, those that say only that it is a picture, and the class that stands right behind the trigger word.
    """
    trigger = config.trigger_word.strip().lower()
    if len(captions) < _MANY or _are_tags(captions.values(), config.caption_separator):
        return
    known = set(_WORD.findall(" ".join((trigger, class_words, config.caption_prefix, config.caption_suffix)).lower()))
    if trigger:
        known.update(word for text in captions.values() for word in re.findall(rf"{re.escape(trigger)}\s+([^\W\d_]+)", text.lower()))
    words = {name: set(_WORD.findall(text.lower())) - known - SMALL_WORDS - _SAYS_NOTHING for name, text in captions.items()}
    for word, count in Counter(word for found in words.values() for word in found).items():
        if count >= _NEARLY_ALL * len(captions):
            having = [name for name, found in words.items() if word in found]
            if trigger:
                said = f"{_ABSORBED.format(word=word)} Leave it out if it is part of what is learned, or put it behind the trigger word."
            else:
                said = "it comes to mean all that they share. Make it the trigger word, or leave it out."
            yield make_finding("absorbed", having, f"have the word '{word}', nearly every one: {said}")


def _are_tags(captions: Iterable[str], separator: str) -> bool:
    """Whether most are lists of short tags."""
    lengths = sorted(len(text.split()) / max(1, sum(bool(tag.strip()) for tag in text.split(separator))) for text in captions)
    return lengths[len(lengths) // 2] <= _TAG_WORDS


def _list_changed(operation: str, captions: Mapping[str, str], config: PictureConfig) -> list[str]:
    """Whose captions an operation would change."""
    change = make_change(Change(operation), config)
    return [name for name, caption in captions.items() if change(caption) != caption]


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
