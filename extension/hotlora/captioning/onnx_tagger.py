"""Taggers of the form ``model.onnx`` with ``selected_tags.csv``, such as WD v3 (SmilingWolf), through onnxruntime, on the processor.

onnxruntime is there only where somebody has installed it: in a host nothing is installed for this.
"""

import csv
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..engine.errors import UserError

_MODEL, _TAGS = "model.onnx", "selected_tags.csv"
_GENERAL, _CHARACTER = "0", "4"  # categories; ratings are 9
_WHITE = (255, 255, 255)


class OnnxTagger:
    """A :class:`~.captioner.Captioner` that writes tags: names of characters first, then what else is there, the surest first.

    Args:
        folder: where both files lie.
        general_threshold, character_threshold: how sure it must be, 0 to 1.

    Raises:
        UserError: where a file or onnxruntime is missing, or they do not fit each other.
    """

    def __init__(self, folder: str, general_threshold: float, character_threshold: float):
        path = _find_folder(folder)
        self._names, categories = _read_tags(path / _TAGS)
        self._thresholds = {_CHARACTER: character_threshold, _GENERAL: general_threshold}
        self._categories = np.array(categories)
        self._session = _open_model(path / _MODEL)
        (self._input, *_), (output, *_) = self._session.get_inputs(), self._session.get_outputs()
        self._output, shape = output.name, self._input.shape
        self._has_channels_last = len(shape) == 4 and shape[3] == 3
        sides = shape[1:3] if self._has_channels_last else shape[2:4]
        if len(shape) != 4 or 3 not in (shape[1], shape[3]) or not all(isinstance(side, int) for side in sides) or sides[0] != sides[1]:
            raise UserError(f"cannot tag with {path / _MODEL}: its input has the shape {shape}. Take a tagger that reads square pictures.")
        self._side, self._takes_many = int(sides[0]), not isinstance(shape[0], int)

    def __call__(self, pictures: Sequence[Path], images: Sequence[Image.Image]) -> list[str]:
        pixels = [self._prepare(image) for image in images]
        batches = [np.stack(pixels)] if self._takes_many else [one[None] for one in pixels]
        rows = [row for batch in batches for row in self._session.run([self._output], {self._input.name: batch})[0]]
        if any(len(row) != len(self._names) for row in rows):
            raise UserError(
                f"cannot tag with this model: it knows {len(rows[0])} tags, and {_TAGS} has {len(self._names)}. "
                "Take both files of one model."
            )
        return [", ".join(self._choose(row)) for row in rows]

    def _prepare(self, image: Image.Image) -> np.ndarray:
        """(side, side, 3), or (3, side, side), float32, 0 to 255, blue first: on a white square, then scaled."""
        longest = max(image.size)
        square = Image.new("RGB", (longest, longest), _WHITE)
        square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
        scaled = square.resize((self._side, self._side), Image.Resampling.BICUBIC)
        pixels = np.ascontiguousarray(np.asarray(scaled, dtype=np.float32)[:, :, ::-1])
        return pixels if self._has_channels_last else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _choose(self, sure: np.ndarray) -> list[str]:
        chosen = []
        for category, threshold in self._thresholds.items():
            places = np.flatnonzero((self._categories == category) & (sure > threshold))
            chosen += [self._names[place] for place in sorted(places, key=lambda place: -sure[place])]
        return chosen


def _find_folder(folder: str) -> Path:
    path = Path(folder).expanduser()
    missing = [name for name in (_MODEL, _TAGS) if not folder or not (path / name).is_file()]
    if missing:
        where = f"in {path}" if folder else "because tagger_folder is empty"
        raise UserError(
            f"cannot tag: there is no {' and no '.join(missing)} {where}. Download both of a tagger, such as "
            "SmilingWolf/wd-vit-tagger-v3 on the Hugging Face hub, into a folder, and set tagger_folder to it."
        )
    return path


def _read_tags(path: Path) -> tuple[list[str], list[str]]:
    """Names and categories, in the order of the model's outputs."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = [(row["name"], row["category"].strip()) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError) as error:
        raise UserError(f"cannot read the tags in {path}: {error}. It needs the columns name and category: download it again.") from error
    return [name for name, _ in rows], [category for _, category in rows]


def _open_model(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"cannot tag with {path}: the package onnxruntime is missing. Choose another captioner, or install it without moving "
            "anything else, and start the program again: "
            f'"{sys.executable}" -m pip install onnxruntime numpy=={importlib.metadata.version("numpy")}'
        ) from error
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes, one for each way in which a file can be wrong
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot tag with {path}: onnxruntime cannot read it ({reason}). Download it again.") from error
