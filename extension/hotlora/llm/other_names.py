"""What other text trainers call the options of a text run: axolotl, LLaMA-Factory, text-generation-webui's own tab and Training_PRO,
peft and transformers. Must import nothing of ours but ``engine``."""

from ..engine.other_names import OtherName

_RENAMED = {
    "base_model": """model model_name model_name_or_path base_model_name_or_path pretrained_model_name_or_path model_path""",
    "train_data_dir": "dataset datasets dataset_dir data_path data dataset_path train_file raw_text_file dataset_name",
    "validation_dir": "eval_dataset test_datasets validation_file",
    "validation_split": "val_set_size val_size eval_size",
    "validation_every_steps": "eval_steps",
    "output_name": "lora_name run_name adapter_name",
    "init_lora": "lora_model_dir adapter_name_or_path lora_dir resume_from_adapter",
    "lora_rank": "lora_r r rank dim network_dim",
    "lora_alpha": "alpha network_alpha",
    "lora_dropout": "dropout network_dropout",
    "use_rslora": "peft_use_rslora rslora use_rs_lora",
    "use_dora": "peft_use_dora dora",
    "target_modules": "lora_target_modules lora_target lora_targets projections_to_train",
    "batch_size": "micro_batch_size per_device_train_batch_size train_batch_size",
    "gradient_accumulation_steps": "grad_accumulation gradient_accumulation",
    "epochs": "num_epochs num_train_epochs max_train_epochs train_epochs",
    "max_steps": "max_train_steps steps total_steps",
    "learning_rate": "lr",
    "optimizer": "optim optimizer_type",
    "optimizer_args": "optim_args",
    "scheduler": "lr_scheduler lr_scheduler_type",
    "warmup_steps": "num_warmup_steps lr_warmup_steps",
    "scheduler_cycles": "lr_scheduler_num_cycles",
    "max_grad_norm": "gradient_clipping clip_grad_norm",
    "gradient_checkpointing": "use_gradient_checkpointing",
    "save_steps": "save_every_n_steps save_n_steps",
    "save_epochs": "save_every_n_epochs",
    "keep_last": "save_total_limit",
    "max_tokens": "sequence_len cutoff_len max_seq_length max_seq_len max_length block_size model_max_length seq_len",
    "overlap_tokens": "overlap_len overlap",
    "packing": "sample_packing pack_sequences neat_packing",
    "neftune_alpha": "neftune_noise_alpha noise_alpha",
    "chat_template": "template prompt_format chat_format",
    "system_prompt": "default_system system_message",
    "sample_prompts": "eval_prompts test_prompts",
    "sample_max_tokens": "max_new_tokens eval_max_new_tokens",
    "early_stopping_patience": "early_stopping",
}

_DIFFERENT = {
    "train_on_inputs": ("train_on", "Set train_on: everything to learn questions too, or train_on: answers."),
    "mask_inputs": ("train_on", "Set train_on: answers, which is the default."),
    "train_on_prompt": ("train_on", "Set train_on: everything to learn questions too."),
    "load_in_8bit": ("quantization", "Set quantization: 8bit."),
    "load_in_4bit": ("quantization", "Set quantization: 4bit."),
    "quantization_bit": ("quantization", "Set quantization: 8bit or 4bit."),
    "adapter": ("quantization", "LoRA is what is trained; qlora is quantization: 4bit."),
    "bf16": ("mixed_precision", "Set mixed_precision: bf16."),
    "fp16": ("mixed_precision", "Set mixed_precision: fp16."),
    "warmup_ratio": ("warmup_steps", "It counts steps, not a share of them."),
    "lora_target_linear": ("target_modules", "Set target_modules: all-linear, which is the default."),
    "pissa_init": ("lora_start", "Set lora_start: pissa."),
    "init_lora_weights": ("lora_start", "It takes default or pissa."),
    "cutoff_strategy": ("too_long", "It takes drop or truncate."),
    "save_strategy": ("save_epochs", "save_steps and save_epochs say how often."),
    "eval_strategy": ("validation_every_steps", "Without it each epoch is judged."),
    "evaluation_strategy": ("validation_every_steps", "Without it each epoch is judged."),
    "report_to": ("tensorboard", "Only TensorBoard can be written."),
    "bias": ("target_modules", "Biases are not trained, as with peft's default."),
}

_NONE = {
    "The format of each file is found out.": "format type data_format data_collator file_type",
    "LoRA is what is trained.": "finetuning_type stage do_train peft_type method",
    "The task is task_type: text-generation.": "task",
    "One process on one device trains; data needs no workers.": """
        ddp deepspeed fsdp fsdp_config num_processes preprocessing_num_workers dataloader_num_workers dataset_processes world_size""",
    "It does not change what is learned: the model's own attention is used.": """
        flash_attention flash_attn xformers_attention sdp_attention torch_compile use_flash_attn use_unsloth""",
    "The run's folder has everything: events, curves, samples.": """
        logging_steps logging_dir plot_loss wandb_project wandb_entity hub_model_id""",
    "`--resume` goes on with a run.": "resume_from_checkpoint auto_resume_from_checkpoints overwrite_output_dir",
    "The tokenizer is the model's own.": "tokenizer tokenizer_type special_tokens add_eos_token add_bos_token use_fast_tokenizer",
}

NAMES = {
    **{name: OtherName(option) for option, names in _RENAMED.items() for name in names.split()},
    **{name: OtherName("", why) for why, names in _NONE.items() for name in names.split()},
    **{name: OtherName(*different) for name, different in _DIFFERENT.items()},
}
