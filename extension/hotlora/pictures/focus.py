"""Focus points: what of a picture matters most, so that what is cut off to fit a bucket is cut elsewhere.

They stand in a file of each folder, beside the pictures: ``{"a.png": [0.5, 0.2]}``, from the left and from the top, as shares of the
upright picture. Owns reading and changing that file. Must not import any host; looks into no picture.
"""

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import UserError
from ..engine.values import show
from .caption_files import path_key
from .left_out import is_aside

if TYPE_CHECKING:
    from .parts import Part

FOCUS_NAME = "hotlora_focus.json"
_DECIMALS = 4

Point = tuple[float, float]  # from the left and from the top, 0 to 1


class FocusPoints:
    """Those of some files, each about the pictures of its own folder.

    Attributes:
        problems: sentences about files that cannot be used.
    """

    def __init__(self, files: Sequence[Path] = ()):
        self.problems: list[str] = []
        self._points: dict[str, Point] = {}
        self._named: list[Path] = []
        for file in files:
            try:
                points = read_points(file)
            except UserError as error:
                self.problems.append(str(error))
                continue
            for name, point in points.items():
                self._named.append(file.parent / name)
                if os.path.basename(name) == name:
                    self._points[path_key(file.parent / name)] = point

    def find(self, picture: Path) -> Point | None:
        """The picture's, however its name is spelled."""
        return self._points.get(path_key(picture)) if self._points else None

    def list_lonely(self, pictures: Collection[Path]) -> list[Path]:
        """What they name and is none of these, nor left out."""
        known = {path_key(picture) for picture in pictures} if self._named else set()
        return [path for path in self._named if path_key(path) not in known and not is_aside(path)]


def read_focus(parts: Sequence["Part"]) -> FocusPoints:
    """Those of a run's folders."""
    return FocusPoints([file for part in parts for file in part.contents.focus])


def read_points(file: Path) -> dict[str, Point]:
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


def _check(value: Any, whose: str) -> Point:
    numbers = [number for number in value if type(number) in (int, float)] if isinstance(value, (list, tuple)) else []
    if len(numbers) != 2 or len(value) != 2 or not all(0 <= number <= 1 for number in numbers):
        raise UserError(
            f"cannot use {show(value)} as a focus point, {whose}: it is not two numbers from 0 to 1. "
            "Write how far it is from the left and from the top, such as [0.5, 0.2]."
        )
    return float(value[0]), float(value[1])


def plan_point(picture: Path, value: Any) -> tuple[Path, bytes | None]:
    """A picture's file of focus points, and what it holds when the picture has this one, or none; None where it is no longer needed.
    Nothing is written.

    Raises:
        UserError: for what is no focus point, and where the file cannot be read.
    """
    file = picture.with_name(FOCUS_NAME)
    points = {name: point for name, point in read_points(file).items() if path_key(picture.with_name(name)) != path_key(picture)}
    if value is not None:
        x, y = _check(value, f"that of '{picture.name}'")
        points[picture.name] = round(x, _DECIMALS), round(y, _DECIMALS)
    lines = [f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(point)}" for name, point in sorted(points.items())]
    return file, ("{\n" + ",\n".join(lines) + "\n}\n").encode("utf-8", "surrogatepass") if lines else None
