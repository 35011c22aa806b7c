"""What an image example is, and reading all of them from folders.

Owns the order in which captions are looked for, what counts as bad data, regularisation pictures and the validation
split. Must not import any host.
"""

import hashlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..engine.errors import UserError
from ..engine.interfaces import Progress
from .buckets import Fit, bucket_info
from .caption_files import MetadataCaptions, path_key, read_caption_beside
from .captions import tag_frequency
from .config import PictureConfig
from .folders import Contents, Found, Masks, list_contents, open_folder, require_pictures, suggest_name
from .index import PictureIndex, Seen, choose_cache_folder
from .unused import tell_unused

_SHOWN_PROBLEMS = 50
_MASK_TOLERANCE = 0.05  # of the aspect ratio: rounding, not another cut

_OPTIONS = {"train": "train_data_dir", "reg": "reg_data_dir", "validation": "validation_dir"}  # of a data folder, by its use


@dataclass(frozen=True)
class Example:
    """A picture with its caption."""

    path: Path
    caption: str  # as written; see captions.render_caption
    repeats: int  # times an epoch sees it
    is_reg: bool  # a regularisation picture: shows the class without the LoRA
    mask: Path | None
    size: tuple[int, int]  # (width, height) in pixels, upright
    digest: str  # sha256 of the file's bytes
    folder: str  # name of its repeat folder, or of the data folder
    mask_digest: str = ""
    folder_repeats: int = 1  # what the folder's name says, before regularisation pictures are matched to training


@dataclass(frozen=True)
class Dataset:
    """Everything a run trains on and is judged by."""

    train: list[Example]  # with regularisation pictures at the end
    validation: list[Example]
    problems: list[str]  # what was left out, with `on_bad_data: skip`
    notes: list[str] = field(default_factory=list)  # what else lies in the folders and is not used

    def fingerprint(self) -> str:
        """SHA-256 over the training pictures' contents, captions, masks and repeats, in their order; not over where they lie."""
        whole = hashlib.sha256()
        for example in self.train:
            whole.update(repr((example.digest, example.caption, example.mask_digest, example.repeats, example.is_reg)).encode())
        return whole.hexdigest()

    def count(self, *, is_reg: bool = False) -> int:
        """Pictures of an epoch with repeats: `ss_num_train_images`, `ss_num_reg_images`."""
        return sum(e.repeats for e in self.train if e.is_reg == is_reg)

    def folders(self, *, is_reg: bool = False) -> dict[str, dict[str, int]]:
        """kohya's `ss_dataset_dirs` and `ss_reg_dataset_dirs`; folders of the same name are counted together."""
        folders: dict[str, dict[str, int]] = {}
        for example in self.train:
            if example.is_reg == is_reg:
                folders.setdefault(example.folder, {"n_repeats": example.folder_repeats, "img_count": 0})["img_count"] += 1
        return folders

    def tags(self, config: PictureConfig) -> dict[str, dict[str, int]]:
        """kohya's `ss_tag_frequency`, of the pictures that the LoRA learns from (no regularisation pictures)."""
        return tag_frequency(((e.folder, e.caption) for e in self.train if not e.is_reg), config)

    def buckets(self, fits: list[Fit]) -> dict[str, Any]:
        """kohya's `ss_bucket_info`, for the fits of ``train`` in its order."""
        return bucket_info([e.size for e in self.train], fits, [e.repeats for e in self.train])


@dataclass(frozen=True)
class Part:
    """One of the run's data folders."""

    root: Path
    contents: Contents
    is_reg: bool = False


@dataclass(frozen=True)
class Files:
    """What was found in picture files."""

    seen: dict[Path, Seen | UserError]
    masks: dict[Path, Path]  # picture -> mask
    note: str = ""  # about what was remembered of them

    def read(self, path: Path) -> Seen:
        """What a file holds. Raises the UserError of one that cannot be read."""
        seen = self.seen[path]
        if isinstance(seen, UserError):
            raise seen
        return seen

    def list_paths(self, parts: dict[str, Part]) -> list[Path]:
        """Every picture and mask, once."""
        pictures = [found.path for part in parts.values() for found in part.contents.pictures]
        return list(dict.fromkeys([*pictures, *self.masks.values()]))


