"""What in a data set commonly makes a bad LoRA: a report before anybody trains. Each finding says what to do.

What takes a look into a picture (``measuring``) is remembered in the cache folder by content, so that a second report looks only at
what has changed. Pictures are looked at some at a time, and of each only some hundred numbers are kept. Captions are judged in
``caption_health``. Must not import any host.
"""

import base64
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import shorten

import numpy as np

from ..engine.examples import Finding
from ..engine.files import write_text
from ..engine.interfaces import Progress
from ..engine.plurals import by_number
from .buckets import choose_bucket
from .caption_health import judge_captions
from .config import PictureConfig
from .focus import Framing, read_framings
from .index import PictureIndex, Seen, choose_cache_folder
from .measuring import Measured, measure_picture
from .ocr import TextReader, choose_read
from .parts import Part, name_picture, open_parts
from .reading import read_picture
from .remedies import make_finding, offer_remedies

_ALIKE = 5.0  # mean difference of grey values of 255
_BLURRED = 0.62  # of Crete's measure, 0 sharp to 1 blurred
_POOR_QUALITY = 30  # of a JPEG, as libjpeg counts it
_ENLARGED, _CUT_AWAY = 1.1, 0.25
_SHOWN_BUCKETS, _SHOWN_TEXT = 12, 40
_VERSION = 3  # of what is remembered


def report_health(config: PictureConfig, count_tokens: Callable[[str], int] | None = None) -> list[Finding]:
    """:func:`find_health` without its progress and notes."""
    return [finding for _, found in find_health(config, count_tokens) for finding in found if not finding.is_note]


def find_health(config: PictureConfig, count_tokens: Callable[[str], int] | None = None) -> Iterator[tuple[Progress, list[Finding]]]:
    """Yields how far it is; the findings come at the end.

    Args:
        count_tokens: of a caption, as the model's text encoder counts them; nothing is said of their number without it.

    Raises:
        UserError: for a folder that cannot be used.
    """
    parts, reader = [part for part in open_parts(config) if part.use != "validation"], TextReader()
    owner = {found.path: part for part in parts for found in part.contents.pictures}
    names = {path: name_picture(path, part) for path, part in owner.items()}
    options = {names[path]: part.source.config for path, part in owner.items()}
    framings = read_framings(parts)
    seen: dict[str, Seen] = {}
    measured: dict[str, Measured] = {}
    broken: list[str] = []
    memory, read = _Memory(config, reader), choose_read(sorted(names.values()))
    try:
        for progress, chunk in PictureIndex(choose_cache_folder(config)).inspect(list(names)):
            for path, result in chunk.items():
                if isinstance(result, Seen):
                    framing = framings.find(path)
                    seen[names[path]] = left = _frame(result, framing)
                    measured[names[path]] = memory.measure(path, framing, left.digest, reads=names[path] in read)
                else:
                    broken.append(names[path])
            yield Progress("looking for what is wrong", progress.done, progress.total), []
        memory.forget_others()
    finally:  # also where nobody waits for the rest
        memory.save()
    trained = {names[path]: seen[names[path]] for path, part in owner.items() if part.use == "train" and names[path] in seen}
    cut_by_hand = {name for path, name in names.items() if framings.find(path).focus}
    findings = [*_judge_files(broken, trained), *_judge_sizes(seen, options, cut_by_hand), *_judge_looks(seen, measured)]
    judged, fixed = judge_captions(config, count_tokens)
    folders = {names[path]: part.root for path, part in owner.items()}
    findings = [*offer_remedies([*findings, *judged], folders, fixed), *_tell_shapes(trained, names, owner, config)]
    findings += _tell_unread(reader, len(read), len(names))
    yield Progress("looking for what is wrong", len(names), len(names)), findings


# -- one picture -------------------------------------------------------------------------------------------------------


def _frame(seen: Seen, framing: Framing) -> Seen:
    """What is left of it, as a picture of its own."""
    framed = framing.frame(seen.size)
    return Seen(f"{seen.digest} {framed.box}" if framed.box else seen.digest, framed.size)


