"""Focus points and crops: what of a picture matters most, so that a bucket cuts off something else, and what of it is used at all.

They stand in a file of each folder, beside the pictures: ``{"a.png": [0.5, 0.2], "b.png": {"crop": [0, 0.1, 1, 0.9]}}``, from the left and
from the top, as shares of the upright picture; beside a crop ``focus`` is the point. Owns reading and changing that file, and what it
makes of a picture. Must not import any host.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import UserError
from ..engine.values import show
from .caption_files import path_key
from .left_out import is_aside
from .reading import Picture, read_picture

if TYPE_CHECKING:
    from .parts import Part

FOCUS_NAME = "hotlora_focus.json"
_DECIMALS = 4

Point = tuple[float, float]  # from the left and from the top, 0 to 1
Crop = tuple[float, float, float, float]  # its left, top, right and bottom side, likewise
Box = tuple[int, int, int, int]  # the same in pixels


@dataclass(frozen=True)
class Framed:
    """What a crop leaves of a picture: all that is trained on, as if the file had been cut so."""

    size: tuple[int, int]  # (width, height) in pixels
    focus: Point | None  # in what is left, maybe beside it
    box: Box | None  # where that is in the picture; None where it is all of it


@dataclass(frozen=True)
class Framing:
    """What somebody has said of a picture."""

    focus: Point | None = None
    crop: Crop | None = None

    def frame(self, size: tuple[int, int]) -> Framed:
        """Of a picture of that size, upright. At least one pixel is left."""
        if self.crop is None:
            return Framed(size, self.focus, None)
        width, height = size
        (left, right), (top, bottom) = _spread(self.crop[::2], width), _spread(self.crop[1::2], height)
        inner = right - left, bottom - top
        if inner == size:
            return Framed(size, self.focus, None)
        focus = self.focus and ((self.focus[0] * width - left) / inner[0], (self.focus[1] * height - top) / inner[1])
        return Framed(inner, focus, (left, top, right, bottom))

    def cut(self, picture: Picture) -> Picture:
        """What is left of it."""
        return picture.cut(self.frame(picture.rgb.size).box)


def _spread(sides: Sequence[float], pixels: int) -> tuple[int, int]:
    first, last = (int(share * pixels + 0.5) for share in sides)
    first = min(first, pixels - 1)
    return first, max(last, first + 1)


class Framings:
    """Those of some files, each about the pictures of its own folder.

    Attributes:
        problems: sentences about files that cannot be used.
    """

    def __init__(self, files: Sequence[Path] = ()):
        self.problems: list[str] = []
        self._framings: dict[str, Framing] = {}
        self._named: list[Path] = []
        for file in files:
            try:
                framings = read_file(file)
            except UserError as error:
                self.problems.append(str(error))
                continue
            for name, framing in framings.items():
                self._named.append(file.parent / name)
                if os.path.basename(name) == name:
                    self._framings[path_key(file.parent / name)] = framing

    def find(self, picture: Path) -> Framing:
        """The picture's, however its name is spelled; an empty one where nothing was said."""
        return self._framings.get(path_key(picture), Framing()) if self._framings else Framing()

    def list_lonely(self, pictures: Collection[Path]) -> list[Path]:
        """What they name and is none of these, nor left out."""
        known = {path_key(picture) for picture in pictures} if self._named else set()
        return [path for path in self._named if path_key(path) not in known and not is_aside(path)]


def read_framings(parts: Sequence["Part"]) -> Framings:
    """Those of a run's folders."""
    return Framings([file for part in parts for file in part.contents.focus])


def read_framed(path: Path) -> Picture:
    """What is left of a picture, by the file beside it. Raises UserError where one of the two cannot be read."""
    said = read_file(path.with_name(FOCUS_NAME))
    framing = next((said[name] for name in said if path_key(path.parent / name) == path_key(path)), Framing())
    return framing.cut(read_picture(path))


