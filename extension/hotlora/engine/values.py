"""How a value as people write it becomes what an option takes: numbers in quotes, choices in any spelling, paths as a file
manager copies them. Must import nothing of ours but ``engine``."""

import ast
import dataclasses
import datetime
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .errors import UserError
from .places import clean_place
from .yaml_file import as_written

EMPTY: Any = object()  # nothing was written: the default counts
_NO_NUMBER = ("none", "null", "~")  # as other programs write a number that is not set
_YES, _NO = ("true", "yes", "on", "1", "1.0"), ("false", "no", "off", "0", "0.0")
_LARGEST = 2**53  # what files and web pages hold
_SHOWN_CHARACTERS = 80
_THOUSANDS = re.compile(r"[-+]?\d{1,3}([,. ']\d{3})+")
_DEEPEST = 5  # lists in lists
_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a mapping"}


def convert(field: dataclasses.Field, wanted: Any, value: Any) -> Any:
    """The value as the field's type and within its limits; EMPTY where nothing was written.

    Raises:
        UserError: naming the field, the value and what it takes.
    """
    plain, optional = _strip_optional(wanted)
    rules = field.metadata
    if rules["read"] and value is not None:
        value = rules["read"](value)
    if _is_empty(value, field, plain):
        return EMPTY
    try:
        check_text(value)
        value = _choose(value, rules) if rules["choices"] else _as_type(plain, value, field)
    except (TypeError, ValueError, OverflowError) as error:
        hint = f" {error}" if type(error) is _Hint else ""
        raise UserError(f"cannot set {field.name} to {show(value)}: it takes {_name_type(plain)}.{hint} {rules['doc']}") from None
    except UserError as error:
        start = f"cannot use {field.name}" if rules["path"] or rules["written"] else f"cannot set {field.name} to"
        raise UserError(f"{start} {show(value)}: {error}") from None
    if rules["path"] or rules["written"]:
        value = clean_place(value, field.name, written=rules["written"])
    _check_limits(field, value)
    return value


def default_of(field: dataclasses.Field) -> Any:
    """What counts where the option is not given."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def show(value: Any) -> str:
    """A value for a message, however long it is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits; a list that holds itself
        text = f"such {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def check_text(value: Any, depth: int = 0) -> None:
    """Raise UserError where a text, or one within a list or mapping, cannot be written to a file."""
    if depth > _DEEPEST:
        raise UserError("it is nested too deeply. Write it as one list or mapping.")
    if isinstance(value, str):
        if "\0" in value:
            raise UserError("it holds the character NUL. Type it anew.")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise UserError("it holds half of a character (a lone surrogate). Type it anew.") from None
    elif isinstance(value, Mapping):
        for pair in value.items():
            for part in pair:
                check_text(part, depth + 1)
    elif isinstance(value, (list, tuple)):
        for part in value:
            check_text(part, depth + 1)


class _Hint(ValueError):
    """A reason that people are told."""


def _strip_optional(wanted: Any) -> tuple[type, bool]:
    """(the type itself, whether None is one of its values)."""
    optional = isinstance(wanted, types.UnionType) or typing.get_origin(wanted) is typing.Union
    if optional:
        wanted = next(a for a in typing.get_args(wanted) if a is not type(None))
    return typing.get_origin(wanted) or wanted, optional


def _is_empty(value: Any, field: dataclasses.Field, plain: type) -> bool:
    if value is None:
        return True
    if not isinstance(value, str):
        return False
    text = value.strip()
    if plain in (int, float, bool) and text.casefold() in _NO_NUMBER:
        return True
    if plain is str and not (field.metadata["choices"] or field.metadata["path"] or field.metadata["written"]):
        return False  # a space may be meant, and no text at all
    return not text and default_of(field) != ""


def _choose(value: Any, rules: Mapping[str, Any]) -> Any:
    """The choice that is meant. Raises UserError where none is."""
    choices = rules["choices"]
    known = {fold(name): choice for name, choice in rules["spellings"].items()} | {fold(choice): choice for choice in choices}
    if isinstance(value, bool):  # YAML's way with yes, no, on and off
        words: tuple[str, ...] = _YES if value else (*_NO, "none")
    elif isinstance(value, (str, int, float)):
        text = as_written(value)
        words = (text, text.rpartition(".")[2])  # a class by its full name
    else:
        words = ()
    for word in words:
        if fold(word) in known:
            return known[fold(word)]
    raise UserError(f"it takes one of {', '.join(map(str, choices))}. Choose one of them.")


def fold(name: Any) -> str:
    """Equal for two spellings of the same word: case, dashes, underscores and spaces do not count."""
    return re.sub(r"[\s_.-]+", "", str(name)).casefold()


