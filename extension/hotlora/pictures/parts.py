"""What lies in a run's folders: pictures, the masks that belong to them, and their metadata files.

Looks at names only, never into pictures. Must not import any host.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import UserError
from .caption_files import MetadataCaptions, path_key
from .config import PictureConfig
from .entries import Source, list_sources
from .folders import Contents, Masks, list_contents, open_folder, require_pictures, suggest_name


@dataclass(frozen=True)
class Part:
    """One of the run's data folders."""

    source: Source
    contents: Contents
    label: str  # before the names of its pictures; empty for the run's own folder, whose names stay what they are

    @property
    def root(self) -> Path:
        return self.source.root

    @property
    def use(self) -> str:
        return self.source.use

    @property
    def is_reg(self) -> bool:
        return self.source.is_reg


def find_sources(config: PictureConfig) -> list[Source]:
    """The run's data folders. Raises UserError for one that is not there, or has two uses."""
    sources = list_sources(config)
    if not any(source.use == "train" for source in sources):
        if config.datasets:
            raise UserError("cannot train without pictures: datasets has regularisation only. Add a folder to train on.")
        raise UserError("cannot train without pictures: train_data_dir is empty. Set it to the folder with the pictures.")
    owner: dict[str, Source] = {}
    for source in sources:
        open_folder(str(source.root), source.option)
        first = owner.setdefault(path_key(source.root), source)
        if first is not source:
            several = " One entry is enough: repeats and resolutions say how often, and how large." if config.datasets else ""
            raise UserError(f"cannot use {source.root} as {source.option}: it is {first.option} already. Set another folder.{several}")
    return sources


def open_parts(config: PictureConfig) -> list[Part]:
    """What is in each of them. Raises UserError for one that cannot be used."""
    sources = find_sources(config)
    others = [Path(p) for p in (config.output_dir, config.cache_dir, *(source.config.mask_dir for source in sources)) if p]
    parts, labels = list[Part](), set[str]()
    is_only = sum(source.use == "train" for source in sources) == 1
    for source in sources:
        contents = list_contents(source.root, [*(other.root for other in sources), *others], source.repeats)
        require_pictures(contents, source.root, source.option)
        is_plain = source.option == "train_data_dir" or (source.use == "train" and is_only)
        if is_plain and len(sources) > 1:
            labels.update(found.path.relative_to(source.root).parts[0] for found in [*contents.pictures, *contents.left_out])
        parts.append(Part(source, contents, "" if is_plain else _name_once(source.root.resolve().name, labels)))
    return parts


def _name_once(name: str, taken: set[str]) -> str:
    """The name; 'name (2)' and so on where it is taken."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name} ({number})", number + 1
    taken.add(found)
    return found


def name_picture(path: Path, part: Part) -> str:
    """What people are shown: the path within the folder; of a folder beside the run's own, with the folder before it."""
    inside = path.relative_to(part.root).as_posix()
    return f"{part.label}/{inside}" if part.label else inside


def find_masks(parts: Sequence[Part]) -> dict[Path, Path]:
    """Picture -> its mask, by their names, whether or not masks are learned by.

    Raises:
        UserError: for a mask that pictures of two folders claim.
    """
    pairs, owner = dict[Path, Path](), dict[Path, Part]()
    folders = {part.source.mask_folder: open_masks(part.source) for part in parts if not part.is_reg}
    for part in parts:
        for found in () if part.is_reg else part.contents.pictures:
            mask = folders[part.source.mask_folder].find(found.path, part.root)
            if not mask:
                continue
            pairs[found.path] = mask
            first = owner.setdefault(mask, part)
            if first is not part:
                both = f"{first.root} and {part.root} both have a picture of that name"
                raise UserError(f"cannot tell whose mask {mask} is: {both}. Give each its own mask_dir in datasets.")
    return pairs


def open_masks(source: Source) -> Masks:
    """What may be the masks of that folder's pictures. Raises UserError where its `mask_dir` is not there."""
    if source.config.mask_dir:
        return Masks(open_folder(source.config.mask_dir, "mask_dir"))
    return Masks(source.mask_folder if source.mask_folder.is_dir() else None)


def read_metadata(parts: Sequence[Part]) -> MetadataCaptions:
    """All metadata files; one that the options name stands in for those in its folder."""
    captions = MetadataCaptions(part.root for part in parts)
    for part in parts:
        if part.source.metadata_path:
            captions.read(find_metadata(part.source.metadata_path, part.root), part.root)
    for part in parts:
        for path in () if part.source.metadata_path else part.contents.metadata:
            captions.read(path)
    return captions


def find_metadata(value: str, root: Path) -> Path:
    """The file that ``metadata_path`` names, maybe in the training folder. Raises UserError where there is none."""
    path = Path(value).expanduser()
    if not path.is_file() and (root / path).is_file():
        path = root / path
    if not path.is_file():
        reason = "it is a folder." if path.is_dir() else f"there is no such file.{suggest_name(path)}"
        raise UserError(f"cannot read captions from {path}: {reason} Correct metadata_path.")
    return path
