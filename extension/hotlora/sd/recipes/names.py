"""Every option of the sd-scripts family (sd-scripts, kohya_ss, lora-scripts), and what becomes of it here: the one table that hints,
the import and docs/import.md read. OneTrainer's own names are in onetrainer.py.

Facts from kohya-ss/sd-scripts 48d368f, bmaltais/kohya_ss and Akegarasu/lora-scripts. Must import nothing of ours but ``engine``.
"""

from ...engine.other_names import OtherName

_SAME = """
    learning_rate max_grad_norm gradient_accumulation_steps gradient_checkpointing mixed_precision save_precision output_name
    train_data_dir reg_data_dir prior_loss_weight masked_loss resolution enable_bucket min_bucket_reso max_bucket_reso
    bucket_reso_steps bucket_no_upscale flip_aug shuffle_caption keep_tokens keep_tokens_separator caption_prefix caption_suffix
    caption_separator caption_dropout_rate caption_tag_dropout_rate enable_wildcard max_token_length clip_skip vae vae_batch_size
    noise_offset multires_noise_iterations multires_noise_discount ip_noise_gamma zero_terminal_snr loss_type huber_schedule huber_c
    huber_scale min_timestep max_timestep sample_prompts sample_sampler validation_split optimizer optimizer_args training_comment
    text_encoder_lr sample_width sample_height sample_cfg sample_seed sample_steps
"""

_RENAMED = {
    "pretrained_model_name_or_path": "base_model",
    "network_dim": "lora_rank",
    "network_dropout": "lora_dropout",
    "network_weights": "init_lora",
    "lora_network_weights": "init_lora",
    "dora_wd": "use_dora",
    "conv_dim": "conv_rank",
    "rs_lora": "use_rslora",
    "lokr_factor": "lokr_factor",
    "factor": "lokr_factor",
    "train_batch_size": "batch_size",
    "batch_size": "batch_size",
    "max_train_epochs": "epochs",
    "max_train_steps": "max_steps",
    "optimizer_type": "optimizer",
    "optimizer_args_custom": "optimizer_args",
    "lr": "learning_rate",
    "scheduler": "scheduler",
    "lr_scheduler": "scheduler",
    "lr_warmup_steps": "warmup_steps",
    "lr_scheduler_power": "scheduler_power",
    "lr_scheduler_num_cycles": "scheduler_cycles",
    "lr_restart_cycles": "scheduler_cycles",
    "scale_weight_norms": "max_norm",
    "debiased_estimation_loss": "debiased_estimation",
    "save_every_n_epochs": "save_epochs",
    "save_every_n_steps": "save_steps",
    "sample_every_n_epochs": "sample_every_epochs",
    "sample_every_n_steps": "sample_every_steps",
    "validate_every_n_steps": "validation_every_steps",
    "negative_prompts": "negative_prompt",
    "prompt_file": "sample_prompts",
    "image_dir": "train_data_dir",
    "metadata_file": "metadata_path",
    "in_json": "metadata_path",
    "conditioning_data_dir": "mask_dir",
    "tokens_separator": "keep_tokens_separator",
    "caption_extention": "caption_extension",
    "model": "base_model",
    "rank": "lora_rank",
    "dim": "lora_rank",
    "alpha": "lora_alpha",
    "steps": "max_steps",
    "num_epochs": "epochs",
    "train_epochs": "epochs",
    "data_dir": "train_data_dir",
    "dataset": "train_data_dir",
    "prompts": "sample_prompts",
    "trigger": "trigger_word",
    "instance_prompt": "trigger_word",
    "activation_tags": "trigger_word",
    "snr_gamma": "min_snr_gamma",
}