def _as_type(plain: type, value: Any, field: dataclasses.Field) -> Any:
    readers: dict[type, Callable] = {bool: _read_switch, int: _read_whole, float: _read_number, dict: _read_mapping, Path: Path}
    if plain is list:
        return _read_list(value, field.metadata["items"])
    if plain is str:
        return _read_text(value, many=field.metadata["many"])
    return readers[plain](value)


def _read_switch(value: Any) -> bool:
    word = str(value).strip().casefold()
    if not isinstance(value, (bool, int, float, str)) or word not in (*_YES, *_NO):
        raise TypeError
    return word in _YES


def _read_whole(value: Any) -> int:
    if isinstance(value, (str, float)) and _THOUSANDS.fullmatch(as_written(value).strip()):
        raise _Hint("Write it without a mark between the thousands.")
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            value = _read_number(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise TypeError
    return int(value)


def _read_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d+,\d+(?:[eE][-+]?\d+)?\s*", value):
        raise _Hint("Write it with a point, not a comma.")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _read_text(value: Any, *, many: bool) -> str:
    if many and isinstance(value, (list, tuple)):
        return ", ".join(_read_text(item, many=False) for item in value if item is not None)
    if isinstance(value, bool):
        raise _Hint("Put it in quotes if that word is meant.")
    if isinstance(value, (str, int, float)):
        return as_written(value)
    if isinstance(value, (Path, datetime.date)):
        return str(value)
    raise TypeError


def _read_list(value: Any, kind: type) -> list:
    """``kind``: of what it holds."""
    numbers = kind in (int, float)
    if isinstance(value, str):
        value = value.strip("[]() \n").split(",") if numbers else value.splitlines()
    elif numbers and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise TypeError
    items = [item for item in value if item is not None and item != "" and not (isinstance(item, str) and not item.strip())]
    if kind is dict:
        return [_read_mapping(item) for item in items]
    if not numbers and any(isinstance(item, (dict, list, tuple)) for item in items):
        raise _Hint("Each entry is a text.")
    if not numbers:
        return [_read_text(item, many=False).strip() for item in items]
    return [_read_whole(item) if kind is int else _plain_number(item) for item in items]


def _plain_number(item: Any) -> int | float:
    try:
        number = _read_number(item)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{show(item)} in it is no number. Set it to numbers.") from None
    return int(number) if number == int(number) and not isinstance(item, float) and "." not in str(item) else number


def _read_mapping(value: Any) -> dict:
    if not isinstance(value, dict):
        raise TypeError
    return {_as_plain(key): _as_plain(item) for key, item in value.items()}


def _as_plain(value: Any) -> Any:
    """Without what only YAML's reader knows of a number."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, dict):
        return {_as_plain(key): _as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_plain(item) for item in value]
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    return value


def _check_limits(field: dataclasses.Field, value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _check_limits(field, item)
        return
    low, high = field.metadata["minimum"], field.metadata["maximum"]
    if high is None and isinstance(value, int):
        high = _LARGEST
    if (low is not None and value < low) or (high is not None and value > high):
        limits = f"at most {high:,}" if low is None else f"at least {low:,}" if value < low else f"between {low:,} and {high:,}"
        raise UserError(f"cannot set {field.name} to {show(value)}: it must be {limits}. {field.metadata['doc']}")


def _name_type(plain: type) -> str:
    return _TYPE_NAMES.get(plain, plain.__name__)


# -- arguments of optimizers and the like ---------------------------------------------------------------------------------


def read_first_word(value: Any) -> Any:
    """What is meant of a text that goes on with what explains it."""
    return value.strip().partition(" ")[0] if isinstance(value, str) else value


def read_arguments(value: Any) -> Any:
    """A mapping, or the same as other trainers write it: ``key=value`` words in a list or a text. Values in quotes become the
    numbers, switches and lists that they say."""
    if isinstance(value, str):
        words = re.sub(r"[\"'`]", " ", value).strip()
        value = re.split(r"[\s;]+(?=\w+\s*=)", words) if "=" in words else value
    if isinstance(value, (list, tuple)):
        pairs: dict = {}
        for item in value:
            if isinstance(item, dict):
                pairs.update(item)
            elif isinstance(item, str) and "=" in item:
                key, _, text = item.partition("=")
                pairs[key.strip().strip("\"'")] = text.strip().rstrip(",")
            else:
                return value
        value = pairs
    return {key: _read_argument(item) for key, item in value.items()} if isinstance(value, dict) else value


def _read_plain_number(text: str) -> int | float | None:
    """None where it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(text) if re.fullmatch(r"[-+]?\d{1,18}", text) else number


def _read_argument(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_read_argument(item) for item in value]
    if not isinstance(value, str):
        return value
    text = value.strip()
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "none": None, "null": None}
    if text.casefold() in words:
        return words[text.casefold()]
    number = _read_plain_number(text)
    if number is not None:
        return number
    if re.fullmatch(r"[\[(]?[-+.\deE,\s]+[\])]?", text):
        try:
            return _read_argument(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            return value
    return value