class _Memory:
    """What was measured, by content and crop."""

    def __init__(self, config: PictureConfig, reader: TextReader):
        self._path = choose_cache_folder(config) / "health.json"
        self._reader = reader
        self._known = self._load()
        self._used = dict[str, list]()
        self._changed = False

    def measure(self, path: Path, framing: Framing, digest: str, *, reads: bool) -> Measured:
        known = self._known.get(digest)
        if known is None:
            found = measure_picture(path, framing)
            small = base64.b64encode(found.small).decode("ascii")
            known = self._known[digest] = [small, found.blur, found.quality, list(found.bars), found.moves, None]
            self._changed = True
        if reads and known[-1] is None and not self._reader.trouble:
            known[-1] = self._reader.read(framing.cut(read_picture(path)).rgb)
            self._changed = True
        self._used[digest] = known
        small, blur, quality, bars, moves, text = known
        return Measured(base64.b64decode(small), blur, quality, tuple(bars), moves, text or "")

    def forget_others(self) -> None:
        """What was not asked for is not there any more."""
        self._changed = self._changed or len(self._used) < len(self._known)
        self._known = dict(self._used)

    def save(self) -> None:
        """Where anything is new."""
        if self._changed:
            write_text(self._path, json.dumps({"version": _VERSION, "pictures": self._known}))
            self._changed = False

    def _load(self) -> dict[str, list]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            known = content["pictures"].items() if content["version"] == _VERSION else ()
            return {digest: entry for digest, entry in known if len(entry) == 6}
        except (OSError, ValueError, AttributeError, TypeError, KeyError):
            return {}  # not there or damaged: measured anew


# -- all of them -------------------------------------------------------------------------------------------------------


def _judge_files(broken: Sequence[str], trained: Mapping[str, Seen]) -> Iterator[Finding]:
    """Those that training refuses, or leaves out where it may. ``trained``: without regularisation pictures."""
    if broken:
        it = by_number(len(broken), "it", "them")
        yield make_finding("broken", broken, f"cannot be read, and cannot be trained on. Replace {it}, or leave {it} out.")
    groups: dict[str, list[str]] = {}
    for name, picture in trained.items():
        groups.setdefault(picture.digest, []).append(name)
    same = [group for group in groups.values() if len(group) > 1]
    if same:
        names, doubles = [name for group in same for name in group], [name for group in same for name in group[1:]]
        yield make_finding("same", names, "the same file as another, and cannot be trained on twice. Keep one of each.", doubles)


def _judge_sizes(seen: Mapping[str, Seen], options: Mapping[str, PictureConfig], cut_by_hand: Collection[str]) -> Iterator[Finding]:
    """``options``: what holds for each picture; ``cut_by_hand``: those of which somebody has said what is to be kept."""
    small, long = dict[str, float](), list[str]()
    for name, picture in seen.items():
        fit = choose_bucket(*picture.size, options[name])
        times = max(scaled / side for scaled, side in zip(fit.scaled, picture.size, strict=True))
        if times > _ENLARGED:
            small[name] = times
        if name not in cut_by_hand and 1 - fit.bucket[0] * fit.bucket[1] / (fit.scaled[0] * fit.scaled[1]) > _CUT_AWAY:
            long.append(name)
    if small:
        worst = f"{by_number(len(small), '', 'up to ')}{max(small.values()):.1f} times"
        larger = by_number(len(small), "a larger one", "larger ones")
        said = f"smaller than the training size, enlarged {worst}. Use {larger}, a lower resolution, or bucket_no_upscale."
        yield make_finding("small", [*small], said)
    if long:
        point = by_number(len(long), "a focus point or a crop", "focus points or crops")
        said = f"cut by more than {_CUT_AWAY:.0%} to fit a bucket. Set {point} in the album, or raise max_bucket_reso."
        yield make_finding("cut", long, said)


