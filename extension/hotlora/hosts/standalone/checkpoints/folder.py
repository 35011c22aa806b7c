"""A base model in the folder that diffusers saves: what its JSON files say it is, and where in it each tensor is. Must not import
diffusers or transformers.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....engine.errors import UserError
from ...shared.tensor_file import SUFFIXES, list_weight_files, open_tensor_files
from .architecture import list_text_encoders, read_published
from .checkpoint import ADVICE, SPECIAL_INPUTS, Checkpoint, Part, TokenizerFiles
from .original_names import find_as_named, find_clip, find_in_vae_folder

_PIPELINES = {"StableDiffusionPipeline": None, "StableDiffusionXLPipeline": "sdxl"}


def describe_folder(path: Path) -> Checkpoint:
    """What a base model in diffusers' folder layout is.

    Raises:
        UserError: when it is incomplete, broken, or nothing that an image LoRA can be trained on.
    """
    if not (path / "model_index.json").is_file():
        inside = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
        advice = f"Name one of the files in it, such as '{path / inside[0]}'." if inside else "Name a checkpoint or a diffusers folder."
        raise UserError(f"cannot use the folder '{path}' as base_model: there is no model_index.json in it. {advice}")
    index = _read_json(path / "model_index.json")
    kind = index.get("_class_name")
    if kind not in _PIPELINES:
        raise UserError(f"cannot use '{path}' as base_model: it is made for {kind}. {ADVICE}")
    configs = {name: _read_json(path / name / "config.json") for name in ("unet", "vae")}
    family = _PIPELINES[kind] or ("sd2" if configs["unet"].get("use_linear_projection") else "sd1")
    if family == "sdxl" and not (path / "text_encoder").is_dir():
        raise UserError(f"cannot use '{path}' as base_model: it is the SDXL refiner. Use the SDXL base model.")
    channels = configs["unet"].get("in_channels", 4)
    if channels != 4:
        raise UserError(f"cannot use '{path}' as base_model: it is {SPECIAL_INPUTS.get(channels, 'an image-to-image model')}. {ADVICE}")
    configs["vae"] = read_published(family, "vae") | configs["vae"]
    configs |= {name: _read_json(path / name / "config.json") for name in list_text_encoders(family)}
    scheduler = _read_json(path / "scheduler" / "scheduler_config.json")
    return Checkpoint(
        path=path,
        family=family,
        prediction_type=scheduler.get("prediction_type", "epsilon"),
        zero_terminal_snr=bool(scheduler.get("rescale_betas_zero_snr")),
        parts={name: _describe_part(name, config, path / name) for name, config in configs.items()},
        scheduler=scheduler,
        tokenizers=tuple(TokenizerFiles(path / name.replace("text_encoder", "tokenizer")) for name in list_text_encoders(family)),
        weight_files=lambda: [file for name in ("unet", *list_text_encoders(family)) for file in list_weight_files(path / name)],
    )


def describe_vae_folder(folder: Path, family: str) -> Part:
    """A VAE's own folder. Raises UserError when its configuration is missing or broken."""
    return _describe_part("vae", read_published(family, "vae") | _read_json(folder / "config.json"), folder)


def _describe_part(component: str, config: Mapping[str, Any], folder: Path) -> Part:
    find = {"unet": find_as_named, "vae": find_in_vae_folder}.get(component, find_clip)
    return Part(component, config, folder, lambda: open_tensor_files(list_weight_files(folder)), find)


def _read_json(path: Path) -> dict[str, Any]:
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