@dataclass(frozen=True)
class Judged:
    """A picture with its caption, and with what is wrong with it."""

    found: Found
    caption: str  # as written, or what stands in for it
    source: str  # where it is written; empty where nowhere
    problems: list[str]
    example: Example | None  # where nothing is wrong


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
    captions = read_metadata(parts, config)
    problems = list(captions.problems)
    judged = {name: judge_pictures(part, captions, files, config) for name, part in parts.items()}
    problems += [problem for pictures in judged.values() for picture in pictures for problem in picture.problems]
    sound = {name: [picture.example for picture in pictures if picture.example] for name, pictures in judged.items()}
    train = _drop_duplicates(sound["train"], problems)
    problems = list(dict.fromkeys(problems))
    if problems and config.on_bad_data == "stop":
        raise UserError(f"cannot train on this data: {_list_problems(problems)}\nMend that, or set on_bad_data: skip to go on without.")
    for name in ("train", "validation"):
        if name in parts and not sound[name]:
            raise UserError(f"cannot use {parts[name].root}: none of its pictures can be used. {_list_problems(problems)}")
    validation = [replace(e, repeats=1) for e in sound.get("validation", [])]
    if config.validation_split:
        train, validation = split_validation(train, config.validation_split, config.seed)
    train += match_regularisation(sound.get("reg", []), sum(e.repeats for e in train))
    notes = [files.note] if files.note else []
    return Dataset(train, validation, problems, [*tell_unused(parts, judged, captions, config), *notes])


