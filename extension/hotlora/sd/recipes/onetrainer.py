"""OneTrainer's recipes, as far as they map: its names with dots for what stands within another, and what becomes of each here.

Facts from Nerogar/OneTrainer's TrainConfig. Must not import torch or any host.
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from ...engine.errors import UserError
from ...engine.other_names import OtherName
from .imported import Conversion, as_number, is_off

_RENAMED = {
    "base_model_name": "base_model", "output_model_destination": "output_dir", "batch_size": "batch_size", "epochs": "epochs",
    "gradient_accumulation_steps": "gradient_accumulation_steps", "resolution": "resolution", "aspect_ratio_bucketing": "enable_bucket",
    "learning_rate_scheduler": "scheduler", "learning_rate_cycles": "scheduler_cycles", "ema_decay": "ema_decay", "lora_rank": "lora_rank",
    "lora_decompose": "use_dora", "lora_model_name": "init_lora", "peft_type": "network_type", "clip_grad_norm": "max_grad_norm",
    "offset_noise_weight": "noise_offset", "perturbation_noise_weight": "ip_noise_gamma", "dropout_probability": "lora_dropout",
    "rescale_noise_scheduler_to_zero_terminal_snr": "zero_terminal_snr", "force_v_prediction": "prediction_type",
    "force_epsilon_prediction": "prediction_type", "train_dtype": "mixed_precision", "output_dtype": "save_precision",
    "masked_training": "masked_loss", "text_encoder.train": "train_text_encoder", "unet.train": "train_unet",
    "text_encoder.learning_rate": "text_encoder_lr", "text_encoder.dropout_probability": "caption_dropout_rate",
    "vae.model_name": "vae", "optimizer.optimizer": "optimizer", "optimizer.weight_decay": "weight_decay", "tensorboard": "tensorboard",
    "optimizer": "optimizer", "lokr_decompose_factor": "lokr_factor", "unet.gradient_checkpointing": "gradient_checkpointing",
    "concepts": "train_data_dir", "concept_file_name": "train_data_dir", "samples": "sample_prompts",
    "sample_definition_file_name": "sample_prompts", "loss_weight_fn": "min_snr_gamma", "layer_filter": "include",
}  # fmt: skip
_DIFFERENT = {
    "learning_rate": ("learning_rate", "unet.learning_rate goes before it."),
    "unet.learning_rate": ("learning_rate", "It is the U-Net's."),
    "lora_alpha": ("lora_alpha", "Where it is not set it is 1 there, and the rank here."),
    "learning_rate_warmup_steps": ("warmup_steps", "Up to 1 it is a share of the run there; here it counts steps."),
    "ema": ("ema_decay", "It is on where ema_decay is above 0."),
    "text_encoder_layer_skip": ("clip_skip", "It counts from 0 there, from 1 here."),
    "min_noising_strength": ("min_timestep", "A share of 1000 timesteps there."),
    "max_noising_strength": ("max_timestep", "A share of 1000 timesteps there."),
    "save_every": ("save_epochs", "With save_every_unit STEP it is save_steps."),
    "sample_after": ("sample_every_epochs", "With sample_after_unit STEP it is sample_every_steps."),
    "loss_weight_strength": ("min_snr_gamma", "With loss_weight_fn MIN_SNR_GAMMA."),
    "mae_strength": ("loss_type", "One kind of loss counts here: l2, l1 or huber."),
    "huber_strength": ("loss_type", "One kind of loss counts here: l2, l1 or huber."),
    "layer_filter_preset": ("include", "attn-only is include: attn; full also trains convolutions, which is conv_rank."),
    "validate_after": ("validation_every_steps", "Without it each epoch is judged."),
}
_NONE = {
    "It is read from the checkpoint.": "model_type",
    "A LoRA is what is trained.": "training_method",
    "It names units, not amounts.": "save_every_unit sample_after_unit validate_after_unit backup_after_unit time_unit",
    "Every run writes its state by itself.": """
        backup_after rolling_backup rolling_backup_count backup_before_save continue_last_backup save_skip_first prevent_overwrites""",
    "The run's folder holds everything.": """
        workspace_dir cache_dir debug_dir debug_mode tensorboard_expose tensorboard_always_on tensorboard_port save_filename_prefix
        include_train_config output_model_format clear_cache_before_training latent_caching only_cache concept_stats""",
    "Nothing is downloaded, uploaded or rented.": "cloud secrets huggingface_cache_dir offline_mode",
    "It does not change what is learned.": """
        attention_mechanism dataloader_threads train_device temp_device enable_autocast_cache compile async_offloading multi_gpu
        device_indexes gradient_reduce_precision fused_gradient_reduce async_gradient_reduce async_gradient_reduce_buffer
        fallback_train_dtype samples_to_tensorboard sample_image_format sample_video_format sample_audio_format loss_scaler""",
    "The adapter is trained in fp32, the base model as mixed_precision says.": """
        lora_weight_dtype embedding_weight_dtype weight_dtype""",
    "It belongs to other models or kinds of training.": """
        prior transformer unconditional_transformer text_encoder_2 text_encoder_3 text_encoder_4 text_encoder_2_layer_skip
        text_encoder_3_layer_skip text_encoder_4_layer_skip text_encoder_sequence_length text_encoder_2_sequence_length effnet_encoder
        decoder decoder_text_encoder decoder_vqgan embedding additional_embeddings embedding_learning_rate preserve_embedding_norm
        bundle_additional_embeddings frames timestep_shift dynamic_timestep_shifting vb_loss_strength oft_block_size oft_block_share
        oft_scaled lokr_dim lokr_decompose_both lokr_use_tucker lokr_weight_decompose lokr_dora_on_output lokr_full_matrix lokr_vec_trick
        force_circular_padding custom_conditioning_image""",
    "It names layers; quantization: 8bit or 4bit packs the U-Net's transformer blocks.": "quantization",
    "It is not made here.": """
        learning_rate_min_factor learning_rate_scaler custom_learning_rate_scheduler scheduler_params ema_update_step_interval
        log_cosh_strength huber_delta generalized_offset_noise timestep_distribution noising_weight noising_bias unmasked_probability
        unmasked_weight normalize_masked_area_loss masked_prior_preservation_weight lora_decompose_norm_epsilon
        lora_decompose_output_axis layer_filter_regex non_ema_sampling sample_skip_first optimizer_defaults validation mse_strength""",
    "It is a page's or a file's own.": "__version plugins",
}
NAMES = {
    **{name: OtherName(option) for name, option in _RENAMED.items()},
    **{name: OtherName("", why) for why, names in _NONE.items() for name in names.split()},
    **{name: OtherName(*different) for name, different in _DIFFERENT.items()},
}
_OPTIMIZERS = {
    "ADAMW": "AdamW", "ADAMW_8BIT": "AdamW8bit", "LION": "Lion", "PRODIGY": "Prodigy", "ADAFACTOR": "Adafactor",
    "SCHEDULE_FREE_ADAMW": "AdamWScheduleFree", "LION_8BIT": "Lion", "ADAM": "AdamW", "ADAM_8BIT": "AdamW8bit",
}  # fmt: skip
_ARGUMENTS = [
    "eps",
    "d0",
    "d_coef",
    "growth_rate",
    "decouple",
    "safeguard_warmup",
    "use_bias_correction",
    "relative_step",
    "scale_parameter",
    "warmup_init",
    "clip_threshold",
    "decay_rate",
    "amsgrad",
    "r",
    "weight_lr_power",
]
_UNITS = {"EPOCH": "epochs", "STEP": "steps"}


def is_recipe(content: Any) -> bool:
    """Whether it is one of OneTrainer's."""
    return isinstance(content, Mapping) and ("training_method" in content or "base_model_name" in content)


