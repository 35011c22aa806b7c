"""A tiny language model that speaks: each token follows from the one before, as in the sentences that it was made from."""

import torch


def make_bigram_llama(tokenizer, sentences, *, start="\n", end="<|im_end|>", sharpness=1.0):
    """A Llama whose layers add nothing, so that what it says depends on its last token alone.

    Args:
        start: how a prompt ends.
        end: what ends each sentence.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    size = len(tokenizer)
    width = -(-size // 8) * 8
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=tokenizer.convert_tokens_to_ids(end),
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    net = LlamaForCausalLM(config).eval()
    counts = torch.zeros(size, size)
    for sentence in sentences:
        tokens = tokenizer(f"{start}{sentence}{end}", add_special_tokens=False)["input_ids"]
        first = tokenizer(start, add_special_tokens=False)["input_ids"][-1]
        for before, after in zip([first, *tokens[1:-1]], tokens[1:], strict=True):
            counts[before, after] += 1
    with torch.no_grad():
        for layer in net.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embeddings = torch.zeros(size, width)
        embeddings[:, :size] = torch.eye(size)
        net.get_input_embeddings().weight.copy_(embeddings)
        scale = width**-0.5  # the last norm makes a one of length 1 that long
        head = torch.full((size, width), -30.0 * scale)
        head[:, :size] = (torch.log(counts + 1e-12).clamp(min=-30.0) * sharpness * scale).T
        net.lm_head.weight.copy_(head)
    return net
