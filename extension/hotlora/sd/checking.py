"""What of an image run's options can be seen to be wrong in a moment (see :mod:`hotlora.pictures.checking`)."""

from pathlib import Path

from ..pictures.checking import check_pictures
from .config import ImageConfig
from .kohya import check_file


def check_images(config: ImageConfig) -> None:
    """Raise UserError where pictures, or the LoRA to go on from, cannot be what is trained on."""
    check_pictures(config)
    if config.init_lora:
        check_file(Path(config.init_lora).expanduser())
