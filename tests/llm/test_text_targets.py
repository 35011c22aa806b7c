"""Which layers get an adapter, on classes of different naming; and that peft finds the same ones by the names in its file."""

import pytest
import torch
import zoo
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.llm.config import TextConfig
from hotlora.llm.peft_names import resolve
from hotlora.llm.targets import choose_text_targets, name_targets, say_left_out
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


@pytest.mark.parametrize("kind", zoo.KINDS)
@pytest.mark.parametrize("wanted", ["attention", "all-linear"])
def test_so_it_does_in_architectures_of_every_build(kind, wanted):
    from peft import LoraConfig, get_peft_model

    net = zoo.make(kind)
    if kind == "mamba" and wanted == "attention":
        return
    targets = choose(net, wanted)
    wrapped = get_peft_model(zoo.make(kind), LoraConfig(r=2, target_modules=name_targets(net, targets)))
    found = {name.removeprefix("base_model.model.") for name, module in wrapped.named_modules() if hasattr(module, "base_layer")}
    assert found == set(targets)
    assert not [name for name in targets if any(word in name for word in ("router", "vision", "audio", "shared_expert_gate"))]


LEFT_OUT = {
    "llama4": ["2 routers", "experts of this mixture model"],
    "mixtral": ["experts of this mixture model"],
    "gemma3 with eyes": ["12 layers that see or hear"],
    "falcon h1": ["2 Mamba layers"],
    "qwen3 next": ["2 routers", "reads as the experts'", "experts of this mixture model"],
    "lfm2": [],
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_what_gets_no_adapter_is_said_with_its_count(kind):
    net = zoo.make(kind)
    said = say_left_out(net, build(TextConfig, {"output_name": "x"}))
    assert all(any(words in line for line in said) for words in LEFT_OUT[kind]) and bool(said) is bool(LEFT_OUT[kind])
    assert say_left_out(net, build(TextConfig, {"output_name": "x", "target_modules": "q_proj"})) == []


def test_a_pattern_as_peft_takes_it():
    net = small("llama")
    assert list(choose(net, r".*\.1\.self_attn\.(q_proj|v_proj)")) == [f"model.layers.1.self_attn.{end}" for end in ("q_proj", "v_proj")]
    with pytest.raises(UserError, match="cannot read the pattern"):
        choose(net, ".*(q_proj")


def test_names_are_as_short_as_they_can_be_and_never_a_number():
    net = zoo.make("zamba2")
    names = [name for name, _ in net.named_modules()]
    ends = name_targets(net, choose(net, "all-linear"))
    assert not [end for end in ends if end.isdigit()] and "q_proj" in ends
    some = ["model.layers.1.self_attn.q_proj"]
    assert name_targets(small("llama"), some) == ["1.self_attn.q_proj"]
    assert resolve(ends, names) == set(choose(net, "all-linear"))


def test_ranks_may_be_another_for_some_layers():
    net = small("llama")
    config = {"output_name": "x", "lora_rank": 2, "rank_pattern": {"q_proj": 5}, "alpha_pattern": {r"layers\.1\..*up_proj": 9}}
    targets = choose_text_targets(net, build(TextConfig, config))
    assert targets["model.layers.0.self_attn.q_proj"].rank == 5 and targets["model.layers.0.self_attn.k_proj"].rank == 2
    assert [targets[f"model.layers.{n}.mlp.up_proj"].alpha for n in (0, 1)] == [2.0, 9.0]
