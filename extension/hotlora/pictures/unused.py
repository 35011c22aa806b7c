"""What lies in the data folders and is not used, or not as it was written: a line each, with counts and first names.

Must not import any host.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine.errors import UserError
from .caption_files import MetadataCaptions, list_captions_beside, read_caption_beside
from .config import PictureConfig
from .entries import MASK_FOLDER
from .focus import FOCUS_NAME, Framings
from .folders import list_contents, show_name
from .left_out import LEFT_OUT
from .parts import open_masks
from .reading import has_alpha

if TYPE_CHECKING:
    from .dataset import Judged
    from .parts import Part

_FIRST = 3
_REGULARISATION = re.compile(r"reg|regs|reg[_ -]?(images|data|dir|set)|regulari[sz]ation.*", re.IGNORECASE)
_MASK_ENDINGS = ("-masklabel", "_mask", "-mask")  # OneTrainer's, and what people write


def tell_unused(
    parts: Sequence["Part"],
    judged: Sequence[Sequence["Judged"]],
    captions: MetadataCaptions,
    config: PictureConfig,
    *,
    framings: Framings,
) -> list[str]:
    """Every line there is to say; nothing for what systems, network drives and other trainers leave beside pictures.

    Args:
        judged: the pictures of each part.
    """
    notes: list[str] = []
    for part, pictures in zip(parts, judged, strict=True):
        contents = part.contents
        notes += contents.notes
        notes += _tell("picture", contents.switched_off, part.root, "left out: a folder that begins with 0_ is switched off.")
        aside = [found.path for found in contents.left_out]
        notes += _tell("picture", aside, part.root, f"not trained on: what lies in a folder called '{LEFT_OUT}' is left out.")
        notes += _tell("picture", contents.unread, part.root, "left out. Install pillow-heif to read HEIC, or convert to PNG or JPEG.")
        notes += _tell("file", contents.unknown, part.root, "not used: only pictures, captions and metadata are.")
        if part.source.metadata_path:
            used = Path(part.source.metadata_path).name.casefold()
            others = [path for path in contents.metadata if path.name.casefold() != used]
            notes += _tell("metadata file", others, part.root, "not read, because metadata_path names another.")
        notes += _tell_captions(part, pictures, captions)
    for file in dict.fromkeys(row.file for row in captions.behind):
        rows = [row.picture for row in captions.behind if row.file == file]
        notes += _tell("caption", rows, parts[0].root, "not used: another metadata file goes before.", what=f"in {file.name}")
    for part, pictures in zip(parts, judged, strict=True):
        if part.use == "train":
            notes += _tell_training(part, pictures)
    notes += _tell_framings(parts, framings, config)
    for part in parts:
        notes += _tell_masks_among_pictures(part) if part.use == "train" else ()
    for folder in dict.fromkeys(part.source.mask_folder for part in parts) if config.masked_loss else ():
        notes += _tell_masks(folder, [part for part in parts if part.source.mask_folder == folder])
    for part in parts:
        notes += () if part.is_reg else _tell_unused_folder(part)
    return notes


def _tell_training(part: "Part", judged: Sequence["Judged"]) -> Iterable[str]:
    """What is odd about pictures that are trained on."""
    moving = [picture.found.path for picture in judged if picture.found.path.suffix.lower() == ".gif"]
    yield from _tell("GIF", moving, part.root, "used with the first picture in it only.")
    bare = [picture for picture in judged if picture.caption and not picture.source]
    if len(bare) < len(judged):
        texts = list(dict.fromkeys(f"'{picture.caption}'" for picture in bare))
        listed = ", ".join(texts[:_FIRST]) + (" …" if len(texts) > _FIRST else "")
        said = f"learned as {listed}, where others have captions. Write captions, or leave it so."
        yield from _tell("picture", [picture.found.path for picture in bare], part.root, said, what="without a caption")
    inside = [(picture.found.path, picture.found.path.relative_to(part.root).parts[:-1]) for picture in judged]
    reg = [path for path, folders in inside if any(_REGULARISATION.fullmatch(folder) for folder in folders)]
    said = "learned like any other. Set reg_data_dir to that folder if it shows the class without the LoRA."
    yield from _tell("picture", reg, part.root, said, what="in a folder called as regularisation")
    several = [j.found.path for j in judged if len(j.caption.splitlines()) > 1]
    if several and not part.source.config.enable_wildcard:
        said = "joined into one line. Set enable_wildcard to learn one of the lines each time."
        yield from _tell("caption", several, part.root, said, what="of several lines")


def _tell_unused_folder(part: "Part") -> Iterable[str]:
    """Masks that were drawn on the page, where the run has no use for them."""
    folder, config = part.root / MASK_FOLDER, part.source.config
    if not folder.is_dir() or (config.masked_loss and folder == part.source.mask_folder):
        return
    masks = [found.path for found in list_contents(folder, ()).pictures]
    why = "mask_dir is another folder. Clear it" if config.masked_loss else "masked_loss is off. Set it"
    yield from _tell("mask", masks, part.root, f"not used: {why} to learn by these.")


def _tell_framings(parts: Sequence["Part"], framings: Framings, config: PictureConfig) -> Iterable[str]:
    """Focus points and crops of no picture, and what the former go before."""
    pictures = [found.path for part in parts for found in part.contents.pictures]
    others = [path for part in parts for path in (*part.contents.switched_off, *part.contents.unread)]
    lonely = framings.list_lonely([*pictures, *others])
    yield from _tell("line", lonely, parts[0].root, "not used: no picture beside that file has that name.", what=f"of {FOCUS_NAME}")
    if config.crop == "random":
        fixed = [path for path in pictures if framings.find(path).focus]
        yield from _tell("picture", fixed, parts[0].root, "cut around a focus point each time, and not at random.")


def _tell_masks(folder: Path, parts: Sequence["Part"]) -> Iterable[str]:
    """Masks of no picture, and pictures of no mask. ``parts``: those that look for masks there."""
    masks, used, without = open_masks(parts[0].source), set[Path | None](), list[Path]()
    if not masks.contents.pictures and not parts[0].source.config.mask_dir:
        pictures = [found.path for part in parts if not part.is_reg for found in part.contents.pictures]
        if pictures and not any(has_alpha(path) for path in pictures):
            why = "no picture has a mask or an alpha channel, so all are learned whole"
            yield f"masked_loss has nothing to go by: {why}. Draw masks, or set mask_dir."
        return
    place = "mask_dir" if parts[0].source.config.mask_dir else MASK_FOLDER
    for part in parts:
        contents = part.contents
        used.update(masks.find(path, part.root) for path in (*contents.switched_off, *contents.unread))
        found = {} if part.is_reg else {picture.path: masks.find(picture.path, part.root) for picture in contents.pictures}
        used.update(found.values())
        without += [picture for picture, mask in found.items() if not mask]
    lonely = [mask.path for mask in masks.contents.pictures if mask.path not in used]
    yield from _tell("mask", lonely, folder, "not used: no picture has that name, or it learns without masks, or has another.")
    unread = [*masks.contents.unread, *masks.contents.unknown, *masks.contents.focus]
    yield from _tell("file", unread, folder, "not used: masks are pictures.", what=f"in {place}")
    said = "learned by its alpha channel, or as a whole where it has none."
    yield from _tell("picture", without, parts[0].root, said, what=f"without a mask in {place}")


def tell_black_masks(masks: Sequence[Path], root: Path) -> list[str]:
    """Masks that leave nothing of their pictures. ``root``: from where they are named."""
    return _tell("mask", masks, root, "black all over: nothing is learned there. Draw it white where something is to be learned.")


def _tell_masks_among_pictures(part: "Part") -> Iterable[str]:
    """Pictures that are called as the masks of others beside them, and would be learned."""
    pictures = [found.path for found in part.contents.pictures]
    names = {(path.parent, path.stem) for path in pictures}
    endings = {path: next((end for end in _MASK_ENDINGS if path.stem.endswith(end)), "") for path in pictures}
    masks = [path for path, end in endings.items() if end and (path.parent, path.stem.removesuffix(end)) in names]
    said = "learned like any other. Move masks to a folder of their own, by their pictures' names, and set mask_dir and masked_loss."
    yield from _tell("picture", masks, part.root, said, what="called as a mask")


def _tell_captions(part: "Part", judged: Sequence["Judged"], captions: MetadataCaptions) -> Iterable[str]:
    """Caption files of no picture, and those that another one goes before."""
    owned: set[Path] = set()
    second: list[Path] = []
    behind: list[Path] = []
    for picture in judged:
        beside = list_captions_beside(picture.found.path, picture.found.siblings)
        owned.update(beside)
        second += beside[1:]
        if beside and captions.find(picture.found.path) and _differs(picture):
            behind.append(beside[0])
    owned.update(path for off in part.contents.switched_off for path in list_captions_beside(off, {p.name for p in part.contents.captions}))
    lonely = [path for path in part.contents.captions if path not in owned]
    yield from _tell("caption file", lonely, part.root, "not used: no picture has that name.")
    yield from _tell("caption file", second, part.root, "not used: another one of the same picture goes before.")
    yield from _tell("caption file", behind, part.root, "not used: the metadata file goes before.")


def _differs(picture: "Judged") -> bool:
    try:
        beside = read_caption_beside(picture.found.path, picture.found.siblings)
    except UserError:
        return True
    return bool(beside and beside[0] != picture.caption)


def _tell(kind: str, paths: Sequence[Path], root: Path, said: str, *, what: str = "") -> list[str]:
    """["3 pictures are left out …: a.png, b.png, c.png"], or nothing."""
    if not paths:
        return []
    names = [show_name(path.relative_to(root) if path.is_relative_to(root) else path) for path in paths[:_FIRST]]
    listed = ", ".join(names) + (" …" if len(paths) > _FIRST else "")
    kind += "s" * (len(paths) != 1)
    whole = f"{len(paths)} {kind}{f' {what}' if what else ''} ({listed})"
    return [f"{whole} {'is' if len(paths) == 1 else 'are'} {said}"]
