"""The ``<stem>.yaml`` beside a single-file checkpoint: what AUTOMATIC1111 and the original code build a model from.

Owns which of its keys count here: those that a file's tensors cannot say. Must not import diffusers or transformers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....engine.errors import UserError


@dataclass(frozen=True)
class OriginalConfig:
    """What the file says; None where it does not."""

    prediction_type: str | None = None
    num_heads: int | None = None
    num_head_channels: int | None = None
    scaling_factor: float | None = None
    betas: tuple[float, float] | None = None  # first and last, as in the "scaled_linear" schedule
    text_folder: Path | None = None  # of SD 1.x: a CLIP config.json, with tokenizer files or without
    text_config: Mapping[str, Any] = field(default_factory=dict)


def read_original_config(checkpoint: Path) -> OriginalConfig:
    """What stands in the YAML file of the same name; nothing where there is none.

    Raises:
        UserError: when it is there and cannot be read.
    """
    path = checkpoint.with_suffix(".yaml")
    if not path.is_file():
        return OriginalConfig()
    import yaml

    try:
        model = (yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {})["model"]
        params = model.get("params") or {}
        unet = (params.get("unet_config") or params.get("network_config") or {}).get("params") or {}
        text = (params.get("cond_stage_config") or {}).get("params") or {}
        folder = _find_text_folder(text.get("version"), path)
        return OriginalConfig(
            prediction_type=_read_prediction_type(params),
            num_heads=_positive(unet.get("num_heads")),
            num_head_channels=_positive(unet.get("num_head_channels")),
            scaling_factor=params.get("scale_factor"),
            betas=(params["linear_start"], params["linear_end"]) if "linear_start" in params and "linear_end" in params else None,
            text_folder=folder,
            text_config=_read_text_config(folder) if folder else {},
        )
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"cannot read '{path}': it is not the configuration of a Stable Diffusion model ({type(error).__name__}). Mend or remove it."
        ) from error


def _read_prediction_type(params: Mapping[str, Any]) -> str:
    """SD 1.x and 2.x say ``parameterization``; SDXL names a class for the denoiser's scaling. Neither means epsilon."""
    if "denoiser_config" in params:
        scaling = str(((params["denoiser_config"].get("params") or {}).get("scaling_config") or {}).get("target"))
        return "v_prediction" if scaling.endswith("VScaling") else "epsilon"
    return "v_prediction" if params.get("parameterization") == "v" else "epsilon"


def _find_text_folder(version: str | None, path: Path) -> Path | None:
    """The folder that ``version`` names, relative to the YAML file; hub names such as ``openai/clip-…`` are no folders."""
    if not version:
        return None
    folder = path.parent / version
    if (folder / "config.json").is_file():
        return folder
    if str(version).startswith((".", "/", "\\")):
        raise UserError(f"cannot find the text encoder's folder '{version}' that '{path}' names. Put it there with its config.json.")
    return None


def _read_text_config(folder: Path) -> dict[str, Any]:
    """The text encoder's part, where the file is about a whole CLIP."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8-sig"))
    return config.get("text_config") or config


def _positive(count: int | None) -> int | None:
    """Original configurations say -1 for "not this one"."""
    return count if count and count > 0 else None