def convert(content: Mapping[str, Any], folder: Path) -> Conversion:
    """The recipe in our options. Raises UserError for one that trains something else than a LoRA for Stable Diffusion."""
    flat = dict(content)
    for key in ("unet", "text_encoder", "vae", "optimizer"):
        if isinstance(content.get(key), Mapping):
            flat.update({f"{key}.{name}": value for name, value in flat.pop(key).items()})
    change = Conversion("OneTrainer", flat)
    model, method = str(change.peek("model_type", "STABLE_DIFFUSION_15")), str(change.peek("training_method", "LORA"))
    if not model.startswith("STABLE_DIFFUSION") or "STABLE_DIFFUSION_3" in model:
        raise UserError(f"cannot import this recipe: it is for {model}. Only Stable Diffusion 1, 2 and XL are trained here.")
    if method != "LORA":
        raise UserError(f"cannot import this recipe: it trains {method}. Only LoRA is trained here.")
    for take in (_adapter, _learning, _optimizer, _weights, _often):
        take(change)
    for take_from_folder in (_data, _samples):
        take_from_folder(change, folder)
    _take_rest(change)
    return change


def _adapter(change: Conversion) -> None:
    kind = str(change.peek("peft_type", "LORA")).upper()
    change.put("network_type", {"LOHA": "loha", "LOKR": "lokr"}.get(kind, "lora"), "peft_type")
    if kind not in ("LORA", "LOHA", "LOKR"):
        change.differ(f"The adapter {kind} is not made here: a plain LoRA of the same rank is trained instead.")
    change.put("lora_rank", int(as_number(change.peek("lora_rank"), 16)), "lora_rank")
    change.put("lora_alpha", as_number(change.peek("lora_alpha"), 1.0), "lora_alpha")
    if is_off(change.peek("lora_decompose")):
        change.left.pop("lora_decompose", None)
    preset = str(change.left.pop("layer_filter_preset", "full") or "full")
    if preset == "attn-only":
        change.put("include", "attn")
    elif preset == "full":
        change.put("conv_rank", change.result.values["lora_rank"])
        change.put(
            "conv_alpha", change.result.values["lora_alpha"], note="layer_filter_preset full trains convolutions too: conv_rank is set."
        )
    if change.has("layer_filter") and preset not in ("full", "attn-mlp", "attn-only"):
        change.drop("layer_filter", "Names of layers are others here: see include and exclude.")
    change.left.pop("layer_filter", None)


