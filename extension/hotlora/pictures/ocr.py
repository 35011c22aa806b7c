"""Text in pictures, watermarks among it, where the package rapidocr is installed, which brings its networks. Must not import any host."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

_LONGEST = 736  # pixels: a side of what is looked at
_SMALLEST = 128  # in smaller pictures a drawing is easily taken for a letter
_SURE = 0.9  # of 0..1, as the network puts it
_LETTERS = 3  # in a text

_MOST = 400  # pictures of a set


def choose_read(names: Sequence[str]) -> set[str]:
    """Of very many pictures only some are read, evenly spread: a watermark is seldom on one alone."""
    return set(names[:: -(-len(names) // _MOST)])


class TextReader:
    """Reads pictures; the networks are loaded with the first.

    Attributes:
        trouble: why there is none, where there is none.
    """

    def __init__(self) -> None:
        self.trouble = "" if find_spec("rapidocr") else "the package rapidocr is not installed"
        self._engine: Any = None

    def read(self, picture: Image.Image) -> str | None:
        """The text in a picture, "" for none, None where nothing can be read: about a second of one processor."""
        if not self.trouble and self._engine is None:
            self._load()
        if self.trouble or min(picture.size) < _SMALLEST:
            return None if self.trouble else ""
        small = picture.convert("RGB")
        small.thumbnail((_LONGEST, _LONGEST))
        result = self._engine(np.asarray(small)[:, :, ::-1])  # blue first
        lines = zip(result.txts or (), result.scores or (), strict=True)
        return " ".join(text for text, score in lines if score >= _SURE and sum(map(str.isalnum, text)) >= _LETTERS)

    def _load(self) -> None:
        try:
            from rapidocr import RapidOCR

            self._engine = RapidOCR(params={"Global.log_level": "critical"})
        except Exception as error:  # whatever is missing or broken in a package that need not be there
            self.trouble = f"the package rapidocr does not work here ({error})"
