"""Which layers get an adapter, on classes of different naming; and that peft finds the same ones by the names in its file."""

import pytest
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.llm.config import TextConfig
from hotlora.llm.targets import choose_text_targets, name_targets
from small_llama import make_llama


def small(kind):
    import transformers

    torch.manual_seed(0)
    common = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "llama":
        return make_llama()
    if kind == "phi3":  # one layer for queries, keys and values
        config = transformers.Phi3Config(
            **common, intermediate_size=64, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2
        )
        return transformers.Phi3ForCausalLM(config)
    if kind == "neox":
        return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**common, intermediate_size=64))
    if kind == "gpt2":  # Conv1D instead of linear layers
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4))
    raise AssertionError(kind)


def choose(net, wanted):
    return choose_text_targets(net, build(TextConfig, {"output_name": "x", "target_modules": wanted, "lora_rank": 2}))


EXPECTED = {
    "llama": ({"q_proj", "k_proj", "v_proj", "o_proj"}, {"gate_proj", "up_proj", "down_proj"}),
    "phi3": ({"qkv_proj", "o_proj"}, {"gate_up_proj", "down_proj"}),
    "neox": ({"query_key_value", "dense"}, {"dense_h_to_4h", "dense_4h_to_h"}),
    "gpt2": ({"c_attn", "c_proj"}, {"c_fc", "c_proj"}),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_presets(kind):
    net, (attention, others) = small(kind), EXPECTED[kind]
    ends = [{name.rpartition(".")[2] for name in choose(net, wanted)} for wanted in ("attention", "all-linear")]
    assert ends == [attention, attention | others]
    assert not [name for name in choose(net, "all-linear") if "head" in name or "embed" in name]
    assert all(net.get_submodule(name) is target.layer for name, target in choose(net, "all-linear").items())


def test_ends_of_names():
    net = small("llama")
    assert {name.rpartition(".")[2] for name in choose(net, "q_proj, v_proj")} == {"q_proj", "v_proj"}
    assert list(choose(net, "layers.0.mlp.up_proj")) == ["model.layers.0.mlp.up_proj"]
    with pytest.raises(UserError, match="no layer of that name. There are: all-linear, attention, q_proj"):
        choose(net, "q_proj wq")
    with pytest.raises(UserError, match="has no such layers"):
        choose(net, " ")


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("wanted", ["attention", "all-linear"])
def test_peft_finds_the_same_layers_by_the_names_in_the_file(kind, wanted):
    from peft import LoraConfig, get_peft_model

    net = small(kind)
    targets = choose(net, wanted)
    names = name_targets(net, targets)
    wrapped = get_peft_model(small(kind), LoraConfig(r=2, target_modules=names))
    found = {name.removeprefix("base_model.model.") for name, module in wrapped.named_modules() if hasattr(module, "base_layer")}
    assert found == set(targets)
