"""How a dataclass becomes YAML keys, command-line overrides, tables in the documentation, and widgets.

A field made by :func:`option` carries its documentation, limits and choices; everything that lists options reads them
from there, so that the list exists once.
"""

import dataclasses
import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .errors import UserError
from .other_names import OtherName, say_unknown
from .values import EMPTY, convert, default_of

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
    written: bool = False,
    many: bool = False,
    spellings: Mapping[str, Any] = MappingProxyType({}),
    read: Callable[[Any], Any] | None = None,
    items: type = str,
) -> Any:
    """A config field: its default, one line of documentation, and what values it takes. ``fixed``: a run cannot be resumed with
    another value, because what it has learned so far depends on it. ``group``: the heading that begins with this field. ``path``: it
    names a file or folder that people choose (see access.py); ``written``: one that the run makes. ``personal``: it belongs to one run, and
    presets leave it out. ``many``: a text that may be given as a list. ``spellings``: other words for the choices. ``read``:
    makes a plain value of one written in another way. ``items``: what a list holds: str, int, float or dict."""
    limits = {"choices": choices, "minimum": minimum, "maximum": maximum}
    reading = {"path": path, "written": written, "many": many, "spellings": spellings, "read": read, "items": items}
    metadata = {"doc": doc, **limits, "advanced": advanced, "fixed": fixed, "group": group, "personal": personal, **reading}
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


def build(config_class: type[Any], values: Mapping[Any, Any], tasks: Mapping[str, type] = MappingProxyType({})) -> Any:
    """A checked config from values as people write them.

    Args:
        tasks: config class by task, for what is said of an option that another task has.

    Raises:
        UserError: for unknown keys (all of them, each with the right name), values of the wrong type or out of range, and
            whatever the class's own ``check`` method finds.
    """
    values = config_class.spell_out(values)
    elsewhere = {key: OtherName("", f"It is an option of {task}.") for task, other in tasks.items() for key in options_of(other)}
    checked, problems = read_values(types_by_option(config_class), values, {**elsewhere, **config_class.OTHER_NAMES})
    if problems:
        listed = "".join(f"\n- {problem}" for problem in problems)
        raise UserError(problems[0] if len(problems) == 1 else f"cannot use {len(problems)} of the options. Mend each of them:{listed}")
    config = config_class(**checked)
    config.given = frozenset(checked)
    config.check()
    return config


def types_by_option(config_class: type) -> dict[str, tuple[dataclasses.Field, Any]]:
    """Every option of the class with its type, for :func:`read_values`."""
    types_of = typing.get_type_hints(config_class)
    return {name: (field, types_of[name]) for name, field in options_of(config_class).items()}


def read_values(
    known: Mapping[str, tuple[dataclasses.Field, Any]], values: Mapping[Any, Any], others: Mapping[str, OtherName]
) -> tuple[dict[str, Any], list[str]]:
    """(values as their options' types, without those that are empty; what is wrong with the rest).

    Args:
        others: what is said of names that are none of these options.
    """
    checked, problems = dict[str, Any](), list[str]()
    for key, value in values.items():
        if key not in known:
            problems.append(_say_section(key) if _is_section(key, value, others) else say_unknown(key, known, others))
            continue
        try:
            converted = convert(*known[key], value)
        except UserError as error:
            problems.append(str(error))
        else:
            if converted is not EMPTY:
                checked[key] = converted
    return checked, problems


def _is_section(key: Any, value: Any, others: Mapping[str, OtherName]) -> bool:
    """Whether a mapping is a heading of another trainer's file, and not another trainer's option that is a mapping."""
    other = others.get(str(key))
    return isinstance(value, Mapping) and (other is None or other.option == "base_model")


def _say_section(key: Any) -> str:
    return (
        f"cannot use the section '{key}': options are not divided into sections. Write its lines without the heading, at the left margin."
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
        rows = [_write_row(field) for field in fields if told.get(field.name) is not field]
        if rows:
            tables.append("\n".join([f"### {heading}\n", "| key | default | what it does |", "|---|---|---|", *rows]))
    return "\n\n".join(tables)


def markdown_rows(config_class: type) -> list[str]:
    """A row of such a table for each option."""
    return [_write_row(field) for field in options_of(config_class).values()]


def _write_row(field: dataclasses.Field) -> str:
    default = default_of(field)
    shown = "" if default is None or default == "" else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    doc = field.metadata["doc"]
    if field.metadata["choices"]:
        doc += " One of " + ", ".join(f"`{c}`" for c in field.metadata["choices"]) + "."
    return f"| `{field.name}` | {shown} | {_CODE_WITH_BARS.sub(_spell_out, doc)} |"


def _spell_out(code: re.Match) -> str:
    """A bar would end the table's cell; escaped, some renderers show the backslash."""
    return f"<code>{code[1].replace('|', '&#124;')}</code>"
