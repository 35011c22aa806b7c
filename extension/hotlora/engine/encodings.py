"""Which encoding a text file is in: UTF-8, UTF-16 where its mark says so, or what programs of some country write; or that nobody can tell.

Two witnesses have to agree: the library charset-normalizer, which knows what is no text at all but mixes up the Western and Eastern
European encodings, and :mod:`.languages`, which knows what letters go together in a language. Mojibake is learned like any text,
and nobody sees it before the model speaks it: so where the two leave a doubt, the file is refused and its owner asked.
"""

import codecs
from dataclasses import dataclass
from pathlib import Path

from .languages import judge_text

# Python's name, and what people call it. The wider of two relatives: GBK is GB18030's older part, EUC-KR is CP949's.
KNOWN = {
    "gb18030": "GBK/GB18030",
    "big5hkscs": "Big5",
    "cp949": "EUC-KR/CP949",
    "cp932": "Shift-JIS",
    "euc_jp": "EUC-JP",
    "cp1252": "Windows-1252",
    "cp1250": "Windows-1250",
    "cp1251": "Windows-1251",
    "cp1253": "Windows-1253",
    "cp1254": "Windows-1254",
    "cp1255": "Windows-1255",
    "cp1256": "Windows-1256",
    "cp1257": "Windows-1257",
    "cp1258": "Windows-1258",
    "cp874": "Windows-874",
    "koi8_r": "KOI8-R",
    "koi8_u": "KOI8-U",
    "cp866": "CP866",
    "iso8859_2": "ISO-8859-2",
    "mac_roman": "MacRoman",
    "cp850": "CP850",
    "cp852": "CP852",
}
_CHUNK_BYTES = 1 << 20
_JUDGED_BYTES = 60_000  # of lines that are not plain ASCII: more changes no verdict
_LIKELY = 0.75  # a sound text of one language has more
_MARGIN = 0.08  # between the likeliest reading and the next other one
_MOST_APART = 12.0
_OLD = ("koi8_r", "koi8_u", "cp866", "iso8859_2", "mac_roman", "cp850", "cp852", "cp1258")
_SELDOM = 0.05  # how much better such an old one has to fit
_SELDOM_ALONE = 0.3  # and where that is said of a single letter
_CHAOS_APART = 0.12  # what the library calls messier than its favourite by more than this is out
_CHAOS_OF_ONE = 1.5  # and what more a single letter may look messy by: the library is made for longer texts


class TextError(ValueError):
    """Why a file is not read, as the end of a sentence.

    Attributes:
        is_open: whether its owner could say what it is in; else the sentence says what is to be done.
    """

    def __init__(self, reason: str, *, is_open: bool = False):
        super().__init__(reason)
        self.is_open = is_open


@dataclass(frozen=True)
class Encoding:
    """A codec's name, and what people are told it is; nothing for UTF-8, which needs no telling."""

    codec: str
    told: str = ""


def find_encoding(path: Path, given: str = "") -> Encoding:
    """The file's encoding. ``given``: what its owner says that files are in which are not UTF-8.

    Raises:
        TextError: for what is no text, is damaged, or can be read in several ways that all make sense.
        OSError: as the system has it.
    """
    with path.open("rb") as file:
        marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if marked or not given or not _is_wide(given):
        damaged = _try(path, "utf-16" if marked else "utf-8-sig")
        if damaged is None:
            return Encoding("utf-16", "UTF-16") if marked else _find_seven_bits(path)
        if marked:
            raise TextError("its UTF-16 text is damaged. Save it as UTF-8")
    if given:
        damaged = _try(path, given)
        if damaged is not None:
            raise TextError(f"it is not in {given} as encoding: says, first at byte {damaged + 1}. Save it as UTF-8, or correct encoding")
        return Encoding(given, f"{given}, as encoding: says")
    return recognise(path.read_bytes())


def _find_seven_bits(path: Path) -> Encoding:
    """UTF-8; or Japanese mail's encoding, which is written in plain letters behind a sign that switches them."""
    with path.open("rb") as file:
        switches = b"\x1b$" in file.read(_JUDGED_BYTES)
    return Encoding("iso2022_jp_2", "ISO-2022-JP") if switches and _try(path, "iso2022_jp_2") is None else Encoding("utf-8-sig")


def recognise(data: bytes) -> Encoding:
    """What text is in that is neither UTF-8 nor marked. Raises TextError like :func:`find_encoding`."""
    _refuse_damaged_utf8(data)
    codec = _recognise(data)
    return Encoding(codec, KNOWN[codec])


def check_encoding(name: str) -> bool:
    """Whether Python knows it, and it is one of text."""
    try:
        "a".encode(name)
        return codecs.lookup(name)._is_text_encoding
    except (LookupError, UnicodeError, ValueError):
        return False


