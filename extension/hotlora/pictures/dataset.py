"""What an image example is, and reading all of them from folders.

Owns the order in which captions are looked for, what counts as bad data, regularisation pictures and the validation
split. Must not import any host.
"""

import hashlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..engine.errors import UserError
from ..engine.interfaces import Progress
from ..engine.plurals import counted
from .buckets import Fit, choose_bucket
from .caption_files import MetadataCaptions, read_caption_beside
from .config import PictureConfig
from .entries import Source
from .focus import Box, Framings, Point, read_framings
from .folders import Found
from .index import PictureIndex, Seen, choose_cache_folder
from .parts import Part, find_masks, open_parts, read_metadata
from .unused import tell_black_masks, tell_unused

_SHOWN_PROBLEMS = 50
_MASK_TOLERANCE = 0.05  # of the aspect ratio: rounding, not another cut


@dataclass(frozen=True)
class Example:
    """A picture with its caption."""

    path: Path
    caption: str  # as written; see captions.render_caption
    repeats: int  # times an epoch sees it
    is_reg: bool  # a regularisation picture: shows the class without the LoRA
    mask: Path | None
    size: tuple[int, int]  # (width, height) in pixels, upright, of what its crop leaves
    digest: str  # sha256 of the file's bytes
    folder: str  # name of its repeat folder, or of the data folder
    mask_digest: str = ""
    folder_repeats: int = 1  # what the folder's name says, before regularisation pictures are matched to training
    source: int = 0  # place of its folder among the run's
    resolution: int = 0  # that it is trained at
    focus: Point | None = None  # in what its crop leaves: around that it is cut
    crop: Box | None = None  # in pixels, upright; None where all of it is used

    def is_cut_at_random(self, config: PictureConfig) -> bool:
        """Whether another part of it may be kept each time: a focus point goes before `crop: random`."""
        return config.crop == "random" and self.focus is None


@dataclass(frozen=True)
class Dataset:
    """Everything a run trains on and is judged by."""

    train: list[Example]  # with regularisation pictures at the end
    validation: list[Example]
    problems: list[str]  # what was left out, with `on_bad_data: skip`
    sources: list[Source]  # the run's folders
    notes: list[str] = field(default_factory=list)  # what else lies in the folders and is not used

    def fingerprint(self, resolution: int) -> str:
        """SHA-256 over the training pictures' contents, captions, masks, repeats, focus points, crops, and sizes other than ``resolution``,
        in their order; not over where they lie."""
        whole = hashlib.sha256()
        for example in self.train:
            size = () if example.resolution == resolution else (example.resolution,)
            more = (*size, *(said for said in (example.focus, example.crop) if said is not None))
            whole.update(repr((example.digest, example.caption, example.mask_digest, example.repeats, example.is_reg, *more)).encode())
        return whole.hexdigest()

    def count(self, *, is_reg: bool = False) -> int:
        """Pictures of an epoch with repeats: `ss_num_train_images`, `ss_num_reg_images`."""
        return sum(e.repeats for e in self.train if e.is_reg == is_reg)

    def fit(self, example: Example) -> Fit:
        """How it gets into its bucket."""
        return choose_bucket(*example.size, self.sources[example.source].by_resolution[example.resolution])


@dataclass(frozen=True)
class Files:
    """What was found in picture files."""

    seen: dict[Path, Seen | UserError]
    masks: dict[Path, Path]  # picture -> mask
    note: str = ""  # about what was remembered of them
    framings: Framings = field(default_factory=Framings)

    def read(self, path: Path) -> Seen:
        """What a file holds. Raises the UserError of one that cannot be read."""
        seen = self.seen[path]
        if isinstance(seen, UserError):
            raise seen
        return seen

    def list_paths(self, parts: Sequence[Part]) -> list[Path]:
        """Every picture and mask, once."""
        pictures = [found.path for part in parts for found in part.contents.pictures]
        return list(dict.fromkeys([*pictures, *self.masks.values()]))


@dataclass(frozen=True)
class Judged:
    """A picture with its caption, and with what is wrong with it."""

    found: Found
    caption: str  # as written, or what stands in for it
    source: str  # where it is written; empty where nowhere
    problems: list[str]
    example: Example | None  # where nothing is wrong
    lacks_caption: str = ""  # the one of the problems that a trigger word would mend


