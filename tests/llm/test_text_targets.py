"""Which layers get an adapter, on classes of different naming; and that peft finds the same ones by the names in its file."""

import pytest
import torch
import transformers
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


NEW = int(transformers.__version__.split(".")[0]) >= 5
LEFT_OUT = {
    "llama4": ["2 routers", "experts of this mixture model"],
    "mixtral": ["experts of this mixture model"],
    "gemma3 with eyes": ["12 layers that see or hear"],
    "falcon h1": ["2 Mamba layers"],
    # one router is a linear layer until transformers 5, and experts are lists of layers, whose names peft does not take for itself
    "qwen3 next": (["2 routers", "reads as the experts'"] if NEW else ["4 routers"]) + ["experts of this mixture model"],
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
    one = choose(small("llama"), "model.layers.1.self_attn.q_proj")
    assert name_targets(small("llama"), one) == ["1.self_attn.q_proj"]
    assert resolve(ends, names) == set(choose(net, "all-linear"))


def test_ranks_may_be_another_for_some_layers():
    net = small("llama")
    config = {"output_name": "x", "lora_rank": 2, "rank_pattern": {"q_proj": 5}, "alpha_pattern": {r"layers\.1\..*up_proj": 9}}
    targets = choose_text_targets(net, build(TextConfig, config))
    assert targets["model.layers.0.self_attn.q_proj"].rank == 5 and targets["model.layers.0.self_attn.k_proj"].rank == 2
    assert [targets[f"model.layers.{n}.mlp.up_proj"].alpha for n in (0, 1)] == [2.0, 9.0]


# -- experts -------------------------------------------------------------------------------------------------------------


def with_experts(**options):
    return build(TextConfig, {"output_name": "x", "lora_rank": 2, "train_experts": True, "save_precision": "fp32", **options})


@pytest.mark.parametrize("kind", ["mixtral", "qwen3 moe", "gpt oss", "llama4", "qwen3 next", "jamba"])
def test_experts_are_trained_where_that_is_wanted_and_peft_finds_them_again(kind, tmp_path):
    from hotlora.engine.adapters import AdapterSet
    from hotlora.llm.peft_folder import Origin, write_peft_folder
    from peft import PeftModel

    net, config, ids = zoo.make(kind), with_experts(), torch.arange(4, 20)[None]
    plain = net(input_ids=ids).logits
    targets = choose_text_targets(net, config)
    made = AdapterSet(targets)
    with torch.no_grad():
        for (_, tensor), parameter in made.trained:
            if tensor.endswith("lora_B"):
                parameter.normal_(std=0.2)
    with made.attached([net]):
        ours = net(input_ids=ids).logits
        made._set_weight(0.0)
        assert torch.allclose(net(input_ids=ids).logits, plain, atol=1e-5), "all of an expert's adapters follow the weight"
        made._set_weight(1.0)
        ours.sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())
    assert torch.equal(net(input_ids=ids).logits, plain), "the model is as it was found"
    assert [name for name in targets if "experts" in name] and say_left_out(net, config) == [
        line for line in say_left_out(net, config) if "experts of this" not in line
    ]
    notes = {"step": 1, "total_steps": 1, "loss": 1.0, "scores": {}}
    write_peft_folder(made, tmp_path / "a", config, Origin("b", "f", "", name_targets(net, targets), []), notes)
    loaded = PeftModel.from_pretrained(zoo.make(kind), str(tmp_path / "a")).eval()
    torch.testing.assert_close(loaded(input_ids=ids).logits, ours, atol=1e-4, rtol=1e-4)


def test_what_experts_cannot_have_is_said():
    with pytest.raises(UserError, match="this model has none"):
        choose_text_targets(small("llama"), with_experts())
    for options in ({"use_dora": True}, {"lora_dropout": 0.1}, {"max_norm": 1.0}, {"lora_start": "pissa"}):
        with pytest.raises(UserError, match=f"cannot use {next(iter(options))}.* with train_experts"):
            choose_text_targets(zoo.make("llama4"), with_experts(**options))