def _is_wide(name: str) -> bool:
    return codecs.lookup(name).name.startswith(("utf-16", "utf-32"))


def _try(path: Path, codec: str) -> int | None:
    """Where it stops being text in this encoding; None where it is such text."""
    decoder = codecs.getincrementaldecoder(codec)()
    read = 0
    with path.open("rb") as file:
        try:
            while chunk := file.read(_CHUNK_BYTES):
                if "\0" in decoder.decode(chunk):
                    raise TextError("it is no text file (where it is a document, export it as text)", is_open=True)
                read += len(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            return read + error.start
    return None


def _refuse_damaged_utf8(data: bytes) -> None:
    """Damaged UTF-8 must not pass for another encoding, or `Ã¼` would be learned for `ü`."""
    sound = data.decode("utf-8", errors="ignore")
    if sum(not letter.isascii() for letter in sound) < len(data) - len(sound.encode("utf-8")):
        return
    lines = enumerate(data.splitlines(), 1)
    line = next(number for number, line in lines if line.decode("utf-8", errors="ignore").encode("utf-8") != line)
    raise TextError(f"its UTF-8 text is damaged, first in line {line}. Correct it there and save it as UTF-8")


# -- which of the many ---------------------------------------------------------------------------------------------------


def _recognise(data: bytes) -> str:
    """The codec; the one of several that read the same is the first of KNOWN."""
    telling = _choose_telling(data)
    if any(byte < 32 and byte not in b"\t\n\r\f\x0b\x1a\x1b" for byte in telling):
        raise TextError("it is no text in UTF-8", is_open=True)
    readings = {codec: text for codec in KNOWN if (text := _decode(telling, codec)) is not None}
    likely = _ask_library(telling, list(readings))
    seldom = _SELDOM + _SELDOM_ALONE / sum(byte > 127 for byte in telling)
    scores = {codec: judge_text(readings[codec], codec) - (seldom if codec in _OLD else 0) for codec in likely}
    if not scores:
        raise TextError("it is no text in UTF-8, nor in any other encoding that is known", is_open=True)
    best = max(scores, key=lambda codec: scores[codec])
    others = [codec for codec in scores if readings[codec] != readings[best]]
    rival = max(others, key=lambda codec: scores[codec], default=None)
    if scores[best] < _LIKELY or any((scores[best] - scores[c]) * _apart(readings[best], readings[c]) < _MARGIN for c in others):
        names = " or ".join(f"{KNOWN[c]} ({_show(readings[c])})" for c in (best, rival) if c)
        raise TextError(f"its encoding is not certain: it may be {names}", is_open=True)
    for number, line in enumerate(data.splitlines(), 1):
        if _decode(line, best) is None:
            raise TextError(f"its {KNOWN[best]} text is damaged, first in line {number}. Correct it there and save it as UTF-8")
    return best


def _apart(one: str, other: str) -> float:
    """How few of the letters that two readings are about are read differently. Few of many: the others have said the language already."""
    if len(one) != len(other):
        return 1.0
    differ = sum(a != b for a, b in zip(one, other, strict=True))
    return min(_MOST_APART, sum(not letter.isascii() for letter in one) / differ)


def _choose_telling(data: bytes) -> bytes:
    """Lines that are not plain ASCII; in none of the encodings is a line's end a part of a letter."""
    chosen, size = [], 0
    for line in data.splitlines(keepends=True):
        if not line.isascii() or any(byte < 32 and byte not in b"\t\n\r\f" for byte in line):
            chosen.append(line[:_JUDGED_BYTES])
            size += len(line)
            if size > _JUDGED_BYTES:
                break
    return b"".join(chosen)


def _decode(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _ask_library(data: bytes, codecs_left: list[str]) -> list[str]:
    """Those of the codecs that the library finds no messier than its favourite."""
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        raise TextError(
            "it is not in UTF-8, and the package charset-normalizer, which finds out encodings, is missing", is_open=True
        ) from None
    if not codecs_left:
        return []
    found = from_bytes(data, cp_isolation=codecs_left, threshold=0.5, preemptive_behaviour=False, enable_fallback=False)
    chaos: dict[str, float] = {}
    for match in found:  # those that read the same are one match
        for name in {match.encoding, *match.could_be_from_charset}:
            if name in codecs_left:
                chaos[name] = min(match.chaos, chaos.get(name, 1.0))
    highest = min(chaos.values(), default=0.0) + _CHAOS_APART + _CHAOS_OF_ONE / sum(byte > 127 for byte in data)
    return [codec for codec in codecs_left if chaos.get(codec, 1.0) <= highest] or codecs_left


def _show(text: str) -> str:
    """The first words that are not plain."""
    words = [word for word in text.split() if not word.isascii()]
    return " ".join(words[:3])[:40]
