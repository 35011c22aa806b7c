"""What the WebUI and programs made from it call a checkpoint."""

from pathlib import Path
from typing import Any

from ...sd.file_hashes import file_hashes, hash_ahead


def is_wanted(info: Any, wanted: str) -> bool:
    """Whether ``base_model`` means this checkpoint: by what the WebUI calls it, or else, for options from elsewhere, by its
    file's name. Weights are told apart by the fingerprint when a run is resumed."""
    from modules import sd_models

    if not wanted or wanted in info.ids:
        return True
    known = sd_models.checkpoint_aliases.get(wanted)
    if known is not None:
        return known.filename == info.filename
    return Path(wanted).name == Path(info.filename).name


def list_models() -> dict[str, Path]:
    """What the WebUI calls its checkpoints -> their files."""
    from modules import sd_models

    return {info.name: Path(info.filename) for info in sd_models.checkpoint_aliases.values()}


def find_file(wanted: str) -> Path | None:
    """The file of the checkpoint that ``base_model`` means; None where the WebUI has none that is called so."""
    from modules import sd_models

    found = sd_models.checkpoint_aliases.values() if wanted else ()
    return next((Path(info.filename) for info in found if is_wanted(info, wanted)), None)


def hash_checkpoint(info: Any) -> None:
    """Metadata has the checkpoint's hashes, and gigabytes take seconds. They are made in the background; where the program has none of
    its own, by which the run knows its checkpoint, they are made now, when nobody waits for the model."""
    path = Path(info.filename)
    if path.is_file() and info.sha256:
        hash_ahead([path])
    elif path.is_file():
        file_hashes(path)
