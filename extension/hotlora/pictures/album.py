"""What people are shown of their pictures before they train on them: thumbnails with captions, and what is wrong or odd.

Asks the same functions as training does, so that what is shown is what will be trained on. Must not import any host.
"""

import functools
import os
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ..engine import examples as shown
from ..engine.errors import UserError
from ..engine.plurals import counted
from .buckets import Fit, choose_bucket, crop_offset
from .caption_files import MetadataCaptions, path_key, read_caption_beside
from .captions import make_renderer
from .config import PictureConfig
from .dataset import Files, Judged, judge_pictures
from .focus import Box, Crop, Framed, Framing, read_framings
from .folders import Found
from .index import PictureIndex, Seen, choose_cache_folder
from .left_out import place_before
from .parts import Part, find_masks, name_picture, open_parts, read_metadata
from .reading import HEIF_SUFFIXES, SUFFIXES, make_thumbnail, read_size
from .unused import tell_unused

UPLOAD_SUFFIXES = (*SUFFIXES, *HEIF_SUFFIXES, ".txt", ".caption", ".csv", ".jsonl", ".json")

_THUMBNAIL_PIXELS, _PREVIEW_PIXELS = 160, 768
_LOOK_SECONDS = 15.0  # reading thousands of new pictures to their end takes minutes: the rest is done at the next look
_ENLARGED = 1.1  # times; below that nobody sees it
_CUT_AWAY = 0.25  # of the picture's area
_DECIMALS = 4  # of a share
_NO_CAPTION_YET = "it has no caption yet."
_SHOWN_KINDS = 8
_SHOWN_NOTES = 20


@dataclass(frozen=True)
class Cut:
    """What a bucket keeps of a picture. All but ``bucket`` as shares of its width and height."""

    bucket: tuple[int, int]  # (width, height) in pixels
    left: float
    top: float
    width: float
    height: float

    @classmethod
    def of(cls, fit: Fit, framed: Framed, whole: tuple[int, int]) -> "Cut":
        """``whole``: the picture's size, of which the crop leaves what is ``framed``."""
        (width, height), (top, left) = fit.scaled, crop_offset(fit, focus=framed.focus)
        x, y = (inner / outer for inner, outer in zip(framed.size, whole, strict=True))
        begin_x, begin_y = (at / outer for at, outer in zip((framed.box or (0, 0))[:2], whole, strict=True))
        shares = (begin_x + left / width * x, begin_y + top / height * y, fit.bucket[0] / width * x, fit.bucket[1] / height * y)
        return cls(fit.bucket, *(round(share, _DECIMALS) for share in shares))


@dataclass(frozen=True)
class Card:
    """A picture as it is shown, without its thumbnail."""

    judged: Judged
    part: Part  # its folder
    name: str
    text: str
    wrong: str  # training refuses it
    odd: str  # training takes it
    size: tuple[int, int] | None  # of the file in pixels, upright
    fit: Fit | None  # at the largest size that it is trained at
    has_mask: bool  # in a file, whether or not masks are learned by
    framing: Framing = Framing()

    @property
    def use(self) -> str:
        """train, reg, validation."""
        return self.part.use

    @property
    def cuts(self) -> "list[Cut]":
        """What its buckets keep of it, the largest first; nothing where it cannot be read."""
        return [Cut.of(fit, self.framing.frame(self.size), self.size) for fit in reversed(_list_fits(self)) if self.size]

    @property
    def path(self) -> Path:
        return self.judged.found.path

    @property
    def caption(self) -> str:
        """As it is written; empty where nothing is."""
        return self.judged.caption if self.judged.source else ""


@dataclass(frozen=True)
class Album:
    """All pictures of a run's folders, and what is to be said about all of them."""

    cards: Sequence[Card]
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    left_out: Mapping[str, Found]  # by the names they had before


def open_album(config: PictureConfig) -> Album:
    """Everything that is known without a thumbnail.

    Raises:
        UserError: for a folder that is missing or empty. Pictures that cannot be read are shown as such.
    """
    parts = open_parts(config)
    masks = find_masks(parts)
    files, unread = _look_into(parts, Files({}, masks if config.masked_loss else {}, framings=read_framings(parts)), config)
    captions = read_metadata(parts)
    cards = list(_mark_duplicates(_make_cards(parts, captions, files, masks), files))
    said = {problem for card in cards for problem in card.judged.problems}
    judged = [[card.judged for card in cards if card.part is part] for part in parts]
    notes = [*_list_others([*captions.problems, *files.framings.problems], said, cards), *_make_notes(cards, config)]
    notes += tell_unused(parts, judged, captions, config, framings=files.framings)
    if unread:
        notes.append(f"{counted(unread, 'picture')} not read to the end yet: only the size is known. Look again to go on.")
    aside = {name_picture(place_before(f.path), part): f for part in parts for f in part.contents.left_out}
    return Album(cards, tuple(_make_facts(cards, config)), tuple(notes), aside)