def _learning(change: Conversion) -> None:
    rate = as_number(change.peek("unet.learning_rate")) or as_number(change.peek("learning_rate"), 3e-6)
    change.put("learning_rate", rate, "learning_rate", "unet.learning_rate")
    train_text = change.peek("text_encoder.train", True)
    change.put("train_text_encoder", bool(train_text), "text_encoder.train")
    if not train_text or is_off(change.peek("text_encoder.learning_rate")):
        change.left.pop("text_encoder.learning_rate", None)
    schedule = str(change.peek("learning_rate_scheduler", "CONSTANT")).lower().replace("hard_", "")
    if schedule in ("constant", "linear", "cosine", "cosine_with_restarts"):
        change.put("scheduler", schedule, "learning_rate_scheduler")
    else:
        change.drop("learning_rate_scheduler", "There is no such schedule here; cosine is used.")
    warmup = as_number(change.left.pop("learning_rate_warmup_steps", 200.0))
    if warmup > 1:
        change.put("warmup_steps", int(warmup))
    elif warmup:
        change.differ(f"The warm-up is {warmup:.0%} of a run whose steps are not known here: set warmup_steps to that.")
    if "learning_rate_cycles" in change.left:
        change.put("scheduler_cycles", max(1, int(as_number(change.peek("learning_rate_cycles"), 1))), "learning_rate_cycles")
    if str(change.left.pop("ema", "OFF")) == "OFF":
        change.left.pop("ema_decay", None)
    sides = [side.strip() for side in str(change.peek("resolution", "512")).split(",")]
    if len(sides) > 1:
        note = "Each picture is trained at each of the resolutions, which makes an epoch longer; there at one of them by chance."
        change.put("resolutions", sides, "resolution", note=note)
    else:
        change.put("resolution", sides[0], "resolution")
    for key, option in (("train_dtype", "mixed_precision"), ("output_dtype", "save_precision")):
        if key in change.left:
            kind = str(change.peek(key)).lower().replace("float_", "fp").replace("bfp16", "bf16").replace("bfloat_16", "bf16")
            change.put(option, kind if kind in ("fp16", "bf16") else "fp32", key)


