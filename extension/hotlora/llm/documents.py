"""Text out of documents that people have: what is in them as one text, whatever the file's kind."""

from pathlib import Path

from ..engine.errors import UserError
from .encodings import find_encoding
from .errors import RowError

DOCUMENT_SUFFIXES = (".txt", ".md")


def read_document(path: Path) -> str:
    """The document's text.

    Raises:
        UserError: where it cannot be read, or is of no kind that is.
    """
    if path.suffix.lower() not in DOCUMENT_SUFFIXES:
        raise UserError(f"cannot read '{path.name}': it is none of {' '.join(DOCUMENT_SUFFIXES)}. Save it as plain text.")
    try:
        return path.read_text(find_encoding(path).codec)
    except (OSError, RowError) as error:
        raise UserError(f"cannot read '{path.name}': {getattr(error, 'strerror', None) or error}. Save it as plain text again.") from error
