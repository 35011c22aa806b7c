"""Recipes to start from: the run files that are shipped, and the user's own. Plain YAML, the same that ``train.py`` reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..engine.config import RunConfig
from ..engine.errors import UserError
from ..engine.files import write_text
from ..engine.options import as_plain, build
from ..engine.run import read_yaml

PERSONAL = ("base_model", "train_data_dir", "output_dir", "output_name", "trigger_word", "sample_prompts", "init_lora")
_SHIPPED = {"Style": "style", "Character": "character", "Small data": "small_data", "Quick try": "quick_try"}


def list_presets(own: Path) -> list[str]:
    """The shipped ones, then the user's."""
    return [*_SHIPPED, *sorted(path.stem for path in own.glob("*.yaml"))]


def read_preset(name: str, shipped: Path, own: Path) -> dict[str, Any]:
    """A preset's options, without what belongs to one run only: its data, name and prompts.

    Raises:
        UserError: when there is none of that name.
    """
    path = shipped / f"{_SHIPPED[name]}.yaml" if name in _SHIPPED else own / f"{_checked(name)}.yaml"
    return {key: value for key, value in read_yaml(path).items() if key not in PERSONAL}


def save_preset(name: str, values: Mapping[str, Any], own: Path) -> Path:
    """Keep options under a name. Raises UserError for a name that is a shipped one's, or no file name."""
    if _checked(name) in _SHIPPED:
        raise UserError(f"cannot save a preset as '{name}': that one is built in. Choose another name.")
    kept = {key: value for key, value in values.items() if key not in PERSONAL}
    own.mkdir(parents=True, exist_ok=True)
    path = own / f"{name.strip()}.yaml"
    write_text(path, yaml.safe_dump(kept, sort_keys=False, allow_unicode=True))
    return path


def _checked(name: str) -> str:
    name = (name or "").strip()
    if not name or any(character in '<>:"/\\|?*' for character in name) or name.startswith("."):
        raise UserError(f"cannot name a preset '{name}'. Use letters, digits, spaces and dashes.")
    return name


def export_recipe(config: RunConfig) -> str:
    """A run file for ``train.py``, with every option spelled out."""
    return yaml.safe_dump(as_plain(config), sort_keys=False, allow_unicode=True)


def import_recipe(path: Path, config_class: type[RunConfig]) -> dict[str, Any]:
    """The options in a run file. Raises UserError for a file that ``train.py`` would not take either."""
    values = read_yaml(path)
    build(config_class, values)
    return values
