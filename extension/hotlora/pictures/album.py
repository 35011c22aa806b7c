"""What people are shown of their pictures before they train on them: thumbnails with captions, and what is wrong or odd.

Asks the same functions as training does, so that what is shown is what will be trained on. Must not import any host.
"""

import functools
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ..engine import examples as shown
from ..engine.errors import UserError
from .buckets import Fit, choose_bucket
from .caption_files import MetadataCaptions, path_key, read_caption_beside
from .captions import render_fixed
from .config import PictureConfig
from .dataset import Files, Judged, Part, find_masks, judge_pictures, open_parts, read_metadata
from .index import PictureIndex, Seen, choose_cache_folder
from .reading import HEIF_SUFFIXES, SUFFIXES, make_thumbnail, read_size
from .unused import tell_unused

UPLOAD_SUFFIXES = (*SUFFIXES, *HEIF_SUFFIXES, ".txt", ".caption", ".csv", ".jsonl", ".json")

_THUMBNAIL_PIXELS = 160
_LOOK_SECONDS = 15.0  # reading thousands of new pictures to their end takes minutes: the rest is done at the next look
_ENLARGED = 1.1  # times; below that nobody sees it
_CUT_AWAY = 0.25  # of the picture's area
_SHOWN_KINDS = 8
_SHOWN_NOTES = 20


@dataclass(frozen=True)
class _Card:
    """A picture as it is shown, still without its thumbnail."""

    judged: Judged
    use: str  # train, reg, validation
    name: str
    text: str
    wrong: str  # training refuses it
    odd: str  # training takes it
    fit: Fit | None

    @property
    def path(self) -> Path:
        return self.judged.found.path


def look_at_pictures(config: PictureConfig, limit: int = 120) -> shown.DataView:
    """The first pictures, those with problems before the others, and what is to be said about all of them.

    Raises:
        UserError: for a folder that is missing or empty. Pictures that cannot be read are shown as such.
    """
    parts = open_parts(config)
    files, unread = _look_into(parts, config)
    captions = read_metadata(parts, config)
    cards = list(_mark_duplicates(_make_cards(parts, captions, files, config), files))
    first = sorted(cards, key=lambda card: 0 if card.wrong else 1 if card.odd else 2)[:limit]
    said = {problem for card in cards for problem in card.judged.problems}
    judged = {use: [card.judged for card in cards if card.use == use] for use in parts}
    notes = [*_list_others(captions.problems, said, cards), *_make_notes(cards, config), *tell_unused(parts, judged, captions, config)]
    if unread:
        notes.append(f"{unread} pictures are not read to their end yet, only their sizes are known. Look again to go on.")
    return shown.DataView(len(cards), _draw(first), tuple(_make_facts(cards, config)), tuple(notes))


def _look_into(parts: dict[str, Part], config: PictureConfig) -> tuple[Files, int]:
    """What is in the files, and of how many of them only the size is known because reading takes too long."""
    files = Files({}, find_masks(parts, config))
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


def _make_cards(parts: dict[str, Part], captions: MetadataCaptions, files: Files, config: PictureConfig) -> Iterator[_Card]:
    contradictions = {path_key(Path(start)): text for text in captions.problems for start in [text.partition(": ")[0]]}
    for use, part in parts.items():
        for judged in judge_pictures(part, captions, files, config):
            found, seen = judged.found, files.seen[judged.found.path]
            contradiction = contradictions.get(path_key(found.path))
            wrong = [*judged.problems, *([contradiction] if contradiction else [])]
            size = seen.size if isinstance(seen, Seen) else None
            fit = choose_bucket(*size, config) if size else None
            odd = [*_find_oddities(size, fit, config)] if size and fit else []
            if _has_unused_caption(judged):
                odd.append(f"its caption is the one in {judged.source}, not the one beside it.")
            yield _Card(
                judged=judged,
                use=use,
                name=name_picture(found.path, part, use),
                text=render_fixed(judged.caption, config, with_trigger=use != "reg") if judged.caption else "",
                wrong=" ".join(_shorten(text, found.path) for text in wrong),
                odd=" ".join(odd),
                fit=fit,
            )


def _find_oddities(size: tuple[int, int], fit: Fit, config: PictureConfig) -> Iterator[str]:
    (width, height), (scaled_width, scaled_height) = size, fit.scaled
    times = max(scaled_width / width, scaled_height / height)
    if times > _ENLARGED:
        yield f"small: {width}x{height} pixels will be enlarged {times:.1f} times."
    cut = 1 - fit.bucket[0] * fit.bucket[1] / (scaled_width * scaled_height)
    if cut > _CUT_AWAY and config.enable_bucket:
        yield f"long: {cut:.0%} of it will be cut away to fit {fit.bucket[0]}x{fit.bucket[1]}."


def _has_unused_caption(judged: Judged) -> bool:
    """Whether a text file beside the picture says something else than the metadata that goes before it."""
    try:
        beside = read_caption_beside(judged.found.path, judged.found.siblings)
    except UserError:
        return False
    return bool(beside and judged.source and beside[0] != judged.caption)


