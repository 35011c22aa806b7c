"""The album as people work on it: filtered, page by page, changed at once, undone; pictures left out and brought back.

One :class:`PictureEditor` per program. It remembers thumbnails only; everything else is read from the folders at each look, because other
programs write there too. Must not import any host.
"""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..engine.errors import UserError
from ..engine.plurals import by_number, counted
from .album import Card, Cut, find_preview, find_thumbnail, open_album, put_troubled_first
from .borders import plan_without_borders
from .caption_changes import OPERATIONS, Change, make_change, read_change
from .caption_editing import USES, Captioned, find_captioned, list_captions, plan_captions
from .caption_encodings import plan_utf8
from .caption_filter import Described, count_tags, read_filter, split_tags
from .caption_history import CaptionHistory
from .captions import render_fixed
from .config import PictureConfig
from .focus import Crop, Point, plan_framings
from .leaving import bring_back, leave_out, list_left_out
from .masks import Drawing, open_drawing, plan_mask, plan_removal
from .remedies import CUT_BORDERS, LEAVE_OUT, SAVE_UTF8

PAGE = 100
_KEYS = 20_000
_THUMBNAIL_SECONDS = 0.05  # so that no request for them is long; the page asks again for the rest


@dataclass(frozen=True)
class Shown:
    """A picture on the page."""

    name: str
    text: str  # as it is learned; as it is written where the picture is left out
    thumbnail: str  # what to ask for it by
    problem: str = ""  # why it cannot be trained on
    warning: str = ""  # what is odd about it
    tokens: int = 0
    mask: bool = False  # whether there is a file of that
    size: tuple[int, int] | None = None  # in pixels, upright; None where it cannot be read, or is left out
    cuts: Sequence[Cut] = ()  # what its buckets keep, the largest first
    focus: Point | None = None
    crop: Crop | None = None  # all that is used of it
    random: bool = False  # whether another part of it is kept each time, as large as those


@dataclass(frozen=True)
class AlbumPage:
    """What a look shows, and what there is beside it."""

    count: int  # pictures in all, without those that are left out
    names: Sequence[str]  # of all that the filter shows, in their order
    shown: Sequence[Shown]
    start: int
    tags: Sequence[tuple[str, int]]  # of all pictures, the most frequent first
    left_out: int
    steps: int  # that can be undone
    most_tokens: int  # what is beyond is not learned
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = field(default=())


