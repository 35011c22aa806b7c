"""What peft and diffusers say about a LoRA of an image model beside its tensors: ranks' scaling, by layer.

Owns two places: ``adapter_config.json`` beside the weights, and the header of diffusers' own files. Must not import peft.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..engine.errors import UserError

CONFIG = "adapter_config.json"
_IN_HEADER = "lora_adapter_metadata"
_PARTS = ("unet", "text_encoder_2", "text_encoder")
_PEFT_ALPHA = 8.0  # where its config does not say
_OTHER_BASES = ("pissa", "olora", "loftq", "corda", "lora_ga", "loraga")  # starts at which peft changes the model's own weights


class PeftSettings(NamedTuple):
    """By part of the model ("" where there is one only): the settings of its adapter."""

    parts: dict[str, Mapping[str, Any]]

    @property
    def use_rslora(self) -> bool:
        return any(bool(said.get("use_rslora")) for said in self.parts.values())

    def alpha_of(self, name: str) -> float | None:
        """Of a layer by its path in the file; None where nothing is said."""
        part = next((part for part in _PARTS if name.startswith(f"{part}.")), "")
        said = self.parts.get(part)
        if said is None:
            return None
        path = name.removeprefix("base_model.model.").removeprefix(f"{part}." if part else "")
        for pattern, alpha in (said.get("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(?:.*\.)?{pattern}", path):
                return float(alpha)
        return float(said.get("lora_alpha") or said.get("alpha") or _PEFT_ALPHA)


def read_settings(weights: Path, metadata: Mapping[str, str]) -> PeftSettings | None:
    """None where nothing is said.

    Raises:
        UserError: for a config that cannot be read, or that says the base model's weights were changed too.
    """
    beside = weights.parent / CONFIG
    if weights.name.startswith("adapter_model") and beside.is_file():
        parts = {"": _read(beside)}
    elif _IN_HEADER in metadata:
        parts = _split(metadata[_IN_HEADER])
    else:
        return None
    for said in parts.values():
        _check_alphas(said, weights)
        start = str(said.get("init_lora_weights", True)).lower()
        if start.startswith(_OTHER_BASES):
            raise UserError(
                f"cannot go on from '{weights}': it was trained with init_lora_weights: {start}, beside other weights than the "
                "model's own. Convert it to a plain LoRA with peft's save_pretrained(path_initial_model_for_weight_conversion=...)."
            )
    return PeftSettings(parts)


def _check_alphas(said: Mapping[str, Any], weights: Path) -> None:
    """Raises UserError where an alpha is no number, or what it is for no pattern of layers' names."""
    patterns = said.get("alpha_pattern") or {}
    try:
        for pattern, alpha in {**patterns, "": said.get("lora_alpha") or said.get("alpha") or _PEFT_ALPHA}.items():
            re.compile(pattern)
            if not math.isfinite(float(alpha)):
                raise ValueError(f"{alpha} is no number")
    except (TypeError, ValueError, OverflowError, re.error) as error:
        raise UserError(f"cannot go on from '{weights}': the alphas in its {CONFIG} cannot be used ({error}). Use another copy.") from None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot go on from '{path.parent}': its {path.name} cannot be read ({error}). Use another copy.") from None
    if not isinstance(said, dict):
        raise UserError(f"cannot go on from '{path.parent}': its {path.name} is none of peft's. Use another copy.")
    return said


def _split(text: str) -> dict[str, Mapping[str, Any]]:
    """diffusers writes one mapping, with the part in front of each key."""
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(said, dict):
        return {}
    parts: dict[str, dict[str, Any]] = {}
    for key, value in said.items():
        part, _, rest = str(key).partition(".")
        parts.setdefault(part, {})[rest] = value
    return dict(parts)
