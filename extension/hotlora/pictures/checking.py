"""What of a run's options can be seen to be wrong in a moment, before the run is made: folders and files that are not there, or hold
nothing of the kind. What takes time to find out is said while the run prepares."""

from ..engine.places import may_hold
from .config import PictureConfig
from .folders import open_folder
from .parts import find_metadata, find_sources, open_parts
from .reading import HEIF_SUFFIXES, SUFFIXES


def check_pictures(config: PictureConfig) -> None:
    """Raise UserError where the pictures cannot be what is trained on."""
    sources = find_sources(config)
    for mask_dir in dict.fromkeys(source.config.mask_dir for source in sources if source.config.mask_dir):
        open_folder(mask_dir, "mask_dir")
    for source in sources:
        if source.metadata_path:
            find_metadata(source.metadata_path, source.root)
    if not all(may_hold(source.root, (*SUFFIXES, *HEIF_SUFFIXES)) for source in sources):
        open_parts(config)  # which says what is there instead