def read_file(file: Path) -> dict[str, Framing]:
    """What a file says, by names of pictures; nothing where there is no such file.

    Raises:
        UserError: where it says something else.
    """
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}. Mend its rights, or remove it.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read focus points from {file}: it is no JSON ({error}). Mend or remove it.") from error
    if not isinstance(content, dict):
        raise UserError(f'cannot read focus points from {file}: it should be {{"a.png": [0.5, 0.2]}}. Mend or remove it.')
    return {name: _check(value, f"that of '{name}' in {file}") for name, value in content.items()}


def _check(value: Any, whose: str) -> Framing:
    """A list is a point alone, as it always was."""
    said = value if isinstance(value, dict) else {"focus": value}
    if not said or not said.keys() <= _CHECKS.keys():
        raise UserError(f'cannot use {show(value)}, {whose}: it has other keys than "focus" and "crop". Write one of these, or both.')
    return Framing(**{key: _CHECKS[key](part, whose) for key, part in said.items()})


def _check_point(value: Any, whose: str) -> Point:
    point = _read_shares(value)
    if len(point) != 2:
        raise UserError(
            f"cannot use {show(value)} as a focus point, {whose}: it is not two numbers from 0 to 1. "
            "Write how far it is from the left and from the top, such as [0.5, 0.2]."
        )
    return point[0], point[1]


def _check_crop(value: Any, whose: str) -> Crop:
    crop = _read_shares(value)
    if len(crop) != 4 or crop[0] >= crop[2] or crop[1] >= crop[3]:
        raise UserError(
            f"cannot use {show(value)} as a crop, {whose}: it is not four numbers from 0 to 1, the third more than the first and the "
            "fourth more than the second. Write where its left, top, right and bottom side are, such as [0, 0.1, 1, 0.9]."
        )
    return crop[0], crop[1], crop[2], crop[3]


_CHECKS: Mapping[str, Callable[[Any, str], Any]] = {"focus": _check_point, "crop": _check_crop}


def _read_shares(value: Any) -> list[float]:
    """Nothing where it is anything else than numbers from 0 to 1."""
    numbers = value if isinstance(value, (list, tuple)) else []
    is_sound = all(type(number) in (int, float) and 0 <= number <= 1 for number in numbers)
    return [float(number) for number in numbers] if is_sound else []


def plan_framings(changes: Mapping[Path, Mapping[str, Any]]) -> dict[Path, bytes | None]:
    """The files of these pictures, and what they hold when each has this ``focus`` or ``crop``, or none any more (None); None for a file
    that is no longer needed. Nothing is written.

    Raises:
        UserError: for what is no focus point or crop, and where a file cannot be read.
    """
    held: dict[Path, dict[str, tuple[str, Framing]]] = {}
    for picture, said in changes.items():
        file, key = picture.with_name(FOCUS_NAME), path_key(picture)
        if file not in held:
            held[file] = {path_key(file.parent / name): (name, framing) for name, framing in read_file(file).items()}
        _, before = held[file].pop(key, ("", Framing()))
        after = replace(before, **{part: _round(part, value, f"that of '{picture.name}'") for part, value in said.items()})
        if after != Framing():
            held[file][key] = picture.name, after
    return {file: _write(framings.values()) for file, framings in held.items()}


def _round(part: str, value: Any, whose: str) -> Any:
    """Checked again: of a very small crop nothing may be left."""
    return None if value is None else _CHECKS[part]([round(share, _DECIMALS) for share in _CHECKS[part](value, whose)], whose)


def _write(framings: Iterable[tuple[str, Framing]]) -> bytes | None:
    lines = []
    for name, framing in sorted(framings, key=lambda pair: pair[0]):
        said = framing.focus if framing.crop is None else {key: part for key, part in asdict(framing).items() if part is not None}
        lines.append(f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(said)}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("utf-8", "surrogatepass") if lines else None