_DIFFERENT = {  # name -> (option, how it differs)
    "network_alpha": ("lora_alpha", "Where it is not set it is 1 there, and the rank here."),
    "conv_alpha": ("conv_alpha", "Where it is not set it is 1 there, and conv_rank here."),
    "network_module": ("network_type", "One of lora, loha, lokr; what else it is called with is conv_rank, use_dora and lokr_factor."),
    "network_args": (
        "network_type",
        "Its words are options of their own: conv_rank, conv_alpha, network_type, use_dora, lokr_factor.",
    ),
    "network_args_custom": ("network_type", "Its words are options of their own here: conv_rank, network_type, use_dora, lokr_factor."),
    "LoRA_type": ("network_type", "LoCon is network_type lora with a conv_rank."),
    "lycoris_algo": ("network_type", "LoCon is network_type lora with a conv_rank."),
    "algo": ("network_type", "LoCon is network_type lora with a conv_rank."),
    **dict.fromkeys(("fp8_base", "fp8_base_unet"), ("quantization", "A base in 8 bits is quantization: 8bit, which packs in another way.")),
    "unet_lr": ("learning_rate", "The U-Net learns at learning_rate; the text encoder has text_encoder_lr."),
    "network_train_unet_only": ("train_text_encoder", "The text encoder is only trained with train_text_encoder: true."),
    "network_train_text_encoder_only": ("train_unet", "Set train_unet: false and train_text_encoder: true."),
    "epoch": ("epochs", "An epoch shows each picture as often as its folder's number says, as there."),
    "num_repeats": ("datasets", "Repeats are the number in a folder's name, as in 10_cat, or repeats in an entry of datasets."),
    "dataset_repeats": ("datasets", "Repeats are the number in a folder's name, as in 10_cat, or repeats in an entry of datasets."),
    "is_reg": ("datasets", "It is regularisation in an entry of datasets, or the folder is reg_data_dir."),
    "class_tokens": ("datasets", "It is class_words in an entry of datasets, or the words in a folder's name, as in 10_cat."),
    "subsets": ("datasets", "Each is an entry of datasets."),
    "loss_weight": ("datasets", "It is weight in an entry of datasets."),
    "max_resolution": ("resolution", "Two numbers stand for their area."),
    "lr_warmup": ("warmup_steps", "There it is a percentage of the run, here it counts steps."),
    "use_8bit_adam": ("optimizer", "Set optimizer: AdamW8bit."),
    "use_lion_optimizer": ("optimizer", "Set optimizer: Lion."),
    "prodigy_d0": ("optimizer_args", "It is an argument of the optimizer: {d0: 1e-6}."),
    "prodigy_d_coef": ("optimizer_args", "It is an argument of the optimizer: {d_coef: 1.0}."),
    "min_snr_gamma": ("min_snr_gamma", "0 switches it off there; here it is left empty."),
    "v_parameterization": ("prediction_type", "It is found out from the checkpoint; prediction_type: v_prediction insists."),
    "alpha_mask": ("masked_loss", "With masked_loss a picture's alpha channel is its mask."),
    "random_crop": ("crop", "Set crop: random."),
    "noise_offset_type": ("noise_offset", "Whichever of noise_offset and multires_noise_iterations is set counts."),
    "cache_latents": ("cache_latents", "Latents are always cached; it says where: memory or disk."),
    "cache_latents_to_disk": ("cache_latents", "Set cache_latents: disk."),
    "output_dir": ("output_dir", "There it is the folder of all files, here the run's own."),
    "save_last_n_epochs": ("keep_last", "It counts files."),
    "positive_prompts": ("sample_prompts", "A list of prompts."),
    "validate_every_n_epochs": ("validation_every_steps", "It counts steps; without it each epoch is judged."),
    "block_dims": ("block_ranks", "Taken where all parts of a block have one number; by hand: {down_blocks_0: 4, mid_block: 8}."),
    "block_alphas": ("block_ranks", "alpha / rank is the same in all blocks."),
    "down_lr_weight": (
        "block_lrs",
        "Times unet_lr; taken where all parts of a block have one number. By hand: {down_blocks_0: 1e-5, mid_block: 1e-4}.",
    ),
    "mid_lr_weight": ("block_lrs", "Times unet_lr. By hand: {mid_block: 1e-4}."),
    "up_lr_weight": ("block_lrs", "Times unet_lr; taken where all parts of a block have one number. By hand: {up_blocks_3: 1e-5}."),
    "block_lr_zero_threshold": ("block_lrs", "Weights up to it are 0, which leaves the block out."),
    "log_with": ("tensorboard", "TensorBoard, or the curves on the page."),
}

