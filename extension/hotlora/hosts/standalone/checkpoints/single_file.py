"""A base model in a single file: what it is, by the names and shapes of its tensors, its metadata, its own name and the YAML file beside
it; where in it each tensor is. Refuses what cannot be trained, saying what it seems to be. Must not import diffusers or transformers.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ....engine.errors import UserError
from ...shared.tensor_file import TensorFile, open_tensor_file
from .architecture import CONFIGS, PAD_TOKENS, TEXT, UNET, VAE, derive_configs, derive_vae, list_text_encoders, read_published
from .checkpoint import ADVICE, SPECIAL_INPUTS, Checkpoint, Part, TokenizerFiles
from .original_config import OriginalConfig, read_original_config
from .original_names import find_in_original, find_in_vae_folder, find_vae_in_original

_V_NAME = re.compile(r"v[-_ ]?pred|768[-_ ]?v(?![a-z0-9])", re.IGNORECASE)
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


def describe_file(path: Path) -> Checkpoint:
    """What a base model in a single file is.

    Raises:
        UserError: when it is broken, incomplete, or nothing that an image LoRA can be trained on.
    """
    file = open_tensor_file(path)
    try:
        return _describe(file)
    except KeyError as error:
        raise UserError(f"cannot use '{path}' as base_model: it lacks the tensor {error}. Get a complete file.") from error


def _describe(file: TensorFile) -> Checkpoint:
    family = recognise_family(file)
    channels = file.shapes[UNET + "input_blocks.0.0.weight"][1]
    if channels != 4:
        kind = SPECIAL_INPUTS.get(channels, f"a model with {channels} input channels")
        raise UserError(f"cannot use '{file.path}' as base_model: it is {kind}, and LoRAs for it need other training. {ADVICE}")
    original = read_original_config(file.path)
    configs = derive_configs(file.shapes, family, original)
    scheduler = configs.pop("scheduler")
    return Checkpoint(
        path=file.path,
        family=family,
        prediction_type=_read_prediction_type(file, family, original),
        zero_terminal_snr="ztsnr" in file.shapes,
        parts={
            name: Part(name, config, file.path, lambda: file, find_in_original(family, name, config)) for name, config in configs.items()
        },
        scheduler=scheduler,
        tokenizers=tuple(TokenizerFiles(_find_tokenizer(original), PAD_TOKENS[family][name]) for name in list_text_encoders(family)),
        weight_files=lambda: [file.path],
    )


def _find_tokenizer(original: OriginalConfig) -> Path:
    """Beside the text encoder's configuration, where the YAML file names one; every CLIP has the same else."""
    folder = original.text_folder
    return folder if folder and (folder / "vocab.json").is_file() else CONFIGS / "tokenizer"


def describe_vae_file(path: Path, family: str) -> Part:
    """A VAE alone, or that of a whole model, in a single file.

    Raises:
        UserError: when there is none in it, or one of another kind.
    """
    file = open_tensor_file(path)
    if "encoder.down_blocks.0.resnets.0.conv1.weight" in file.shapes:
        return Part("vae", read_published(family, "vae"), path, lambda: file, find_in_vae_folder)
    prefix = VAE if f"{VAE}encoder.conv_in.weight" in file.shapes else ""
    shapes = {name[len(prefix) :]: shape for name, shape in file.shapes.items() if name.startswith(prefix)}
    if "encoder.conv_in.weight" not in shapes or "decoder.conv_in.weight" not in shapes:
        raise UserError(f"cannot use '{path}' as vae: there is no VAE in it. Name a VAE file or folder.")
    config = derive_vae(shapes, family)
    return Part("vae", config, path, lambda: file, find_vae_in_original(prefix, config))


def recognise_family(file: TensorFile) -> str:
    """The family, by the name of its text encoder."""
    names = file.shapes

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in names)

    kind = _recognise_foreign(names)
    if kind:
        advice = "Name its own base model here; to go on training a LoRA, name that as init_lora." if kind == "a LoRA" else ADVICE
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


def _explain_missing_unet(has: Callable[[str], bool]) -> str:
    if has("encoder.conv_in.") or has("first_stage_model."):
        return "it is a VAE. Name the checkpoint here and this file as vae."
    if has("down_blocks."):
        return "it is one part of a diffusers model. Name the folder that has model_index.json in it."
    if has("text_model.") or has("transformer.resblocks."):
        return "it is a text encoder alone. Name the complete checkpoint."
    return f"it has no Stable Diffusion U-Net in it. {ADVICE}"


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
