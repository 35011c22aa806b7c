"""The text of a document, whatever file it is in."""

from html.parser import HTMLParser
from pathlib import Path

from ..engine.errors import UserError
from .encodings import find_encoding
from .errors import RowError
from .pdf import join_pages, read_pages
from .word import read_word_text

DOCUMENTS = (".txt", ".md", ".docx", ".pdf", ".html", ".htm")
_UNSEEN = ("script", "style", "head", "template", "noscript")
_BLOCKS = ("p", "div", "br", "li", "tr", "table", "section", "article", "blockquote", "pre", "h1", "h2", "h3", "h4", "h5", "h6", "dt", "dd")


def read_document(path: Path, encoding: str = "") -> str:
    """The text of a .txt, .md, .docx, .pdf or .html file, a line for each paragraph.

    Args:
        encoding: of text files that are not UTF-8; found out where it is empty.

    Raises:
        UserError: for files of other kinds, and for what cannot be read or holds no text.
    """
    suffix = path.suffix.lower()
    if suffix not in DOCUMENTS:
        raise UserError(
            f"cannot read '{path.name}' as a document: its name does not end in {', '.join(DOCUMENTS)}. Save it as one of these."
        )
    try:
        text = _read(path, suffix, encoding)
    except RowError as error:
        raise UserError(f"cannot read '{path.name}': {error}. Choose another file where that does not help.") from error
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror or error}. Check the path and who may read it.") from error
    if not text.strip():
        raise UserError(f"cannot use '{path.name}': there is no text in it. Choose another file.")
    return text


def _read(path: Path, suffix: str, encoding: str) -> str:
    if suffix == ".docx":
        return read_word_text(path)
    if suffix == ".pdf":
        return join_pages(read_pages(path))[0]
    text = path.read_text(find_encoding(path, encoding).codec)
    return read_html(text) if suffix in (".html", ".htm") else text


def read_html(source: str) -> str:
    """What a page says, without its scripts and styles."""
    reader = _Reader()
    reader.feed(source)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.pieces).splitlines())
    return "\n".join(line for line in lines if line)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._unseen += tag in _UNSEEN
        self.pieces.append("\n" if tag in _BLOCKS else "\t" if tag in ("td", "th") else "")

    def handle_endtag(self, tag: str) -> None:
        self._unseen = max(0, self._unseen - (tag in _UNSEEN))
        self.pieces.append("\n" if tag in _BLOCKS else "")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.pieces.append(data.replace("\n", " "))
