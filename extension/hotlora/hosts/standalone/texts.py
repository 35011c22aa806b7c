"""The stand-alone host for text: a language model's folder, loaded with transformers, and nobody else using it."""

from pathlib import Path
from typing import Any

import torch

from ...engine.errors import UserError
from ...engine.interfaces import Trainee
from ...engine.libraries import wait_for_libraries
from ...llm.config import TextConfig
from ..shared.causal_model import CausalModel
from ..shared.devices import choose_device, choose_dtype
from .few_bits import check_bits, is_packed, keep_packing
from .host import StandaloneHost
from .model_folder import check_model_folder, quantization_of


class TransformersHost(StandaloneHost):
    """Loads a language model."""

    def borrow(self, config: TextConfig) -> Trainee:
        """Load the model that the config names.

        Raises:
            UserError: when there is none, or it is none that can be trained.
        """
        from ...llm.trainee import TextTrainee

        check_model(config)
        device = choose_device(config.train_device)
        return TextTrainee(load_model(Path(config.base_model).expanduser(), config, device), config)


def check_model(config: TextConfig) -> None:
    """Raise UserError where there is no folder of a model, or it can be seen not to be one that can be trained on."""
    if not config.base_model:
        raise UserError("cannot train without a base model. Set base_model to the folder of a Hugging Face model.")
    check_model_folder(Path(config.base_model).expanduser(), trust_remote_code=config.trust_remote_code)


def load_model(folder: Path, config: TextConfig, device: torch.device) -> CausalModel:
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
    net = load_net(folder, dtype, config.notes, trust_remote_code=config.trust_remote_code, **options)
    if not options:
        net.to(device)
    if quantization_of(said) and not is_packed(net):
        raise UserError(
            f"cannot train on '{folder}': its config.json says that its weights are packed with {quantization_of(said)}, and they are not. "
            "Take quantization_config out of its config.json, or download the model again."
        )
    keep_packing(net)
    net.requires_grad_(False).eval()
    return CausalModel(net, tokenizer, name=folder.name, path=folder, compute_dtype=dtype)


def load_net(folder: Path, dtype: Any, notes: list[str], *, trust_remote_code: bool = False, **options: Any) -> Any:
    """The language model in a folder, with what it sees by where it has that; ``notes`` hear of weights that it has no place for.

    Raises:
        UserError: where there is none, or its files lack some of its weights.
    """
    try:
        net, told = _choose_class(folder, trust_remote_code).from_pretrained(
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
    unread = sorted(told.get("unexpected_keys") or ())
    if unread:
        notes.append(f"Not read of '{folder}': {len(unread)} of its weights ({unread[0]} …), for which its config.json has no place.")
    return net


def _choose_class(folder: Path, trust_remote_code: bool) -> Any:
    """Models that see are of a class of their own, unless their library has one for texts alone."""
    import transformers as tf
    from transformers.models.auto import modeling_auto as auto

    kind = type(tf.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code))
    sees = kind not in auto.MODEL_FOR_CAUSAL_LM_MAPPING and kind in getattr(auto, "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING", {})
    return tf.AutoModelForImageTextToText if sees else tf.AutoModelForCausalLM


def _shorten(error: Exception) -> str:
    if "ignore_mismatched_sizes" in str(error):
        return "its weights are of other sizes than its config.json says"
    return (" ".join(str(error).split())[:300] or type(error).__name__).rstrip(". ")


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer in a model's folder. Raises UserError where there is none."""
    wait_for_libraries()
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
    """Settings for transformers. Raises UserError where bitsandbytes cannot do it."""
    from transformers import BitsAndBytesConfig

    check_bits(bits, device)
    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
