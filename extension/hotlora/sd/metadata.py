"""What a LoRA file says about itself: kohya's ``ss_`` keys, modelspec, and A1111's sidecar.

Owns the keys and their string forms, as kohya-ss/sd-scripts writes them, because A1111's card and dialog, model managers
and sharing sites read those. Folder names and option values go in, whole paths never. Must not import a model library.
"""

import datetime
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..engine.files import write_text
from ..engine.interfaces import Adapters
from ..engine.options import as_plain, options_of
from ..engine.precision import name_precision
from ..pictures.config import PictureConfig
from ..pictures.entries import hide_places, list_sources, list_triggers
from .config import ImageConfig
from .file_hashes import FileHashes
from .model import ImageModel
from .sizes import Sizes

_ARCHITECTURES = {"sd1": "stable-diffusion-v1", "sd2": "stable-diffusion-v2-512", "sdxl": "stable-diffusion-xl-v1-base"}
_BASE_VERSIONS = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
_SIDECAR_VERSIONS = {"sd1": "SD1", "sd2": "SD2", "sdxl": "SDXL"}


@dataclass(frozen=True)
class DatasetFacts:
    """What metadata tells about the pictures. Folders go by their names alone."""

    num_train_images: int  # with repeats
    num_batches_per_epoch: int
    num_reg_images: int = 0
    num_validation_images: int = 0
    num_focused: int = 0  # pictures that are cut around a focus point, without repeats
    num_cropped: int = 0  # likewise, of which only a part is used
    random_crop: bool = False  # whether any is cut at random
    dataset_dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # folder -> n_repeats, img_count
    reg_dataset_dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tag_frequency: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # folder -> tag -> captions
    bucket_info: Mapping[str, Any] | None = None  # None without buckets
    datasets: Sequence[Mapping[str, Any]] | None = None  # `ss_datasets`; None where the other keys say it all
    options: Sequence[PictureConfig] = ()  # what held for each folder at each of its sizes; the run's own where there are none

    def shared(self, config: ImageConfig, read: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """What ``read`` makes of the options, where it is the same for all folders."""
        first, *others = [read(options) for options in self.options or [config]]
        return {key: value for key, value in first.items() if all(other[key] == value for other in others)}

    def resolution(self, config: ImageConfig) -> int:
        """The largest that was trained at."""
        return max(options.resolution for options in self.options or [config])


def build_metadata(
    config: ImageConfig,
    model: ImageModel,
    facts: DatasetFacts,
    notes: Mapping[str, Any],
    *,
    hashes: FileHashes | None = None,
    vae_hashes: FileHashes | None = None,
    adapters: Adapters | None = None,
    dora_axis: str = "input",
) -> dict[str, str]:
    """All of a LoRA file's metadata but its own name and hashes, which writing it adds.

    Args:
        notes: step, epoch, total_steps, steps_per_epoch, started_at and finished_at (seconds since 1970), session_id,
            optimizer ("module.Class(k=v)").
        hashes: of the base model's file, where it is one.
        vae_hashes: of ``config.vae``, likewise.
        adapters: what was trained, where its layers may have ranks of their own.
        dora_axis: as in ``AdapterChoice``.
    """
    values = {
        **_run_values(config, notes),
        **_training_values(config, model),
        **_network_values(config, Sizes.of(adapters, config), dora_axis),
        **_data_values(config, facts),
        **_model_values(config, model, hashes, vae_hashes),
        **_modelspec_values(config, model, notes, facts),
        "hotlora_config": json.dumps(_changed_options(config)),
    }
    return {key: str(value) for key, value in values.items()}


def _run_values(config: ImageConfig, notes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "ss_session_id": notes["session_id"],
        "ss_training_started_at": notes["started_at"],
        "ss_training_finished_at": notes["finished_at"],
        "ss_training_comment": config.training_comment or None,
        "ss_sd_scripts_commit_hash": "(unknown)",  # sd-scripts' own word for no commit
        "ss_epoch": notes["epoch"],
        "ss_steps": notes["step"],
        "ss_num_epochs": math.ceil(notes["total_steps"] / notes["steps_per_epoch"]),
        "ss_max_train_steps": notes["total_steps"],
        "ss_seed": config.seed,
        "ss_optimizer": notes["optimizer"],
        "ss_output_name": config.name,
    }


def _training_values(config: ImageConfig, model: ImageModel) -> dict[str, Any]:
    return {
        "ss_learning_rate": config.learning_rate,
        "ss_unet_lr": None,
        "ss_text_encoder_lr": config.text_encoder_lr,
        "ss_lr_scheduler": config.scheduler,
        "ss_lr_warmup_steps": config.warmup_steps,
        "ss_max_grad_norm": config.max_grad_norm,
        "ss_gradient_checkpointing": config.gradient_checkpointing,
        "ss_gradient_accumulation_steps": config.gradient_accumulation_steps,
        "ss_batch_size_per_device": config.batch_size,
        "ss_total_batch_size": config.batch_size * config.gradient_accumulation_steps,
        "ss_mixed_precision": name_precision(model.compute_dtype).replace("fp32", "no"),
        "ss_full_fp16": False,
        "ss_fp8_base": False,
        "ss_fp8_base_unet": False,
        "ss_lowram": False,
        "ss_noise_offset": config.noise_offset or None,
        "ss_noise_offset_random_strength": False,
        "ss_adaptive_noise_scale": None,
        "ss_multires_noise_iterations": config.multires_noise_iterations or None,
        "ss_multires_noise_discount": config.multires_noise_discount,
        "ss_zero_terminal_snr": model.zero_terminal_snr,
        "ss_ip_noise_gamma": config.ip_noise_gamma or None,
        "ss_ip_noise_gamma_random_strength": False,
        "ss_min_snr_gamma": config.min_snr_gamma,
        "ss_debiased_estimation": config.debiased_estimation,
        "ss_prior_loss_weight": config.prior_loss_weight,
        "ss_loss_type": config.loss_type,
        "ss_huber_schedule": config.huber_schedule,
        "ss_huber_c": config.huber_c,
        "ss_huber_scale": config.huber_scale,
    }


def _network_values(config: ImageConfig, sizes: Sizes, dora_axis: str) -> dict[str, Any]:
    """kohya's own module where it can load the file, LyCORIS' elsewhere, with the arguments that would make it there."""
    args: dict[str, Any] = {}
    lycoris = config.network_type != "lora" or config.use_dora
    if lycoris:
        args["algo"] = config.network_type
    args.update(sizes.arguments())
    if config.network_type == "lokr":
        args["factor"] = f"{config.lokr_factor}"
    if config.use_dora:
        args.update(dora_wd="True", wd_on_out=f"{dora_axis == 'rows'}")
    if config.use_rslora and config.network_type == "lora":
        args["rs_lora"] = "True"
    rank, alpha = sizes.rank_and_alpha
    values = {
        "ss_network_module": "lycoris.kohya" if lycoris else "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": alpha,
        "ss_network_dropout": config.lora_dropout or None,
        "ss_scale_weight_norms": config.max_norm or None,
    }
    if args:
        values["ss_network_args"] = json.dumps({**args, "dropout": config.lora_dropout or None})
    return values


def _data_values(config: ImageConfig, facts: DatasetFacts) -> dict[str, Any]:
    return {
        "ss_num_train_images": facts.num_train_images,
        "ss_num_reg_images": facts.num_reg_images,
        "ss_num_validation_images": facts.num_validation_images,
        "ss_num_batches_per_epoch": facts.num_batches_per_epoch,
        **facts.shared(config, _folder_values),
        "ss_cache_latents": True,
        "ss_color_aug": False,
        "ss_random_crop": facts.random_crop,
        "ss_face_crop_aug_range": None,
        "ss_resize_interpolation": None,
        "ss_caption_dropout_every_n_epochs": 0,
        "ss_validation_seed": None,
        "ss_validation_split": config.validation_split,
        "ss_max_validation_steps": None,
        "ss_validate_every_n_epochs": None,
        "ss_validate_every_n_steps": config.validation_every_steps or None,
        # A1111 decodes what starts with "{" and reads these as mappings: they must never be "None"
        "ss_dataset_dirs": json.dumps(facts.dataset_dirs),
        "ss_reg_dataset_dirs": json.dumps(facts.reg_dataset_dirs),
        "ss_tag_frequency": json.dumps(facts.tag_frequency),
        "ss_bucket_info": json.dumps(facts.bucket_info),
        **({} if facts.datasets is None else {"ss_datasets": json.dumps(facts.datasets)}),
        **({"hotlora_focus_points": facts.num_focused} if facts.num_focused else {}),
        **({"hotlora_crops": facts.num_cropped} if facts.num_cropped else {}),
    }


def _folder_values(config: PictureConfig) -> dict[str, Any]:
    """What may differ from folder to folder, and is then told in `ss_datasets` alone."""
    return {
        "ss_resolution": (config.resolution, config.resolution),
        "ss_enable_bucket": config.enable_bucket,
        "ss_bucket_no_upscale": config.bucket_no_upscale,
        "ss_min_bucket_reso": config.min_bucket_reso if config.enable_bucket else None,
        "ss_max_bucket_reso": config.max_bucket_reso if config.enable_bucket else None,
        "ss_flip_aug": config.flip_aug,
        "ss_shuffle_caption": config.shuffle_caption,
        "ss_keep_tokens": config.keep_tokens,
        "ss_caption_dropout_rate": config.caption_dropout_rate,
        "ss_caption_tag_dropout_rate": config.caption_tag_dropout_rate,
    }


def _model_values(config: ImageConfig, model: ImageModel, hashes: FileHashes | None, vae_hashes: FileHashes | None) -> dict[str, Any]:
    predicts_v = model.prediction_type == "v_prediction"
    values = {
        "ss_sd_model_name": model.path.name if model.path else model.name,
        "ss_v2": model.family == "sd2",
        "ss_base_model_version": _BASE_VERSIONS[model.family] + ("_v" if predicts_v and model.family != "sdxl" else ""),
        "ss_clip_skip": config.clip_skip,
        "ss_max_token_length": None if config.max_token_length == 75 else config.max_token_length,
    }
    if hashes:
        values.update(ss_sd_model_hash=hashes.legacy, ss_new_sd_model_hash=hashes.sha256)
    if config.vae:
        values["ss_vae_name"] = Path(config.vae).name
    if config.vae and vae_hashes:
        values.update(ss_vae_hash=vae_hashes.legacy, ss_new_vae_hash=vae_hashes.sha256)
    return values


def _modelspec_values(config: ImageConfig, model: ImageModel, notes: Mapping[str, Any], facts: DatasetFacts) -> dict[str, Any]:
    """github.com/Stability-AI/ModelSpec 1.0.1, with the values that sd-scripts gives to LoRAs."""
    predicts_v = model.prediction_type == "v_prediction"
    architecture = "stable-diffusion-v2-768-v" if model.family == "sd2" and predicts_v else _ARCHITECTURES[model.family]
    values = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{architecture}/lora",
        "implementation": "https://github.com/Stability-AI/generative-models" if model.family == "sdxl" else "diffusers",
        "implementation_version": f"hotlora/{__version__}",
        "title": config.name,
        "resolution": "{0}x{0}".format(facts.resolution(config)),
        "date": datetime.datetime.fromtimestamp(int(notes["finished_at"])).isoformat(),
        "prediction_type": "v" if predicts_v else "epsilon",
        "description": config.training_comment or None,
        "trigger_phrase": ", ".join(list_triggers(config)) or None,
        "encoder_layer": config.clip_skip if model.family != "sdxl" else None,
        "timestep_range": _timestep_range(config),
    }
    return {f"modelspec.{key}": value for key, value in values.items() if value is not None}


