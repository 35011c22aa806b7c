"""Cutting off what frames pictures, by crops: what the health report offers where it finds borders. Writes nothing; must not import any
host."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .config import PictureConfig
from .focus import read_framings
from .measuring import find_inside
from .parts import name_picture, open_parts
from .reading import read_picture


def plan_without_borders(config: PictureConfig, names: Sequence[str]) -> dict[Path, Mapping[str, Any]]:
    """The crops of those of the named pictures that have borders, for ``focus.plan_framings``; a crop that is there is narrowed.

    Raises:
        UserError: for a picture that cannot be read.
    """
    parts, wanted = open_parts(config), set(names)
    framings, crops = read_framings(parts), dict[Path, Mapping[str, Any]]()
    for path in [found.path for part in parts for found in part.contents.pictures if name_picture(found.path, part) in wanted]:
        whole = read_picture(path)
        (width, height), framed = whole.rgb.size, framings.find(path).frame(whole.rgb.size)
        left, top, right, bottom = find_inside(whole.cut(framed.box).rgb)
        if (right - left, bottom - top) != framed.size:
            x, y = (framed.box or (0, 0))[:2]
            crops[path] = {"crop": [(left + x) / width, (top + y) / height, (right + x) / width, (bottom + y) / height]}
    return crops
