"""Encoded captions, kept while the text encoder does not learn: each different caption is encoded once."""

from collections import OrderedDict
from collections.abc import Sequence

import torch

from .config import ImageConfig
from .model import Conditioning, ImageModel

_KEPT_BYTES = 512 * 2**20


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """From the CPU to the device. CUDA copies from pinned memory while it computes; of other memory it finishes everything first."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Conditions:
    """Captions -> conditioning on the model's device."""

    def __init__(self, model: ImageModel, config: ImageConfig):
        self._model, self._config = model, config
        self._kept: OrderedDict[str, Conditioning] = OrderedDict()
        self._bytes = self._bytes_made = 0

    def encode(self, captions: Sequence[str]) -> Conditioning:
        """[batch] captions, in their order -> context [batch, tokens, width] and, of SDXL, pooled [batch, width].
        With gradient when the text encoder is trained."""
        if self._config.train_text_encoder:
            return self._ask(captions)
        missing = self._missing(captions)
        found = {caption: self._kept[caption] for caption in captions if caption in self._kept}
        if missing:
            with torch.no_grad():
                fresh = self._ask(missing)
            for i, caption in enumerate(missing):
                pooled = None if fresh.pooled is None else fresh.pooled[i : i + 1].cpu()
                found[caption] = Conditioning(fresh.context[i : i + 1].cpu(), pooled)
                self._keep(caption, found[caption])
        chosen = [found[caption] for caption in captions]
        device = self._model.device
        pooled_ones = [c.pooled for c in chosen if c.pooled is not None]  # all of them or none
        pooled = send(torch.cat(pooled_ones), device) if pooled_ones else None
        return Conditioning(send(torch.cat([c.context for c in chosen]), device), pooled)

    def encode_ahead(self, batches: Sequence[Sequence[str]]) -> None:
        """Captions of the batches to come, as they will be asked for, as long as they all can be kept."""
        if self._config.train_text_encoder or not any(map(self._missing, batches)):
            return
        bytes_before, most = self._bytes_made, _KEPT_BYTES // 2
        with self._model.encoding():
            for captions in batches:
                if self._bytes_made - bytes_before > most:
                    return
                if self._missing(captions):
                    self.encode(captions)

    def _missing(self, captions: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(caption for caption in captions if caption not in self._kept))

    def _ask(self, captions: Sequence[str]) -> Conditioning:
        return self._model.encode_text(captions, clip_skip=self._config.clip_skip, max_token_length=self._config.max_token_length)

    def _keep(self, caption: str, encoded: Conditioning) -> None:
        self._kept[caption] = encoded
        self._bytes += encoded.context.nbytes
        self._bytes_made += encoded.context.nbytes
        while self._bytes > _KEPT_BYTES:
            _, old = self._kept.popitem(last=False)
            self._bytes -= old.context.nbytes