def _timestep_range(config: ImageConfig) -> str | None:
    whole = config.min_timestep == 0 and config.max_timestep == 1000
    return None if whole else f"{config.min_timestep},{config.max_timestep}"


def _changed_options(config: ImageConfig) -> dict[str, Any]:
    """Every option that is not at its default and tells nothing about the user's disk: enough to train like this again."""
    defaults = as_plain(type(config)())
    paths = {"output_dir", *(name for name, field in options_of(type(config)).items() if field.metadata["path"])}
    values = {key: value for key, value in as_plain(config).items() if key not in paths and value != defaults.get(key)}
    return {**values, "datasets": hide_places(config.datasets)} if config.datasets else values


def _list_sizes(config: ImageConfig) -> str:
    sources = [source for source in list_sources(config) if source.use == "train"]
    sizes = sorted({size for source in sources for size in source.by_resolution} or {config.resolution})
    return ", ".join(map(str, sizes))


def write_sidecar(
    path: Path,
    config: ImageConfig,
    family: str,
    notes: Mapping[str, Any],
    *,
    preferred_weight: float = 1.0,
    adapters: Adapters | None = None,
    loads: str = "",
) -> Path:
    """``<name>.json`` beside ``<name>.safetensors``, from which A1111's card takes what it puts into the prompt.

    What a person wrote into an earlier one (description, weight, negative prompt, notes) stays.

    Args:
        path: the LoRA file.
        family: "sd1", "sd2" or "sdxl".
        notes: step and epoch.
        adapters: what was trained, where its layers may have ranks of their own.
        loads: which programs load it, for people.
    """
    sidecar = path.with_suffix(".json")
    earlier = _read_mapping(sidecar)
    facts = [
        f"HotLoRA {__version__}: {config.network_type}, {Sizes.of(adapters, config).describe()}",
        f"learning rate {config.learning_rate:g}, {notes['step']} steps ({notes['epoch']} epochs), {_list_sizes(config)} px",
        *([loads] if loads else []),
    ]
    own_notes = "" if str(earlier.get("notes", "")).startswith("HotLoRA ") else earlier.get("notes", "")
    content = {
        "description": config.training_comment,
        "preferred weight": preferred_weight,
        "negative text": "",
        **{key: value for key, value in earlier.items() if value},
        "sd version": _SIDECAR_VERSIONS[family],
        "activation text": ", ".join(list_triggers(config)),
        "notes": own_notes or ", ".join(facts),
    }
    write_text(sidecar, json.dumps(content, indent=4, ensure_ascii=False))
    return sidecar


def _read_mapping(path: Path) -> dict[str, Any]:
    """A JSON file's mapping; empty where there is none or it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
