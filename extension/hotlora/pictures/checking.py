"""What of a run's options can be seen to be wrong in a moment, before the run is made: folders and files that are not there, or hold
nothing of the kind. What takes time to find out is said while the run prepares."""

from ..engine.places import may_hold
from .config import PictureConfig
from .dataset import find_metadata, find_roots, open_parts
from .folders import open_folder
from .reading import HEIF_SUFFIXES, SUFFIXES


def check_pictures(config: PictureConfig) -> None:
    """Raise UserError where the pictures cannot be what is trained on."""
    roots = find_roots(config)
    if config.mask_dir:
        open_folder(config.mask_dir, "mask_dir")
    if config.metadata_path:
        find_metadata(config.metadata_path, roots["train"])
    if not all(may_hold(root, (*SUFFIXES, *HEIF_SUFFIXES)) for root in roots.values()):
        open_parts(config)  # which says what is there instead
