"""What in a data set commonly makes a bad LoRA: a report before anybody trains. Each finding says what to do.

What takes a look into a picture (:class:`Measured`) is remembered in the cache folder by content, so that a second report looks only at
what has changed. Pictures are looked at one by one, and of each only some hundred numbers are kept. Must not import any host.
"""

import base64
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..engine.examples import Finding
from ..engine.files import write_text
from ..engine.interfaces import Progress
from .buckets import choose_bucket
from .caption_changes import Change, find_garbled, make_change
from .caption_editing import Captioned, list_captions
from .config import PictureConfig
from .index import PictureIndex, Seen, choose_cache_folder
from .parts import name_picture, open_parts
from .reading import decode_picture, read_bytes
from .remedies import make_remedy, offer_remedies

_LONGEST = 512  # pixels: what is sharp at this size is sharp enough
_SMALL = 16  # a side of what near-duplicates are compared by
_ALIKE = 5.0  # mean difference of grey values of 255
_BLURRED = 0.62  # of Crete's measure, 0 sharp to 1 blurred
_POOR_QUALITY = 30  # of a JPEG, as libjpeg counts it
_ENLARGED, _CUT_AWAY = 1.1, 0.25
_FEWEST = 5  # captions, before anything is said about what they have in common
_SHOWN = 3


@dataclass(frozen=True)
class Measured:
    """What a look into a picture has found."""

    small: bytes  # grey values, _SMALL squared, contrast stretched
    blur: float  # 0 sharp to 1 blurred
    quality: int  # of a JPEG, 1 to 100; 100 for other files


def report_health(config: PictureConfig) -> list[Finding]:
    """:func:`find_health` without its progress."""
    findings: list[Finding] = []
    for _, found in find_health(config):
        findings += found
    return findings


def find_health(config: PictureConfig) -> Iterator[tuple[Progress, list[Finding]]]:
    """Yields how far it is; the findings come at the end.

    Raises:
        UserError: for a folder that cannot be used.
    """
    parts, memory = [part for part in open_parts(config) if part.use != "validation"], _Memory(config)
    owner = {found.path: part for part in parts for found in part.contents.pictures}
    names = {path: name_picture(path, part) for path, part in owner.items()}
    options = {names[path]: part.source.config for path, part in owner.items()}
    seen: dict[str, Seen] = {}
    measured: dict[str, Measured] = {}
    broken: list[str] = []
    try:
        for progress, chunk in PictureIndex(choose_cache_folder(config)).inspect(list(names)):
            for path, result in chunk.items():
                if isinstance(result, Seen):
                    seen[names[path]] = result
                    measured[names[path]] = memory.measure(path, result.digest)
                else:
                    broken.append(names[path])
            yield Progress("looking for what is wrong", progress.done, progress.total), []
        memory.forget_others()
    finally:  # also where nobody waits for the rest
        memory.save()
    trained = {names[path]: seen[names[path]] for path, part in owner.items() if part.use == "train" and names[path] in seen}
    findings = [*_judge_files(broken, trained), *_judge_sizes(seen, options), *_judge_looks(seen, measured)]
    captioned = list_captions(config)
    for folder, captions in _list_captions(captioned):
        findings += _judge_captions(captions, folder)
    folders, fixed = {names[path]: part.root for path, part in owner.items()}, {name for name, found in captioned.items() if found.refusal}
    yield Progress("looking for what is wrong", len(names), len(names)), list(offer_remedies(findings, folders, fixed))


def _list_captions(captioned: Mapping[str, Captioned]) -> Iterator[tuple[PictureConfig, dict[str, str]]]:
    """(what holds for it, its captions by the names of pictures) of each folder to train on: what captions share is a folder's affair."""
    folders: dict[Path, tuple[PictureConfig, dict[str, str]]] = {}
    for name, found in captioned.items():
        _, captions = folders.setdefault(found.part.root, (found.config, {}))
        if found.caption and found.is_readable:
            captions[name] = found.caption
    yield from folders.values()


# -- one picture -------------------------------------------------------------------------------------------------------


