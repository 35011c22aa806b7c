"""A picture file as pixels that can be trained on.

Owns opening, rotating, flattening, scaling and cutting of pictures and masks. Must not import any host; knows nothing of
captions or folders.
"""

import importlib
import importlib.util
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..engine.errors import UserError
from .buckets import Fit

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".avif", ".gif", ".tif", ".tiff")
HEIF_SUFFIXES = (".heic", ".heif", ".hif")  # read where the package pillow-heif is there
_MAX_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs, which a host may have switched off
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {  # EXIF orientation -> what puts the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright, on white where it was transparent."""

    rgb: Image.Image  # mode RGB
    alpha: Image.Image | None  # mode L; None where nothing is transparent

    def cut(self, box: tuple[int, int, int, int] | None) -> "Picture":
        """What is within left, top, right and bottom, as a file of that alone would be read; itself where there is no box."""
        if box is None:
            return self
        alpha = self.alpha.crop(box) if self.alpha else None
        return Picture(self.rgb.crop(box), None if alpha and alpha.getextrema()[0] == 255 else alpha)


def read_picture(path: Path) -> Picture:
    """Open a picture file of any supported kind.

    Raises:
        UserError: naming the file, when it cannot be read for whatever reason.
    """
    return decode_picture(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """The file's content; UserError when it is not there or not readable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the picture {path}: {error.strerror or error}. Mend its rights, or remove it.") from error


def read_size(path: Path) -> tuple[int, int]:
    """(width, height) once upright, from the file's header alone."""
    try:
        with open(path, "rb") as file, _open(file, path) as image:
            return _upright_size(image)
    except OSError as error:
        raise _unreadable(path, error) from error


def has_alpha(path: Path) -> bool:
    """Whether any of the picture is transparent. Decodes only those that may be; false for one that cannot be read."""
    try:
        with open(path, "rb") as file, _open(file, path) as image:
            may_be = "A" in image.getbands() or "transparency" in image.info
        return may_be and read_picture(path).alpha is not None
    except (OSError, UserError):
        return False


def check_picture(data: bytes, path: Path) -> tuple[tuple[int, int], bool]:
    """((width, height) once upright, whether it is black all over), after making sure that the file decodes to its end; UserError
    otherwise."""
    try:
        with _open(io.BytesIO(data), path) as image:
            size = _upright_size(image)
            image.draft(None, (image.width // 8, image.height // 8))  # a JPEG is still read to its end, in a fraction of the time
            image.load()
            return size, image.convert("L").getextrema() == (0, 0) and _flatten(image).rgb.convert("L").getextrema() == (0, 0)
    except UserError:
        raise
    except Exception as error:  # a broken file makes decoders raise nearly anything
        raise _unreadable(path, error) from error


def decode_picture(data: bytes, path: Path) -> Picture:
    """The picture in ``data``; ``path`` is for messages."""
    try:
        with _open(io.BytesIO(data), path) as image:
            image.load()
            turn = _UPRIGHT.get(_orientation(image))
            return _flatten(image if turn is None else image.transpose(turn))
    except UserError:
        raise
    except Exception as error:  # a broken file makes decoders raise nearly anything
        raise _unreadable(path, error) from error


def make_thumbnail(path: Path, side: int, crop: tuple[float, float, float, float] = (0, 0, 1, 1)) -> bytes:
    """The picture, or what is within these shares of it, as a small JPEG, upright, its longest side at most ``side`` pixels.

    Raises:
        UserError: where it cannot be read.
    """
    left, top, right, bottom = crop
    needed = int(2 * side / min(right - left, bottom - top))
    try:
        with open(path, "rb") as file, _open(file, path) as image:
            image.draft("RGB", (needed, needed))  # a JPEG is decoded in a fraction of the time
            image.load()
            turn = _UPRIGHT.get(_orientation(image))
            small = _flatten(image if turn is None else image.transpose(turn)).rgb
    except UserError:
        raise
    except Exception as error:  # a broken file makes decoders raise nearly anything
        raise _unreadable(path, error) from error
    width, height = small.size
    small = small.crop((int(left * width), int(top * height), math.ceil(right * width), math.ceil(bottom * height)))
    small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def cut_pixels(image: Image.Image, fit: Fit, top_left: tuple[int, int]) -> torch.Tensor:
    """The picture scaled and cut to its bucket: [3, height, width] fp32 in -1..1.

    Lanczos both ways; Pillow widens the filter when shrinking, so nothing aliases. (sd-scripts averages areas when
    shrinking, which is a little softer.) ``top_left`` is in scaled pixels.
    """
    pixels = np.asarray(_cut(image, fit, top_left, Image.Resampling.LANCZOS))
    values = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)  # by numpy: torch has threads of its own in each thread
    values /= 127.5
    values -= 1
    return torch.from_numpy(values)


def cut_mask(mask: Image.Image, fit: Fit, top_left: tuple[int, int], latent_pixels: int) -> torch.Tensor:
    """A mask in 0..1 for the picture's latents: [1, height/n, width/n] fp32, each value the average of its n x n pixels, where n is
    ``latent_pixels``.

    The mask may be of another size than its picture: it is stretched over it.
    """
    pixels = np.array(_cut(mask, fit, top_left, Image.Resampling.BILINEAR))
    return torch.nn.functional.avg_pool2d(torch.from_numpy(pixels)[None].float() / 255, latent_pixels)


def read_mask(path: Path) -> Image.Image:
    """A mask picture in mode L: white is learned, black is not."""
    return read_picture(path).rgb.convert("L")


def _cut(image: Image.Image, fit: Fit, top_left: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    """Scale and cut in one go, so that a very long picture is never blown up as a whole."""
    (width, height), (top, left) = fit.bucket, top_left
    x, y = image.width / fit.scaled[0], image.height / fit.scaled[1]
    box = (left * x, top * y, min((left + width) * x, image.width), min((top + height) * y, image.height))
    return image.resize(fit.bucket, resample, box=box, reducing_gap=3.0)


def _open(file, path: Path) -> Image.Image:
    """The picture with its header read."""
    head = file.read(12)
    file.seek(0)
    if not head:
        raise UserError(f"cannot read the picture {path}: the file is empty. Copy it anew, or remove it.")
    if head[4:11] == b"ftypavi":
        _require_avif(path)
    elif head[4:8] == b"ftyp":
        _require_heif(path)
    try:
        image = Image.open(file)
    except Exception as error:  # a broken file makes decoders raise nearly anything
        raise _unreadable(path, error) from error
    if image.width * image.height > _MAX_PIXELS:
        raise UserError(f"cannot read the picture {path}: {image.width}x{image.height} pixels are too many. Shrink it.")
    return image


def _unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, Image.UnidentifiedImageError):
        reason = "its content is no picture"
    elif isinstance(error, Image.DecompressionBombError):
        reason = "it has too many pixels"
    else:
        reason = f"it is broken ({error or type(error).__name__})"
    return UserError(f"cannot read the picture {path}: {reason}. Replace or remove it.")


def _require_avif(path: Path) -> None:
    """Pillow reads AVIF by itself from 11.3 on, when built with it; before that a plugin registers itself on import."""
    if ".avif" in Image.registered_extensions():
        return
    try:
        importlib.import_module("pillow_avif")
    except ImportError:
        raise UserError(
            f"cannot read the picture {path}: this Pillow cannot read AVIF. Install pillow-avif-plugin, or convert it to PNG."
        ) from None


def can_read_heif() -> bool:
    """Whether this Pillow can be taught to read Apple's pictures."""
    return ".heic" in Image.registered_extensions() or importlib.util.find_spec("pillow_heif") is not None


def readable_suffixes() -> tuple[str, ...]:
    """Ends of the names of what can be read here, in small letters."""
    return (*SUFFIXES, *HEIF_SUFFIXES) if can_read_heif() else SUFFIXES


def _require_heif(path: Path) -> None:
    if ".heic" in Image.registered_extensions():
        return
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except (ImportError, AttributeError):
        raise UserError(
            f"cannot read the picture {path}: this Pillow cannot read HEIC. Install pillow-heif, or convert it to PNG."
        ) from None


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF data is no reason to refuse a sound picture
        return 1


def _upright_size(image: Image.Image) -> tuple[int, int]:
    return image.size if _orientation(image) < 5 else (image.height, image.width)


def _flatten(image: Image.Image) -> Picture:
    if image.mode.startswith("I"):
        # 16-bit greyscale: Pillow's own conversion clips everything above 255 to white
        values = np.asarray(image).astype(np.float32) / 257
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if "transparency" not in image.info and image.mode not in ("RGBA", "RGBa", "LA", "La", "PA"):
        return Picture(image.convert("RGB"), None)
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return Picture(image.convert("RGB"), None)
    rgb = Image.new("RGB", image.size, "white")
    rgb.paste(image, mask=alpha)
    return Picture(rgb, alpha)
