"""What of an image run's options can be seen to be wrong in a moment (see :mod:`hotlora.pictures.checking`)."""

from dataclasses import replace

from ..pictures.checking import check_pictures
from .config import ImageConfig
from .continuing import check_initial


def check_images(config: ImageConfig) -> None:
    """Raise UserError where pictures, or the LoRA to go on from, cannot be what is trained on."""
    check_pictures(config)
    check_initial(replace(config))
