"""What a model has no embedding or no place for is said by name before the first step."""

import pytest
import torch
import zoo
from hotlora.engine.errors import UserError
from hotlora.hosts.standalone.texts import CausalModel
from hotlora.llm.conversation import TokenizedExample
from hotlora.llm.limits import check_limits, find_learned_positions
from small_llama import make_llama
from small_text import make_tokenizer


def example(*tokens: int) -> TokenizedExample:
    return TokenizedExample(tokens, (False, *[True] * (len(tokens) - 1)), "faq.jsonl, row 7")


def gpt2():
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2)
    return transformers.GPT2LMHeadModel(config).eval()


def test_a_token_beyond_the_embeddings_is_named():
    tokenizer = make_tokenizer()
    net = make_llama(vocabulary=len(tokenizer))
    tokenizer.add_tokens(["<ANSWER>"])
    assert check_limits([example(1, 2, 3)], net, tokenizer) == []
    with pytest.raises(UserError, match=r"faq.jsonl, row 7.*<ANSWER>"):
        check_limits([example(1, len(tokenizer) - 1)], net, tokenizer)


@pytest.mark.parametrize("make", [gpt2, lambda: zoo.make("opt")])
def test_texts_beyond_learned_positions_are_refused_and_answers_end_there(make):
    net = make()
    assert find_learned_positions(net) == 32
    check_limits([example(*range(32))], net, None)
    with pytest.raises(UserError, match="33 tokens, and the model has learned 32 positions. Set max_tokens: 32"):
        check_limits([example(*range(33))], net, None)
    model = CausalModel(net, None, name="small", path=None, compute_dtype=torch.float32)
    assert len(model.generate(list(range(4, 34)), max_tokens=9, temperature=0.0, seed=0, stop=[63])) <= 2
    assert model.generate(list(range(32)), max_tokens=9, temperature=0.0, seed=0, stop=[63]) == []


def test_computed_positions_only_make_a_word():
    net = make_llama()
    assert find_learned_positions(net) is None
    assert "made for 512" in check_limits([example(*[1] * 513)], net, None)[0]
