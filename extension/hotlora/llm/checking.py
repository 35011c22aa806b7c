"""What of a run's options can be seen to be wrong in a moment, before the run is made: files and folders that are not there, or hold
nothing of the kind. What takes time to find out is said while the run prepares."""

from pathlib import Path

from ..engine.places import may_hold
from .config import BUILT_IN_TEMPLATES, TextConfig
from .formats import SUFFIXES, read_texts
from .parts import find_data
from .peft_reading import find_weights
from .templates import read_template


def check_texts(config: TextConfig) -> None:
    """Raise UserError where the texts, or what they are written with, cannot be what is trained on."""
    for place in (find_data(config), *([Path(config.validation_dir).expanduser()] if config.validation_dir else [])):
        if not (place.suffix.lower() in SUFFIXES if place.is_file() else may_hold(place, SUFFIXES)):
            read_texts(place, config)  # which says what is there instead
    if config.chat_template and config.chat_template not in BUILT_IN_TEMPLATES:
        read_template(Path(config.chat_template).expanduser())
    if config.init_lora:
        find_weights(Path(config.init_lora).expanduser())