def split_validation(examples: list[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """(train, validation): whole pictures, at least one of each, chosen by seed and content.

    The choice does not depend on names or order, and a picture that is added moves at most one other across.
    """
    if len(examples) < 2:
        raise UserError("cannot keep back a validation_split of a single picture. Add pictures, or set validation_split: 0.")
    count = min(max(1, round(share * len(examples))), len(examples) - 1)
    ranked = sorted(examples, key=lambda e: hashlib.sha256(f"{seed} {e.digest}".encode()).digest())
    kept_back = {e.path for e in ranked[:count]}
    validation = [replace(e, repeats=1) for e in examples if e.path in kept_back]
    return [e for e in examples if e.path not in kept_back], validation


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


def find_roots(config: PictureConfig) -> dict[str, Path]:
    """The run's data folders by their use: train, reg, validation. Raises UserError for one that is not there, or has two uses."""
    if not config.train_data_dir:
        raise UserError("cannot train without pictures: train_data_dir is empty. Set it to the folder with the pictures.")
    roots = {name: open_folder(getattr(config, o), o) for name, o in _OPTIONS.items() if getattr(config, o)}
    owner: dict[str, str] = {}
    for name, root in roots.items():
        if owner.setdefault(path_key(root), name) != name:
            first = _OPTIONS[owner[path_key(root)]]
            raise UserError(f"cannot use {root} as {_OPTIONS[name]}: it is {first} already. Set another folder.")
    return roots


def open_parts(config: PictureConfig) -> dict[str, Part]:
    """What is in each of them. Raises UserError for one that cannot be used."""
    roots = find_roots(config)
    others = [Path(p) for p in (config.mask_dir, config.output_dir, config.cache_dir) if p]
    parts = {}
    for name, root in roots.items():
        contents = list_contents(root, [*roots.values(), *others])
        require_pictures(contents, root, _OPTIONS[name])
        parts[name] = Part(root, contents, is_reg=name == "reg")
    return parts


def _look_at_files(parts: dict[str, Part], config: PictureConfig) -> Generator[Progress, None, Files]:
    """Read (or remember) every picture and mask."""
    index = PictureIndex(choose_cache_folder(config))
    files = Files({}, find_masks(parts, config), index.note)
    for progress, seen in index.inspect(files.list_paths(parts)):
        files.seen.update(seen)
        yield progress
    return files


def find_masks(parts: dict[str, Part], config: PictureConfig) -> dict[Path, Path]:
    """Picture -> its mask, by their names."""
    masks = Masks(open_folder(config.mask_dir, "mask_dir") if config.mask_dir else None)
    pairs = {f.path: masks.find(f.path, part.root) for part in parts.values() if not part.is_reg for f in part.contents.pictures}
    return {picture: mask for picture, mask in pairs.items() if mask}


def read_metadata(parts: dict[str, Part], config: PictureConfig) -> MetadataCaptions:
    """All metadata files; one that the config names stands in for those in the training folder."""
    captions = MetadataCaptions(part.root for part in parts.values())
    root = parts["train"].root
    if config.metadata_path:
        captions.read(find_metadata(config.metadata_path, root), root)
    for name, part in parts.items():
        if name != "train" or not config.metadata_path:
            for path in part.contents.metadata:
                captions.read(path)
    return captions


def find_metadata(value: str, root: Path) -> Path:
    """The file that ``metadata_path`` names, maybe in the training folder. Raises UserError where there is none."""
    path = Path(value).expanduser()
    if not path.is_file() and (root / path).is_file():
        path = root / path
    if not path.is_file():
        raise UserError(f"cannot read captions from {path}: there is no such file.{suggest_name(path)} Correct metadata_path.")
    return path


def judge_pictures(part: Part, captions: MetadataCaptions, files: Files, config: PictureConfig) -> list[Judged]:
    """Every picture of a folder."""
    judged = []
    for found in part.contents.pictures:
        problems = _find_problems(files.seen[found.path], files.masks.get(found.path), files)
        caption, source = "", ""
        try:
            caption, source = _find_caption(found, captions)
            caption = caption or _stand_in(found, source, config, is_reg=part.is_reg)
        except UserError as error:
            problems.append(str(error))
        example = None if problems else _make_example(found, caption, files, is_reg=part.is_reg)
        judged.append(Judged(found, caption, source, problems, example))
    return judged


def _find_caption(found: Found, captions: MetadataCaptions) -> tuple[str, str]:
    """The caption and where it is written: in metadata, or else in a text file beside the picture."""
    row = captions.find(found.path)
    if row:
        return row.caption, row.source
    beside = read_caption_beside(found.path, found.siblings)
    return (beside[0], str(beside[1])) if beside else ("", "")


def _stand_in(found: Found, source: str, config: PictureConfig, *, is_reg: bool) -> str:
    """What is learned where no caption is written: the trigger word, or else the folder's class words."""
    if source:
        raise UserError(f"{found.path}: its caption in {source} is empty. Write one or remove it.")
    default = found.class_words if is_reg else config.trigger_word or found.class_words
    if default:
        return default
    if is_reg:
        raise UserError(f"{found.path}: it has no caption. Write {found.path.stem}.txt, or name its folder as in '1_person'.")
    raise UserError(f"{found.path}: it has no caption. Write {found.path.stem}.txt or metadata.csv, or set trigger_word.")


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


def _make_example(found: Found, caption: str, files: Files, *, is_reg: bool) -> Example:
    seen, mask = files.read(found.path), files.masks.get(found.path)
    return Example(
        path=found.path,
        caption=caption,
        repeats=found.repeats,
        is_reg=is_reg,
        mask=mask,
        size=seen.size,
        digest=seen.digest,
        folder=found.folder,
        mask_digest=files.read(mask).digest if mask else "",
        folder_repeats=found.repeats,
    )


def _drop_duplicates(examples: Iterable[Example], problems: list[str]) -> list[Example]:
    """The first of each content; every other one is a problem."""
    first: dict[str, Example] = {}
    for example in examples:
        known = first.setdefault(example.digest, example)
        if known is not example:
            problems.append(f"{example.path}: it is the same picture as {known.path}. Remove one; a repeat folder shows it more often.")
    return list(first.values())


def _list_problems(problems: list[str]) -> str:
    lines = problems[:_SHOWN_PROBLEMS]
    if len(problems) > len(lines):
        lines.append(f"and {len(problems) - len(lines)} more")
    return f"{len(problems)} problem{'s' * (len(problems) != 1)}." + "".join(f"\n- {line}" for line in lines)
