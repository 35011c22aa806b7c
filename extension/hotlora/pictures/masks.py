"""The mask of one picture, as people draw it on the page: read, and written or removed where training looks for it.

Plans what files are to hold and writes none: that is the history's affair, so that a mask that was there before comes back. Must not import
any host.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageFilter

from ..engine.errors import UserError
from .config import PictureConfig
from .folders import Found
from .parts import Part, find_masks, name_picture, open_parts
from .reading import decode_picture, read_mask, read_picture, read_size

SIDE = 1024  # pixels of the longest side of what is drawn on; the mask is written as large as its picture
MOST_BYTES = 16_000_000  # of a mask that is sent
_SAME = 2  # of 255 grey levels: some browsers change a canvas by one, against being recognised
_SHOWN = 3


@dataclass(frozen=True)
class Drawing:
    """What somebody needs to draw a mask."""

    picture: bytes  # JPEG, upright, of at most SIDE pixels
    mask: bytes  # PNG in greys, of the same size: white is learned, black is not; empty where all of it is learned
    size: tuple[int, int]  # of the picture's file
    has_file: bool  # whether the mask is one of a file, not the picture's alpha channel
    is_used: bool  # whether the options have masks learned by


@dataclass(frozen=True)
class _Place:
    """A picture, and what is known of masks."""

    name: str
    found: Found
    part: Part
    parts: Sequence[Part]
    masks: Mapping[Path, Path]  # of all pictures

    @property
    def path(self) -> Path:
        return self.found.path

    @property
    def mask(self) -> Path | None:
        return self.masks.get(self.path)

    def list_sharing(self) -> list[str]:
        """Names of other pictures with the same mask."""
        return [name for name, path, _ in self._list_others() if self.mask and self.masks.get(path) == self.mask]

    def list_taking(self, target: Path) -> list[str]:
        """Names of other pictures that would have a mask at ``target`` for theirs: see ``folders.Masks.find``."""
        folder = self.part.source.mask_folder
        key = _key(target, folder)
        taking = []
        for name, path, part in self._list_others():
            if part.source.mask_folder != folder:
                continue
            own = self.masks.get(path)
            if _key(path, part.root) == key or (path.stem == key and (own is None or _key(own, folder) == key)):
                taking.append(name)
        return taking

    def _list_others(self) -> list[tuple[str, Path, Part]]:
        parts = [part for part in self.parts if not part.is_reg]
        pictures = [(found.path, part) for part in parts for found in part.contents.pictures]
        return [(name_picture(path, part), path, part) for path, part in pictures if path != self.path]


def open_drawing(config: PictureConfig, name: str) -> Drawing:
    """A picture as the album calls it, small, with its mask. Raises UserError where there is none, or one of the two cannot be read."""
    place = _find(config, name)
    picture = read_picture(place.path)
    small, size = picture.rgb, picture.rgb.size
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    mask = read_mask(place.mask) if place.mask else picture.alpha
    drawn = _write(_reduce(mask, small.size), "PNG") if mask else b""
    return Drawing(_write(small, "JPEG"), drawn, size, bool(place.mask), config.masked_loss)


def plan_mask(config: PictureConfig, name: str, data: bytes) -> dict[Path, bytes | None]:
    """What the files hold when the picture has this mask: None for a file that goes.

    Args:
        data: a PNG, of the picture's size or smaller; white is learned, black is not.

    Raises:
        UserError: for what is no such picture, and where another picture would get this mask too.
    """
    place = _find(config, name)
    size = read_size(place.path)
    mask = _scale_up(_read_sent(data, size), size, place)
    target = _choose_target(place)
    taking = place.list_taking(target)
    if taking:
        raise UserError(f"cannot draw a mask for '{name}' alone: {_list(taking)} would get it too, by the name. Rename one of them.")
    replaced = {place.mask: None} if place.mask and not place.list_sharing() and place.mask != target else {}
    return {target: _write(mask, "PNG"), **replaced}


def plan_removal(config: PictureConfig, name: str) -> dict[Path, bytes | None]:
    """The same when it has none any more. Raises UserError where there is none, or it is another picture's too."""
    place = _find(config, name)
    if place.mask is None:
        raise UserError(f"cannot remove the mask of '{name}': it has none in a file. Look at the pictures again.")
    sharing = place.list_sharing()
    if sharing:
        raise UserError(f"cannot remove the mask of '{name}': it is that of {_list(sharing)} too. Draw one for '{name}' instead.")
    return {place.mask: None}


def _find(config: PictureConfig, name: str) -> _Place:
    parts = open_parts(config)
    for part in parts:
        for found in part.contents.pictures:
            if name_picture(found.path, part) != name:
                continue
            if part.is_reg:
                raise UserError(f"cannot use a mask for '{name}': regularisation pictures are learned whole. Choose one to train on.")
            return _Place(name, found, part, parts, find_masks(parts))
    raise UserError(f"cannot find '{name}': there is no such picture any more. Look at them again.")


def _choose_target(place: _Place) -> Path:
    """Where its mask is, if it is a PNG and its own; else where it is looked for first."""
    if place.mask and not place.list_sharing():
        return place.mask if place.mask.suffix.lower() == ".png" else place.mask.with_suffix(".png")
    return place.part.source.mask_folder / place.path.relative_to(place.part.root).with_suffix(".png")


def _read_sent(data: bytes, size: tuple[int, int]) -> Image.Image:
    """In mode L. Raises UserError for what is no PNG, is larger than its picture or has another shape."""
    if len(data) > MOST_BYTES:
        raise UserError(f"cannot take the mask: its {len(data)} bytes are more than {MOST_BYTES}. Send a smaller PNG.")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            sent = image.size
    except Exception as error:  # a broken file makes decoders raise nearly anything
        raise UserError("cannot take the mask: it is no PNG picture. Send it again, as a PNG.") from error
    _check_size(sent, size)
    try:
        return decode_picture(data, Path("mask.png")).rgb.convert("L")
    except UserError as error:
        raise UserError("cannot take the mask: it is broken. Send it again, as a PNG.") from error


def _check_size(sent: tuple[int, int], size: tuple[int, int]) -> None:
    sizes = "{}x{} pixels, and its picture {}x{}".format(*sent, *size)
    if sent[0] > size[0] or sent[1] > size[1]:
        raise UserError(f"cannot take the mask: it has {sizes}. Send one that is not larger.")
    if abs(sent[0] - sent[1] * size[0] / size[1]) > 1 and abs(sent[1] - sent[0] * size[1] / size[0]) > 1:
        raise UserError(f"cannot take the mask: it has {sizes}. Send one of the same shape.")


def _scale_up(sent: Image.Image, size: tuple[int, int], place: _Place) -> Image.Image:
    """As large as the picture; where nothing was drawn, what was there stays as fine as it is."""
    if sent.size == size:
        return sent
    drawn = sent.resize(size, Image.Resampling.BILINEAR)
    before = read_mask(place.mask) if place.mask else read_picture(place.path).alpha
    if before is None:
        return drawn
    changed = ImageChops.difference(sent, _reduce(before, sent.size)).point(lambda value: 255 * (value > _SAME))
    changed = changed.filter(ImageFilter.MaxFilter(3)).resize(size, Image.Resampling.NEAREST)
    return Image.composite(drawn, before.resize(size, Image.Resampling.BILINEAR), changed)


def _reduce(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    return mask.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)


def _write(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=88)
    return buffer.getvalue()


def _key(path: Path, root: Path) -> str:
    """By what masks are found."""
    return path.relative_to(root).with_suffix("").as_posix()


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
