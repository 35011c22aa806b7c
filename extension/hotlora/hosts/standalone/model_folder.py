"""Whether a folder holds a language model that can be trained on, looked at before anything slow starts: what lies in it, whether its
files are whole, what they are packed with, and whether it brings code of its own. Loads nothing; texts.py does that.
"""

import importlib.util
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from ...engine.errors import UserError
from ...engine.file_heads import look_at_head

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tokenizer_config.json", "vocab.txt", "tekken.json")

# What unpacks weights of each kind, by the names that are imported; any one of a kind's will do.
_UNPACKERS = {
    "awq": ("gptqmodel", "awq"),
    "gptq": ("gptqmodel", "auto_gptq"),
    "compressed-tensors": ("compressed_tensors",),
    "bitsandbytes": ("bitsandbytes",),
    "hqq": ("hqq",),
    "aqlm": ("aqlm",),
    "eetq": ("eetq",),
    "quanto": ("optimum.quanto",),
    "torchao": ("torchao",),
    "quark": ("quark",),
    "vptq": ("vptq",),
    "auto-round": ("auto_round",),
    "higgs": ("flute",),
    "spqr": ("spqr_quant",),
}
_PARTS = ("text_config", "quantization_config")
_ONLY_ANSWER = ("exl2", "exl3", "marlin", "mlx")


def check_model_folder(folder: Path, *, trust_remote_code: bool = False) -> dict[str, Any]:
    """The folder's config.json. Raises UserError where it holds no model that can be loaded here, saying what it holds instead."""
    if folder.suffix.lower() == ".gguf":
        raise UserError(f"cannot train on '{folder}': GGUF files only answer. Give the folder of the same model in Hugging Face's format.")
    if folder.is_file():
        raise UserError(f"cannot train on '{folder}': it is a file. Set base_model to the folder that it lies in, with its config.json.")
    if not folder.is_dir():
        hint = " Nothing is downloaded here: download the model first." if _is_hub_name(folder) else ""
        raise UserError(
            f"cannot find the model '{folder}': there is no such folder.{hint} Set base_model to the folder that holds its config.json."
        )
    if not (folder / "config.json").is_file():
        raise UserError(
            f"cannot train on '{folder}': it has no config.json, so it is {_say_what(folder)}. Set base_model to a language model's folder."
        )
    config = _read_config(folder)
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"cannot train on '{folder}': an adapter lies in it (adapter_config.json) and would be trained on as a part of the model. "
            "Move the adapter's files into a folder of their own."
        )
    if not trust_remote_code:
        _check_kind(folder, config)
    _check_files(folder)
    _check_packing(folder, config)
    return config


def _is_hub_name(folder: Path) -> bool:
    """`meta-llama/Llama-3.2-1B`, or an address."""
    return folder.parts[0] in ("http:", "https:") or len(folder.parts) == 2 and not folder.is_absolute() and not folder.parent.exists()


def quantization_of(config: dict[str, Any]) -> str:
    """What the weights are packed with, in Hugging Face's words; empty where they are not."""
    said = (
        config.get("quantization_config")
        or config.get("compression_config")
        or (config.get("text_config") or {}).get("quantization_config")
    )
    if not said and isinstance(config.get("quantization"), dict) and "group_size" in config["quantization"]:
        return "mlx"  # Apple's
    if not isinstance(said, dict):
        return ""
    method = str(said.get("quant_method") or "").lower()
    packed = "bitsandbytes" if said.get("load_in_4bit") or said.get("load_in_8bit") else "a method that it does not name, as mlx"
    return method or packed


def _say_what(folder: Path) -> str:
    if (folder / "model_index.json").is_file():
        return "a Stable Diffusion model: set task_type: image-generation. Give the folder of a Hugging Face language model"
    if (folder / "adapter_config.json").is_file():
        base = _read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        return f"an adapter. Give the model it was trained on ({base}) as base_model, and this as init_lora"
    if any(folder.glob("*.gguf")):
        return "no model folder, and GGUF files only answer. Give the folder of the same model in Hugging Face's format"
    inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
    if inside:
        return f"no model folder. There are models in it: give one of {', '.join(inside[:5])}"
    return "no model folder. Give the folder of a Hugging Face model"


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    wrong = look_at_head(path)
    try:
        if wrong:
            raise ValueError(wrong)
        config = _read_json(path)
        if not config:
            raise ValueError("it holds no settings")
        if not isinstance(config.get("model_type", ""), str) or not all(isinstance(config.get(key) or {}, dict) for key in _PARTS):
            raise ValueError(f"its model_type, {' or '.join(_PARTS)} is none")
    except ValueError as error:
        raise UserError(f"cannot read '{path}': {error}. Download the model again.") from error
    return config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"it is no valid JSON ({' '.join(str(error).split())[:100]})") from error
    return said if isinstance(said, dict) else {}


