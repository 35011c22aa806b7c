"""Recipes to start from: the run files that are shipped, and the user's own. Plain YAML, the same that ``train.py`` reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..engine.config import RunConfig
from ..engine.errors import UserError
from ..engine.files import write_text
from ..engine.names import check_name
from ..engine.options import as_plain, build, options_of
from ..engine.yaml_file import read_yaml
from .studio import Studio


def list_presets(studio: Studio) -> list[str]:
    """The shipped ones, then the user's."""
    return [*studio.shipped_presets, *sorted(path.stem for path in studio.presets.glob("*.yaml"))]


def read_preset(name: str, studio: Studio) -> dict[str, Any]:
    """A preset's options, without what belongs to one run only: its data, name and prompts.

    Raises:
        UserError: when there is none of that name, or the file was edited into something that cannot be trained with.
    """
    if name in studio.shipped_presets:
        path = studio.shipped_presets[name]
    else:
        path = studio.presets / f"{check_name((name or '').strip(), 'a preset')}.yaml"
    return _without_personal(build(studio.jobs.config_class, read_yaml(path)))


def save_preset(name: str, config: RunConfig, studio: Studio) -> Path:
    """Keep the options that were given under a name. Raises UserError for a name that is a shipped one's, or no
    file name."""
    name = check_name((name or "").strip(), "a preset")
    if name.casefold() in map(str.casefold, studio.shipped_presets):
        raise UserError(f"cannot save a preset as '{name}': that one is built in. Choose another name.")
    path = studio.presets / f"{name}.yaml"
    write_text(path, _dump(_without_personal(config)))
    return path


def export_recipe(config: RunConfig) -> str:
    """A run file for ``train.py``, with every option spelled out."""
    return _dump(as_plain(config))


def import_recipe(path: Path, config_class: type[RunConfig]) -> tuple[dict[str, Any], str]:
    """The options in a run file, or in another trainer's recipe where the task knows those; and what people are told of it.

    Raises:
        UserError: for a file that ``train.py`` would not take either.
    """
    if path.suffix.lower() in (".json", ".toml") and hasattr(config_class, "import_recipe"):
        imported = config_class.import_recipe(path)
        return _given(build(config_class, imported.values)), imported.summary()
    return _given(build(config_class, read_yaml(path))), "Imported."


def personal_options(config_class: type[RunConfig]) -> set[str]:
    """What belongs to one run: its model, data, name, prompts."""
    return {name for name, field in options_of(config_class).items() if field.metadata["personal"]}


def _given(config: RunConfig) -> dict[str, Any]:
    """The options that were said, as the types that they have."""
    return {key: value for key, value in as_plain(config).items() if key in config.given}


def _without_personal(config: RunConfig) -> dict[str, Any]:
    personal = personal_options(type(config))
    return {key: value for key, value in _given(config).items() if key not in personal}


def _dump(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
