"""What encoding a file of texts is in; where nobody can tell, its owner is asked to say it by the run's own option."""

from pathlib import Path

from ..engine.encodings import Encoding, TextError, check_encoding
from ..engine.encodings import find_encoding as _find_encoding
from .errors import RowError

__all__ = ["check_encoding", "find_encoding"]

_OFFER = "Save it as UTF-8, or say what it is with encoding: (such as gbk, big5, shift_jis or cp1251)"


def find_encoding(path: Path, given: str = "") -> Encoding:
    """See :func:`hotlora.engine.encodings.find_encoding`. Raises RowError where that raises TextError."""
    try:
        return _find_encoding(path, given)
    except TextError as error:
        raise RowError(f"{error}. {_OFFER}" if error.is_open else str(error)) from None