def look_at_pictures(config: PictureConfig, limit: int = 120) -> shown.DataView:
    """The first pictures, those with problems before the others, and what is to be said about all of them. Raises UserError like
    :func:`open_album`."""
    album = open_album(config)
    return shown.DataView(len(album.cards), _draw(put_troubled_first(album.cards)[:limit]), album.facts, album.notes)


def put_troubled_first(cards: Sequence[Card]) -> list[Card]:
    """Those that training refuses, those that are odd, the others."""
    return sorted(cards, key=lambda card: 0 if card.wrong else 1 if card.odd else 2)


def _look_into(parts: Sequence[Part], files: Files, config: PictureConfig) -> tuple[Files, int]:
    """The files with what is in them, and of how many of them only the size is known because reading takes too long."""
    paths, until = files.list_paths(parts), time.monotonic() + _LOOK_SECONDS
    for _, seen in PictureIndex(choose_cache_folder(config)).inspect(paths):
        files.seen.update(seen)
        if time.monotonic() > until:
            break
    unread = paths[len(files.seen) :]
    files.seen.update({path: _look_at_head(path) for path in unread})
    return files, len(unread)


def _look_at_head(path: Path) -> Seen | UserError:
    try:
        return Seen("", read_size(path))
    except UserError as error:
        return error


# -- one picture -------------------------------------------------------------------------------------------------------


def _make_cards(parts: Sequence[Part], captions: MetadataCaptions, files: Files, masks: Collection[Path]) -> Iterator[Card]:
    contradictions = {path_key(Path(start)): text for text in captions.problems for start in [text.partition(": ")[0]]}
    for part in parts:
        config, render = part.source.config, make_renderer(part.source.config)
        for judged in judge_pictures(part, captions, files):
            found, seen = judged.found, files.seen[judged.found.path]
            contradiction = contradictions.get(path_key(found.path)) if contradictions else None
            wrong = [problem for problem in judged.problems if problem != judged.lacks_caption]
            wrong += [contradiction] if contradiction else []
            size = seen.size if isinstance(seen, Seen) else None
            framing = files.framings.find(found.path)
            framed = framing.frame(size) if size else None
            fit = choose_bucket(*framed.size, config) if framed else None
            odd = [_NO_CAPTION_YET] if judged.lacks_caption else []
            odd += [*_find_oddities(framed, fit, config)] if framed and fit else []
            if captions.find(found.path) and _has_unused_caption(judged):
                odd.append(f"its caption is the one in {judged.source}, not the one beside it.")
            yield Card(
                judged=judged,
                part=part,
                name=name_picture(found.path, part),
                text=render(judged.caption, with_trigger=not part.is_reg) if judged.caption else "",
                wrong=" ".join(_shorten(text, found.path) for text in wrong),
                odd=" ".join(odd),
                size=size,
                fit=fit,
                has_mask=found.path in masks,
                framing=framing,
            )


def _find_oddities(framed: Framed, fit: Fit, config: PictureConfig) -> Iterator[str]:
    (width, height), (scaled_width, scaled_height) = framed.size, fit.scaled
    times = max(scaled_width / width, scaled_height / height)
    if times > _ENLARGED:
        yield f"small: {width}x{height} pixels will be enlarged {times:.1f} times."
    cut = 1 - fit.bucket[0] * fit.bucket[1] / (scaled_width * scaled_height)
    if cut > _CUT_AWAY and config.enable_bucket and framed.focus is None:
        yield f"long: {cut:.0%} of it will be cut away to fit {fit.bucket[0]}x{fit.bucket[1]}."


def _has_unused_caption(judged: Judged) -> bool:
    """Whether a text file beside the picture says something else than the metadata that goes before it."""
    try:
        beside = read_caption_beside(judged.found.path, judged.found.siblings)
    except UserError:
        return False
    return bool(beside and judged.source and beside[0] != judged.caption)


def _mark_duplicates(cards: Iterator[Card], files: Files) -> Iterator[Card]:
    """The cards; those of training pictures that were there before, cut alike by hand, say so."""
    first: dict[tuple[str, Box | None], str] = {}
    for card in cards:
        seen = files.seen[card.path]
        digest = seen.digest if isinstance(seen, Seen) and card.fit and card.use == "train" else ""
        known = first.setdefault((digest, card.framing.frame(card.size).box if card.size else None), card.name)
        if digest and known != card.name:
            wrong = f"{card.wrong} it is the same picture as {known}.".strip()
            card = replace(card, wrong=wrong)
        yield card


def _shorten(problem: str, path: Path) -> str:
    """A problem's sentence as it stands under its picture."""
    return problem.removeprefix(f"{path}: ").replace(f"cannot read the picture {path}: ", "cannot be read: ")


# -- all of them -------------------------------------------------------------------------------------------------------