def _mark_duplicates(cards: Iterator[_Card], files: Files) -> Iterator[_Card]:
    """The cards; those of training pictures that were there before say so."""
    first: dict[str, str] = {}
    for card in cards:
        seen = files.seen[card.path]
        digest = seen.digest if isinstance(seen, Seen) and card.fit and card.use == "train" else ""
        known = first.setdefault(digest, card.name)
        if digest and known != card.name:
            wrong = f"{card.wrong} it is the same picture as {known}.".strip()
            card = replace(card, wrong=wrong)
        yield card


def name_picture(path: Path, part: Part, use: str) -> str:
    """What people are shown: the path within the training folder; of other pictures, with their folder before it."""
    inside = path.relative_to(part.root).as_posix()
    return inside if use == "train" else f"{part.root.name}/{inside}"


def _shorten(problem: str, path: Path) -> str:
    """A problem's sentence as it stands under its picture."""
    return problem.removeprefix(f"{path}: ").replace(f"cannot read the picture {path}: ", "cannot be read: ")


# -- all of them -------------------------------------------------------------------------------------------------------


def _make_facts(cards: Sequence[_Card], config: PictureConfig) -> Iterator[tuple[str, str]]:
    train = [card for card in cards if card.use == "train"]
    yield "pictures", str(len(train))
    folders = Counter((card.judged.found.folder, card.judged.found.repeats) for card in train)
    if len(folders) > 1 or any(repeats > 1 for _, repeats in folders):
        yield "folders", _list_kinds(f"{name} ({count} × {repeats})" for (name, repeats), count in folders.items())
        yield "per epoch with repeats", str(sum(repeats * count for (_, repeats), count in folders.items()))
    written = sum(bool(card.judged.source and card.judged.caption) for card in train)
    yield "with caption", f"{written} of {len(train)}"
    sizes = Counter(card.fit.bucket for card in train if card.fit)
    yield "trained at", _list_kinds(f"{width}x{height} ({count})" for (width, height), count in sizes.most_common())
    usable = sum(not card.wrong for card in train)
    kept_back = min(max(1, round(config.validation_split * usable)), usable - 1) if config.validation_split else 0
    others = Counter(card.use for card in cards)
    for label, count in (("regularisation pictures", others["reg"]), ("for validation", others["validation"] or max(kept_back, 0))):
        if count:
            yield label, str(count)


def _list_kinds(kinds: Iterable[str]) -> str:
    every = list(kinds)
    return ", ".join(every[:_SHOWN_KINDS]) + (" …" if len(every) > _SHOWN_KINDS else "")


def _make_notes(cards: Sequence[_Card], config: PictureConfig) -> Iterator[str]:
    wrong, train = sum(bool(card.wrong) for card in cards), [card for card in cards if card.use == "train"]
    if wrong and config.on_bad_data == "stop":
        yield f"{_count(wrong)} cannot be trained on. Mend that, or set on_bad_data to skip to leave them out."
    elif wrong:
        yield f"{_count(wrong)} cannot be trained on, and will be left out."
    enlarged = sum(card.odd.startswith("small") for card in cards)
    if enlarged:
        yield f"{_count(enlarged)} will be enlarged and come out soft. Use larger ones, a lower resolution, or bucket_no_upscale."
    unwritten = [card.text for card in train if card.judged.caption and not card.judged.source]
    if unwritten:
        texts = _list_kinds(f"'{text}'" for text in dict.fromkeys(unwritten))
        yield f"{_count(len(unwritten))} with no caption will be learned as {texts}."


def _count(number: int) -> str:
    return f"{number} picture{'s' * (number != 1)}"


def _list_others(problems: Sequence[str], said: set[str], cards: Sequence[_Card]) -> list[str]:
    """Problems of metadata files that stand under no picture."""
    keys = {path_key(card.path) for card in cards}
    rest = [text for text in problems if text not in said and path_key(Path(text.partition(": ")[0])) not in keys]
    return rest[:_SHOWN_NOTES] + ([f"and {len(rest) - _SHOWN_NOTES} more"] if len(rest) > _SHOWN_NOTES else [])


# -- thumbnails --------------------------------------------------------------------------------------------------------


def _draw(cards: Sequence[_Card]) -> list[shown.Example]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        thumbnails = pool.map(_find_thumbnail, cards)
        return [
            shown.Example(card.name, card.text, thumbnail, " ".join(filter(None, (card.wrong, card.odd))))
            for card, thumbnail in zip(cards, thumbnails, strict=True)
        ]


def _find_thumbnail(card: _Card) -> bytes:
    """A small JPEG; nothing for a picture that cannot be read."""
    try:
        return _remember_thumbnail(str(card.path), card.path.stat().st_mtime_ns)
    except (UserError, OSError):
        return b""


@functools.lru_cache(maxsize=2000)  # some 5 kB each
def _remember_thumbnail(path: str, changed_ns: int) -> bytes:
    return make_thumbnail(Path(path), _THUMBNAIL_PIXELS)