def _optimizer(change: Conversion) -> None:
    name = str(change.left.pop("optimizer.optimizer", None) or "ADAMW").upper()
    ours = _OPTIMIZERS.get(name) or ("Prodigy" if "PRODIGY" in name or "DADAPT" in name else "AdamW")
    change.put("optimizer", ours)
    given = {key.partition(".")[2]: change.left.pop(key) for key in list(change.left) if key.startswith("optimizer.")}
    if name not in _OPTIMIZERS:
        change.differ(f"The optimizer {name} is not here: {ours} is set instead, without its arguments. Look at learning_rate.")
        return
    if given.get("weight_decay") is not None:
        change.put("weight_decay", given["weight_decay"])
    arguments = {key: given[key] for key in _ARGUMENTS if not is_off(given.get(key))}
    if ours == "Adafactor":
        arguments.pop("eps", None)
    if ours != "Adafactor" and given.get("beta1") is not None and given.get("beta2") is not None:
        arguments["betas"] = [given["beta1"], given["beta2"]]
    if arguments:
        change.put("optimizer_args", arguments)


def _weights(change: Conversion) -> None:
    function, strength = str(change.left.pop("loss_weight_fn", "CONSTANT")), change.left.pop("loss_weight_strength", 5.0)
    if function == "MIN_SNR_GAMMA":
        change.put("min_snr_gamma", as_number(strength, 5.0))
    elif function == "DEBIASED_ESTIMATION":
        change.put("debiased_estimation", True)
    elif function != "CONSTANT":
        change.differ(f"The loss weights {function} are not made here: all timesteps weigh the same.")
    kinds = {"l2": as_number(change.left.pop("mse_strength", 1.0)), "l1": as_number(change.left.pop("mae_strength", 0.0))}
    kinds["huber"] = as_number(change.left.pop("huber_strength", 0.0))
    strongest = max(kinds, key=lambda kind: kinds[kind])
    change.put("loss_type", strongest, note="" if sum(map(bool, kinds.values())) < 2 else f"Losses are not mixed here: {strongest} counts.")
    if change.has("force_v_prediction") or change.has("force_epsilon_prediction"):
        change.put("prediction_type", "v_prediction" if change.has("force_v_prediction") else "epsilon")
    for key, option, usual in (("min_noising_strength", "min_timestep", 0.0), ("max_noising_strength", "max_timestep", 1.0)):
        value = as_number(change.left.pop(key, usual), usual)
        if value != usual:
            change.put(option, round(value * 1000))
    for key in ("force_v_prediction", "force_epsilon_prediction"):
        change.left.pop(key, None)
    if change.has("text_encoder_layer_skip"):
        change.put("clip_skip", int(as_number(change.peek("text_encoder_layer_skip"))) + 1, "text_encoder_layer_skip")


def _often(change: Conversion) -> None:
    for key, prefix in (("save_every", "save"), ("sample_after", "sample_every")):
        unit, amount = str(change.left.pop(f"{key}_unit", "NEVER")), as_number(change.peek(key))
        if unit in _UNITS and amount:
            change.put(f"{prefix}_{_UNITS[unit]}", int(amount), key)
        elif unit in ("NEVER", "ALWAYS"):
            change.left.pop(key, None)
        else:
            change.drop(key, f"It counts {unit.lower()}s there; steps or epochs can be set here.")
    place = str(change.left.pop("output_model_destination", "") or "my_lora").replace("\\", "/")
    change.put("output_dir", f"output/{PurePath(place).stem}", note="output_dir is this run's own folder; the LoRA lies in it.")


