"""What a base model is, before any of it is loaded: the door to :mod:`.single_file` and :mod:`.folder`. Must not import diffusers or
transformers.
"""

import difflib
import re
from pathlib import Path

from ....engine.errors import UserError
from ...shared.tensor_file import SUFFIXES
from .checkpoint import ADVICE, Checkpoint, Part
from .folder import describe_folder, describe_vae_folder
from .single_file import describe_file, describe_vae_file


def describe(path: Path) -> Checkpoint:
    """Find out what a base model is, reading as little as possible of it.

    Raises:
        UserError: when it is missing, broken, or nothing that an image LoRA can be trained on.
    """
    if not path.exists():
        raise UserError(f"cannot find the base model '{path}': {_suggest(path)}")
    if path.is_dir():
        return describe_folder(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"cannot use '{path}' as base_model: its name does not end in {', '.join(SUFFIXES)}. {ADVICE}")
    return describe_file(path)


def describe_vae(path: Path, family: str) -> Part:
    """A VAE of its own: a file under original or diffusers names, a diffusers VAE folder, or a whole model's folder.

    Raises:
        UserError: when there is none, or one of another kind.
    """
    if path.is_dir():
        return describe_vae_folder(path if (path / "config.json").is_file() else path / "vae", family)
    if not path.is_file():
        raise UserError(f"cannot find the VAE '{path}': there is no such file or folder. Mend vae, or leave it empty.")
    return describe_vae_file(path, family)


def _suggest(path: Path) -> str:
    """Why it may be missing, and what stands near it."""
    folder = path.parent
    if not folder.is_dir():
        hub = re.fullmatch(r"[\w.-]+/[\w.-]+", path.as_posix())
        return (
            "there is nothing of that name here, and models are not downloaded. Download it and give the path of the file or folder."
            if hub
            else f"the folder '{folder}' is not there either. Mend the path."
        )
    models = [entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES or (entry / "model_index.json").is_file()]
    near = difflib.get_close_matches(path.name, models, n=1, cutoff=0.4)
    return "there is no such file or folder. " + (f"Did you mean '{folder / near[0]}'?" if near else "Mend the path.")