class _Memory:
    """What was measured, by content."""

    def __init__(self, config: PictureConfig):
        self._path = choose_cache_folder(config) / "health.json"
        self._known = self._load()
        self._used = dict[str, list]()
        self._changed = False

    def measure(self, path: Path, digest: str) -> Measured:
        known = self._known.get(digest)
        if known is None:
            measured = measure_picture(path)
            known = self._known[digest] = [base64.b64encode(measured.small).decode("ascii"), measured.blur, measured.quality]
            self._changed = True
        self._used[digest] = known
        return Measured(base64.b64decode(known[0]), known[1], known[2])

    def forget_others(self) -> None:
        """What was not asked for is not there any more."""
        self._changed = self._changed or len(self._used) < len(self._known)
        self._known = dict(self._used)

    def save(self) -> None:
        """Where anything is new."""
        if self._changed:
            write_text(self._path, json.dumps(self._known))
            self._changed = False

    def _load(self) -> dict[str, list]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return {digest: entry for digest, entry in content.items() if len(entry) == 3}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # not there or damaged: measured anew


def measure_picture(path: Path) -> Measured:
    """One look into a picture. Raises UserError where it cannot be read."""
    data = read_bytes(path)
    grey = decode_picture(data, path).rgb.convert("L")
    grey.thumbnail((_LONGEST, _LONGEST))
    small = np.asarray(grey.resize((_SMALL, _SMALL), Image.Resampling.BOX), dtype=np.float32)
    low, high = float(small.min()), float(small.max())
    stretched = (small - low) * (255 / max(high - low, 1))
    return Measured(stretched.astype(np.uint8).tobytes(), measure_blur(np.asarray(grey, dtype=np.float32)), _read_quality(data))


def measure_blur(grey: np.ndarray) -> float:
    """How little of the differences between neighbours a blur takes away, 0 (sharp) to 1 (it was blurred already); Crete et al. 2007, "The
    blur effect". ``grey``: [height, width]."""
    shares = []
    for lines in (grey, grey.T):
        if lines.shape[1] < 2 * _SMALL:
            return 0.0
        sums = np.cumsum(lines, axis=1, dtype=np.float64)
        blurred = (sums[:, 9:] - sums[:, :-9]) / 9
        before, after = np.abs(np.diff(lines[:, 5:-4], axis=1)), np.abs(np.diff(blurred, axis=1))
        total = float(before.sum())
        shares.append(1 - float(np.maximum(0, before - after).sum()) / total if total else 0.0)
    return round(max(shares), 3)


def _read_quality(data: bytes) -> int:
    """Of a JPEG by its table of luminance steps, as libjpeg makes it from a quality."""
    with Image.open(io.BytesIO(data)) as picture:
        tables = getattr(picture, "quantization", None)
    if not tables or 0 not in tables:
        return 100
    scale = 100 * sum(tables[0]) / _STANDARD_SUM
    return max(1, min(100, round((200 - scale) / 2 if scale <= 100 else 5000 / scale)))


_STANDARD_SUM = 3688  # of the JPEG standard's luminance table (ITU T.81, table K.1), that of quality 50


# -- all of them -------------------------------------------------------------------------------------------------------


def _judge_files(broken: Sequence[str], trained: Mapping[str, Seen]) -> Iterator[Finding]:
    """Those that training refuses, or leaves out where it may. ``trained``: without regularisation pictures."""
    if broken:
        yield _tell("broken", broken, "cannot be read, and cannot be trained on. Replace them, or leave them out.")
    groups: dict[str, list[str]] = {}
    for name, picture in trained.items():
        groups.setdefault(picture.digest, []).append(name)
    same = [group for group in groups.values() if len(group) > 1]
    if same:
        names, doubles = [name for group in same for name in group], [name for group in same for name in group[1:]]
        yield _tell("same", names, "the same file as another, and cannot be trained on twice. Keep one of each.", doubles)


def _judge_sizes(seen: Mapping[str, Seen], options: Mapping[str, PictureConfig]) -> Iterator[Finding]:
    """``options``: what holds for each picture."""
    small, long = dict[str, float](), list[str]()
    for name, picture in seen.items():
        fit = choose_bucket(*picture.size, options[name])
        times = max(scaled / side for scaled, side in zip(fit.scaled, picture.size, strict=True))
        if times > _ENLARGED:
            small[name] = times
        if 1 - fit.bucket[0] * fit.bucket[1] / (fit.scaled[0] * fit.scaled[1]) > _CUT_AWAY:
            long.append(name)
    if small:
        worst = f"up to {max(small.values()):.1f} times"
        said = f"smaller than the training size, enlarged {worst}. Use larger ones, a lower resolution, or bucket_no_upscale."
        yield _tell("small", [*small], said)
    if long:
        yield _tell("cut", long, f"cut by more than {_CUT_AWAY:.0%} to fit a bucket. Crop them yourself, or raise max_bucket_reso.")


