"""Recipes to start from: the run files that are shipped, and the user's own. Plain YAML, the same that ``train.py`` reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..engine.config import RunConfig
from ..engine.errors import UserError
from ..engine.files import write_text
from ..engine.names import check_name
from ..engine.options import as_plain, build
from ..engine.yaml_file import read_yaml
from .studio import Studio

PERSONAL = ("base_model", "train_data_dir", "output_dir", "output_name", "trigger_word", "sample_prompts", "init_lora")
_CONFIGS = Path(__file__).resolve().parents[3] / "configs"
IMAGE_PRESETS = {
    "Style": _CONFIGS / "style.yaml",
    "Character": _CONFIGS / "character.yaml",
    "Small data": _CONFIGS / "small_data.yaml",
    "Quick try": _CONFIGS / "quick_try.yaml",
}
TEXT_PRESETS = {
    "FAQ and knowledge": _CONFIGS / "faq.yaml",
    "Fixed format": _CONFIGS / "fixed_format.yaml",
    "Tone of voice": _CONFIGS / "tone_of_voice.yaml",
    "Continued text": _CONFIGS / "continued_text.yaml",
}


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
    return _without_personal(_read_options(path, studio.jobs.config_class))


def save_preset(name: str, config: RunConfig, studio: Studio) -> Path:
    """Keep the options that were given under a name. Raises UserError for a name that is a shipped one's, or no
    file name."""
    name = check_name((name or "").strip(), "a preset")
    if name.casefold() in map(str.casefold, studio.shipped_presets):
        raise UserError(f"cannot save a preset as '{name}': that one is built in. Choose another name.")
    path = studio.presets / f"{name}.yaml"
    write_text(path, _dump(_without_personal(_given(config))))
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
    return _read_options(path, config_class), "Imported."


def _read_options(path: Path, config_class: type[RunConfig]) -> dict[str, Any]:
    """What stands in a file, as the types that the options have."""
    return _given(build(config_class, read_yaml(path)))


def _given(config: RunConfig) -> dict[str, Any]:
    return {key: value for key, value in as_plain(config).items() if key in config.given}


def _without_personal(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in PERSONAL}


def _dump(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