_NONE = {  # why -> names that have no counterpart
    "Captions are found in .txt and .caption files, and in metadata files.": "caption_extension caption_extention",
    "It does not change what is learned: PyTorch's own attention is used, in the way that is fastest here.": """
        xformers sdpa mem_eff_attn torch_compile dynamo_backend dynamo_mode dynamo_use_fullgraph dynamo_use_dynamic
        cross_attention""",
    "Memory is kept by itself: what is not needed leaves the device, and batches are halved when it runs out.": """
        lowram highvram lowvram no_half_vae sdxl_no_half_vae mem_eff_save cpu_offload_checkpointing blocks_to_swap
        fused_backward_pass fused_optimizer_groups blockwise_fused_optimizers cache_text_encoder_outputs
        cache_text_encoder_outputs_to_disk sdxl_cache_text_encoder_outputs text_encoder_batch_size disable_mmap_load_safetensors
        single_blocks_to_swap double_blocks_to_swap sd3_fused_backward_pass flux_fused_backward_pass""",
    "The adapter is always trained in fp32, on the base model in mixed_precision.": "full_fp16 full_bf16",
    "One process on one device trains; data needs no workers.": """
        max_data_loader_n_workers persistent_data_loader_workers num_cpu_threads_per_process num_processes num_machines multi_gpu
        gpu_ids main_process_port extra_accelerate_launch_args ddp_timeout ddp_gradient_as_bucket_view ddp_static_graph""",
    "It is read from the checkpoint.": "v2 sdxl model_list base_model_type is_sdxl",
    "What an adapter was trained from is read from its file.": "dim_from_weights",
    "Every run writes its state by itself; `--resume` goes on with it.": """
        save_state save_state_on_train_end save_last_n_epochs_state save_last_n_steps_state resume skip_until_initial_step
        initial_epoch initial_step""",
    "Files are always safetensors with full metadata.": "save_model_as save_as_bool use_safetensors no_metadata",
    "Only files can be counted, with keep_last.": "save_last_n_steps save_n_epoch_ratio",
    "Nothing is uploaded or sent anywhere.": """
        huggingface_repo_id huggingface_repo_type huggingface_path_in_repo huggingface_token huggingface_repo_visibility
        save_state_to_huggingface resume_from_huggingface async_upload use_wandb wandb_api_key wandb_run_name log_tracker_name
        log_tracker_config log_prefix log_config""",
    "Curves are in the run's folder.": "logging_dir",
    "The comparison at the end has a column at weight 0, the model without the LoRA.": "sample_at_first",
    "Colours are not changed: the latents are encoded once.": "color_aug face_crop_aug_range",
    "It is not made here.": """
        noise_offset_random_strength ip_noise_gamma_random_strength adaptive_noise_scale scale_v_pred_loss_like_noise_pred
        v_pred_like_loss weighted_captions secondary_separator token_warmup_min token_warmup_step caption_dropout_every_n_epochs
        stop_text_encoder_training stop_text_encoder_training_pct network_dropout_scale rank_dropout module_dropout
        rank_dropout_scale train_norm use_tucker use_cp use_scalar bypass_mode rescaled constrain decompose_both train_on_input unit
        dylora_unit conv_block_dims conv_block_alphas LyCORIS_preset preset loraplus_lr_ratio
        loraplus_unet_lr_ratio loraplus_text_encoder_lr_ratio base_weights base_weights_multiplier lr_scheduler_type
        lr_scheduler_args lr_decay_steps lr_scheduler_timescale lr_scheduler_min_lr_ratio conv_dims conv_alphas no_token_padding
        resize_interpolation max_validation_steps validation_seed dropout randomly_choice_prompt""",
    "Only Stable Diffusion 1, 2 and XL are trained.": """
        flux1_checkbox sd3_checkbox t5xxl clip_l clip_g ae t5xxl_dtype t5xxl_device t5xxl_max_token_length flux1_t5xxl flux1_clip_l
        flux1_cache_text_encoder_outputs flux1_cache_text_encoder_outputs_to_disk sd3_cache_text_encoder_outputs
        sd3_cache_text_encoder_outputs_to_disk sd3_text_encoder_batch_size save_clip save_t5xxl apply_t5_attn_mask guidance_scale
        discrete_flow_shift timestep_sampling model_prediction_type split_mode train_blocks weighting_scheme logit_mean logit_std
        mode_scale""",
    "It belongs to full fine-tuning: here one LoRA is trained.": "learning_rate_te learning_rate_te1 learning_rate_te2 token_string",
    "The metadata is written by itself; training_comment is for a note.": """
        metadata_title metadata_author metadata_description metadata_license metadata_tags""",
    "Set the options themselves.": "additional_parameters ui_custom_params config_file output_config dataset_config dataset_class",
    "It only switches a part of that program's page.": """
        enable_preview enable_block_weights enable_base_weight model_train_type debug_dataset cache_info skip_cache_check
        tokenizer_cache_dir""",
}


def _make_table() -> dict[str, OtherName]:
    table = {name: OtherName(name) for name in _SAME.split()}
    table |= {name: OtherName(option) for name, option in _RENAMED.items()}
    table |= {name: OtherName("", why) for why, names in _NONE.items() for name in names.split()}
    table |= {name: OtherName(*different) for name, different in _DIFFERENT.items()}
    return table


NAMES = _make_table()
