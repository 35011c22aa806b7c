"""BLIP (arXiv 2201.12086), through transformers. The model is looked for on this machine first, then on the hub."""

import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from ..engine.errors import UserError
from ..engine.libraries import wait_for_libraries
from ..pictures.labels import sentence_from_name

_MAX_TOKENS = 40
_HUB_SECONDS = 10


class Blip:
    """A BLIP captioning model on the fastest device there is."""

    def __init__(self, name: str):
        folder = Path(name).expanduser()
        where = str(folder) if folder.is_dir() else name
        try:  # without asking the hub first, so that a model that was downloaded once works offline
            self._processor, model = _load_blip(where, local_files_only=True)
        except OSError:
            if folder.is_dir():
                raise
            _require_hub()
            self._processor, model = _load_blip(where, local_files_only=False)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
        self._model = model.eval().to(self._device)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Path], images: Sequence[Image.Image]) -> list[str]:
        pixels = self._processor(images=list(images), return_tensors="pt")["pixel_values"].to(self._device)
        try:
            tokens = self._model.generate(pixel_values=pixels, max_new_tokens=_MAX_TOKENS)
        except torch.cuda.OutOfMemoryError:
            raise UserError(f"cannot caption {len(images)} pictures at once: the GPU's memory is full. Lower --batch-size.") from None
        sentences = [text.strip() for text in self._processor.batch_decode(tokens, skip_special_tokens=True)]
        return [sentence or sentence_from_name(picture) for picture, sentence in zip(pictures, sentences, strict=True)]


def _load_blip(where: str, *, local_files_only: bool) -> tuple:
    wait_for_libraries()
    from transformers import BlipForConditionalGeneration, BlipProcessor

    processor = BlipProcessor.from_pretrained(where, local_files_only=local_files_only)
    return processor, BlipForConditionalGeneration.from_pretrained(where, local_files_only=local_files_only)


def _require_hub() -> None:
    """Raise OSError when the hub is out of reach; its own client would try for minutes, file by file."""
    from huggingface_hub.constants import ENDPOINT

    try:
        urllib.request.urlopen(ENDPOINT, timeout=_HUB_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers
    except OSError as error:
        raise OSError(f"it is not on this machine, and {ENDPOINT} cannot be reached") from error
