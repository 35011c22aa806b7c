"""The text of PDF files, by the package pypdf: page by page, and joined to one text. Scanned pages have none, which is said."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from .errors import RowError
from .packages import say_missing

_FEWEST_PAGES = 3  # before a line is taken for one that stands on every page
_ON_MOST = 0.6
_PARTED = re.compile(r"(\w*[^\W\d_])[-\u00ad]\n([^\W\d_]\w*)")
_GOES_ON = re.compile(r"(?<=[\w,;)])[ \t]*\n(?=[^\W\d_])")


def read_pages(path: Path) -> list[str]:
    """The text of each page, empty where it has none.

    Raises:
        RowError: where pypdf is missing, for what is protected by a password or damaged, and where no page has text.
        OSError: as the system has it.
    """
    try:
        import pypdf
    except ImportError:
        raise RowError(say_missing("pypdf", "Copy its text into a .txt file")) from None
    try:
        with path.open("rb") as file:
            reader = pypdf.PdfReader(file)
            if reader.is_encrypted and not _opens(reader):
                raise RowError("it is protected by a password. Save it without one, or copy its text into a .txt file")
            pages = [(page.extract_text() or "").strip() for page in reader.pages]
    except (RowError, OSError):
        raise
    except Exception as error:  # its own classes and Python's, one for each way in which a file can be wrong
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise RowError(f"it is no sound PDF ({reason}). Save it anew, or copy its text into a .txt file") from error
    if not any(pages):
        raise RowError("no page of it has text: it is empty, or pictures of pages (scanned). Have the text recognised (OCR) first")
    return pages


def _opens(reader: Any) -> bool:
    """Whether anybody may read it: some files ask for a password only before they are changed."""
    try:
        return bool(reader.decrypt(""))
    except Exception:
        return False


def join_pages(pages: list[str]) -> tuple[str, list[str]]:
    """(the whole text, what people should hear about it as ends of sentences). Lines that a page's width has broken are joined again where
    that is certain; what stands above or below nearly every page is left out."""
    notes = []
    empty = [number for number, page in enumerate(pages, 1) if not page]
    if empty:
        listed = ", ".join(map(str, empty[:5])) + " …" * (len(empty) > 5)
        notes.append(f"with pages that have no text, such as scanned ones (page {listed})")
    edges = _find_edges(pages)
    if edges:
        shown = "; ".join(edges[:3])
        notes.append(f"without what stands above or below nearly every page ({shown[:80]})")
    kept = [_strip_edges(page, edges) for page in pages]
    text = "\n".join(page for page in kept if page)
    text = _PARTED.sub(lambda found: _join_word(found, text), text)
    return _GOES_ON.sub(lambda found: " " if text[found.end()].islower() else found.group(), text), notes


def _join_word(found: "re.Match[str]", text: str) -> str:
    """A word that a line's end has parted; with its hyphen where it is written so elsewhere or what follows is no small letter."""
    first, second = found.groups()
    keeps = not second[0].islower() or f"{first}-{second}" in text
    return f"{first}-{second}" if keeps else first + second


def _find_edges(pages: list[str]) -> list[str]:
    """Lines, their numbers as `#`, that stand at the edge of most pages."""
    told = [page for page in pages if page]
    if len(told) < _FEWEST_PAGES:
        return []
    counts: Counter[str] = Counter()
    for page in told:
        lines = page.splitlines()
        counts.update({_without_numbers(lines[0]), _without_numbers(lines[-1])})
    return [line for line, count in counts.items() if line and count >= max(_FEWEST_PAGES, _ON_MOST * len(told))]


def _strip_edges(page: str, edges: list[str]) -> str:
    lines = page.splitlines()
    kept = [line for place, line in enumerate(lines) if 0 < place < len(lines) - 1 or _without_numbers(line) not in edges]
    return "\n".join(kept).strip()


def _without_numbers(line: str) -> str:
    return re.sub(r"\d+", "#", " ".join(line.split()))
