"""What a base model is, before any of it is loaded: its family, what it predicts, the configurations of its parts.

Reads a single file's table of contents or a diffusers folder's JSON files, and refuses what cannot be trained, saying
what it seems to be. Must not import diffusers or transformers.
"""

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....engine.errors import UserError
from .architecture import CONFIGS, TEXT, UNET, derive_configs
from .original_config import OriginalConfig, read_original_config
from .tensor_file import PICKLED, TensorFile, open_tensor_file

SUFFIXES = (".safetensors", *PICKLED)
_PIPELINES = {"StableDiffusionPipeline": None, "StableDiffusionXLPipeline": "sdxl"}
_V_NAME = re.compile(r"v[-_ ]?pred|768[-_ ]?v(?![a-z0-9])", re.IGNORECASE)
_SPECIAL_INPUTS = {
    5: "a depth-to-image model",
    7: "an upscaler",
    8: "an instruct-pix2pix model",
    9: "an inpainting model",
}
_ADVICE = "Choose a plain text-to-image checkpoint of SD 1.x, SD 2.x or SDXL."
# What only other kinds of file have in a tensor's name, and what those are.
_FOREIGN = {
    r"(^|_|\.)lora_(unet|te|te1|te2)_|\.lora_(down|up|A|B)\.|\.hada_w1_a$|\.lokr_w1": "a LoRA",
    r"^(emb_params|string_to_param|clip_l|clip_g)$": "a textual inversion",
    r"^control_model\.|^controlnet_cond_embedding\.|^input_hint_block\.": "a ControlNet",
    r"joint_blocks\.\d": "a Stable Diffusion 3 model",
    r"double_blocks\.\d": "a Flux model",
    r"^(unet\.)?edm_(mean|std|vpred)|^edm_vpred\.": "an EDM model (Playground 2.5 or CosXL)",
    r"clip_txt_mapper|^effnet\.": "a Stable Cascade model",
    r"^cond_stage_model\.roberta\.": "an AltDiffusion model",
    r"^embedder\.model\.|^noise_augmentor\.": "a Stable Diffusion 2.1 unCLIP model",
}


@dataclass(frozen=True)
class Checkpoint:
    """A base model on disk."""

    path: Path
    family: str  # "sd1", "sd2" or "sdxl"
    prediction_type: str | None  # None: nothing says it, the U-Net's answers must (SD 2.x files only)
    zero_terminal_snr: bool
    configs: Mapping[str, Mapping[str, Any]]  # by component: unet, text_encoder, scheduler; vae unless there is none
    tokenizers: tuple[Path, ...]  # folder with tokenizer files for each text encoder
    file: TensorFile | None  # None for a folder


def describe(path: Path) -> Checkpoint:
    """Find out what a base model is, reading as little as possible of it.

    Raises:
        UserError: when it is missing, broken, or nothing that an image LoRA can be trained on.
    """
    if not path.exists():
        raise UserError(f"cannot find the base model '{path}': {_suggest(path)}")
    if path.is_dir():
        return _describe_folder(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"cannot use '{path}' as base_model: its name does not end in {', '.join(SUFFIXES)}. {_ADVICE}")
    file = open_tensor_file(path)
    try:
        return _describe_file(file)
    except KeyError as error:
        raise UserError(f"cannot use '{path}' as base_model: it lacks the tensor {error}. Get a complete file.") from error


def list_text_encoders(family: str) -> tuple[str, ...]:
    """Component names of the family's text encoders, in order."""
    return tuple(TEXT[family])


# -- single files ------------------------------------------------------------------------------------------------------


def _describe_file(file: TensorFile) -> Checkpoint:
    family = _recognise(file)
    channels = file.shapes[UNET + "input_blocks.0.0.weight"][1]
    if channels != 4:
        kind = _SPECIAL_INPUTS.get(channels, f"a model with {channels} input channels")
        raise UserError(f"cannot use '{file.path}' as base_model: it is {kind}, and LoRAs for it need other training. {_ADVICE}")
    original = read_original_config(file.path)
    prediction_type = _read_prediction_type(file, family, original)
    tokenizer = original.text_folder if original.text_folder and (original.text_folder / "vocab.json").is_file() else CONFIGS / "tokenizer"
    return Checkpoint(
        path=file.path,
        family=family,
        prediction_type=prediction_type,
        zero_terminal_snr="ztsnr" in file.shapes,
        configs=derive_configs(file.shapes, family, original),
        tokenizers=(tokenizer,) * len(TEXT[family]),
        file=file,
    )


