"""What a program that holds a language model must offer, so that text runs train on it. Hosts implement it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch


class TextModel(Protocol):
    """A causal language model in the conventions of Hugging Face transformers: ``net(input_ids=…, position_ids=…).logits``.

    Nothing in the model or the tokenizer may be changed for longer than a turn.
    """

    name: str
    path: Path | None  # its folder, where it has one
    fingerprint: str  # the same for the same weights in any precision; see hosts
    device: torch.device  # where inputs go
    compute_dtype: torch.dtype
    net: Any  # the nn.Module, without adapters
    tokenizer: Any
    chat_template: str | None  # what the program writes conversations with; None: the tokenizer's own
    warnings: list[str]

    def autocast(self) -> AbstractContextManager[None]:
        """Arithmetic in ``compute_dtype``."""
        ...

    def training(self, *, gradient_checkpointing: bool) -> AbstractContextManager[None]:
        """Train mode, and non-reentrant checkpointing where asked for; afterwards as found."""
        ...

    def generate(self, tokens: Sequence[int], *, max_tokens: int, temperature: float, seed: int, stop: Sequence[int]) -> list[int]:
        """The program's own generation after ``tokens``: new ids, up to and without the first of ``stop``. Greedy at temperature 0.
        In evaluation mode, with the cache; modes and global random numbers afterwards as found."""
        ...
