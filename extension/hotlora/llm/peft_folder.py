"""The finished adapter: a peft folder that peft, transformers, vLLM and text-generation-webui load as it is."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save

from ..engine.files import replacing_folder
from ..engine.interfaces import Adapters
from ..engine.options import as_plain
from ..engine.precision import to_precision
from .card import write_card
from .config import TextConfig
from .loading import judge_text_lora
from .peft_reading import CONFIG, PREFIX, WEIGHTS
from .targets import name_parameters

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_TENSORS = {"lora_A": "lora_A.weight", "lora_B": "lora_B.weight", "lora_magnitude_vector": "lora_magnitude_vector"}


@dataclass(frozen=True)
class Origin:
    """What the adapter was trained on.

    Attributes:
        base: folder or name of the base model.
        fingerprint: of its weights.
        template: Jinja text of the chat template; empty for none.
        target_modules: as peft's config names them.
        facts: label, value: about the data.
    """

    base: str
    fingerprint: str
    template: str
    target_modules: Sequence[str] | str
    facts: Sequence[tuple[str, str]]


def write_peft_folder(adapters: Adapters, folder: Path, config: TextConfig, origin: Origin, notes: Mapping[str, Any]) -> Path:
    """Write the folder, all or nothing.

    Args:
        notes: step, loss, scores and so on, for the card.

    Raises:
        UserError: when the precision cannot hold a value, or the disk is full; nothing is written then.
    """
    tensors, ranks, alphas = _as_plain_lora(adapters, config)
    said = _adapter_config(config, origin, config.lora_rank * ranks, config.alpha * alphas)
    targets = adapters.targets.items()
    parameters = name_parameters(adapters.targets)
    if parameters:
        said["target_parameters"] = parameters
    said["rank_pattern"] = {name: target.rank * ranks for name, target in targets if target.rank != config.lora_rank}
    said["alpha_pattern"] = {name: _plainly(target.alpha * alphas) for name, target in targets if target.alpha != config.alpha}
    dtype = _DTYPES[config.save_precision]
    flat = {
        (full := f"{PREFIX}{name}.{_name_tensor(key)}"): to_precision(full, tensor, dtype)
        for name, parts in tensors.items()
        for key, tensor in parts.items()
    }
    metadata = {
        "format": "pt",
        "hotlora_base_fingerprint": origin.fingerprint,
        "hotlora_chat_template_sha256": hashlib.sha256(origin.template.encode("utf-8")).hexdigest(),
        "hotlora_step": str(notes["step"]),
    }
    with replacing_folder(folder) as temporary:
        temporary.mkdir()
        (temporary / CONFIG).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        (temporary / WEIGHTS).write_bytes(save(flat, metadata=metadata))
        (temporary / "README.md").write_text(write_card(config, origin, notes, judge_text_lora(said, flat)), encoding="utf-8")
        if origin.template:
            (temporary / "chat_template.jinja").write_text(origin.template, encoding="utf-8")
        recipe = yaml.safe_dump(as_plain(config), sort_keys=False, allow_unicode=True)
        (temporary / "hotlora.yaml").write_text(recipe, encoding="utf-8")
    return folder


def _as_plain_lora(adapters: Adapters, config: TextConfig) -> tuple[dict[str, dict[str, torch.Tensor]], int, float]:
    """(tensors, how many times the ranks, how many times the alphas). An update of scale * (B A - B0 A0) is the plain LoRA of twice the
    rank with A below A0 and B beside -B0, at the same scale; other programs know of no start."""
    tensors, starts = adapters.tensors(), adapters.starts()
    if not starts:
        return tensors, 1, 1.0
    doubled = {}
    for name, parts in tensors.items():
        down, up = starts[name]
        doubled[name] = {"lora_A": torch.cat([parts["lora_A"], down]), "lora_B": torch.cat([parts["lora_B"], -up], 1)}
    return doubled, 2, 2**0.5 if config.use_rslora else 2.0


def _adapter_config(config: TextConfig, origin: Origin, rank: int, alpha: float) -> dict[str, Any]:
    """What peft reads; the rest it fills up with its defaults."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": origin.base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": _plainly(alpha),
        "lora_dropout": config.lora_dropout,
        "target_modules": origin.target_modules if isinstance(origin.target_modules, str) else list(origin.target_modules),
        "use_rslora": config.use_rslora,
        "use_dora": config.use_dora,
        "bias": "none",
        "fan_in_fan_out": False,
    }


def _plainly(number: float) -> int | float:
    return int(number) if number == int(number) else number


def _name_tensor(key: str) -> str:
    """Ours -> peft's, which may lie in one another: `base_layer.lora_A`."""
    *inside, tensor = key.split(".")
    return ".".join([*inside, _TENSORS[tensor]])
