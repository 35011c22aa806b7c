"""How a dataclass becomes YAML keys, command-line overrides, tables in the documentation, and widgets.

A field made by :func:`option` carries its documentation, limits and choices; everything that lists options reads them
from there, so that the list exists once.
"""

import dataclasses
import difflib
import math
import re
import types
import typing
from pathlib import Path
from typing import Any

from .errors import UserError

_CODE_WITH_BARS = re.compile(r"`([^`]*\|[^`]*)`")


def option(
    default: Any,
    doc: str,
    *,
    choices=None,
    minimum=None,
    maximum=None,
    advanced: bool = True,
    fixed: bool = False,
    group: str = "",
    path: bool = False,
    personal: bool = False,
) -> Any:
    """A config field: its default, one line of documentation, and what values it takes. ``fixed``: a run cannot be resumed with
    another value, because what it has learned so far depends on it. ``group``: the heading that begins with this field. ``path``: it
    names a file or folder that people choose (see access.py). ``personal``: it belongs to one run, and presets leave it out."""
    limits = {"choices": choices, "minimum": minimum, "maximum": maximum}
    metadata = {"doc": doc, **limits, "advanced": advanced, "fixed": fixed, "group": group, "path": path, "personal": personal}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def options_of(config_class: type) -> dict[str, dataclasses.Field]:
    """Every option of the class, in the order it is declared."""
    return {f.name: f for f in dataclasses.fields(config_class) if "doc" in f.metadata}


def groups_of(config_class: type) -> dict[str, list[dataclasses.Field]]:
    """The options under their headings."""
    groups: dict[str, list[dataclasses.Field]] = {}
    for field in options_of(config_class).values():
        if field.metadata["group"] or not groups:
            heading = field.metadata["group"]
        groups.setdefault(heading, []).append(field)
    return groups


def build(config_class: type, values: dict[str, Any]) -> Any:
    """A checked config from plain values.

    Raises:
        UserError: for an unknown key (naming the nearest known one), a value of the wrong type or out of range, and
            whatever the class's own ``check`` method finds.
    """
    known = options_of(config_class)
    for key in values:
        if key not in known:
            raise UserError(f"cannot use the option '{key}': there is none of that name.{_suggestion(key, known)}")
    types_of = typing.get_type_hints(config_class)
    checked = {key: _convert(known[key], types_of[key], value) for key, value in values.items()}
    config = config_class(**checked)
    config.given = frozenset(checked)
    config.check()
    return config


def _suggestion(key: str, known: dict) -> str:
    near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else " See the table of options in docs/options.md."


def _convert(field: dataclasses.Field, wanted: Any, value: Any) -> Any:
    """The value as the field's type, within its limits."""
    optional = isinstance(wanted, types.UnionType) or typing.get_origin(wanted) is typing.Union
    if optional:
        if value is None:
            return None
        wanted = next(a for a in typing.get_args(wanted) if a is not type(None))
    plain = typing.get_origin(wanted) or wanted
    try:
        value = _as_type(plain, value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"cannot set {field.name} to {value!r}: it takes {_type_name(plain)}. {field.metadata['doc']}") from None
    choices, low, high = (field.metadata[k] for k in ("choices", "minimum", "maximum"))
    if choices and value not in choices:
        raise UserError(f"cannot set {field.name} to {value!r}: it takes one of {', '.join(map(str, choices))}.")
    if (low is not None and value < low) or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"between {low} and {high}"
        raise UserError(f"cannot set {field.name} to {value!r}: it must be {limits}.")
    return value


def _as_type(plain: type, value: Any) -> Any:
    if plain is bool:
        if isinstance(value, str) and value.lower() in ("true", "yes", "on", "false", "no", "off"):
            return value.lower() in ("true", "yes", "on")
        if not isinstance(value, bool):
            raise TypeError
        return value
    if plain is int:
        if isinstance(value, bool) or (isinstance(value, float) and value != int(value)):
            raise TypeError
        return int(value)
    if plain is float:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)  # YAML 1.1 reads 1e-4 as text
        if not math.isfinite(number):
            raise ValueError
        return number
    if plain is Path:
        return Path(value)
    if plain is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if plain is list and isinstance(value, str):
        return [value]
    if not isinstance(value, plain):
        raise TypeError
    return value


def _type_name(plain: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a mapping"}.get(
        plain, plain.__name__
    )


def as_plain(config: Any) -> dict[str, Any]:
    """All options with their values, ready for YAML or JSON; unset ones are left out."""
    plain = {}
    for name in options_of(type(config)):
        value = getattr(config, name)
        if value is not None:
            plain[name] = str(value) if isinstance(value, Path) else value
    return plain


def markdown_table(config_class: type, beyond: type | None = None) -> str:
    """The documentation's tables of options, one under each heading: key, default, what it does. With ``beyond`` only where they
    differ from that class's."""
    told = options_of(beyond) if beyond else {}
    tables = []
    for heading, fields in groups_of(config_class).items():
        rows = [_table_row(field) for field in fields if told.get(field.name) is not field]
        if rows:
            tables.append("\n".join([f"### {heading}\n", "| key | default | what it does |", "|---|---|---|", *rows]))
    return "\n\n".join(tables)


def _table_row(field: dataclasses.Field) -> str:
    default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    shown = "" if default is None or default == "" else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    doc = field.metadata["doc"]
    if field.metadata["choices"]:
        doc += " One of " + ", ".join(f"`{c}`" for c in field.metadata["choices"]) + "."
    return f"| `{field.name}` | {shown} | {_CODE_WITH_BARS.sub(_spell_out, doc)} |"


def _spell_out(code: re.Match) -> str:
    """A bar would end the table's cell; escaped, some renderers show the backslash."""
    return f"<code>{code[1].replace('|', '&#124;')}</code>"
