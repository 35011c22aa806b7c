"""Captions from nothing but the files' names: what is left where no model can be loaded."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..pictures.labels import sentence_from_name


def caption_by_name(pictures: Sequence[Path], images: Sequence[Image.Image]) -> list[str]:
    """A :class:`~.captioner.Captioner`."""
    return [sentence_from_name(picture) for picture in pictures]
