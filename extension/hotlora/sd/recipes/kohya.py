"""Recipes of the sd-scripts family: sd-scripts' TOML (of options and of data sets), kohya_ss' JSON, lora-scripts' TOML.

Here is what needs more than another name; the rest is the table in names.py. Must not import torch or any host.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...engine.errors import UserError
from ...pictures.config import read_area
from .blocks import WORDS as BLOCK_WORDS
from .blocks import convert_blocks
from .imported import Conversion, as_number, is_off
from .names import NAMES
from .subsets import convert_datasets

_OWN_DEFAULTS: dict[str, Any] = {"learning_rate": 2e-6, "scheduler": "constant", "steps": 1600}  # sd-scripts' where nothing is set
_RATE_FREE = ("dadapt", "prodigy")
_OPTIMIZERS = {  # theirs, in small letters -> ours, and whether it is the same
    "adamw": "AdamW", "adamw8bit": "AdamW8bit", "pagedadamw8bit": "PagedAdamW8bit", "lion": "Lion", "prodigy": "Prodigy",
    "adafactor": "Adafactor", "adamwschedulefree": "AdamWScheduleFree", "pagedadamw": "AdamW", "pagedadamw32bit": "AdamW",
    "lion8bit": "Lion", "pagedlion8bit": "Lion",
}  # fmt: skip
_EXACT = ("adamw", "adamw8bit", "pagedadamw8bit", "lion", "prodigy", "adafactor", "adamwschedulefree")
_SCHEDULERS = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
_SAMPLERS = {
    "ddim": "DDIM", "euler": "Euler", "k_euler": "Euler", "euler_a": "Euler a", "k_euler_a": "Euler a", "dpmsolver": "DPM++ 2M",
    "dpmsolver++": "DPM++ 2M", "heun": "Heun", "lms": "LMS", "k_lms": "LMS", "dpm_2": "DPM2", "k_dpm_2": "DPM2", "dpm_2_a": "DPM2 a",
    "k_dpm_2_a": "DPM2 a", "pndm": "PNDM",
}  # fmt: skip
_FAMILIES = ("flux1_checkbox", "sd3_checkbox")


def is_recipe(content: Any) -> bool:
    """Whether at least some keys are theirs."""
    return isinstance(content, Mapping) and bool({"datasets", "general"} & content.keys() or _flatten(content).keys() & NAMES.keys())


def convert(content: Mapping[str, Any], folder: Path) -> Conversion:
    """The recipe, in our options. Relative names of further files are looked for in ``folder``. Raises UserError."""
    options = _flatten({key: value for key, value in content.items() if key not in ("datasets", "general")})
    change = Conversion(_name_source(content, options), options)
    _refuse_other_models(change)
    if {"datasets", "general"} & content.keys():
        convert_datasets(content, change, whole=not options)
    elif change.has("dataset_config"):
        _read_dataset_file(change, folder)
    if options:
        for part in (_network, _rates, _length, _optimizer, convert_blocks, _schedule, _pictures, _objective, _saving, _samples):
            part(change)
    _take_rest(change)
    return change


def _flatten(content: Mapping[str, Any]) -> dict[str, Any]:
    """Options without the sections they stand in, which sd-scripts ignores too."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat.update(value)
        elif not isinstance(value, list) or key in NAMES:
            flat[key] = value
    return flat


