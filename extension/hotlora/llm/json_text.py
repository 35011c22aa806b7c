"""JSON values out of text: what people's files hold, or why it is none in words that say what to do. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any

from .errors import RowError

_WORDS = {"None": "null", "True": "true", "False": "false", "undefined": "null"}
_QUOTES = "“”„«»‘’＂"
_LIST_OR_OBJECT = ("{", "[")


def parse_json(text: str) -> Any:
    """The value, or the RowError why there is none. What is no number (pandas writes NaN for empty cells) is nothing; a text that is JSON
    once more is what that holds."""
    value = _parse(text)
    if isinstance(value, str) and value.lstrip().startswith(_LIST_OR_OBJECT):
        inner = _parse(value)
        return value if isinstance(inner, RowError) else inner
    return value


def is_json(text: str) -> bool:
    """Whether it is one value."""
    return not isinstance(_parse(text), RowError)


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=lambda name: None, object_pairs_hook=_make_object)
    except json.JSONDecodeError as error:
        place = f"in line {error.lineno} " if "\n" in text.strip() else ""
        hint = _advise(text, error)
        return RowError(f"it is no valid JSON: {error.msg.removesuffix(' at')} {place}at character {error.colno}{hint}")
    except RowError as error:
        return error
    except (ValueError, RecursionError):
        return RowError("its JSON has a number of too many digits, or too many lists in each other")


def _make_object(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    """Python keeps the last of two values of one key, and says nothing."""
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next((key for key, value in pairs if made[key] != value), None)
        if twice is not None:
            raise RowError(f"it has the key '{twice[:40]}' twice, with different values. Keep one of them")
    return made


def _advise(text: str, error: json.JSONDecodeError) -> str:
    """What to do about the mistakes that are made most often, as the rest of a sentence; empty for others."""
    before, after = text[: error.pos].rstrip(), text[error.pos :].strip()
    word = next((word for word in _WORDS if after.startswith(word)), "")
    if after.startswith(("#", "//", "/*")):
        hint = "JSON has no comments, take them out"
    elif after.startswith("'") and before[-1:] in ("", "{", "[", ",", ":"):
        hint = "write \" and not ' around names and texts"
    elif after[:1] and after[0] in _QUOTES:
        hint = f'write " and not {after[0]} around names and texts'
    elif word:
        hint = f"write {_WORDS[word]} and not {word}"
    elif before.endswith(",") and after.startswith(("}", "]")) or "trailing comma" in error.msg:
        hint = "take out the comma before the bracket"
    elif error.msg == "Extra data":
        hint = "take out the comma at its end" if after == "," else "put each row into a line of its own" if after[:1] in "{[" else ""
    elif "control character" in error.msg:
        hint = r"write \n for a line's end in a text, and \t for a tab"
    elif "escape" in error.msg:
        hint = r"write \\ for a backslash"
    elif error.msg.startswith("Unterminated") or not after:
        hint = "it ends in the middle: the file is cut off, or a row goes over several lines, of which each must be one"
    elif not error.pos and re.match(r"\w", after):
        hint = "where it is a table, let its name end with .csv"
    else:
        hint = ""
    return f" ({hint})" if hint else ""
