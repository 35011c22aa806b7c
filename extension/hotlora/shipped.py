"""Where the files lie that come with the package and are no Python: run files to start from, the page's script and style. Imports
nothing of ours.

Their one source is at the repository's root, because hosts and people look there: AUTOMATIC1111 executes what is in ``javascript/``
and loads ``style.css``, and ``configs/`` is what people copy from. A wheel has copies in ``hotlora/data`` (made by setup.py).
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_PLACES = (_PACKAGE / "data", _PACKAGE.parents[1])


def find_shipped(name: str) -> Path:
    """The file of that name, which is relative to the repository's root, such as ``configs/style.yaml``."""
    return next((place / name for place in _PLACES if (place / name).is_file()), _PLACES[-1] / name)
