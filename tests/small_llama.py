"""Tiny language models of transformers' classes, with random weights."""

import torch


def make_llama(seed: int = 0, vocabulary: int = 128, inner: int = 64, width: int = 32, **options):
    """Llama of two layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        **options,
    )
    net = LlamaForCausalLM(config).eval()
    for parameter in net.parameters():  # wider than the usual start, so that differences are seen
        parameter.data.mul_(5 if parameter.dim() > 1 else 1)
    return net
