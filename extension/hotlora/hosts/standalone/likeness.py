"""How alike samples are to the training pictures and to their prompts in the eyes of a model on this disk: CLIP, or one of pictures alone.

CLIP-I, DINO and CLIP-T of Ruiz et al. 2023, DreamBooth, https://arxiv.org/abs/2208.12242, section 4.1. Nothing is downloaded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

from ...engine.errors import UserError

_MOST_AT_ONCE = 16


@dataclass(frozen=True)
class Likeness:
    """Cosines, -1 to 1.

    Attributes:
        likeness: of samples and training pictures, the mean over all pairs.
        fidelity: of samples and their prompts; None where the model reads no text.
    """

    likeness: float
    fidelity: float | None


class Embedder:
    """A folder of transformers' form: CLIP and its kind, or a model of pictures such as DINOv2.

    Raises:
        UserError: where it cannot be read.
    """

    def __init__(self, folder: Path):
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        try:
            self._model: Any = AutoModel.from_pretrained(folder, local_files_only=True).eval()
            self._processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
            self._reads_text = hasattr(self._model, "get_text_features")
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True) if self._reads_text else None
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"cannot judge likeness with '{folder}': {str(error).splitlines()[0]} Give the folder of a CLIP or DINOv2 model "
                "with config.json, preprocessor_config.json and weights."
            ) from error

    def of_pictures(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """[pictures, width], each of length 1."""
        parts = []
        for first in range(0, len(pictures), _MOST_AT_ONCE):
            given = [picture.convert("RGB") for picture in pictures[first : first + _MOST_AT_ONCE]]
            pixels = self._processor(images=given, return_tensors="pt")["pixel_values"]
            parts.append(_features(self._model.get_image_features(pixel_values=pixels) if self._reads_text else self._model(pixels)))
        return F.normalize(torch.cat(parts).float(), dim=-1)

    def of_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """[texts, width], each of length 1; what is longer than the model reads is cut off."""
        most = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, max_length=most, return_tensors="pt")
        return F.normalize(_features(self._model.get_text_features(**tokens)).float(), dim=-1)

    def compare(self, trained: torch.Tensor, samples: Mapping[str, Image.Image]) -> Likeness:
        """``trained``: training pictures as :meth:`of_pictures` has them; ``samples``: prompt -> picture."""
        drawn = self.of_pictures(list(samples.values()))
        fidelity = (drawn * self.of_texts(list(samples))).sum(-1).mean().item() if self._reads_text else None
        return Likeness((drawn @ trained.T).mean().item(), fidelity)


def _features(answer: Any) -> torch.Tensor:
    """A tensor, or what newer versions of transformers wrap it in."""
    if isinstance(answer, torch.Tensor):
        return answer
    return answer.pooler_output if answer.pooler_output is not None else answer.last_hidden_state[:, 0]