def _make_facts(cards: Sequence[Card], config: PictureConfig) -> Iterator[tuple[str, str]]:
    train = [card for card in cards if card.use == "train"]
    yield "pictures", str(len(train))
    folders = Counter((card.part.label, card.judged.found.folder, card.judged.found.repeats) for card in train)
    shown = sum(card.judged.found.repeats * len(card.part.source.by_resolution) for card in train)
    if len(folders) > 1 or any(repeats > 1 for *_, repeats in folders):
        yield "folders", _list_kinds(f"{name} ({count} × {repeats})" for (_, name, repeats), count in folders.items())
    if shown > len(train):
        yield "per epoch with repeats", str(shown)
    written = sum(bool(card.judged.source and card.judged.caption) for card in train)
    yield "with caption", f"{written} of {len(train)}"
    for label, count in (
        ("with a focus point", sum(card.framing.focus is not None for card in train)),
        ("cropped by hand", sum(card.framing.crop is not None for card in train)),
    ):
        if count:
            yield label, str(count)
    sizes = Counter(fit.bucket for card in train for fit in _list_fits(card))
    yield "trained at", _list_kinds(f"{width}x{height} ({count})" for (width, height), count in sizes.most_common())
    usable = sum(not card.wrong for card in train)
    kept_back = min(max(1, round(config.validation_split * usable)), usable - 1) if config.validation_split else 0
    others = Counter(card.use for card in cards)
    for label, count in (("regularisation pictures", others["reg"]), ("for validation", others["validation"] or max(kept_back, 0))):
        if count:
            yield label, str(count)


def _list_fits(card: Card) -> list[Fit]:
    """How it is trained, once for each resolution."""
    if card.fit is None or card.size is None:
        return []
    return [choose_bucket(*card.framing.frame(card.size).size, config) for config in card.part.source.by_resolution.values()]


def _list_kinds(kinds: Iterable[str]) -> str:
    every = list(kinds)
    return ", ".join(every[:_SHOWN_KINDS]) + (" …" if len(every) > _SHOWN_KINDS else "")


def _make_notes(cards: Sequence[Card], config: PictureConfig) -> Iterator[str]:
    wrong, train = sum(bool(card.wrong) for card in cards), [card for card in cards if card.use == "train"]
    if wrong and config.on_bad_data == "stop":
        yield f"{counted(wrong, 'picture')} cannot be trained on. Mend that, or set on_bad_data to skip to leave them out."
    elif wrong:
        yield f"{counted(wrong, 'picture')} cannot be trained on, and will be left out."
    lacking = sum(bool(card.judged.lacks_caption) and not card.wrong for card in cards)
    if lacking:
        yield f"{counted(lacking, 'picture')} without a caption. Write one, or type a trigger word, which is then learned instead."
    enlarged = sum("small: " in card.odd for card in cards)
    if enlarged:
        soft = f"{counted(enlarged, 'picture')} will be enlarged and come out soft"
        yield f"{soft}. Use larger pictures, a lower resolution, or bucket_no_upscale."
    unwritten = [card.text for card in train if card.judged.caption and not card.judged.source]
    if unwritten and len(unwritten) == len(train):  # of some among others is told with what is not used
        texts = _list_kinds(f"'{text}'" for text in dict.fromkeys(unwritten))
        yield f"{counted(len(unwritten), 'picture')} with no caption will be learned as {texts}."


def _list_others(problems: Sequence[str], said: set[str], cards: Sequence[Card]) -> list[str]:
    """Problems of metadata files that stand under no picture."""
    keys = {path_key(card.path) for card in cards} if problems else set()
    rest = [text for text in problems if text not in said and path_key(Path(text.partition(": ")[0])) not in keys]
    return rest[:_SHOWN_NOTES] + ([f"and {len(rest) - _SHOWN_NOTES} more"] if len(rest) > _SHOWN_NOTES else [])


# -- thumbnails --------------------------------------------------------------------------------------------------------


def _draw(cards: Sequence[Card]) -> list[shown.Example]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        thumbnails = pool.map(_find_thumbnail, cards)
        return [
            shown.Example(card.name, card.text, thumbnail, card.wrong, card.odd) for card, thumbnail in zip(cards, thumbnails, strict=True)
        ]


def _find_thumbnail(card: Card) -> bytes:
    return find_thumbnail(card.path, card.framing.crop)


def find_preview(path: Path) -> bytes:
    """A JPEG to see details in; nothing for a picture that cannot be read."""
    try:
        return make_thumbnail(path, _PREVIEW_PIXELS)
    except (UserError, OSError):
        return b""


def find_thumbnail(path: Path, crop: Crop | None = None) -> bytes:
    """A small JPEG, of what the crop leaves; nothing for a picture that cannot be read."""
    try:
        return _remember_thumbnail(str(path), path.stat().st_mtime_ns, crop or (0, 0, 1, 1))
    except (UserError, OSError):
        return b""


@functools.lru_cache(maxsize=4000)  # some 5 kB each
def _remember_thumbnail(path: str, changed_ns: int, crop: Crop) -> bytes:
    return make_thumbnail(Path(path), _THUMBNAIL_PIXELS, crop)
