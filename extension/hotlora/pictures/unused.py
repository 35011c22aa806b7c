"""What lies in the data folders and is not used, or not as it was written: a line each, with counts and first names.

Must not import any host.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine.errors import UserError
from .caption_files import MetadataCaptions, list_captions_beside, read_caption_beside
from .config import PictureConfig
from .folders import show_name

if TYPE_CHECKING:
    from .dataset import Judged, Part

_FIRST = 3


def tell_unused(
    parts: Mapping[str, "Part"], judged: Mapping[str, Sequence["Judged"]], captions: MetadataCaptions, config: PictureConfig
) -> list[str]:
    """Every line there is to say; nothing for what systems, network drives and other trainers leave beside pictures."""
    notes: list[str] = []
    for name, part in parts.items():
        contents = part.contents
        notes += contents.notes
        notes += _tell("picture", contents.switched_off, part.root, "left out: a folder that begins with 0_ is switched off.")
        notes += _tell("picture", contents.unread, part.root, "left out. Install pillow-heif to read HEIC, or convert to PNG or JPEG.")
        notes += _tell("file", contents.unknown, part.root, "not used: only pictures, captions and metadata are.")
        if name == "train" and config.metadata_path:
            used = Path(config.metadata_path).name.casefold()
            others = [path for path in contents.metadata if path.name.casefold() != used]
            notes += _tell("metadata file", others, part.root, "not read, because metadata_path names another.")
        notes += _tell_captions(part, judged.get(name, ()), captions)
    moving = [picture.found.path for picture in judged.get("train", ()) if picture.found.path.suffix.lower() == ".gif"]
    notes += _tell("GIF", moving, parts["train"].root, "used with the first picture in it only.")
    several = [j.found.path for j in judged.get("train", ()) if len(j.caption.splitlines()) > 1]
    if several and not config.enable_wildcard:
        said = "joined into one line. Set enable_wildcard to learn one of the lines each time."
        notes += _tell("caption", several, parts["train"].root, said, what="of several lines")
    return notes


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
