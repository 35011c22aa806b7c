"""The stand-alone host for text: a language model's folder, loaded with transformers, and nobody else using it."""

from pathlib import Path
from typing import Any

import torch

from ...engine.errors import UserError
from ...llm.config import TextConfig
from ..shared.causal_model import CausalModel
from ..shared.devices import choose_device, choose_dtype
from .host import StandaloneHost


class TransformersHost(StandaloneHost):
    """Loads a language model."""

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


def load_model(folder: Path, config: TextConfig, device: torch.device) -> CausalModel:
    """A model folder, frozen and in evaluation mode, in the precision that the config asks for. Nothing is downloaded.

    Raises:
        UserError: where there is none, it is no language model, or the device cannot do what is asked.
    """
    from transformers import AutoModelForCausalLM

    check_model_folder(folder)
    dtype = choose_dtype(config.mixed_precision, device)
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True}
    if config.quantization != "none":
        options |= {"quantization_config": _quantize(config.quantization, dtype, device), "device_map": {"": device}}
    try:
        net = AutoModelForCausalLM.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"cannot load '{folder}' as a language model: {' '.join(str(error).split())[:300]}") from error
    if config.quantization == "none":
        net.to(device)
    net.requires_grad_(False).eval()
    return CausalModel(net, load_tokenizer(folder), name=folder.name, path=folder, compute_dtype=dtype)


def check_model_folder(folder: Path) -> None:
    """Raise UserError where a path is not the folder of a Hugging Face model, saying what it is instead."""
    if folder.suffix.lower() == ".gguf":
        raise UserError(f"cannot train on '{folder}': GGUF files only answer. Give the folder of the same model in Hugging Face's format.")
    if not folder.is_dir():
        raise UserError(f"cannot find the model '{folder}'. Set base_model to the folder that holds its config.json.")
    if not (folder / "config.json").is_file():
        what = "a Stable Diffusion model: set task_type: image-generation" if (folder / "model_index.json").is_file() else "no model folder"
        raise UserError(f"cannot train on '{folder}': it has no config.json, so it is {what}. Give the folder of a Hugging Face model.")


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a model's folder. Raises UserError where there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot load the tokenizer of '{folder}': {' '.join(str(error).split())[:300]}") from error


def _quantize(bits: str, dtype: torch.dtype, device: torch.device) -> Any:
    from transformers import BitsAndBytesConfig
    from transformers.utils import is_bitsandbytes_available

    if device.type == "cpu" or not is_bitsandbytes_available():
        raise UserError(f"cannot load the model in {bits}: that needs a GPU and the package bitsandbytes. Set quantization: none.")
    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
