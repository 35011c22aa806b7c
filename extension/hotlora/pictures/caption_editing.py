"""One picture's caption, for people who correct what they see in the album. Must not import any host."""

from pathlib import Path

from ..engine.errors import UserError
from ..engine.files import write_text
from .album import name_picture
from .caption_files import list_captions_beside, read_caption_beside
from .config import PictureConfig
from .dataset import open_parts, read_metadata
from .folders import Found


def read_caption(config: PictureConfig, name: str) -> str:
    """A picture's caption as it is written beside it; empty where there is none.

    Args:
        name: as the album calls the picture.

    Raises:
        UserError: where there is no such picture, or its caption stands in a table that goes before a text beside it.
    """
    found = _find_picture(config, name)
    beside = read_caption_beside(found.path, found.siblings)
    return beside[0] if beside else ""


def write_caption(config: PictureConfig, name: str, text: str) -> Path:
    """Change it in the text file that it is in, or make one; an empty one removes the file. Returns that file.

    Raises:
        UserError: like :func:`read_caption`.
    """
    found = _find_picture(config, name)
    there = list_captions_beside(found.path, found.siblings)
    path = there[0] if there else found.path.with_suffix(".txt")
    try:
        if text.strip():
            write_text(path, text.strip() + "\n")
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the caption {path}: {error.strerror or error}. May the folder be written to?") from error
    return path


def _find_picture(config: PictureConfig, name: str) -> Found:
    parts = open_parts(config)
    pictures = ((found, name_picture(found.path, part, use)) for use, part in parts.items() for found in part.contents.pictures)
    found = next((found for found, known in pictures if known == name), None)
    if found is None:
        raise UserError(f"cannot change the caption of '{name}': there is no such picture any more. Look at them again.")
    row = read_metadata(parts, config).find(found.path)
    if row:
        raise UserError(f"cannot change the caption of '{name}' here: it stands in {row.source}. Change it there.")
    return found
