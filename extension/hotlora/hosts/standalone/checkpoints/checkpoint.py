"""What recognising a base model finds out: all that loading it needs to know, while nothing of it is loaded. Only the words for it stand
here. Must not import diffusers or transformers.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ....sd.file_hashes import file_hashes
from ...shared.tensor_file import TensorFile

ADVICE = "Choose a plain text-to-image checkpoint of SD 1.x, SD 2.x or SDXL."
SPECIAL_INPUTS = {  # the U-Net's input channels, where they are not 4
    5: "a depth-to-image model",
    7: "an upscaler",
    8: "an instruct-pix2pix model",
    9: "an inpainting model",
}

Find = Callable[[TensorFile, str], torch.Tensor]  # by the name in the class; raises KeyError with the file's name of what it lacks


@dataclass(frozen=True)
class Part:
    """One network of a base model."""

    component: str  # "unet", "vae", "text_encoder" or "text_encoder_2", which says of what class it is
    config: Mapping[str, Any]  # of that class
    source: Path  # the file or folder that holds its tensors, as people know it
    open: Callable[[], TensorFile]  # raises UserError where the file is missing or broken
    find: Find


@dataclass(frozen=True)
class TokenizerFiles:
    """Where a text encoder's tokenizer is."""

    folder: Path
    pad_token: str | None = None  # None: what the files say


@dataclass(frozen=True)
class Checkpoint:
    """A base model on disk."""

    path: Path
    family: str  # "sd1", "sd2" or "sdxl"
    prediction_type: str | None  # None: nothing says it, the U-Net's answers must (SD 2.x files only)
    zero_terminal_snr: bool
    parts: Mapping[str, Part]  # by component; no vae where there is none
    scheduler: Mapping[str, Any]  # configuration of the noise schedule
    tokenizers: tuple[TokenizerFiles, ...]  # of each text encoder
    weight_files: Callable[[], Sequence[Path]]  # with the U-Net and the text encoders; raises UserError where there are none

    @property
    def configs(self) -> dict[str, Mapping[str, Any]]:
        """By component, the schedule among them."""
        return {name: part.config for name, part in self.parts.items()} | {"scheduler": self.scheduler}


def fingerprint_checkpoint(checkpoint: Checkpoint) -> str:
    """SHA-256 over the bytes of U-Net and text encoders: of the one file, or of a folder's weight files."""
    hashes = [file_hashes(file).sha256 for file in checkpoint.weight_files()]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
