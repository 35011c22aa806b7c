"""Documents, cut into passages that are short enough to be asked about."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...engine.errors import UserError
from ..documents import DOCUMENTS, read_document

_LEAST = 40  # characters: a shorter passage, such as a title by itself, answers no question
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])")
_ENDED = re.compile(r"[.!?…:;。！？：；][\"'”’»」)\]]*$")
_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=#{1,6} )")


@dataclass(frozen=True)
class Passage:
    """A piece of a document. ``number`` counts from 1 within it."""

    source: str
    number: int
    text: str

    @property
    def key(self) -> str:
        """By what it says alone: a document that is moved, or of which another part is changed, is not asked about twice."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_passages(place: Path, longest: int, encoding: str = "") -> tuple[list[Passage], list[str]]:
    """All passages of a document, or of a folder's, in the order of names; and what is left out, a sentence each.

    Args:
        encoding: of text files that are not UTF-8; found out where it is empty.

    Raises:
        UserError: where there is no document, or nothing in it.
    """
    passages: dict[str, Passage] = {}
    problems: list[str] = []
    twice = short = 0
    for name, path in _find_documents(place, problems):
        try:
            pieces = list(cut(read_document(path, encoding), longest))
        except UserError as error:
            problems.append(str(error))
            continue
        for number, text in enumerate(pieces, 1):
            passage = Passage(name, number, text)
            short += len(text) < _LEAST
            twice += len(text) >= _LEAST and passage.key in passages
            if len(text) >= _LEAST:
                passages.setdefault(passage.key, passage)
    if short:
        problems.append(f"Passages of less than {_LEAST} characters, of which nothing can be asked: {short}.")
    if twice:
        problems.append(f"Passages that are there more than once, and asked about once: {twice}.")
    if not passages:
        said = "".join(f"\n- {problem}" for problem in problems[:20])
        raise UserError(f"cannot write questions about '{place}': there is no text in it. Give documents ({_name_kinds()}).{said}")
    return list(passages.values()), problems


def _find_documents(place: Path, problems: list[str]) -> Iterator[tuple[str, Path]]:
    """(name, file) of all that can be read; what cannot is told."""
    if place.is_file():
        yield place.name, place
        return
    if not place.is_dir():
        raise UserError(f"cannot find documents at '{place}': there is nothing. Give a folder, or a file ({_name_kinds()}).")
    other = []
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        name = path.relative_to(place).as_posix()
        if any(part.startswith(".") for part in path.relative_to(place).parts):
            continue
        if path.suffix.lower() in DOCUMENTS:
            yield name, path
        else:
            other.append(name)
    if other:
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        problems.append(f"No documents, and left out: {', '.join(other[:3])}{more}.")


def _name_kinds() -> str:
    return " ".join(DOCUMENTS)


def cut(text: str, longest: int) -> Iterator[str]:
    """Pieces of at most ``longest`` characters: whole paragraphs as far as they go, else whole sentences, else as much as there is room
    for. A heading goes with what follows it. Joined, they are the text, whitespace at their ends apart."""
    piece = last = ""
    for part in _split(text.replace("\r\n", "\n").replace("\r", "\n"), longest):
        joined = f"{piece}\n\n{part}" if piece else part
        if piece and (len(joined) > longest or (part.startswith("#") and not _is_bare_heading(last))):
            yield piece
            joined = part
        piece, last = joined, part
    if piece:
        yield piece


def _split(text: str, longest: int) -> Iterator[str]:
    """Paragraphs, which in some documents are lines; what of them is too long, in sentences that are joined as far as they go."""
    for paragraph in filter(None, (part.strip() for part in _PARAGRAPH.split(text))):
        lines = [line.strip() for line in paragraph.splitlines() if line.strip()]
        ended = sum(bool(_ENDED.search(line)) for line in lines)
        for part in lines if len(paragraph) > longest and 2 * ended > len(lines) else [paragraph]:
            if len(part) <= longest:
                yield part
            else:
                yield from _join([sentence for sentence in _SENTENCE.split(part) if sentence], longest)


def _join(sentences: Sequence[str], longest: int) -> Iterator[str]:
    piece = ""
    for sentence in (part for whole in sentences for part in _chop(whole, longest)):
        gap = "" if piece.endswith(("。", "！", "？")) else " "
        if piece and len(piece) + len(gap) + len(sentence) > longest:
            yield piece
            piece = sentence
        else:
            piece = f"{piece}{gap}{sentence}" if piece else sentence
    if piece:
        yield piece


def _chop(text: str, longest: int) -> Iterator[str]:
    """Between words where there are any."""
    while len(text) > longest:
        end = text.rfind(" ", longest // 2, longest)
        end = end if end > 0 else longest
        yield text[:end].strip()
        text = text[end:].strip()
    if text:
        yield text


def _is_bare_heading(part: str) -> bool:
    return part.startswith("#") and "\n" not in part
