"""Mojibake: UTF-8 that was read in another encoding and kept so, and letters that were lost on the way. Pure."""

import re
import unicodedata
from dataclasses import dataclass

from ..engine.encodings import KNOWN

_CODECS = ("cp1252", "cp1251", "cp1250", "cp1254", "mac_roman", "cp850", "gb18030")
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_LOST = re.compile("\ufffd|锟斤拷|(?<=[^\\W\\d_])\\?{2,}(?=[^\\W\\d_])")
_SHORTEST = {"cp1251": 4, "gb18030": 3}  # letters that have to fit, in encodings whose ordinary texts are all foreign letters
_SHOWN = 24


@dataclass(frozen=True)
class Garbled:
    """How a text was spoilt. ``codec``: what people call the encoding that its UTF-8 was read in; empty where letters are lost."""

    codec: str
    seen: str = ""
    meant: str = ""


def find_garbled(text: str) -> Garbled | None:
    """What is wrong with a text's letters; None where nothing is."""
    if text.isascii():
        return None
    for found in _FOREIGN.finditer(text):
        codec, meant = _find_meant(text, found)
        if meant:
            return Garbled(KNOWN[codec], found.group()[:_SHOWN], meant[:_SHOWN])
    return Garbled("") if _LOST.search(text) else None


def mend_garbled(text: str) -> str:
    """The text with what was meant, wherever that is known."""
    return text if text.isascii() else _FOREIGN.sub(lambda found: _find_meant(text, found)[1] or found.group(), text)


def _find_meant(text: str, found: re.Match[str]) -> tuple[str, str]:
    """The encoding that letters were wrongly read in, and what was meant; empty where they are no such mistake."""
    letters = found.group()
    capital = text[: found.start()][-1:].isupper() and letters[0].isupper()  # CAFÉ» is a word with its quotation mark
    for codec in _CODECS:
        meant = "" if capital and len(letters) == 2 else _read_rightly(letters, codec)
        if meant:
            return codec, meant
    return "", ""


def _read_rightly(letters: str, codec: str) -> str:
    """What was meant; empty where the letters are no such mistake."""
    if len(letters) < _SHORTEST.get(codec, 2):
        return ""
    try:
        read = b"".join(_to_bytes(letter, codec) for letter in letters).decode("utf-8")
    except UnicodeError:
        return ""
    return read if all(_is_usual(letter) for letter in read) else ""


def _to_bytes(letter: str, codec: str) -> bytes:
    """What means nothing in a Windows encoding is read as it is. Raises UnicodeError for what no byte is read as."""
    return letter.encode("latin-1" if "\x80" <= letter <= "\x9f" else codec)


def _is_usual(letter: str) -> bool:
    """Something that people write: no control sign, phonetic sign, or mark without its letter."""
    if letter == "\ufeff":
        return True
    return unicodedata.category(letter)[0] in "LPSZN" and not "\u0180" <= letter <= "\u036f"
