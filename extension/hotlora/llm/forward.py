"""From examples to their loss through a causal language model: several in one row, or padded, and only where tokens are learned.

Knows Hugging Face's conventions for such models, but not the library. Leaves nothing on the model.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ..engine.errors import UserError
from ..engine.interfaces import Draws
from .config import TextConfig
from .conversation import TokenizedExample
from .losses import sum_cross_entropy
from .model import TextModel

_SAME = 1e-2  # of the answers' size: rounding of half precision stays below, another document's words do not
_UNTOUCHED = 1e-4  # of each answer's size, or the precision's own step: what cannot be seen has no influence but rounding
_PROBE_TOKENS = 12


class LanguageLoss:
    """The summed loss of examples on one model.

    Args:
        model: without adapters, as it is when this is made; at :meth:`total` they are in.

    Attributes:
        packs: whether a batch is one row.
        warnings: what people should know.

    Raises:
        UserError: where ``packing: on`` is asked of a model that mixes up what is packed.
    """

    def __init__(self, model: TextModel, config: TextConfig):
        self._model, self._config = model, config
        self.warnings: list[str] = []
        with _as_found(model.net), model.autocast(), torch.no_grad():
            self._split_head = _head_can_be_split(model.net, model.device)
            able = config.packing != "off" and _can_pack(model.net, model.device)
        if config.packing == "on" and not able:
            raise UserError(
                f"cannot pack examples for '{model.name}': it lets one read the others. Set packing: auto (or off), which pads instead."
            )
        if config.packing == "auto" and not able:
            self.warnings.append("This model cannot take several examples in one row; they are padded instead, which is a little slower.")
        self.packs = able

    def total(self, examples: Sequence[TokenizedExample], draws: Draws | None = None) -> torch.Tensor:
        """Sum over all learned tokens of all examples; a scalar. ``draws``: of a training step, for NEFTune's noise; without them the
        model judges, in evaluation mode: many a base has dropout of its own."""
        with contextlib.nullcontext() if draws else _as_found(self._model.net):
            return self._total(examples, draws)

    def _total(self, examples: Sequence[TokenizedExample], draws: Draws | None) -> torch.Tensor:
        cut = [example.tokens[: _last_trained(example)] for example in examples]  # nothing learns from what comes later
        alpha = self._config.neftune_alpha
        noise = _draw_noise(cut, alpha, draws, self._model.net) if draws and alpha else None
        with self._model.autocast(), _noisy_embeddings(self._model.net, noise, self.packs):
            inputs, places, labels = (_pack if self.packs else _pad)(examples, cut, self._model.device)
            if self._split_head:
                hidden = _decoder(self._model.net)(**inputs, use_cache=False).last_hidden_state
                places, labels = places.to(hidden.device), labels.to(hidden.device)  # a model may lie on several
                return sum_cross_entropy(hidden.flatten(0, 1)[places], self._model.net.get_output_embeddings(), labels)
            if self.packs:
                logits = self._model.net(**inputs, use_cache=False, logits_to_keep=places).logits[0]
            else:
                logits = self._model.net(**inputs, use_cache=False).logits.flatten(0, 1)[places]
            return sum_cross_entropy(logits, nn.Identity(), labels)


def _last_trained(example: TokenizedExample) -> int:
    """How many tokens are read: all before the last learned one."""
    return max(place for place, trained in enumerate(example.trained) if trained)


def _pack(examples: Sequence[TokenizedExample], cut: Sequence[Sequence[int]], device: torch.device) -> tuple[dict, Any, Any]:
    """One row; positions begin anew with each example, which is how the model tells them apart.

        tokens     A0 A1 A2 B0 B1
        positions   0  1  2  0  1
        learns     A1 A2 A3 B1 B2

    There must be no attention mask beside the positions: it would switch that off (transformers#39194).
    """
    tokens = [token for row in cut for token in row]
    positions = [place for row in cut for place in range(len(row))]
    places, labels, first = [], [], 0
    for example, row in zip(examples, cut, strict=True):
        learned = [place for place in range(len(row)) if example.trained[place + 1]]
        places += [first + place for place in learned]
        labels += [example.tokens[place + 1] for place in learned]
        first += len(row)
    inputs = {"input_ids": torch.tensor([tokens], device=device), "position_ids": torch.tensor([positions], device=device)}
    return inputs, torch.tensor(places, device=device, dtype=torch.long), torch.tensor(labels, device=device, dtype=torch.long)


def _pad(examples: Sequence[TokenizedExample], cut: Sequence[Sequence[int]], device: torch.device) -> tuple[dict, Any, Any]:
    """A row each, filled up on the right. What is filled up goes by length, never by token: a model's padding may be its end of turn."""
    width = max(len(row) for row in cut)
    tokens = torch.zeros(len(cut), width, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    places, labels = [], []
    for number, (example, row) in enumerate(zip(examples, cut, strict=True)):
        tokens[number, : len(row)], mask[number, : len(row)] = torch.tensor(row), 1
        learned = [place for place in range(len(row)) if example.trained[place + 1]]
        places += [number * width + place for place in learned]
        labels += [example.tokens[place + 1] for place in learned]
    inputs = {"input_ids": tokens.to(device), "attention_mask": mask.to(device)}
    return inputs, torch.tensor(places, device=device, dtype=torch.long), torch.tensor(labels, device=device, dtype=torch.long)


# -- NEFTune -----------------------------------------------------------------------------------------------------------


def _draw_noise(rows: Sequence[Sequence[int]], alpha: float, draws: Draws, net: Any) -> list[torch.Tensor]:
    """Uniform in +-alpha / sqrt(length * width) for each example (arXiv 2310.05914, algorithm 1); [length, width] each."""
    width = net.get_input_embeddings().weight.shape[-1]
    return [
        (torch.rand(len(row), width, generator=draws.generator(place)) * 2 - 1) * (alpha / (len(row) * width) ** 0.5)
        for place, row in enumerate(rows)
    ]


@contextlib.contextmanager
def _noisy_embeddings(net: Any, noise: Sequence[torch.Tensor] | None, packed: bool) -> Iterator[None]:
    if noise is None:
        yield
        return
    whole = torch.cat(list(noise))[None] if packed else nn.utils.rnn.pad_sequence(list(noise), batch_first=True)
    hook = net.get_input_embeddings().register_forward_hook(lambda module, given, out: out + whole.to(out))
    try:
        yield
    finally:
        hook.remove()


# -- what the model can do, tried on itself ----------------------------------------------------------------------------


def _decoder(net: Any) -> Any:
    return net.get_decoder() if hasattr(net, "get_decoder") else net.base_model


def _probe_rows(net: Any, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Three short texts of different words, [1, _PROBE_TOKENS] each."""
    count = net.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, count, (3, 1, _PROBE_TOKENS), generator=generator).to(device)
    return ids[0], ids[1], ids[2]


def _head_can_be_split(net: Any, device: torch.device) -> bool:
    """Whether decoder and output embeddings, one after the other, are all of the model: some scale or cap their logits."""
    tokens, *_ = _probe_rows(net, device)
    head = net.get_output_embeddings()
    try:
        apart = head(_decoder(net)(input_ids=tokens, use_cache=False).last_hidden_state)
    except (AttributeError, TypeError):  # a model of another build
        return False
    return torch.equal(apart, net(input_ids=tokens, use_cache=False).logits)


def _can_pack(net: nn.Module, device: torch.device) -> bool:
    """Whether the second of two packed texts comes out as it does alone, and is none the other for another text before it: in hybrids a
    convolution or a state carries a little over, which alone would pass for rounding."""
    first, second, other = _probe_rows(net, device)
    positions = torch.arange(_PROBE_TOKENS, device=device)[None].repeat(1, 2)
    try:
        after_one, after_other = (
            net(input_ids=torch.cat([before, second], 1), position_ids=positions, use_cache=False).logits[0, _PROBE_TOKENS:]
            for before in (first, other)
        )
    except TypeError:  # it takes no positions
        return False
    alone = net(input_ids=second, use_cache=False).logits[0]
    limit = max(_UNTOUCHED, torch.finfo(after_one.dtype).eps)
    size = after_one.float().norm(dim=-1)
    untouched = ((after_one.float() - after_other.float()).norm(dim=-1) <= limit * size).all()
    return bool(untouched) and bool((after_one.float() - alone.float()).norm() < _SAME * alone.float().norm())


@contextlib.contextmanager
def _as_found(net: nn.Module) -> Iterator[None]:
    """Without dropout for the probes, which would make two passes differ."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