def read_dataset(config: PictureConfig) -> Dataset:
    """:func:`scan_dataset` without its progress."""
    scan = scan_dataset(config)
    while True:
        try:
            next(scan)
        except StopIteration as end:
            return end.value


def scan_dataset(config: PictureConfig) -> Generator[Progress, None, Dataset]:
    """Look at every picture and caption; yields progress and returns the Dataset.

    Raises:
        UserError: for folders that cannot be used; and, with `on_bad_data: stop`, one that lists everything wrong with
            the data: broken pictures, pictures without caption, files that metadata names but that do not exist,
            duplicates.
    """
    parts = open_parts(config)
    files = yield from _look_at_files(parts, config)
    captions = read_metadata(parts)
    problems = [*captions.problems, *files.framings.problems]
    judged = [judge_pictures(part, captions, files, source) for source, part in enumerate(parts)]
    problems += [problem for pictures in judged for picture in pictures for problem in picture.problems]
    sound: dict[str, list[Example]] = {use: [] for use in ("train", "reg", "validation")}
    for part, pictures in zip(parts, judged, strict=True):
        sound[part.use] += [picture.example for picture in pictures if picture.example]
    train = _drop_duplicates(sound["train"], problems)
    problems = list(dict.fromkeys(problems))
    if problems and config.on_bad_data == "stop":
        raise UserError(f"cannot train on this data: {_list_problems(problems)}\nMend that, or set on_bad_data: skip to go on without.")
    for part, pictures in zip(parts, judged, strict=True):
        if not (part.is_reg or any(picture.example for picture in pictures)):
            raise UserError(f"cannot use {part.root}: none of its pictures can be used. {_list_problems(problems)}")
    validation = [replace(e, repeats=1) for e in sound["validation"]]
    if config.validation_split:
        train, validation = split_validation(train, config.validation_split, config.seed)
    sources = [part.source for part in parts]
    train, validation, reg = (spread_sizes(examples, sources) for examples in (train, validation, sound["reg"]))
    train += match_regularisation(reg, sum(e.repeats for e in train))
    notes = tell_unused(parts, judged, captions, config, framings=files.framings)
    notes += tell_black_masks([e.mask for e in sound["train"] if e.mask and files.read(e.mask).is_black], parts[0].root)
    return Dataset(train, validation, problems, sources, [*notes, *([files.note] if files.note else [])])


def spread_sizes(examples: list[Example], sources: Sequence[Source]) -> list[Example]:
    """Each picture once for each resolution that its folder is trained at."""
    return [replace(e, resolution=size) for e in examples for size in sources[e.source].by_resolution]


