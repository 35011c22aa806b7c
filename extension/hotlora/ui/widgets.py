"""From options to widgets and back: every widget of the recipe is made from the config class's own field, documentation and all."""

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr
import yaml

from ..engine.options import options_of
from ..engine.values import default_of
from .labels import PLACEHOLDERS, label_of


class OptionWidgets:
    """The widgets of one config class, made where :meth:`make` is called.

    Args:
        choices: option -> function that lists what the host offers for it.
        defaults: where this host's differ from the class's own.
        first: what a fresh page shows instead of the defaults.
    """

    def __init__(
        self,
        config_class: type,
        choices: Mapping[str, Callable[[], list[str]]],
        defaults: Mapping[str, Any],
        first: Mapping[str, Any],
    ):
        self.fields = options_of(config_class)
        self.types = {name: _plain_type(hint) for name, hint in typing.get_type_hints(config_class).items() if name in self.fields}
        self.defaults = {name: default_of(field) for name, field in self.fields.items()} | dict(defaults)
        self.made: dict[str, Any] = {}
        self._choices, self._first = choices, self.defaults | dict(first)

    def make(self, name: str, *, label: str = "", **options: Any) -> Any:
        """The widget of one option."""
        field, kind = self.fields[name], self.types[name]
        doc = field.metadata["doc"].replace("`", "")
        common: dict[str, Any] = {"label": label or label_of(name), "info": doc, "value": self.shown(name, self._first[name])}
        common |= {"elem_id": f"hotlora_{name}", "elem_classes": ["hotlora-option"], "interactive": True}
        common |= options
        if name in self._choices:
            widget = gr.Dropdown(choices=self._choices[name](), allow_custom_value=True, **common)
        elif field.metadata["choices"]:
            widget = gr.Dropdown(choices=[str(choice) for choice in field.metadata["choices"]], **common)
        elif kind is bool and self.fields[name].default is not None:
            widget = gr.Checkbox(**common)
        elif kind in (int, float) and field.default is not None:
            widget = gr.Number(precision=0 if kind is int else None, **common)
        else:
            widget = gr.Textbox(
                lines=2 if kind in (list, dict) else 1, **({"placeholder": PLACEHOLDERS.get(name) or _placeholder(kind, field)} | common)
            )
        self.made[name] = widget
        return widget

    @property
    def names(self) -> list[str]:
        """The options on the page, in the order of :attr:`widgets`."""
        return list(self.made)

    @property
    def widgets(self) -> list[Any]:
        return list(self.made.values())

    def shown(self, name: str, value: Any) -> Any:
        """An option's value as its widget shows it."""
        kind = self.types[name]
        if value is None or value == [] or value == {}:
            return ""
        if kind is list:
            return "\n".join(" ".join(_write_item(item).splitlines()) for item in value)  # a line each
        if kind is dict:
            return yaml.safe_dump(value, default_flow_style=True).strip()
        if self.fields[name].metadata["choices"]:
            return str(value)
        optional = self.fields[name].default is None
        return str(value) if optional and kind is not str else value

    def values(self, shown: Sequence[Any]) -> dict[str, Any]:
        """Options from what all widgets show; those at the class's own default are left out, so that an ``init_lora`` may
        set them. What cannot be read stays text: the config class says what is wrong with it."""
        values = {}
        for name, raw in zip(self.names, shown, strict=True):
            value = self._read(name, raw)
            if value is not None and value != default_of(self.fields[name]):
                values[name] = value
        return values

    def _read(self, name: str, raw: Any) -> Any:
        """None where nothing is chosen."""
        kind, raw = self.types[name], raw.strip() if isinstance(raw, str) else raw
        if raw is None:
            return None
        if raw == "":
            return None if kind in (bool, int, float) or self.fields[name].default is None else kind()
        if kind is list:
            lines = [line.strip() for line in raw.splitlines() if line.strip()]
            return lines if self.fields[name].metadata["items"] is str else [_read_yaml(line) for line in lines]
        return _read_yaml(raw) if isinstance(raw, str) and kind is not str else raw

    def read_text(self, name: str, shown: Sequence[Any]) -> str:
        """What the widget of one option shows, as it is written there."""
        return str(shown[self.names.index(name)] or "").strip()

    def show(self, values: Mapping[str, Any]) -> list[Any]:
        """What all widgets show for these options."""
        return [self.shown(name, values.get(name, self.defaults[name])) for name in self.names]


def _plain_type(hint: Any) -> type:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    return typing.get_origin(hint) or hint


def _write_item(item: Any) -> str:
    """An item of a list, in a line; a mapping as JSON, which is YAML too and which the page's script reads."""
    return json.dumps(item, ensure_ascii=False) if isinstance(item, dict) else str(item)


def _read_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _placeholder(kind: type, field: dataclasses.Field) -> str:
    if kind is list:
        return "one per line"
    return "automatic" if field.default is None else ""