class PictureEditor:
    """Each method raises UserError for what cannot be done; then nothing was changed, unless the sentence says so.

    Args:
        count_tokens: of a caption, as the model's text encoder counts them.
    """

    def __init__(self, count_tokens: Callable[[str], int]):
        self._count_tokens = count_tokens
        self._lock = threading.Lock()  # over whatever is written
        self._secret = secrets.token_bytes(16)
        self._paths: OrderedDict[str, tuple[Path, Crop | None]] = OrderedDict()

    # -- looking -------------------------------------------------------------------------------------------------------

    def look(
        self,
        config: PictureConfig,
        *,
        query: str = "",
        start: int = 0,
        aside: bool = False,
        order: Sequence[str] = (),
        is_kept: bool = False,
    ) -> AlbumPage:
        """One page of what the filter shows.

        Args:
            query: the filter, see ``caption_filter``.
            start: place of a picture of that page among those that the filter shows.
            aside: those that are left out, instead of the others.
            order: names that keep this order, so that a picture stays where it is while it is mended.
            is_kept: those of ``order`` stay in sight, whatever the filter says of them by now.
        """
        album = open_album(config)
        cards = put_troubled_first([self._mark_long(card, config) for card in album.cards])
        described = [_describe(card.name, card.caption, card.part.source.config) for card in cards]
        listed: list[tuple[Described, Any]] = list(zip(described, cards, strict=True))
        if aside:
            listed = [(_describe(name, found.caption, found.config), found) for name, found in list_left_out(config).items()]
        chosen = _choose(listed, query, order, is_kept=is_kept)
        names = [seen.name for seen, _ in chosen]
        start = max(0, min(start, len(names) - 1)) // PAGE * PAGE
        return AlbumPage(
            count=len(album.cards),
            names=names,
            shown=[self._show(seen, picture, config) for seen, picture in chosen[start : start + PAGE]],
            start=start,
            tags=count_tags(described),
            left_out=len(album.left_out),
            steps=CaptionHistory(config).list_steps(),
            most_tokens=_count_most(config),
            facts=album.facts,
            notes=album.notes,
        )

    def _mark_long(self, card: Card, config: PictureConfig) -> Card:
        tokens, most = self._count_tokens(card.text), _count_most(config)
        if not most or tokens <= most:
            return card
        return replace(card, odd=f"{card.odd} {tokens} tokens, and what is beyond {most} is not learned.".strip())

    def _show(self, seen: Described, picture: Card | Captioned, config: PictureConfig) -> Shown:
        if isinstance(picture, Captioned):
            return Shown(seen.name, seen.caption, self._make_key(picture.path))
        framing, key = picture.framing, self._make_key(picture.path, picture.framing.crop)
        tokens, is_random = self._count_tokens(picture.text), config.crop == "random" and framing.focus is None
        shown = Shown(seen.name, picture.text, key, picture.wrong, picture.odd, tokens, picture.has_mask)
        return replace(shown, size=picture.size, cuts=picture.cuts, focus=framing.focus, crop=framing.crop, random=is_random)

    def count_tokens(self, config: PictureConfig, text: str) -> int:
        """Of a caption as it would be learned."""
        return self._count_tokens(render_fixed(text.strip(), config))

    def _make_key(self, path: Path, crop: Crop | None = None) -> str:
        """Nobody guesses it: whoever has it was shown the picture."""
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            changed = 0
        key = hashlib.blake2b(f"{path}\0{changed}\0{crop}".encode("utf-8", "surrogateescape"), key=self._secret, digest_size=12).hexdigest()
        self._paths[key] = path, crop
        while len(self._paths) > _KEYS:
            self._paths.popitem(last=False)
        return key

    def find_thumbnails(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Small JPEGs, empty for what cannot be read (any more): of the first keys, as many as are made in a moment."""
        found: dict[str, bytes] = {}
        until = time.thread_time() + _THUMBNAIL_SECONDS
        for key in keys:
            known = self._paths.get(key)
            found[key] = find_thumbnail(*known) if known else b""
            if time.thread_time() > until:
                break
        return found

    def find_preview(self, key: str) -> bytes:
        """The whole picture as a larger JPEG, to see what is cut off; empty where it cannot be read (any more)."""
        known = self._paths.get(key)
        return find_preview(known[0]) if known else b""

    def list_operations(self) -> list[tuple[str, str]]:
        """(key, label) of what :meth:`change` does."""
        return [(key, operation.label) for key, operation in OPERATIONS.items()]

    def read(self, config: PictureConfig, name: str) -> str:
        """A picture's caption as it is written."""
        return find_captioned(config, name).caption

    def open_mask(self, config: PictureConfig, name: str) -> Drawing:
        """A picture and its mask, to draw on."""
        return open_drawing(config, name)

    # -- changing ------------------------------------------------------------------------------------------------------

    def write(self, config: PictureConfig, name: str, text: str) -> None:
        """One picture's caption."""
        with self._lock:
            found = find_captioned(config, name)
            if found.caption != text.strip():
                CaptionHistory(config).carry_out(f"caption of {name}", plan_captions([(found, text)]))

    def set_focus(self, config: PictureConfig, name: str, point: Any) -> str:
        """Have a picture cut around this point (from the left, from the top; 0 to 1), or around its middle where it is None; returns a
        sentence."""
        self._frame(config, name, "focus point", {"focus": point})
        return "Focus point removed: the middle is kept." if point is None else "Focus point saved."

    def set_crop(self, config: PictureConfig, name: str, crop: Any) -> str:
        """Have nothing of a picture used but what is within this crop (left, top, right, bottom; 0 to 1), or all of it where that is None;
        returns a sentence. Its file stays what it is."""
        self._frame(config, name, "crop", {"crop": crop})
        return "Crop removed: the whole picture is used." if crop is None else "Crop saved."

    def _frame(self, config: PictureConfig, name: str, what: str, said: Mapping[str, Any]) -> None:
        with self._lock:
            picture = list_captions(config, USES, only=name).get(name)
            if picture is None:
                raise UserError(f"cannot set the {what} of '{name}': there is no such picture any more. Look at them again.")
            CaptionHistory(config).carry_out(f"{what} of {name}", plan_framings({picture.path: said}))

    def change(self, config: PictureConfig, values: Mapping[str, Any], names: Sequence[str] | None = None, query: str = "") -> str:
        """Change many captions by one operation; returns what was done, with counts.

        Args:
            values: ``operation``, ``text`` and ``by``, see ``caption_changes.Change``.
            names: of the pictures; all that ``query`` shows, where none are given.
        """
        change = read_change(dict(values))
        with self._lock:
            listed, fits = list_captions(config, USES), read_filter(query)
            if names is None:
                names = [name for name, found in listed.items() if fits(_describe(name, found.caption * found.is_readable, found.config))]
            changes, told = _plan_change(change, {name: listed[name] for name in names if name in listed}, config)
            if changes:
                CaptionHistory(config).carry_out(told, plan_captions(changes))
        return told

    def mend(self, config: PictureConfig, remedy: Mapping[str, Any]) -> str:
        """Carry out what the health report offers (``engine.examples.Remedy``); returns what was done."""
        names = [str(name) for name in remedy.get("names") or ()]
        if remedy.get("operation") == LEAVE_OUT:
            return self.leave_out(config, names)
        if remedy.get("operation") == SAVE_UTF8:
            return self._save_as_utf8(config, names, str(remedy.get("text") or ""))
        if remedy.get("operation") == CUT_BORDERS:
            return self._cut_borders(config, names)
        return self.change(config, remedy, names)

    def _save_as_utf8(self, config: PictureConfig, names: Sequence[str], codec: str) -> str:
        """Files of captions that are in another encoding."""
        with self._lock:
            files = plan_utf8(config, names, codec)
            return self._carry_out_all(config, f"Save as UTF-8: {counted(len(files), 'file')}", files)

    def _cut_borders(self, config: PictureConfig, names: Sequence[str]) -> str:
        """By crops: no picture's file is changed."""
        with self._lock:
            crops = plan_without_borders(config, names)
            return self._carry_out_all(config, f"Cut the borders off: {counted(len(crops), 'picture')}", plan_framings(crops))

    def _carry_out_all(self, config: PictureConfig, told: str, files: Mapping[Path, bytes | None]) -> str:
        if files:
            CaptionHistory(config).carry_out(told, files)
        return f"{told}."

    def write_mask(self, config: PictureConfig, name: str, data: bytes) -> str:
        """One picture's mask; returns what was done. ``data``: a PNG, see ``masks.plan_mask``."""
        with self._lock:
            CaptionHistory(config).carry_out(f"mask of {name}", plan_mask(config, name, data))
        return f"Saved the mask of '{name}'."

    def remove_mask(self, config: PictureConfig, name: str) -> str:
        """The picture has none any more; returns what was done."""
        with self._lock:
            CaptionHistory(config).carry_out(f"mask of {name} removed", plan_removal(config, name))
        return f"Removed the mask of '{name}'."

    def count_steps(self, config: PictureConfig) -> int:
        """How many changes can be undone."""
        return CaptionHistory(config).list_steps()

    def undo(self, config: PictureConfig) -> str:
        """Put back what the last change has changed; returns a sentence."""
        with self._lock:
            return f"Undone: {CaptionHistory(config).undo()}"

    def leave_out(self, config: PictureConfig, names: Sequence[str]) -> str:
        """Move pictures with their captions and masks where they are not trained on; returns a sentence."""
        with self._lock:
            return leave_out(config, names)

    def bring_back(self, config: PictureConfig, names: Sequence[str]) -> str:
        """The reverse."""
        with self._lock:
            return bring_back(config, names)


def _describe(name: str, caption: str, config: PictureConfig) -> Described:
    return Described(name, caption, tuple(split_tags(caption, config.caption_separator)))


def _choose(listed: Sequence[tuple[Described, Any]], query: str, order: Sequence[str], *, is_kept: bool) -> list[tuple[Described, Any]]:
    """Those that the filter shows, or showed when the order was made, in their order."""
    fits, places = read_filter(query), {name: place for place, name in enumerate(order)}
    by_order = is_kept and query.strip() != ""
    chosen = [(seen, picture) for seen, picture in listed if (seen.name in places if by_order else fits(seen))]
    return sorted(chosen, key=lambda pair: places.get(pair[0].name, len(places)))


def _count_most(config: PictureConfig) -> int:
    """The longest caption that the family reads; 0 where it has no such option."""
    return int(getattr(config, "max_token_length", 0))


def _plan_change(change: Change, pictures: Mapping[str, Captioned], config: PictureConfig) -> tuple[list[tuple[Captioned, str]], str]:
    """What is written, and the sentence about it."""
    if not pictures:
        raise UserError("cannot change captions: no picture is chosen. Choose some, or change the filter.")
    operation = OPERATIONS[change.operation]
    fixed = [found for found in pictures.values() if found.refusal]
    reg = [found for found in pictures.values() if found.use == "reg" and change.operation == "trigger" and not found.refusal]
    skipped = {found.path for found in (*fixed, *reg)}
    open_ones = [found for found in pictures.values() if found.path not in skipped]
    configs = {id(found.config): found.config for found in open_ones} or {0: config}  # each folder has its trigger word and separator
    apply = {key: make_change(change, folder) for key, folder in configs.items()}
    planned = [(found, apply[id(found.config)](found.caption)) for found in open_ones]
    changes = [(found, text) for found, text in planned if text != found.caption]
    told = [f"changed {counted(len(changes), 'caption')}"]
    emptied = sum(not text for _, text in changes)
    for count, said in (
        (len(open_ones) - len(changes), operation.kept),
        (emptied, f"{by_number(emptied, 'is', 'are')} empty now"),
        (len(reg), f"of {by_number(len(reg), 'a regularisation picture', 'regularisation pictures')}, without the trigger word on purpose"),
        (len(fixed), f"cannot be changed here ({fixed[0].path.name}: {fixed[0].refusal.rstrip('.')})" if fixed else ""),
    ):
        if count:
            told.append(f"{count} {said}")
    what = f"{operation.label} '{change.text}'" if operation.needs_text else operation.label
    return changes, f"{what}: {'; '.join(told)}."