def _recognise(file: TensorFile) -> str:
    """The family, by the name of its text encoder."""
    names = file.shapes

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in names)

    kind = _recognise_foreign(names)
    if kind:
        advice = "Name its own base model here; to go on training a LoRA, name that as init_lora." if kind == "a LoRA" else _ADVICE
        raise UserError(f"cannot use '{file.path}' as base_model: it seems to be {kind}. {advice}")
    if not has(UNET):
        raise UserError(f"cannot use '{file.path}' as base_model: {_explain_missing_unet(has)}")
    for family, prefixes in (("sdxl", TEXT["sdxl"]), ("sd2", TEXT["sd2"]), ("sd1", TEXT["sd1"])):
        if all(has(prefix) for prefix in prefixes.values()):
            return family
    if has("conditioner.embedders.0.model."):
        raise UserError(f"cannot use '{file.path}' as base_model: it is the SDXL refiner. Use the SDXL base model.")
    raise UserError(f"cannot use '{file.path}' as base_model: it has a U-Net but no text encoder to match. Use the complete file.")


def _recognise_foreign(names: Mapping[str, Any]) -> str | None:
    for pattern, kind in _FOREIGN.items():
        if any(re.search(pattern, name) for name in names):
            return kind
    return None


def _explain_missing_unet(has) -> str:
    if has("encoder.conv_in.") or has("first_stage_model."):
        return "it is a VAE. Name the checkpoint here and this file as vae."
    if has("down_blocks."):
        return "it is one part of a diffusers model. Name the folder that has model_index.json in it."
    if has("text_model.") or has("transformer.resblocks."):
        return "it is a text encoder alone. Name the complete checkpoint."
    return f"it has no Stable Diffusion U-Net in it. {_ADVICE}"


def _read_prediction_type(file: TensorFile, family: str, original: OriginalConfig) -> str | None:
    """By tensor, metadata, YAML file and name, in this order; the rest is epsilon, save for SD 2."""
    if "v_pred" in file.shapes:
        return "v_prediction"
    said = file.metadata.get("modelspec.prediction_type", "").lower()
    if said:
        return "v_prediction" if said.startswith("v") else "epsilon"
    if original.prediction_type:
        return original.prediction_type
    if "768-v" in file.metadata.get("modelspec.architecture", "") or _V_NAME.search(file.path.stem):
        return "v_prediction"
    return None if family == "sd2" else "epsilon"


# -- folders -----------------------------------------------------------------------------------------------------------


def _describe_folder(path: Path) -> Checkpoint:
    if not (path / "model_index.json").is_file():
        inside = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
        advice = f"Name one of the files in it, such as '{path / inside[0]}'." if inside else "Name a checkpoint or a diffusers folder."
        raise UserError(f"cannot use the folder '{path}' as base_model: there is no model_index.json in it. {advice}")
    index = read_model_json(path / "model_index.json")
    kind = index.get("_class_name")
    if kind not in _PIPELINES:
        raise UserError(f"cannot use '{path}' as base_model: it is made for {kind}. {_ADVICE}")
    configs = {name: read_model_json(path / name / "config.json") for name in ("unet", "vae")}
    family = _PIPELINES[kind] or ("sd2" if configs["unet"].get("use_linear_projection") else "sd1")
    if family == "sdxl" and not (path / "text_encoder").is_dir():
        raise UserError(f"cannot use '{path}' as base_model: it is the SDXL refiner. Use the SDXL base model.")
    channels = configs["unet"].get("in_channels", 4)
    if channels != 4:
        raise UserError(f"cannot use '{path}' as base_model: it is {_SPECIAL_INPUTS.get(channels, 'an image-to-image model')}. {_ADVICE}")
    configs |= {name: read_model_json(path / name / "config.json") for name in TEXT[family]}
    configs["scheduler"] = read_model_json(path / "scheduler" / "scheduler_config.json")
    return Checkpoint(
        path=path,
        family=family,
        prediction_type=configs["scheduler"].get("prediction_type", "epsilon"),
        zero_terminal_snr=bool(configs["scheduler"].get("rescale_betas_zero_snr")),
        configs=configs,
        tokenizers=tuple(path / name.replace("text_encoder", "tokenizer") for name in TEXT[family]),
        file=None,
    )


def read_model_json(path: Path) -> dict[str, Any]:
    """A configuration in a diffusers folder.

    Raises:
        UserError: when it is missing or broken.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"cannot load the base model: '{path}' is missing. Get the complete folder.") from None
    except ValueError as error:
        raise UserError(f"cannot load the base model: '{path}' is broken ({error}). Get it again.") from error
    content.pop("_diffusers_version", None)  # the classes rewrite configurations that say they are old
    return content


def _suggest(path: Path) -> str:
    """Why it may be missing, and what stands near it."""
    folder = path.parent
    if not folder.is_dir():
        hub = re.fullmatch(r"[\w.-]+/[\w.-]+", path.as_posix())
        return (
            "there is nothing of that name here, and models are not downloaded. Download it and give the path of the file or folder."
            if hub
            else f"the folder '{folder}' is not there either. Mend the path."
        )
    models = [entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES or (entry / "model_index.json").is_file()]
    near = difflib.get_close_matches(path.name, models, n=1, cutoff=0.4)
    return "there is no such file or folder. " + (f"Did you mean '{folder / near[0]}'?" if near else "Mend the path.")