# -- files ---------------------------------------------------------------------------------------------------------------


def _check_files(folder: Path) -> None:
    """Every file of weights is there and whole."""
    index = next((folder / name for name in _INDEXES if (folder / name).is_file()), None)
    if index:
        try:
            names = sorted(set((_read_json(index).get("weight_map") or {}).values()))
        except ValueError as error:
            raise UserError(f"cannot read '{index}': {look_at_head(index) or error}. Download the model again.") from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise UserError(
                f"cannot train on '{folder}': {len(missing)} of its {len(names)} files of weights are not there ({missing[0]} …). "
                "Download what is missing."
            )
        files = [folder / name for name in names]
    else:
        files = [folder / name for name in ("model.safetensors", "pytorch_model.bin") if (folder / name).is_file()][:1]
    if not files:
        raise UserError(f"cannot train on '{folder}': there are no weights in it (model.safetensors). Download the whole model.")
    for path in [*files, *(folder / name for name in _TOKENIZERS if (folder / name).is_file())]:
        wrong = look_at_head(path) or _look_whether_whole(path)
        if wrong:
            raise UserError(f"cannot train on '{folder}': its {path.name} {wrong}. Download that file again.")


def _look_whether_whole(path: Path) -> str:
    """What is wrong with a file of weights, as the end of a sentence."""
    size = path.stat().st_size
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if not 2 <= length <= size - 8:
                return "is no safetensors file, or cut off"
            try:
                header = json.loads(file.read(length))
                end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
            except (ValueError, KeyError, TypeError, AttributeError):
                return "is damaged"
        return f"is cut off: it has {size:,} of its {8 + length + end:,} bytes" if size < 8 + length + end else ""
    if path.suffix == ".bin":
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
        return "is cut off or damaged" if zipped and not zipfile.is_zipfile(path) else ""
    if path.suffix == ".json":
        try:
            json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, OSError):
            return "is cut off or damaged"
    return ""


# -- what is needed to load it -------------------------------------------------------------------------------------------


def _check_packing(folder: Path, config: dict[str, Any]) -> None:
    method = quantization_of(config)
    instead = "Give the same model unquantised, with quantization: 4bit where memory is short"
    if method in _ONLY_ANSWER or " " in method:
        raise UserError(f"cannot train on '{folder}': its weights are packed with {method}, which only answers. {instead}.")
    needed = _UNPACKERS.get(method, ())
    if needed and not any(_is_installed(name) for name in needed):
        raise UserError(
            f"cannot train on '{folder}': its weights are packed with {method}, and the package {needed[0]}, which unpacks them, is not "
            f"installed. {instead}, or install it."
        )


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _check_kind(folder: Path, config: dict[str, Any]) -> None:
    """Code that comes with a model runs only where the user said so; the library would ask for it on the console."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    kind, code = config.get("model_type"), config.get("auto_map")
    if kind in CONFIG_MAPPING_NAMES:
        _check_purpose(folder, config)
        return
    if isinstance(code, dict):
        files = sorted({str(place).rpartition("--")[2].partition(".")[0] + ".py" for place in code.values() if isinstance(place, str)})
        raise UserError(
            f"cannot train on '{folder}': it brings code of its own ({', '.join(files[:3])}), which would run with all your rights. "
            "Read it, and set trust_remote_code: true where you trust it."
        )
    raise UserError(
        f"cannot load '{folder}' as a language model: transformers {transformers.__version__} knows no models of the kind '{kind}'. "
        "Use another model, or a transformers that knows it."
    )


def _check_purpose(folder: Path, config: dict[str, Any]) -> None:
    """Models that do not write on from what they have read are loaded as if they did, half of them or seeing the words to come."""
    from transformers.models.auto import modeling_auto as auto

    kinds, kind = [name for name in config.get("architectures") or () if isinstance(name, str)], str(config.get("model_type"))
    sees = getattr(auto, "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", {})  # transformers 4.45 and newer
    writes_on = {*auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *sees}
    instead = "Give a model that does, such as those for chats"
    if any(name.endswith("ForCausalLM") for name in kinds) or config.get("is_decoder"):
        return
    if any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in kinds) and not config.get("is_encoder_decoder"):
        raise UserError(
            f"cannot train on '{folder}': {kinds[0]} fills gaps in texts, and does not write on from what it has read. {instead}."
        )
    if config.get("is_encoder_decoder") or kind not in writes_on:
        raise UserError(f"cannot train on '{folder}': {kinds[0] if kinds else kind} does not write on from what it has read. {instead}.")
