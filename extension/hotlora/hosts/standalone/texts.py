"""The stand-alone host for text: a language model's folder in transformers' classes, and nobody else using it.

:class:`CausalModel` is what any program offers whose model is one of transformers'; text-generation-webui's host uses it too.
"""

import contextlib
import functools
import hashlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ...engine.adapters import AsFound
from ...engine.errors import UserError
from ...llm.config import TextConfig
from ...llm.limits import find_learned_positions
from ..shared.devices import autocast, choose_device, choose_dtype
from .model_folder import check_model_folder, quantization_of

_SWITCHES = ("gradient_checkpointing", "_gradient_checkpointing_func")
_FINGERPRINT_VALUES = 65536  # of the embeddings, spread over all of them


class TransformersHost:
    """Implements :class:`hotlora.engine.interfaces.Host` for one process that holds one model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def borrow(self, config: TextConfig) -> Any:
        """Load the model that the config names.

        Raises:
            UserError: when there is none, or it is none that can be trained.
        """
        from ...llm.trainee import TextTrainee

        if not config.base_model:
            raise UserError("cannot train without a base model. Set base_model to the folder of a Hugging Face model.")
        device = choose_device()
        return TextTrainee(load_model(Path(config.base_model).expanduser(), config, device), config)

    def has_model(self, config: TextConfig) -> bool:
        """It loads whatever model is asked for."""
        return True

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """Exclusive use of the model."""
        return self._lock

    def wanted(self) -> bool:
        """Nobody else asks for the model here."""
        return False

    def publish(self, path: Path) -> None:
        """Nothing to do: the saved folder is the result, and no program here would load it."""


def load_model(folder: Path, config: TextConfig, device: torch.device) -> "CausalModel":
    """A model folder, frozen and in evaluation mode, in the precision that the config asks for. Nothing is downloaded.

    Raises:
        UserError: where there is none, it is no language model, or the device cannot do what is asked.
    """
    said = check_model_folder(folder, trust_remote_code=config.trust_remote_code)
    if quantization_of(said) and config.quantization != "none":
        raise UserError(
            f"cannot load '{folder}' in {config.quantization}: it is packed with {quantization_of(said)} already. Set quantization: none."
        )
    dtype = choose_dtype(config.mixed_precision, device)
    options: dict[str, Any] = {}
    if config.quantization != "none":
        options = {"quantization_config": _quantize(config.quantization, dtype, device), "device_map": {"": device}}
    elif quantization_of(said):
        options = {"device_map": {"": device}}
    tokenizer = load_tokenizer(folder, trust_remote_code=config.trust_remote_code)  # first: it is quick, and may be missing
    net = load_net(folder, dtype, trust_remote_code=config.trust_remote_code, **options)
    if not options:
        net.to(device)
    net.requires_grad_(False).eval()
    return CausalModel(net, tokenizer, name=folder.name, path=folder, compute_dtype=dtype)


def load_net(folder: Path, dtype: Any, *, trust_remote_code: bool = False, **options: Any) -> Any:
    """The causal language model in a folder. Raises UserError where there is none, or its files lack some of its weights."""
    from transformers import AutoModelForCausalLM

    try:
        net, told = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, trust_remote_code=trust_remote_code, output_loading_info=True, **options
        )
    except ImportError as error:
        raise UserError(f"cannot load '{folder}': it needs a package that is not here ({_shorten(error)}). Install that.") from error
    except Exception as error:  # whatever the library, the file's format or the model's own code raise for what they cannot read
        raise UserError(f"cannot load '{folder}' as a language model: {_shorten(error)}. Give a complete model folder.") from error
    lacking = sorted(set(told.get("missing_keys") or ()) & {name for name, _ in net.named_parameters()})
    if lacking:
        raise UserError(
            f"cannot train on '{folder}': its files lack {len(lacking)} of the model's weights ({lacking[0]} …), which would be random "
            "numbers. Download the whole model."
        )
    return net


def _shorten(error: Exception) -> str:
    return (" ".join(str(error).split())[:300] or type(error).__name__).rstrip(". ")


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer in a model's folder. Raises UserError where there is none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
        if not len(tokenizer("a", add_special_tokens=False)["input_ids"]):
            raise ValueError("it makes no tokens of a letter")
    except Exception as error:  # as above
        raise UserError(
            f"cannot load the tokenizer of '{folder}': {_shorten(error)}. Put the model's tokenizer files (tokenizer.json, "
            "tokenizer_config.json) into its folder."
        ) from error
    return tokenizer


def _quantize(bits: str, dtype: torch.dtype, device: torch.device) -> Any:
    from transformers import BitsAndBytesConfig
    from transformers.utils import is_bitsandbytes_available

    if device.type == "cpu" or not is_bitsandbytes_available():
        raise UserError(f"cannot load the model in {bits}: that needs a GPU and the package bitsandbytes. Set quantization: none.")
    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)


class CausalModel:
    """Implements :class:`hotlora.llm.model.TextModel` for a loaded model of transformers' classes. Changes nothing in it for longer
    than its contexts last.

    Args:
        net: the causal language model, without adapters.
        chat_template: what its program writes conversations with, where that is not the tokenizer's own.
    """

    def __init__(
        self,
        net: nn.Module,
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
        found = AsFound([self.net])
        self.net.train()
        try:
            with _checkpointing(self.net) if gradient_checkpointing else contextlib.nullcontext():
                yield
        finally:
            found.restore()

    @torch.no_grad()
    def generate(self, tokens: Sequence[int], *, max_tokens: int, temperature: float, seed: int, stop: Sequence[int]) -> list[int]:
        """See :class:`hotlora.llm.model.TextModel`."""
        limit = find_learned_positions(self.net)
        max_tokens = max_tokens if limit is None else min(max_tokens, limit - len(tokens))
        if max_tokens < 1:
            return []
        rows = torch.tensor([list(tokens)], device=self.device)
        options: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0} if temperature else {}
        found = AsFound([self.net])
        devices = [self.device.index or 0] if self.device.type == "cuda" else []
        self.net.eval()
        try:
            with torch.random.fork_rng(devices=devices), self.autocast(), _plain_generation(self.net):
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
        finally:
            found.restore()
        new = answer[0, len(tokens) :].tolist()
        end = next((place for place, token in enumerate(new) if token in stop), len(new))
        return new[:end]


@contextlib.contextmanager
def _plain_generation(net: nn.Module) -> Iterator[None]:
    """Without what the model's makers wish for its answers, such as a penalty on repeating: temperature 0 is the likeliest token, and
    what is asked for here is all that holds. The library fills up whatever is not asked for from the model's own wishes."""
    from transformers import GenerationConfig

    found = net.__dict__.get("generation_config")
    plain = GenerationConfig()
    for name in ("bos_token_id", "decoder_start_token_id", "cache_implementation"):
        setattr(plain, name, getattr(found, name, None))
    plain._from_model_config = False
    net.generation_config = plain
    try:
        yield
    finally:
        net.generation_config = found


@contextlib.contextmanager
def _checkpointing(net: nn.Module) -> Iterator[None]:
    """The library's own switches, set here: its ``gradient_checkpointing_enable`` also hooks the embeddings, for which there is no need
    where checkpoints are of the non-reentrant kind, and leaves what it has done."""
    found = [(m, {n: m.__dict__[n] for n in _SWITCHES if n in m.__dict__}) for m in net.modules() if hasattr(m, _SWITCHES[0])]
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
def fingerprint_model(net: nn.Module) -> str:
    """Which model it is, down to its weights: SHA-256 over its shape and values of its embeddings, which no quantisation touches.
    They are rounded to bfloat16, so that the same model loaded in another precision is the same."""
    config = net.config
    shape = [str(getattr(config, key, None)) for key in ("model_type", "vocab_size", "hidden_size", "num_hidden_layers")]
    values = net.get_input_embeddings().weight.detach().flatten()
    chosen = values[:: max(len(values) // _FINGERPRINT_VALUES, 1)].to(torch.bfloat16).float().cpu()
    return hashlib.sha256("|".join(shape).encode() + chosen.numpy().tobytes()).hexdigest()
