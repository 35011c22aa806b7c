"""Pictures with their captions, and where each caption stands, for people who correct what they see in the album.

Must not import any host.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import UserError
from ..engine.files import write_bytes
from .caption_files import Row, list_captions_beside, read_text
from .caption_tables import change_rows, is_editable
from .config import PictureConfig
from .folders import Found
from .parts import Part, name_picture, open_parts, read_metadata


@dataclass(frozen=True)
class Captioned:
    """A picture and what is written about it."""

    path: Path
    caption: str  # empty where there is none; what is wrong with it where it cannot be read
    part: Part  # its folder
    row: Row | None = None  # where it stands in a table
    beside: Path | None = None  # its text file
    is_readable: bool = True

    @property
    def use(self) -> str:
        """train, reg, validation."""
        return self.part.use

    @property
    def config(self) -> PictureConfig:
        """What holds for its folder."""
        return self.part.source.config

    @property
    def refusal(self) -> str:
        """Why the caption cannot be changed; empty where it can."""
        if not self.is_readable:
            return self.caption
        if self.row and not is_editable(self.row.file):
            return f"it stands in {self.row.source}. Change it there."
        return ""


USES = ("train", "reg", "validation")


def read_caption(config: PictureConfig, name: str) -> str:
    """A picture's caption as it is written, in a table or else beside it; empty where there is none.

    Args:
        name: as the album calls the picture.

    Raises:
        UserError: where there is no such picture, or its caption stands in a file that cannot be changed here.
    """
    return find_captioned(config, name).caption


def list_captions(config: PictureConfig, uses: Sequence[str] = ("train",), only: str = "") -> dict[str, Captioned]:
    """Every picture, or ``only`` that one, as the album calls it. A caption that cannot be read counts as one: it is somebody's."""
    parts = open_parts(config)
    captions, listed, file = read_metadata(parts), {}, only.rpartition("/")[2]
    for part in parts:
        if part.use in uses:
            for found in part.contents.pictures:
                if file and found.path.name != file:
                    continue
                name = name_picture(found.path, part)
                if only in ("", name):
                    listed[name] = find_caption(found, captions.find(found.path), part)
    return listed


def find_caption(found: Found, row: Row | None, part: Part) -> Captioned:
    """A picture's caption, in its row where it has one, else beside it."""
    if row:
        return Captioned(found.path, row.caption, part, row)
    beside = next(iter(list_captions_beside(found.path, found.siblings)), None)
    try:
        return Captioned(found.path, read_text(beside).strip() if beside else "", part, beside=beside)
    except UserError as error:
        return Captioned(found.path, str(error), part, beside=beside, is_readable=False)


def write_caption(config: PictureConfig, name: str, text: str) -> Path:
    """Change it in the table or text file that it is in, or make a text file; an empty one removes the file or the row. Returns that file.

    Raises:
        UserError: like :func:`read_caption`.
    """
    ((path, content),) = plan_captions([(find_captioned(config, name), text)]).items()
    write_file(path, content)
    return path


def plan_captions(changes: Sequence[tuple[Captioned, str]]) -> dict[Path, bytes | None]:
    """What the files hold when these pictures have these captions: None for a file that goes. Nothing is written."""
    files: dict[Path, bytes | None] = {}
    tables: dict[Path, list[tuple[Row, str]]] = {}
    for picture, text in changes:
        if picture.row:
            tables.setdefault(picture.row.file, []).append((picture.row, text))
        else:
            files[picture.beside or picture.path.with_suffix(".txt")] = f"{text.strip()}\n".encode() if text.strip() else None
    return files | {path: change_rows(path, rows) for path, rows in tables.items()}


def write_file(path: Path, content: bytes | None, *, flush: bool = True) -> None:
    """All or nothing; None removes it. Raises UserError where that is not allowed. ``flush``: see :func:`write_bytes`."""
    try:
        if content is None:
            path.unlink(missing_ok=True)
        else:
            write_bytes(path, content, flush=flush)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}. Give it and its folder the rights to be written to.") from error


def find_captioned(config: PictureConfig, name: str) -> Captioned:
    """A picture whose caption can be changed. Raises UserError where there is none, or it stands where nothing is changed."""
    return require_editable(list_captions(config, USES, only=name), name)


def require_editable(pictures: Mapping[str, Captioned], name: str) -> Captioned:
    """The one of that name. Raises UserError like :func:`find_captioned`."""
    found = pictures.get(name)
    if found is None:
        raise UserError(f"cannot change the caption of '{name}': there is no such picture any more. Look at them again.")
    if not found.is_readable:
        raise UserError(found.caption)
    if found.refusal:
        raise UserError(f"cannot change the caption of '{name}' here: {found.refusal}")
    return found
