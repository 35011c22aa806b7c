"""The finished adapter: a peft folder that peft, transformers, vLLM and text-generation-webui load as it is."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..engine.errors import UserError
from ..engine.files import replacing_folder
from ..engine.interfaces import Adapters
from ..engine.options import as_plain
from .card import write_card
from .config import TextConfig

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
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


@dataclass(frozen=True)
class PeftFile:
    """A peft folder that was read.

    Attributes:
        tensors: path in the model -> peft's tensor name -> fp32.
        fingerprint: of the base model it was trained on; empty where it does not say.
    """

    tensors: dict[str, dict[str, torch.Tensor]]
    rank: int
    alpha: float
    use_rslora: bool
    use_dora: bool
    target_modules: Sequence[str]
    base: str
    fingerprint: str


def write_peft_folder(adapters: Adapters, folder: Path, config: TextConfig, origin: Origin, notes: Mapping[str, Any]) -> Path:
    """Write the folder, all or nothing.

    Args:
        notes: step, loss, scores and so on, for the card.
    """
    tensors, rank, alpha = _as_plain_lora(adapters, config)
    dtype = _DTYPES[config.save_precision]
    flat = {
        f"{_PREFIX}{name}.{_TENSORS[key]}": tensor.to(dtype).contiguous()
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
        (temporary / CONFIG).write_text(json.dumps(_adapter_config(config, origin, rank, alpha), indent=2) + "\n", encoding="utf-8")
        (temporary / WEIGHTS).write_bytes(save(flat, metadata=metadata))
        (temporary / "README.md").write_text(write_card(config, origin, notes), encoding="utf-8")
        if origin.template:
            (temporary / "chat_template.jinja").write_text(origin.template, encoding="utf-8")
        recipe = yaml.safe_dump(as_plain(config), sort_keys=False, allow_unicode=True)
        (temporary / "hotlora.yaml").write_text(recipe, encoding="utf-8")
    return folder


def _as_plain_lora(adapters: Adapters, config: TextConfig) -> tuple[dict[str, dict[str, torch.Tensor]], int, float]:
    """(tensors, rank, alpha). An update of scale * (B A - B0 A0) is the plain LoRA of twice the rank with A below A0 and B beside
    -B0, at the same scale; other programs know of no start."""
    tensors, starts = adapters.tensors(), adapters.starts()
    if not starts:
        return tensors, config.lora_rank, config.alpha
    doubled = {}
    for name, parts in tensors.items():
        down, up = starts[name]
        doubled[name] = {"lora_A": torch.cat([parts["lora_A"], down]), "lora_B": torch.cat([parts["lora_B"], -up], 1)}
    return doubled, 2 * config.lora_rank, config.alpha * (2**0.5 if config.use_rslora else 2)


def _adapter_config(config: TextConfig, origin: Origin, rank: int, alpha: float) -> dict[str, Any]:
    """What peft reads; the rest it fills up with its defaults."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": origin.base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": origin.target_modules if isinstance(origin.target_modules, str) else list(origin.target_modules),
        "use_rslora": config.use_rslora,
        "use_dora": config.use_dora,
        "bias": "none",
        "fan_in_fan_out": False,
    }


def read_peft_folder(path: Path) -> PeftFile:
    """A folder that this program, peft or another has written; or its weights file.

    Raises:
        UserError: where it is none, or holds what cannot be gone on from.
    """
    folder = path.expanduser().parent if path.suffix == ".safetensors" else path.expanduser()
    said = _read_config(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise UserError(f"cannot go on from '{folder}': it has no {WEIGHTS}. Save the adapter with a peft that writes safetensors.")
    if said.get("peft_type") != "LORA":
        raise UserError(f"cannot go on from '{folder}': it is a {said.get('peft_type')}, and only LoRA can be gone on from.")
    for key in ("modules_to_save", "rank_pattern", "alpha_pattern", "layers_to_transform"):
        if said.get(key):
            raise UserError(f"cannot go on from '{folder}': it was trained with {key}, which is not known here. Choose another adapter.")
    tensors: dict[str, dict[str, torch.Tensor]] = {}
    try:
        with safe_open(str(weights), "pt") as file:
            metadata = file.metadata() or {}
            for key in file.keys():  # noqa: SIM118 (it is no dictionary)
                name, tensor = _split_key(key, folder)
                tensors.setdefault(name, {})[tensor] = file.get_tensor(key).float()
    except SafetensorError as error:
        raise UserError(f"cannot read '{weights}': {error}.") from error
    return PeftFile(
        tensors,
        rank=int(said["r"]),
        alpha=float(said["lora_alpha"]),
        use_rslora=bool(said.get("use_rslora")),
        use_dora=bool(said.get("use_dora")),
        target_modules=said.get("target_modules") or (),
        base=str(said.get("base_model_name_or_path") or ""),
        fingerprint=metadata.get("hotlora_base_fingerprint", ""),
    )


def read_fingerprint(folder: Path) -> str:
    """Of the base model that an adapter was trained on; empty where it does not say."""
    try:
        with safe_open(str(folder / WEIGHTS), "pt") as file:
            return (file.metadata() or {}).get("hotlora_base_fingerprint", "")
    except (SafetensorError, OSError):
        return ""


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"cannot go on from '{folder}': it has no {CONFIG}, so it is no text LoRA. Give the folder of a peft adapter.")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError(f"cannot read '{path}': {error}.") from error


def _split_key(key: str, folder: Path) -> tuple[str, str]:
    """``base_model.model.<path>.lora_A.weight`` -> (path, ``lora_A``)."""
    for tensor, end in _TENSORS.items():
        for ending in {end, f"{tensor}.weight"}:
            if key.startswith(_PREFIX) and key.endswith(f".{ending}"):
                return key[len(_PREFIX) : -len(ending) - 1], tensor
    raise UserError(f"cannot go on from '{folder}': it has the tensor {key}, which no plain LoRA has. Choose another adapter.")


def adopt_peft_folder(path: Path, config: TextConfig) -> PeftFile:
    """Read it, and let the run go on as it was trained.

    Raises:
        UserError: where the user asked for something else, naming both.
    """
    file = read_peft_folder(path)
    if config.lora_start != "default":
        raise UserError("cannot use lora_start pissa with init_lora: the adapter has a start already. Leave one of them out.")
    config.adopt("lora_rank", file.rank)
    config.adopt("lora_alpha", file.alpha)
    config.adopt("use_rslora", file.use_rslora)
    config.adopt("use_dora", file.use_dora)
    if isinstance(file.target_modules, list):
        config.adopt("target_modules", ", ".join(sorted({name.rpartition(".")[2] for name in file.tensors})))
    return file


def warn_other_base(file: PeftFile, fingerprint: str, name: str) -> str:
    """A sentence where the adapter belongs to other weights; empty where it does not, or does not say."""
    if not file.fingerprint or file.fingerprint == fingerprint:
        return ""
    return f"The adapter was trained on another model ({file.base}) than {name}; what it has learned may not fit."