def _judge_looks(seen: Mapping[str, Seen], measured: Mapping[str, Measured]) -> Iterator[Finding]:
    blurred = [name for name, found in measured.items() if found.blur > _BLURRED]
    poor = [name for name, found in measured.items() if found.quality < _POOR_QUALITY]
    if blurred:
        instead = by_number(len(blurred), "a sharper one, or leave it out", "sharper ones, or leave them out")
        yield make_finding("blurred", blurred, f"blurred, and a LoRA learns that. Take {instead}.")
    if poor:
        yield make_finding(
            "jpeg", poor, f"of a JPEG quality below {_POOR_QUALITY}, whose artefacts are learned. Take what the file was made from."
        )
    framed = [name for name, found in measured.items() if any(found.bars)]
    if framed:
        it = by_number(len(framed), "it", "them")
        yield make_finding("borders", framed, f"with a frame, or bars of one colour, which a LoRA learns. Crop {it} to what is inside.")
    moving = [name for name, found in measured.items() if found.moves]
    if moving:
        yield make_finding("moving", moving, "of several pictures, of which the first is learned. Save the best one as PNG instead.")
    written = {name: found.text for name, found in measured.items() if found.text}
    if written:
        common = shorten(Counter(written.values()).most_common(1)[0][0], _SHOWN_TEXT, placeholder=" …")
        said = f"with text or a watermark, such as '{common}', which a LoRA learns. Crop it, paint it over, or mask it out."
        yield make_finding("text", [*written], said)
    for group in _group_alike(seen, measured):
        said = "nearly the same picture, and count as often. Keep the best, or give them different repeats."
        yield make_finding("alike", group, said, _list_worse(group, seen, measured))


def _list_worse(group: Sequence[str], seen: Mapping[str, Seen], measured: Mapping[str, Measured]) -> list[str]:
    """All but the best one: the largest; of those as large the sharpest; of those as sharp the one of the best JPEG quality."""

    def rate(name: str) -> tuple[float, ...]:
        (width, height), look = seen[name].size, measured[name]
        return width * height, -look.blur, look.quality

    best = max(group, key=rate)
    return [name for name in group if name != best]


def _group_alike(seen: Mapping[str, Seen], measured: Mapping[str, Measured]) -> list[list[str]]:
    """Pictures of nearly the same content; the same content is refused elsewhere."""
    names = [name for name, found in measured.items() if len(set(found.small)) > 1]
    if len(names) < 2:
        return []
    smalls = np.stack([np.frombuffer(measured[name].small, dtype=np.uint8) for name in names]).astype(np.int16)
    means = smalls.mean(axis=1)
    order, groups, taken = np.argsort(means), [], set[int]()
    for place, one in enumerate(order):
        if one in taken:
            continue
        last = int(np.searchsorted(means[order], means[one] + _ALIKE))  # further ones differ by more in the mean alone
        others = order[place + 1 : last]
        near = others[np.abs(smalls[others] - smalls[one]).mean(axis=1) < _ALIKE] if len(others) else others
        alike = [int(i) for i in near if i not in taken and seen[names[i]].digest != seen[names[one]].digest]
        if alike:
            taken.update(alike)
            groups.append(sorted([names[one], *(names[i] for i in alike)]))
    return groups


def _tell_unread(reader: TextReader, read: int, count: int) -> Iterator[Finding]:
    if reader.trouble:
        said = f"Text and watermarks in pictures were not looked for: {reader.trouble}."
    elif read < count:
        said = f"Text and watermarks were looked for in {read} of {count} pictures, because that takes about a second each."
    else:
        return
    yield Finding("unread", said, (), is_note=True)


def _tell_shapes(
    trained: Mapping[str, Seen], names: Mapping[Path, str], owner: Mapping[Path, Part], config: PictureConfig
) -> Iterator[Finding]:
    """In which buckets the pictures are, where those are several, and which make no full batch."""
    buckets: Counter[tuple[int, int]] = Counter()
    for path, part in owner.items():
        if names[path] in trained:
            fits = (choose_bucket(*trained[names[path]].size, options) for options in part.source.by_resolution.values())
            buckets.update(fit.bucket for fit in fits)
    if len(buckets) < 2:
        return
    listed = [f"{width}x{height} ({count})" for (width, height), count in buckets.most_common()]
    shown = ", ".join(listed[:_SHOWN_BUCKETS]) + (" …" if len(listed) > _SHOWN_BUCKETS else "")
    said = f"Shapes that are trained at, and how many pictures each: {shown}."
    alone = sum(count == 1 for count in buckets.values())
    if alone:
        said += f" {alone} of these {len(buckets)} {by_number(alone, 'has', 'have')} a single picture."
    if alone and config.batch_size > 1:
        said += f" Batches of {config.batch_size} are never full there: crop those few to a shape that others have."
    yield Finding("shapes", said, (), is_note=True)
