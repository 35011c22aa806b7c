"""Mojibake: text that was read in another encoding than its own and kept so, and letters that were lost on the way. Pure."""

import html
import re
import unicodedata
from dataclasses import dataclass

from ..engine.encodings import KNOWN, TextError, recognise

_CODECS = ("cp1252", "cp1251", "cp1250", "cp1254", "mac_roman", "cp850", "gb18030", "cp932", "cp866", "koi8_r", "cp437")
_DRAWN = ("cp866", "koi8_r", "cp437")  # in which UTF-8 looks like words, unless signs for drawing tables stand in them
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_LOST = re.compile("\ufffd|锟斤拷|(?<=[^\\W\\d_])\\?{2,}(?=[^\\W\\d_])")
_ALL_LOST = re.compile(r"(?:\?{2,}\s+){2,}\?{2,}")
_SHORTEST = {"cp1251": 4, "gb18030": 3, "cp932": 3}  # letters that have to fit, in encodings whose ordinary texts are all foreign letters
_QUOTE = "вЂ"  # how quotation marks and dashes begin: no word does
_WESTERN = re.compile(r"[\xa1-\xff‘’“”‚„…–—™€ŠšŽžŒœŸ†‡ˆ‰‹›˜•ƒ]{4,}")  # no word of a Western language has only such
_FOREIGN_CODECS = ("gb18030", "big5hkscs", "cp949", "cp932", "euc_jp", "cp1251", "koi8_r", "koi8_u", "cp1253", "cp1255", "cp1256", "cp874")
_ENTITY = re.compile(r"&(?:[a-zA-Z]{2,8}|#\d{2,6}|#x[0-9a-fA-F]{2,5});")
_SHOWN = 24
_MOST_TIMES = 3


@dataclass(frozen=True)
class Garbled:
    """How a text was spoilt. ``codec``: what people call the encoding that it was read in; empty where letters are lost. ``own``: the
    encoding that it is in."""

    codec: str
    seen: str = ""
    meant: str = ""
    own: str = "UTF-8"


def find_garbled(text: str) -> Garbled | None:
    """What is wrong with a text's letters; None where nothing is."""
    for found in _FOREIGN.finditer(text):
        codec, meant = _find_meant(text, found)
        if meant:
            return Garbled(KNOWN.get(codec, codec.upper()), found.group()[:_SHOWN], mend_garbled(meant)[:_SHOWN])
    is_lost = _ALL_LOST.search(text) or not text.isascii() and _LOST.search(text)
    return _find_western(text) or (Garbled("") if is_lost else None)


def find_entity(text: str) -> tuple[str, str]:
    """(a letter as web pages spell it, that letter) where a text that is no part of a web page has such; empty where not."""
    found = _ENTITY.search(text)
    meant = html.unescape(found.group()) if found else ""
    return (found.group(), meant) if found and meant != found.group() and "<" not in text else ("", "")


def _find_western(text: str) -> Garbled | None:
    """Letters of other scripts that were read as Western ones."""
    found = _WESTERN.search(text)
    if not found:
        return None
    try:
        data = b"".join(letter.encode() if letter.isascii() else _to_bytes(letter, "cp1252") for letter in text)
        codec = next(codec for codec, name in KNOWN.items() if name == recognise(data).told)
        meant = data.decode(codec)
    except (UnicodeError, TextError):
        return None
    if codec not in _FOREIGN_CODECS:
        return None
    first = next((word for word in meant.split() if not word.isascii()), "")
    return Garbled(KNOWN["cp1252"], found.group()[:_SHOWN], first[:_SHOWN], KNOWN[codec])


def mend_garbled(text: str) -> str:
    """The text with what was meant, wherever that is known; also where it was read wrongly twice."""
    for _ in range(_MOST_TIMES):
        mended = _FOREIGN.sub(lambda found: _find_meant(text, found)[1] or found.group(), text)  # noqa: B023 (it is called at once)
        if mended == text:
            break
        text = mended
    return text


def _find_meant(text: str, found: re.Match[str]) -> tuple[str, str]:
    """The encoding that letters were wrongly read in, and what was meant; empty where they are no such mistake."""
    letters = found.group()
    capital = text[: found.start()][-1:].isupper() and letters[0].isupper()  # CAFÉ» is a word with its quotation mark; TÃ¤glich is none
    capital = capital and not text[found.end() :][:1].islower()
    for codec in _CODECS:
        meant = "" if capital and len(letters) == 2 else _read_rightly(letters, codec)
        if meant:
            return codec, meant
    return "", ""


def _read_rightly(letters: str, codec: str) -> str:
    """What was meant; empty where the letters are no such mistake."""
    if len(letters) < _SHORTEST.get(codec, 2) and _QUOTE not in letters:
        return ""
    if codec in _DRAWN and not any("\u2500" <= letter <= "\u25ff" for letter in letters):
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
