"""What every captioner is. Must not import a heavy library: whoever offers the choice of captioners reads it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_MODEL = "Salesforce/blip-image-captioning-base"  # a folder, or a name on the hub


class Captioner(Protocol):
    """Something that says what is to be seen on pictures."""

    def __call__(self, pictures: Sequence[Path], images: "Sequence[Image.Image]") -> list[str]:
        """A caption for each picture, on one line. ``images``: what is in those files, as RGB. Raises UserError for what the user
        can mend, such as a batch that does not fit into memory."""
        ...
