"""Small pictures for the list of runs. A look at the page reads few of them, so that none takes long; the others come later."""

import io
from collections import OrderedDict
from pathlib import Path

from ..engine.history import History
from .draw import PICTURE_SUFFIXES, jpeg_source

_SIDE = 48
_READ_AT_ONCE = 2
_KEPT = 1000


class Thumbnails:
    """Keeps what it has read: two kilobytes each."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._left = _READ_AT_ONCE

    def begin(self) -> None:
        """A new look at the page."""
        self._left = _READ_AT_ONCE

    def find(self, history: History) -> str:
        """The newest picture of a run, as the ``src`` of an image; empty where there is none, or it is not read yet."""
        newest = next((sample.path for sample in reversed(history.samples) if Path(sample.path).suffix in PICTURE_SUFFIXES), None)
        if newest is None:
            return ""
        if newest not in self._kept:
            if not self._left:
                return ""
            self._left -= 1
            self._kept[newest] = _read(Path(newest))
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[newest]


def _read(path: Path) -> str:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.draft("RGB", (2 * _SIDE, 2 * _SIDE))
            small = picture.convert("RGB")
    except (OSError, ValueError):  # deleted, or no picture
        return ""
    small.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return jpeg_source(buffer.getvalue())
