"""One look into a picture: how sharp it is, how it was saved, what lies around it, and what near-duplicates are compared by.

Of each picture only some hundred numbers are kept. Must not import any host.
"""

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .focus import Box, Framing
from .reading import decode_picture, read_bytes

SMALL = 16  # a side of what near-duplicates are compared by
_LONGEST = 512  # pixels: what is sharp at this size is sharp enough
_STANDARD_SUM = 3688  # of the JPEG standard's luminance table (ITU T.81, table K.1), that of quality 50
_MOVING = ("GIF", "WEBP", "PNG", "AVIF", "TIFF")  # with several pictures in a file; those of a phone's MPO belong to the first
_EVEN, _OTHER = 3.0, 12.0  # of 255: what noise leaves of one colour, and what is another one
_SPECKS = 0.02  # of a line of one colour
_THINNEST = 0.02  # of a side
_STRAIGHT, _STRAIGHT_FRAME = 0.6, 0.85  # how much of a bar's edge is seen, where there are two of them, or four
_NONE = (0, 0)


@dataclass(frozen=True)
class Measured:
    """What a look into a picture has found."""

    small: bytes  # grey values, SMALL squared, contrast stretched
    blur: float  # 0 sharp to 1 blurred
    quality: int  # of a JPEG, 1 to 100; 100 for other files
    bars: tuple[int, ...]  # see find_bars
    moves: bool  # it has further pictures behind the first
    text: str = ""  # that was read in it


def measure_picture(path: Path, framing: Framing) -> Measured:
    """Of what is left of it. Raises UserError where it cannot be read."""
    data = read_bytes(path)
    grey = _shrink(framing.cut(decode_picture(data, path)).rgb)
    values = np.asarray(grey, dtype=np.float32)
    small = np.asarray(grey.resize((SMALL, SMALL), Image.Resampling.BOX), dtype=np.float32)
    low, high = float(small.min()), float(small.max())
    stretched = (small - low) * (255 / max(high - low, 1))
    quality, moves = _read_file(data)
    return Measured(stretched.astype(np.uint8).tobytes(), measure_blur(values), quality, find_bars(values), moves)


def _shrink(picture: Image.Image) -> Image.Image:
    """In greys, as large as it is looked at."""
    grey = picture.convert("L")
    grey.thumbnail((_LONGEST, _LONGEST))
    return grey


def measure_blur(grey: np.ndarray) -> float:
    """How little of the differences between neighbours a blur takes away, 0 (sharp) to 1 (it was blurred already); Crete et al. 2007, "The
    blur effect". ``grey``: [height, width]."""
    shares = []
    for lines in (grey, grey.T):
        if lines.shape[1] < 2 * SMALL:
            return 0.0
        sums = np.cumsum(lines, axis=1, dtype=np.float64)
        blurred = (sums[:, 9:] - sums[:, :-9]) / 9
        before, after = np.abs(np.diff(lines[:, 5:-4], axis=1)), np.abs(np.diff(blurred, axis=1))
        total = float(before.sum())
        shares.append(1 - float(np.maximum(0, before - after).sum()) / total if total else 0.0)
    return round(max(shares), 3)


def _read_file(data: bytes) -> tuple[int, bool]:
    """(a JPEG's quality by its table of luminance steps, as libjpeg makes it from a quality; whether pictures come behind the first)."""
    with Image.open(io.BytesIO(data)) as picture:
        tables = getattr(picture, "quantization", None)
        moves = picture.format in _MOVING and bool(getattr(picture, "is_animated", False))
    if not tables or 0 not in tables:
        return 100, moves
    scale = 100 * sum(tables[0]) / _STANDARD_SUM
    return max(1, min(100, round((200 - scale) / 2 if scale <= 100 else 5000 / scale))), moves


# -- bars --------------------------------------------------------------------------------------------------------------


def find_inside(picture: Image.Image) -> Box:
    """What lies within its bars, and within bars in there, without the mixture at their edges: left, top, right and bottom in pixels."""
    left, top, right, bottom = 0, 0, *picture.size
    while any(bars := find_bars(np.asarray(_shrink(picture.crop((left, top, right, bottom))), dtype=np.float32))):
        width, height = right - left, bottom - top
        mixed = 2 * max(1, max(width, height) / _LONGEST)
        x, y, from_right, from_bottom = (
            bar and math.ceil((bar + 1) * side / 1000 + mixed) for bar, side in zip(bars, (width, height) * 2, strict=True)
        )
        left, top, right, bottom = left + x, top + y, right - from_right, bottom - from_bottom
    return left, top, right, bottom


def find_bars(grey: np.ndarray) -> tuple[int, int, int, int]:
    """Two or four bars of one colour that end in straight lines: what a film's format, a scanner or a frame leaves. A thing before a plain
    wall has no edge all along.

    Args:
        grey: [height, width] in 0..255.

    Returns:
        How wide they are at the left, top, right and bottom, in thousandths of the picture; 0 where there is none.
    """
    height, width = grey.shape
    top, bottom = _find_pair(grey)
    left, right = _find_pair(grey[top : height - bottom].T)
    if (top, bottom) == _NONE and (left, right) != _NONE:  # a frame's upper bar is seen between its left and right ones at the latest
        top, bottom = _find_pair(grey[:, left : width - right])
    box = grey[top : height - bottom, left : width - right]
    share = _STRAIGHT_FRAME if top and left else _STRAIGHT
    for lines, colour, is_there in ((box, grey[0], top), (box.T, grey[:, 0], left)):
        if is_there and min(_measure_edge(lines, colour), _measure_edge(lines[::-1], colour)) < share:
            return 0, 0, 0, 0
    return 1000 * left // width, 1000 * top // height, 1000 * right // width, 1000 * bottom // height


def _find_pair(lines: np.ndarray) -> tuple[int, int]:
    """How many lines are of one colour at the beginning and, of the same one, at the end; none where it is so at one of them only."""
    if min(lines.shape) < 2 * SMALL:
        return _NONE
    colour = float(np.median(lines[0]))
    apart = np.abs(lines - colour)
    others = np.flatnonzero((apart.mean(axis=1) > _EVEN) | ((apart > _OTHER).mean(axis=1) > _SPECKS))
    if not len(others):
        return _NONE
    first, last = int(others[0]), int(len(lines) - 1 - others[-1])
    return (first, last) if min(first, last) >= max(2, _THINNEST * len(lines)) else _NONE


def _measure_edge(lines: np.ndarray, bar: np.ndarray) -> float:
    """How much of the second line behind a bar (the first may be a mixture) is not of its colour."""
    line = lines[min(1, len(lines) - 1)]
    return float((np.abs(line - float(np.median(bar))) > _OTHER).mean())