def _judge_looks(seen: Mapping[str, Seen], measured: Mapping[str, Measured]) -> Iterator[Finding]:
    blurred = [name for name, found in measured.items() if found.blur > _BLURRED]
    poor = [name for name, found in measured.items() if found.quality < _POOR_QUALITY]
    if blurred:
        yield _tell("blurred", blurred, "blurred, and a LoRA learns that. Take sharper ones, or leave them out.")
    if poor:
        yield _tell("jpeg", poor, f"JPEGs of a quality below {_POOR_QUALITY}: their artefacts are learned. Take the originals.")
    for group in _group_alike(seen, measured):
        said = "nearly the same picture, and count as often. Keep the best, or give them different repeats."
        yield _tell("alike", group, said, _list_worse(group, seen, measured))


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


def _judge_captions(captions: Mapping[str, str], config: PictureConfig) -> Iterator[Finding]:
    garbled = [name for name, caption in captions.items() if find_garbled(caption)]
    if garbled:
        said = "captions with garbled letters. Mend them, or save them anew as UTF-8."
        yield _tell("encoding", garbled, said, _list_changed("letters", captions, config))
    same = defaultdict(list)
    for name, caption in captions.items():
        same[caption].append(name)
    for caption, names in same.items():
        if len(names) >= _FEWEST:
            yield _tell(
                "identical", names, f"captioned '{_shorten(caption)}', all the same. Say what differs, or use a trigger word alone."
            )
    yield from _judge_tags(captions, config)


def _judge_tags(captions: Mapping[str, str], config: PictureConfig) -> Iterator[Finding]:
    """Of captions that are lists of tags: one that all have, or that nearly all begin with."""
    separator = config.caption_separator
    tags = {name: [tag.strip() for tag in caption.split(separator) if tag.strip()] for name, caption in captions.items()}
    tags = {name: listed for name, listed in tags.items() if len(listed) > 1}
    doubled = _list_changed("drop_doubles", {name: captions[name] for name in tags}, config)
    if doubled:
        yield _tell("doubles", doubled, "captions that say the same tag twice. Remove the second one.")
    if len(tags) < max(_FEWEST, len(captions) // 2):
        return
    counts, trigger = Counter(tag for listed in tags.values() for tag in set(listed)), config.trigger_word.strip()
    first, times = Counter(listed[0] for listed in tags.values()).most_common(1)[0]
    everywhere = [tag for tag, count in counts.items() if count == len(tags) and tag != trigger]
    for tag in everywhere:
        said = (
            f"have the tag '{_shorten(tag)}', every one: it comes to mean all that they share. Make it the trigger word, or leave it out."
        )
        yield _tell("everywhere", [*tags], said, [*tags] if tag != first else [], tag)  # what all begin with is a trigger word
    without = [name for name, listed in tags.items() if first not in listed]
    if 0 < len(without) <= len(tags) // 5 and times >= len(tags) - len(without) and first != trigger:
        said = f"without '{_shorten(first)}', which all others begin with. Set it as trigger_word, or add it."
        yield _tell("trigger", without, said, text=first)


def _list_changed(operation: str, captions: Mapping[str, str], config: PictureConfig) -> list[str]:
    """Whose captions an operation would change."""
    change = make_change(Change(operation), config)
    return [name for name, caption in captions.items() if change(caption) != caption]


def _tell(kind: str, names: Sequence[str], said: str, mended: Iterable[str] | None = None, text: str = "") -> Finding:
    """``mended``: the pictures that the remedy changes, where those are not all."""
    listed = ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
    remedy = make_remedy(kind, list(names if mended is None else mended), text)
    return Finding(kind, f"{len(names)} picture{'s' * (len(names) != 1)} ({listed}): {said}", tuple(names), remedy)


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
