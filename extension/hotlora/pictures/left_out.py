"""Pictures that somebody has put aside: in a sub-folder `left out`, where nothing is trained on, under the same names as before.

Owns where that is. Their rows in tables stay where they are, and count again when they are brought back. Must not import any host;
moves nothing itself.
"""

import os
import unicodedata
from collections.abc import Collection
from pathlib import Path

LEFT_OUT = "left out"


def is_left_out(folder_name: str) -> bool:
    """Whether a folder of that name holds what is left out."""
    return folder_name.casefold() == LEFT_OUT


def place_aside(path: Path, root: Path) -> Path:
    """Where a file goes when it is left out of a data folder."""
    return root / LEFT_OUT / path.relative_to(root)


def place_before(path: Path) -> Path:
    """Where a file goes that is brought back: into the folder that the innermost `left out` lies in."""
    aside = next(parent for parent in path.parents if is_left_out(parent.name))
    return aside.parent / path.relative_to(aside)


def is_aside(path: Path, roots: Collection[str] = ()) -> bool:
    """Whether a picture that should be at ``path`` lies in a `left out` above that.

    Args:
        roots: keys (``caption_files.path_key``) of the data folders: none above them is looked at. No end where there are none.
    """
    for parent in path.parents:
        if os.path.isfile(parent / LEFT_OUT / path.relative_to(parent)):
            return True
        if os.path.normcase(unicodedata.normalize("NFC", os.path.abspath(parent))) in roots:
            return False
    return False