def _name_source(content: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    if "LoRA_type" in options:
        return "kohya_ss"
    if {"model_train_type", "positive_prompts", "lycoris_algo", "optimizer_args_custom", "lr_restart_cycles"} & options.keys():
        return "lora-scripts"
    return "sd-scripts' data set file" if not options else "sd-scripts"


def _refuse_other_models(change: Conversion) -> None:
    kind = str(change.peek("model_train_type", "")).lower()
    lora_type = str(change.peek("LoRA_type", "")).lower()
    other = next((key for key in _FAMILIES if change.has(key)), "")
    if other or re.search(r"flux|sd3|lumina|hunyuan|anima|chroma", f"{kind} {lora_type}"):
        raise UserError(
            f"cannot import this recipe: it is for {other or kind or lora_type}. Only Stable Diffusion 1, 2 and XL are trained here."
        )
    change.drop("model_train_type", "")


def _read_dataset_file(change: Conversion, folder: Path) -> None:
    from .files import read_file

    path = Path(str(change.left.pop("dataset_config")))
    path = path if path.exists() else folder / path
    if not path.is_file():
        change.result.left_out.append(f"dataset_config: {path}. There is no such file here: import it by itself where it is.")
        return
    convert_datasets(read_file(path), change, whole=False)


# -- the parts ---------------------------------------------------------------------------------------------------------


def _network(change: Conversion) -> None:
    on_a_page = "LoRA_type" in change.left  # which keeps what the kind of network does not use
    words = _network_words(change)
    module = f"{change.peek('network_module', '')} {change.peek('LoRA_type', '')} {words.get('algo', '')} {change.peek('lycoris_algo', '')}"
    kind = next((name for name in ("loha", "lokr") if name in module.lower()), "lora")
    keys = ("LoRA_type", "network_module", "lycoris_algo", "algo")
    change.put("network_type", kind, *[key for key in keys if key in change.left])
    other = re.search(r"dylora|ia3|glora|oft|boft|lora_fa|lora-fa|native|full", module.lower())
    if other:
        change.differ(f"The network {other[0]} is not made here: a plain LoRA of the same rank is trained instead.")
    change.put("lora_rank", int(as_number(change.peek("network_dim"), 4) or 4), "network_dim")
    alpha = change.peek("network_alpha")
    note = "" if not is_off(alpha) else "network_alpha was not set, which is 1 there: lora_alpha is set to 1, where ours would be the rank."
    change.put("lora_alpha", as_number(alpha, 1.0) or 1.0, "network_alpha", note=note)
    convolutions = re.search(r"locon|lycoris|loha|lokr", module.lower()) or ("conv_dim" in words and not on_a_page)
    if convolutions and not is_off(words.get("conv_dim")):
        change.put("conv_rank", int(as_number(words["conv_dim"])), "conv_dim")
        change.put("conv_alpha", as_number(words.get("conv_alpha"), 1.0) or 1.0, "conv_alpha")
    else:
        for key in ("conv_dim", "conv_alpha"):
            if change.left.pop(key, None) is not None:
                change.result.off.append(key)
    if not is_off(words.get("dora_wd")):
        change.put("use_dora", True, "dora_wd")
    if kind == "lokr" and as_number(words.get("factor", words.get("lokr_factor"))):
        change.put("lokr_factor", int(as_number(words.get("factor", words.get("lokr_factor")))), "factor", "lokr_factor")
    for key in ("factor", "lokr_factor"):
        change.drop(key, "Only LoKr has it.")


def _network_words(change: Conversion) -> dict[str, Any]:
    """conv_dim, algo and the like, from network_args or as options of their own."""
    words: dict[str, Any] = {
        key: change.peek(key) for key in ("conv_dim", "conv_alpha", "dora_wd", "factor", "lokr_factor", "algo") if key in change.left
    }
    for source in ("network_args", "network_args_custom"):
        given = change.left.pop(source, None) or []
        for word in given.split() if isinstance(given, str) else given if isinstance(given, list) else ():
            key, _, value = str(word).partition("=")
            words[key.strip()] = value.strip().strip("\"'")
            if key.strip() in BLOCK_WORDS:
                change.left[key.strip()] = words[key.strip()]
            elif key.strip() not in ("conv_dim", "conv_alpha", "dora_wd", "factor", "algo", "preset") and not is_off(value):
                other = NAMES.get(key.strip())
                why = other.note if other and other.note else "It is not known here."
                change.result.left_out.append(f"{source}: {word}. {why}")
    return words


def _rates(change: Conversion) -> None:
    rate, unet, text = (change.peek(key) for key in ("learning_rate", "unet_lr", "text_encoder_lr"))
    text = text[0] if isinstance(text, list) and text else text
    base = as_number(rate) or _OWN_DEFAULTS["learning_rate"]
    if is_off(rate) and is_off(unet):
        change.differ("No learning rate is set: 2e-6 is sd-scripts' own, which is very low. Try 1e-4.")
    only_unet = change.has("network_train_unet_only") or (not is_off(unet) and text is not None and as_number(text, 1.0) == 0)
    only_text = change.has("network_train_text_encoder_only") or (not is_off(text) and unet is not None and as_number(unet, 1.0) == 0)
    change.put("learning_rate", as_number(unet) or base, "unet_lr", "learning_rate")
    if only_unet or not only_text:
        change.left.pop("network_train_text_encoder_only", None)
    change.put("train_text_encoder", not only_unet, "network_train_unet_only")
    if only_text and not only_unet:
        change.put("train_unet", False, "network_train_text_encoder_only")
    if only_unet:
        change.left.pop("text_encoder_lr", None)
    else:
        change.put("text_encoder_lr", as_number(text) or base, "text_encoder_lr")
        change.differ("The text encoder is trained too, as there; without it a LoRA is often as good, and with SDXL better.")


def _length(change: Conversion) -> None:
    epochs: Any = as_number(change.peek("max_train_epochs")) or (0 if change.has("max_train_steps") else as_number(change.peek("epoch")))
    steps = as_number(change.peek("max_train_steps"))
    if epochs:
        change.put("epochs", int(epochs), "max_train_epochs", "epoch")
        change.left.pop("max_train_steps", None)
        if "datasets" not in change.result.values:
            change.differ("An epoch shows each picture as often as its folder's number says (10_cat: ten times), as there.")
    else:
        change.put("max_steps", int(as_number(steps) or _OWN_DEFAULTS["steps"]), "max_train_steps")
    change.left.pop("max_train_epochs", None)
    change.left.pop("epoch", None)
    if change.has("reg_data_dir"):
        change.differ("With regularisation pictures an epoch has twice as many steps, as in sd-scripts.")


def _optimizer(change: Conversion) -> None:
    name = str(change.peek("optimizer_type") or change.peek("optimizer") or "AdamW").rpartition(".")[2]
    if change.has("use_8bit_adam"):
        name = "AdamW8bit"
    if change.has("use_lion_optimizer"):
        name = "Lion"
    key = name.lower()
    ours = _OPTIMIZERS.get(key) or ("Prodigy" if any(part in key for part in _RATE_FREE) else "AdamW")
    change.put("optimizer", ours, "optimizer_type", "optimizer", "use_8bit_adam", "use_lion_optimizer")
    arguments = _optimizer_arguments(change)
    if key not in _EXACT:
        change.differ(f"The optimizer {name} is not here: {ours} is set instead, without its arguments. Look at learning_rate.")
        arguments = {}
    if ours not in ("AdamW", "AdamW8bit", "PagedAdamW8bit") and not any(word in str(arguments) for word in ("weight_decay",)):
        change.put("weight_decay", 0.0, "weight_decay")  # these libraries' own, where ours is 0.01
    if arguments:
        change.put("optimizer_args", arguments, "optimizer_args", "optimizer_args_custom", "prodigy_d0", "prodigy_d_coef")
    for left in ("optimizer_args", "optimizer_args_custom", "prodigy_d0", "prodigy_d_coef"):
        change.drop(left, "The optimizer that is set instead does not take it.")
    values = change.result.values
    if ours == "Prodigy" and values.get("text_encoder_lr", values["learning_rate"]) != values["learning_rate"]:
        del values["text_encoder_lr"]
        change.differ("Prodigy finds one rate for all layers: text_encoder_lr is not taken.")


def _optimizer_arguments(change: Conversion) -> dict[str, Any]:
    from ...engine.values import read_arguments

    arguments: dict[str, Any] = {}
    for key in ("optimizer_args", "optimizer_args_custom"):
        given = read_arguments(change.peek(key) or {})
        arguments.update(given if isinstance(given, dict) else {})
    for key, argument in (("prodigy_d0", "d0"), ("prodigy_d_coef", "d_coef")):
        if change.has(key):
            arguments[argument] = as_number(change.peek(key))
    return arguments


def _schedule(change: Conversion) -> None:
    name = str(change.peek("lr_scheduler") or _OWN_DEFAULTS["scheduler"]).lower()
    if name in _SCHEDULERS:
        change.put("scheduler", name.removesuffix("_with_warmup"), "lr_scheduler")
    else:
        change.drop("lr_scheduler", "There is no such schedule here; cosine is used.")
    percent, steps = as_number(change.peek("lr_warmup")), as_number(change.peek("lr_warmup_steps"))
    total = change.result.values.get("max_steps", 0)
    if name == "constant" and (percent or steps):
        change.differ("The schedule constant ignores its warm-up there, so it has none here.")
    elif steps >= 1 or (steps and total):
        change.put("warmup_steps", round(steps if steps >= 1 else steps * total), "lr_warmup_steps")
    elif percent and total:
        change.put("warmup_steps", round(percent / 100 * total), "lr_warmup")
    elif percent or steps:
        share = f"{percent:g} %" if percent else f"{steps:.0%}"
        change.differ(f"The warm-up is {share} of a run whose steps are not known here: set warmup_steps to that.")
    change.left.pop("lr_warmup", None)
    change.left.pop("lr_warmup_steps", None)


def _pictures(change: Conversion) -> None:
    resolution = change.peek("resolution") or change.peek("max_resolution")
    if not is_off(resolution) and "resolution" not in change.result.values:
        change.put("resolution", read_area(resolution), "resolution", "max_resolution")
    if "enable_bucket" not in change.result.values:
        change.put("enable_bucket", change.has("enable_bucket"), "enable_bucket")
    area = read_area(change.result.values.get("resolution", 512))
    if not change.result.values["enable_bucket"] and isinstance(area, int) and area % 8:
        change.result.values["enable_bucket"] = True
        change.differ("Without buckets pictures are cut to squares here: enable_bucket is set, for pictures of that area.")
    steps = as_number(change.peek("bucket_reso_steps"))
    if 0 < steps < 8:
        change.put("bucket_reso_steps", 8, "bucket_reso_steps", note="bucket_reso_steps below 8 does nothing: latents have 8 pixels.")
    if change.has("random_crop"):
        change.put("crop", "random", "random_crop")
    if change.has("cache_latents_to_disk"):
        change.put("cache_latents", "disk", "cache_latents_to_disk", "cache_latents")
    elif "cache_latents" in change.left:
        note = "" if change.has("cache_latents") else "Latents are always cached here, in memory or on disk."
        change.put("cache_latents", "memory", "cache_latents", note=note)
    if change.has("alpha_mask") or change.has("masked_loss"):
        change.put("masked_loss", True, "masked_loss", "alpha_mask")
    else:
        change.drop("conditioning_data_dir", "It is for masked_loss, which is off.")
    length = as_number(change.peek("max_token_length"), 75) or 75
    fit = next((known for known in (75, 150, 225) if known >= length), 225)
    change.put("max_token_length", fit, "max_token_length", note="" if fit == length else f"max_token_length {length:g} becomes {fit}.")
    if str(change.peek("caption_extension") or ".txt").strip().lower() in (".txt", ".caption", "txt", "caption"):
        change.left.pop("caption_extension", None)


def _objective(change: Conversion) -> None:
    if change.has("v_parameterization"):
        change.put("prediction_type", "v_prediction", "v_parameterization")
    kind = str(change.left.pop("noise_offset_type", "")).lower()
    unused = (
        ("multires_noise_iterations", "multires_noise_discount") if kind == "original" else ("noise_offset",) if kind == "multires" else ()
    )
    for key in unused:
        change.drop(key, f"The page had noise_offset_type {kind}, which does not use it.")
    for key in ("vae_batch_size", "min_snr_gamma", "multires_noise_iterations", "noise_offset", "ip_noise_gamma", "scale_weight_norms"):
        if key in change.left and not change.has(key):
            change.result.off.append(key)
            change.left.pop(key)
    if "multires_noise_iterations" not in change.left:
        change.drop("multires_noise_discount", "It belongs to multires_noise_iterations, which is off.") if is_off(
            change.peek("multires_noise_discount")
        ) else change.left.pop("multires_noise_discount", None)
    if change.has("min_snr_gamma"):
        change.differ("min_snr_gamma weighs steps as there; only v-prediction models divide by SNR + 1, as sd-scripts does since 0.8.")


def _saving(change: Conversion) -> None:
    name = str(change.peek("output_name") or "my_lora")
    folder = str(change.left.pop("output_dir", None) or "output")
    change.result.values["output_dir"] = folder.rstrip("/\\") + f"/{name}"
    change.result.taken.append(f"output_dir: {folder!r} -> output_dir: {change.result.values['output_dir']!r}")
    change.differ("output_dir is this run's own folder: what there was output_dir/output_name.safetensors lies in it.")
    seed = change.peek("seed")
    if is_off(seed) or as_number(seed, -1) < 0:
        change.left.pop("seed", None)
    else:
        change.put("seed", int(as_number(seed)), "seed")
    last = as_number(change.peek("save_last_n_epochs"))
    if last:
        change.put("keep_last", int(last), "save_last_n_epochs", note="keep_last counts files, not epochs.")


def _samples(change: Conversion) -> None:
    prompts = change.peek("positive_prompts") or change.peek("sample_prompts") or change.peek("prompt_file")
    if isinstance(prompts, list):
        prompts = "\n".join(map(str, prompts))
    if isinstance(prompts, str) and not is_off(prompts):
        lines = [line.strip() for line in prompts.splitlines() if line.strip() and not line.strip().startswith("#")]
        change.put("sample_prompts", lines, "positive_prompts", "sample_prompts", "prompt_file")
    sampler = str(change.peek("sample_sampler") or "").lower()
    if sampler in _SAMPLERS:
        change.put("sample_sampler", _SAMPLERS[sampler], "sample_sampler")
    else:
        change.drop("sample_sampler", "There is no such sampler here; DPM++ 2M is used.")
    for key in ("sample_width", "sample_height", "sample_seed", "sample_steps"):
        if key in change.left and not change.has(key):
            change.left.pop(key)


def _take_rest(change: Conversion) -> None:
    """By the table: the same under another name, or none."""
    for key in list(change.left):
        other = NAMES.get(key)
        if other is None:
            change.drop(key, "That key is not known here.")
        elif not other.option or other.option in change.result.values:
            change.drop(key, other.note or f"{other.option} is set already.")
        elif is_off(change.left[key]) and other.note:
            change.result.off.append(key)
            change.left.pop(key)
        elif other.note and key != other.option:
            change.drop(key, f"{other.note} See {other.option}.")
        elif is_off(change.left[key]) and change.left[key] in ("", None, [], "None"):
            change.result.off.append(key)
            change.left.pop(key)
        else:
            change.put(other.option, change.left[key], key)