def split_validation(examples: list[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """(train, validation): whole pictures, at least one of each, chosen by seed and content; crops of one file are on the same side.

    The choice does not depend on names or order, and a picture that is added moves at most one other across.
    """
    digests = {e.digest for e in examples}
    if len(digests) < 2:
        raise UserError("cannot keep back a validation_split of a single picture. Add pictures, or set validation_split: 0.")
    count = min(max(1, round(share * len(digests))), len(digests) - 1)
    kept_back = set(sorted(digests, key=lambda digest: hashlib.sha256(f"{seed} {digest}".encode()).digest())[:count])
    validation = [replace(e, repeats=1) for e in examples if e.digest in kept_back]
    return [e for e in examples if e.digest not in kept_back], validation


def match_regularisation(examples: list[Example], wanted: int) -> list[Example]:
    """Regularisation pictures repeated or cut off so that there are as many as training pictures, as in sd-scripts."""
    repeats: dict[int, int] = {}
    total = 0
    while examples and total < wanted:
        for place, example in enumerate(examples):
            more = min(1 if place in repeats else example.repeats, wanted - total)
            if more:
                repeats[place] = repeats.get(place, 0) + more
                total += more
    return [replace(examples[place], repeats=times) for place, times in repeats.items()]


def _look_at_files(parts: Sequence[Part], config: PictureConfig) -> Generator[Progress, None, Files]:
    """Read (or remember) every picture and mask."""
    index = PictureIndex(choose_cache_folder(config))
    files = Files({}, find_masks(parts) if config.masked_loss else {}, index.note, read_framings(parts))
    for progress, seen in index.inspect(files.list_paths(parts)):
        files.seen.update(seen)
        yield progress
    return files


class _NoCaption(UserError):
    """Nothing is written, and nothing stands in for it yet."""


def judge_pictures(part: Part, captions: MetadataCaptions, files: Files, source: int = 0) -> list[Judged]:
    """Every picture of a folder. ``source``: its place among the run's."""
    judged = []
    for found in part.contents.pictures:
        problems = _find_problems(files.seen[found.path], files.masks.get(found.path), files)
        caption, written, lacks = "", "", ""
        try:
            caption, written = _find_caption(found, captions)
            caption = caption or _stand_in(found, written, part.source)
        except _NoCaption as error:
            lacks = str(error)
            problems.append(lacks)
        except UserError as error:
            problems.append(str(error))
        example = None if problems else _make_example(found, caption, files, is_reg=part.is_reg, source=source)
        judged.append(Judged(found, caption, written, problems, example, lacks))
    return judged


def _find_caption(found: Found, captions: MetadataCaptions) -> tuple[str, str]:
    """The caption and where it is written: in metadata, or else in a text file beside the picture."""
    row = captions.find(found.path)
    if row:
        return row.caption, row.source
    beside = read_caption_beside(found.path, found.siblings)
    return (beside[0], str(beside[1])) if beside else ("", "")


def _stand_in(found: Found, written: str, source: Source) -> str:
    """What is learned where no caption is written: the folder's class words where they were set, the trigger word, or the class words in
    its name."""
    if written:
        raise UserError(f"{found.path}: its caption in {written} is empty. Write one or remove it.")
    default = source.class_words or ("" if source.is_reg else source.config.trigger_word) or found.class_words
    if default:
        return default
    if source.is_reg:
        raise UserError(f"{found.path}: it has no caption. Write {found.path.stem}.txt, or name its folder as in '1_person'.")
    raise _NoCaption(f"{found.path}: it has no caption. Write {found.path.stem}.txt or metadata.csv, or set trigger_word.")


def _find_problems(seen: Seen | UserError, mask: Path | None, files: Files) -> list[str]:
    """What is wrong with a picture's file and its mask's."""
    mask_seen = files.seen[mask] if mask else None
    problems = [str(result) for result in (seen, mask_seen) if isinstance(result, UserError)]
    if isinstance(seen, Seen) and isinstance(mask_seen, Seen):
        ratio, mask_ratio = (width / height for width, height in (seen.size, mask_seen.size))
        if abs(mask_ratio / ratio - 1) > _MASK_TOLERANCE:
            sizes = "{}x{} and {}x{} pixels".format(*mask_seen.size, *seen.size)
            problems.append(f"{mask}: the mask has another shape than its picture, {sizes}. Draw it again.")
    return problems


def _make_example(found: Found, caption: str, files: Files, *, is_reg: bool, source: int) -> Example:
    seen, mask = files.read(found.path), files.masks.get(found.path)
    framed = files.framings.find(found.path).frame(seen.size)
    return Example(
        path=found.path,
        caption=caption,
        repeats=found.repeats,
        is_reg=is_reg,
        mask=mask,
        size=framed.size,
        digest=seen.digest,
        folder=found.folder,
        mask_digest=files.read(mask).digest if mask else "",
        folder_repeats=found.repeats,
        source=source,
        focus=framed.focus,
        crop=framed.box,
    )


def _drop_duplicates(examples: Iterable[Example], problems: list[str]) -> list[Example]:
    """The first of each content and crop; every other one is a problem."""
    first: dict[tuple[str, Box | None], Example] = {}
    for example in examples:
        known = first.setdefault((example.digest, example.crop), example)
        if known is not example:
            problems.append(f"{example.path}: it is the same picture as {known.path}. Remove one; a repeat folder shows it more often.")
    return list(first.values())


def _list_problems(problems: list[str]) -> str:
    lines = problems[:_SHOWN_PROBLEMS]
    if len(problems) > len(lines):
        lines.append(f"and {len(problems) - len(lines)} more")
    return f"{counted(len(problems), 'problem')}." + "".join(f"\n- {line}" for line in lines)
