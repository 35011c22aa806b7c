"""A language model of transformers' classes, as training sees it: what any program offers whose model is one.

Works on the modules it is given, and imports no library of models.
"""

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ...engine.errors import UserError
from ...llm.limits import find_learned_positions
from .devices import autocast, random_numbers_kept
from .modes import in_mode

_SWITCHES = ("gradient_checkpointing", "_gradient_checkpointing_func")
_FINGERPRINT_VALUES = 65536  # of the embeddings, spread over all of them


class CausalModel:
    """Implements :class:`hotlora.llm.model.TextModel` for a loaded model of transformers' classes. Changes nothing in it for longer
    than its contexts last.

    Args:
        net: the causal language model, without adapters.
        chat_template: what its program writes conversations with, where that is not the tokenizer's own.
    """

    def __init__(
        self,
        net: Any,
        tokenizer: Any,
        *,
        name: str,
        path: Path | None,
        compute_dtype: torch.dtype,
        chat_template: str | None = None,
    ):
        self.net, self.tokenizer, self.name, self.path, self.chat_template = net, tokenizer, name, path, chat_template
        self.device = net.get_input_embeddings().weight.device
        self.compute_dtype = compute_dtype
        self.fingerprint = fingerprint_model(net)
        self.warnings: list[str] = []

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Arithmetic in ``compute_dtype``: adapters are fp32 among weights that may not be."""
        return autocast(self.device, self.compute_dtype)

    @contextlib.contextmanager
    def training(self, *, gradient_checkpointing: bool) -> Iterator[None]:
        """Train mode, without which neither dropout nor checkpointing work; afterwards as found."""
        with in_mode([self.net], training=True), _checkpointing(self.net) if gradient_checkpointing else contextlib.nullcontext():
            yield

    @torch.no_grad()
    def generate(self, tokens: Sequence[int], *, max_tokens: int, temperature: float, seed: int, stop: Sequence[int]) -> list[int]:
        """See :class:`hotlora.llm.model.TextModel`."""
        limit = find_learned_positions(self.net)
        max_tokens = max_tokens if limit is None else min(max_tokens, limit - len(tokens))
        if max_tokens < 1:
            return []
        rows = torch.tensor([list(tokens)], device=self.device)
        options: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0} if temperature else {}
        quiet = (in_mode([self.net], training=False), random_numbers_kept(self.device), self.autocast(), _plain_generation(self.net))
        with contextlib.ExitStack() as stack:
            for context in quiet:
                stack.enter_context(context)
            torch.manual_seed(seed)
            answer = type(self.net).generate(  # the class's own: a program may have put something before it
                self.net,
                rows,
                attention_mask=torch.ones_like(rows),
                max_new_tokens=max_tokens,
                eos_token_id=list(stop),
                pad_token_id=stop[0],
                use_cache=True,
                **options,
            )
        new = answer[0, len(tokens) :].tolist()
        end = next((place for place, token in enumerate(new) if token in stop), len(new))
        return new[:end]


@contextlib.contextmanager
def _plain_generation(net: nn.Module) -> Iterator[None]:
    """Without what the model's makers wish for its answers, such as a penalty on repeating: temperature 0 is the likeliest token, and
    what is asked for here is all that holds. The library fills up whatever is not asked for from the model's own wishes."""
    found: Any = net.__dict__.get("generation_config")
    if found is None:
        yield
        return
    plain = type(found)()
    for name in ("bos_token_id", "decoder_start_token_id", "cache_implementation"):
        setattr(plain, name, getattr(found, name, None))
    plain._from_model_config = False
    net.__dict__["generation_config"] = plain
    try:
        yield
    finally:
        net.__dict__["generation_config"] = found


@contextlib.contextmanager
def _checkpointing(net: nn.Module) -> Iterator[None]:
    """The library's own switches, set here: its ``gradient_checkpointing_enable`` also hooks the embeddings, for which there is no need
    where checkpoints are of the non-reentrant kind, and leaves what it has done."""
    found: list[tuple[Any, dict[str, Any]]] = [
        (m, {n: m.__dict__[n] for n in _SWITCHES if n in m.__dict__}) for m in net.modules() if hasattr(m, _SWITCHES[0])
    ]
    if not found:
        raise UserError("cannot use gradient_checkpointing: this model's classes have no such thing. Set it to false.")
    compute_twice = functools.partial(checkpoint, use_reentrant=False)
    for module, _ in found:
        module.gradient_checkpointing, module._gradient_checkpointing_func = True, compute_twice
    try:
        yield
    finally:
        for module, values in found:
            for name in _SWITCHES:
                module.__dict__.pop(name, None)
            module.__dict__.update(values)


@torch.no_grad()
def fingerprint_model(net: Any) -> str:
    """Which model it is, down to its weights: SHA-256 over its shape and values of its embeddings, which no quantisation touches.
    They are rounded to bfloat16, so that the same model loaded in another precision is the same."""
    config = net.config
    shape = [str(getattr(config, key, None)) for key in ("model_type", "vocab_size", "hidden_size", "num_hidden_layers")]
    values = net.get_input_embeddings().weight.detach().flatten()
    chosen = values[:: max(len(values) // _FINGERPRINT_VALUES, 1)].to(torch.bfloat16).float().cpu()
    return hashlib.sha256("|".join(shape).encode() + chosen.numpy().tobytes()).hexdigest()