def _data(change: Conversion, folder: Path) -> None:
    concepts = change.left.pop("concepts", None) or _read_beside(change, "concept_file_name", folder)
    concepts = concepts if isinstance(concepts, list) else []
    used = [concept for concept in concepts if isinstance(concept, Mapping) and concept.get("enabled", True) and concept.get("path")]
    training = [c for c in used if str(c.get("type", "STANDARD")) == "STANDARD"]
    for concept in used:
        if concept not in training and str(concept.get("type")) == "VALIDATION":
            change.put("validation_dir", str(concept["path"]))
        elif concept not in training:
            change.result.left_out.append(f"concept {concept['path']}. Its type {concept.get('type')} is not made here.")
    entries = [_make_entry(concept, change) for concept in training]
    if len(entries) == 1 and entries[0].keys().isdisjoint({"repeats", "weight"}):
        for key, value in entries[0].items():
            change.put("train_data_dir" if key == "folder" else key, value)
    elif entries:
        change.put("datasets", entries)


def _make_entry(concept: Mapping[str, Any], change: Conversion) -> dict[str, Any]:
    """A concept as an entry of `datasets`."""
    entry: dict[str, Any] = {"folder": str(concept["path"])}
    text, image = concept.get("text") or {}, concept.get("image") or {}
    balancing, weight = as_number(concept.get("balancing"), 1.0), as_number(concept.get("loss_weight"), 1.0)
    if balancing != 1.0:
        entry["repeats"] = max(1, round(balancing))
        if balancing != entry["repeats"]:
            change.differ(f"{concept['path']} is repeated {balancing:g} times there, and {entry['repeats']} times here.")
    if weight != 1.0:
        entry["weight"] = weight
    if text.get("enable_tag_shuffling"):
        entry |= {"shuffle_caption": True, "keep_tokens": int(as_number(text.get("keep_tags_count")))}
    if image.get("enable_random_flip"):
        entry["flip_aug"] = True
    if text.get("tag_dropout_enable"):
        entry["caption_tag_dropout_rate"] = as_number(text.get("tag_dropout_probability"))
    if str(text.get("prompt_source", "sample")) != "sample":
        said = f"prompt_source: {text['prompt_source']}. Captions are text files beside the pictures; one text for all is class_words."
        change.result.left_out.append(said)
    return entry


def _read_beside(change: Conversion, key: str, folder: Path) -> Any:
    """The content of a file that the recipe names."""
    name = change.left.pop(key, None)
    if not isinstance(name, str) or not name:
        return None
    for path in (Path(name), folder / name, folder / Path(name).name):
        try:
            return json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError):
            continue
    change.result.left_out.append(f"{key}: {name!r}. There is no such file here.")
    return None


def _samples(change: Conversion, folder: Path) -> None:
    samples = change.left.pop("samples", None) or _read_beside(change, "sample_definition_file_name", folder)
    letters = {"negative_prompt": "n", "width": "w", "height": "h", "seed": "d", "cfg_scale": "l", "diffusion_steps": "s"}
    prompts = []
    for sample in samples if isinstance(samples, list) else []:
        if isinstance(sample, Mapping) and sample.get("enabled", True) and sample.get("prompt"):
            words = [f"--{letter} {sample[key]}" for key, letter in letters.items() if sample.get(key) not in (None, "", -1)]
            prompts.append(" ".join([str(sample["prompt"]), *words]))
    if prompts:
        change.put("sample_prompts", prompts)


def _take_rest(change: Conversion) -> None:
    for key in list(change.left):
        other = NAMES.get(key)
        if other and other.option and not other.note and other.option not in change.result.values and not is_off(change.left[key]):
            change.put(other.option, change.left[key], key)
        elif key.startswith(("unet.", "text_encoder.", "vae.")):
            change.drop(key, "It is not made here.")
        else:
            change.drop(
                key, other.note if other and other.note else "It has no counterpart here." if other else "That key is not known here."
            )
