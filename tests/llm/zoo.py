"""Tiny models of many architectures, with random weights: what is rare in one is usual in another."""

import torch

WORDS = 64
_COMMON = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
_COMMON |= {"intermediate_size": 64, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def make(kind: str) -> torch.nn.Module:
    """A causal language model in evaluation mode."""
    import transformers as tf

    torch.manual_seed(0)
    name, options = KINDS[kind]
    config_class = getattr(tf, f"{name}TextConfig", None) or getattr(tf, f"{name}Config")
    if kind == "gemma3 with eyes":
        seen = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        }
        config = tf.Gemma3Config(text_config={**_COMMON, **options}, vision_config=seen, mm_tokens_per_image=4, image_token_index=63)
        return tf.Gemma3ForConditionalGeneration(config).eval()
    own = {key: value for key, value in {**_COMMON, **options}.items() if value is not None}
    return getattr(tf, f"{name}ForCausalLM")(config_class(**own)).eval()


_MAMBA = {"mamba_d_state": 8, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_expand": 2, "mamba_d_conv": 4}
KINDS = {
    "llama4": (
        "Llama4",
        {"head_dim": 8, "intermediate_size_mlp": 64, "num_local_experts": 2, "num_experts_per_tok": 1, "attention_chunk_size": 16},
    ),
    "mixtral": ("Mixtral", {"num_local_experts": 4}),
    "qwen3 moe": ("Qwen3Moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}),
    "gpt oss": ("GptOss", {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "sliding_window": 16}),
    "zamba2": (
        "Zamba2",
        {
            "num_key_value_heads": 4,
            "attention_head_dim": 16,
            "mamba_d_state": 8,
            "n_mamba_heads": 8,
            "mamba_headdim": 8,
            "mamba_ngroups": 1,
            "layers_block_type": ["mamba", "hybrid"],
            "num_mem_blocks": 1,
        },
    ),
    "gemma3n": (
        "Gemma3n",
        {
            "num_hidden_layers": 4,
            "head_dim": 8,
            "vocab_size_per_layer_input": WORDS,
            "hidden_size_per_layer_input": 8,
            "laurel_rank": 8,
            "num_kv_shared_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "activation_sparsity_pattern": None,
            "sliding_window": 16,
        },
    ),
    "lfm2": ("Lfm2", {"layer_types": ["conv", "full_attention"], "block_ff_dim": 64, "conv_L_cache": 3}),
    "falcon h1": ("FalconH1", {**_MAMBA, "head_dim": 8, "mamba_d_ssm": 64}),
    "jamba": (
        "Jamba",
        {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "num_experts": 2,
            "mamba_d_state": 8,
            "use_mamba_kernels": False,
        },
    ),
    "mamba": ("Mamba", {"state_size": 8}),
    "bamba": ("Bamba", {**_MAMBA, "attn_layer_indices": [1]}),
    "qwen3 next": (
        "Qwen3Next",
        {
            "head_dim": 8,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            "layer_types": ["linear_attention", "full_attention"],
        },
    ),
    "gemma3 with eyes": ("Gemma3", {"head_dim": 8, "sliding_window": 16}),
    "opt": (
        "OPT",
        {"num_key_value_heads": None, "ffn_dim": 64, "max_position_embeddings": 32, "word_embed_proj_dim": 32, "intermediate_size": None},
    ),
}
