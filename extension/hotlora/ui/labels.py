"""What options are called on the page, and when they have a say. Their documentation, limits and choices stand with the options themselves.

An option that has no words here is called by its key's own words, so that a new family needs none.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..engine.options import options_of
from ..tasks import TASKS

LABELS: Mapping[str, str] = {
    "metadata_path": "File with names and captions",
    "train_data_dir": "Folder",
    "output_name": "Name of the LoRA",
    "lora_rank": "Rank",
    "auto_rank": "Ranks by themselves",
    "lora_alpha": "Alpha",
    "lora_dropout": "Dropout",
    "use_rslora": "rsLoRA",
    "use_dora": "DoRA",
    "init_lora": "Go on from a LoRA",
    "gradient_accumulation_steps": "Gradient accumulation",
    "max_steps": "Steps",
    "least_steps": "Steps at least",
    "most_steps": "Steps at most",
    "optimizer_args": "Optimizer's arguments",
    "scheduler_cycles": "Restarts",
    "scheduler_power": "Power of the polynomial",
    "max_grad_norm": "Gradient clipping",
    "max_norm": "Limit of the weights' norm",
    "ema_decay": "Averaging (EMA)",
    "mixed_precision": "Precision while training",
    "save_steps": "Save every so many steps",
    "save_epochs": "Save every so many epochs",
    "keep_last": "Keep only the last",
    "save_precision": "Precision of the file",
    "state_minutes": "Minutes between saved states",
    "sample_every_steps": "Sample every so many steps",
    "sample_every_epochs": "Sample every so many epochs",
    "sample_seed": "Seed of samples",
    "sheet_weights": "Weights to compare",
    "validation_split": "Share for validation",
    "validation_dir": "Validation data",
    "validation_every_steps": "Validate every so many steps",
    "early_stopping_patience": "Stop early after",
    "on_bad_data": "What is wrong in the data",
    "tensorboard": "TensorBoard",
    "train_device": "Train on the card",
    "slice_seconds": "Seconds to a turn",
    "resolutions": "Several resolutions",
    "datasets": "Further folders",
    "enable_bucket": "Keep the pictures' shapes",
    "min_bucket_reso": "Shortest side",
    "max_bucket_reso": "Longest side",
    "bucket_reso_steps": "Steps between sides",
    "bucket_no_upscale": "Never enlarge",
    "flip_aug": "Mirror half of them",
    "cache_latents": "Keep encoded pictures",
    "cache_dir": "Folder of encoded pictures",
    "vae_batch_size": "Encode at once",
    "mask_dir": "Folder of masks",
    "masked_loss": "Learn under masks only",
    "reg_data_dir": "Regularisation pictures",
    "prior_loss_weight": "Weight of regularisation",
    "caption_prefix": "Before every caption",
    "caption_suffix": "After every caption",
    "caption_separator": "Separator of tags",
    "shuffle_caption": "Shuffle tags",
    "keep_tokens": "Tags that stay in front",
    "keep_tokens_separator": "Mark behind those that stay",
    "caption_dropout_rate": "Drop whole captions",
    "caption_tag_dropout_rate": "Drop single tags",
    "enable_wildcard": "Wildcards",
    "max_token_length": "Longest caption",
    "sample_width": "Width of samples",
    "sample_height": "Height of samples",
    "sample_steps": "Sampling steps",
    "sample_cfg": "Guidance (CFG)",
    "sample_sampler": "Sampler",
    "network_type": "Kind of LoRA",
    "conv_rank": "Rank of convolutions",
    "conv_alpha": "Alpha of convolutions",
    "lokr_factor": "LoKr's factor",
    "train_unet": "Train the U-Net",
    "train_text_encoder": "Train the text encoder",
    "text_encoder_lr": "Text encoder's learning rate",
    "block_ranks": "Ranks by block",
    "block_lrs": "Learning rates by block",
    "include": "Only these layers",
    "exclude": "Not these layers",
    "prediction_type": "What the model predicts",
    "zero_terminal_snr": "Zero terminal SNR",
    "min_snr_gamma": "Min-SNR gamma",
    "multires_noise_iterations": "Multi-resolution noise",
    "multires_noise_discount": "Discount of that noise",
    "ip_noise_gamma": "Input perturbation",
    "loss_type": "Loss",
    "huber_schedule": "Schedule of Huber's threshold",
    "huber_c": "Huber's threshold",
    "huber_scale": "Factor on Huber's threshold",
    "vae": "VAE",
    "training_comment": "Note in the file",
    "target_modules": "Layers with an adapter",
    "train_experts": "Train the experts",
    "rank_pattern": "Ranks by layer",
    "alpha_pattern": "Alphas by layer",
    "lora_start": "Where the adapter starts",
    "quantization": "Load in fewer bits",
    "trust_remote_code": "Trust the model's own code",
    "columns": "Names of columns",
    "split_by": "Never on both sides",
    "several_answers": "Several right answers",
    "max_tokens": "Longest example, in tokens",
    "too_long": "Longer conversations",
    "overlap_tokens": "Overlap, in tokens",
    "template_args": "Chat template's arguments",
    "neftune_alpha": "NEFTune",
    "sample_max_tokens": "Longest answer, in tokens",
    "sample_temperature": "Temperature of answers",
    "test_answers_share": "Share of time for test answers",
}

CAPTION_LABELS: Mapping[str, str] = {
    "captioner": "Captioner",
    "as_proposals": "As proposals",
    "blip_model": "BLIP model",
    "tagger_folder": "Tagger's folder",
    "general_threshold": "Threshold of tags",
    "character_threshold": "Threshold of characters",
    "endpoint_url": "Endpoint's address",
    "endpoint_model": "Endpoint's model",
    "endpoint_question": "Question",
    "caption_trigger": "Trigger in captions",
    "text_before": "Text before",
    "text_after": "Text after",
    "leave_out": "Leave out",
    "underscores_to_spaces": "Spaces for underscores",
    "sort_tags": "Sort tags",
    "caption_batch": "Pictures at once",
}

QUESTION_LABELS: Mapping[str, str] = {
    "questions_per_passage": "Questions per passage",
    "passage_characters": "Characters per passage",
    "answer_tokens": "Tokens per answer",
    "question_temperature": "Randomness of questions",
    "question_instruction": "Instruction for questions",
    "answer_instruction": "Instruction for answers",
}

PLACEHOLDERS: Mapping[str, str] = {"max_steps": "such as 1500"}

# option -> (another option, values of that one): where any of them holds, it has a say
_HUBER = [("loss_type", ("huber", "smooth_l1"))]
FITS: Mapping[str, Sequence[tuple[str, Sequence[Any]]]] = {
    "scheduler_cycles": [("scheduler", ("cosine_with_restarts",))],
    "scheduler_power": [("scheduler", ("polynomial",))],
    "use_dora": [("network_type", ("lora",))],
    "lokr_factor": [("network_type", ("lokr",))],
    "text_encoder_lr": [("train_text_encoder", (True,))],
    "block_ranks": [("train_unet", (True,))],
    "block_lrs": [("train_unet", (True,))],
    "huber_schedule": _HUBER,
    "huber_c": _HUBER,
    "huber_scale": _HUBER,
    "mask_dir": [("masked_loss", (True,))],
    "min_bucket_reso": [("enable_bucket", (True,))],
    "max_bucket_reso": [("enable_bucket", (True,))],
    "bucket_no_upscale": [("enable_bucket", (True,))],
}
# option -> another one, without which it has no say: empty or 0 means without
NEEDS: Mapping[str, Sequence[str]] = {
    "conv_alpha": ("conv_rank",),
    "multires_noise_discount": ("multires_noise_iterations",),
    "prior_loss_weight": ("reg_data_dir", "datasets"),
    "validation_every_steps": ("validation_split", "validation_dir"),
    "early_stopping_patience": ("validation_split", "validation_dir"),
    "keep_last": ("save_steps", "save_epochs"),
    "test_answers_share": ("test_answers",),
}


def label_of(name: str) -> str:
    """What an option is called on the page."""
    return LABELS.get(name) or name.replace("_", " ").capitalize()


_KEY = re.compile(r"(?<![\w/\\.'\"=-])[a-z]+(?:_[a-z0-9]+)+(?![\w/\\'\"=-]|\.\w)")  # on its own: not a part of a path or a name


def in_labels(text: str) -> str:
    """A sentence in which options are called as the page calls them, each with its key once."""
    named: set[str] = set()

    def call(found: re.Match[str]) -> str:
        key = found[0]
        if key not in _labels_by_key():
            return key
        label = f'"{_labels_by_key()[key]}"'
        told = label if key in named else f"{label} ({key})"
        named.add(key)
        return told

    return _KEY.sub(call, text)


@functools.cache
def _labels_by_key() -> Mapping[str, str]:
    """Of every option that a page may have."""
    keys = [key for task in TASKS.values() for key in options_of(task.config_class)]
    return {key: label_of(key) for key in keys if "_" in key} | dict(CAPTION_LABELS) | dict(QUESTION_LABELS)
