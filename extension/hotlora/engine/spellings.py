"""Other words for the choices that every run has, as libraries and other trainers call them. Case, dashes and underscores do not
count, nor what stands before the last dot. Must import nothing of ours."""

OPTIMIZERS = {
    "adamw_torch": "AdamW",
    "adamw_torch_fused": "AdamW",
    "adamw_hf": "AdamW",
    "adam_w": "AdamW",
    "adamw_8bit": "AdamW8bit",
    "adamw_bnb_8bit": "AdamW8bit",
    "bnb_adamw_8bit": "AdamW8bit",
    "paged_adamw_8bit": "PagedAdamW8bit",
    "paged_adamw_bnb_8bit": "PagedAdamW8bit",
    "lion_pytorch": "Lion",
    "prodigyopt": "Prodigy",
    "ada_factor": "Adafactor",
    "schedule_free": "AdamWScheduleFree",
    "schedule_free_adamw": "AdamWScheduleFree",
}
SCHEDULERS = {
    "constant_with_warmup": "constant",
    "none": "constant",
    "linear_with_warmup": "linear",
    "linear_schedule_with_warmup": "linear",
    "cosine_annealing": "cosine",
    "cosine_annealing_lr": "cosine",
    "cosine_with_warmup": "cosine",
    "cosine_restarts": "cosine_with_restarts",
    "cosine_with_hard_restarts": "cosine_with_restarts",
    "cosine_annealing_with_restarts": "cosine_with_restarts",
    "cosine_annealing_warm_restarts": "cosine_with_restarts",
    "polynomial_decay": "polynomial",
    "poly": "polynomial",
}
PRECISIONS = {
    "float32": "fp32",
    "float": "fp32",
    "single": "fp32",
    "full": "fp32",
    "32": "fp32",
    "float16": "fp16",
    "half": "fp16",
    "16": "fp16",
    "fp16-mixed": "fp16",
    "bfloat16": "bf16",
    "bf16-mixed": "bf16",
    "brain": "bf16",
}
MIXED_PRECISIONS = {name: "no" if choice == "fp32" else choice for name, choice in {**PRECISIONS, "fp32": "fp32", "none": "fp32"}.items()}
