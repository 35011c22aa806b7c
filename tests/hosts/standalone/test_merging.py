"""A merged model answers as the base with the adapter does."""

import json
import runpy
from pathlib import Path

import pytest
import torch
from hotlora.engine.errors import UserError
from hotlora.hosts.standalone.merging import merge_adapter
from small_llama import make_llama
from small_text import make_tokenizer

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def world(tmp_path):
    """(base, adapter): a model folder, and an adapter that peft itself has made."""
    from peft import LoraConfig, get_peft_model

    tokenizer = make_tokenizer()
    net = make_llama(vocabulary=len(tokenizer))
    net.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    wrapped = get_peft_model(net, LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    wrapped.save_pretrained(tmp_path / "adapter")
    return tmp_path / "base", tmp_path / "adapter", wrapped.eval()


def test_it_answers_as_base_and_adapter_do(world, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base, adapter, wrapped = world
    assert merge_adapter(adapter, base, tmp_path / "merged") == ""
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    ids = torch.arange(4, 30)[None]
    with torch.no_grad():
        torch.testing.assert_close(merged(input_ids=ids).logits, wrapped(input_ids=ids).logits, atol=1e-4, rtol=1e-4)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template
    assert not list((tmp_path / "merged").glob("adapter*"))


def make_lora(**options):
    from peft import LoraConfig

    return LoraConfig(**{"r": 2, "target_modules": ["q_proj"], "init_lora_weights": False, **options})


def make_other(kind):
    import peft

    if kind == "loha":
        return peft.LoHaConfig(r=2, target_modules=["q_proj"], init_weights=False)
    if kind == "ia3":
        return peft.IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"], init_ia3_weights=False)
    options = {
        "dora": {"use_dora": True},
        "ranks by layer": {"rank_pattern": {"0.self_attn.q_proj": 4}, "alpha_pattern": {"q_proj": 3}},
        "pattern": {"target_modules": r".*\.0\..*q_proj"},
        "pissa": {"init_lora_weights": "pissa"},
        "a head of its own": {"modules_to_save": ["lm_head"]},
        "biases": {"bias": "all"},
    }
    return make_lora(**options[kind])


@pytest.mark.parametrize("kind", ["loha", "ia3", "dora", "ranks by layer", "pattern", "pissa", "a head of its own", "biases"])
def test_all_that_peft_merges_is_merged(world, tmp_path, kind):
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    base = world[0]
    wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(base), make_other(kind)).eval()
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    wrapped.save_pretrained(tmp_path / "other")
    merge_adapter(tmp_path / "other", base, tmp_path / "merged")
    ids = torch.arange(4, 30)[None]
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()(input_ids=ids).logits
        torch.testing.assert_close(merged, wrapped(input_ids=ids).logits, atol=2e-3, rtol=1e-3)


def test_what_cannot_be_merged_or_does_not_fit_is_said(world, tmp_path):
    from peft import PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = world[0]
    prompts = get_peft_model(AutoModelForCausalLM.from_pretrained(base), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    prompts.save_pretrained(tmp_path / "prompts")
    with pytest.raises(UserError, match="no change of weights"):
        merge_adapter(tmp_path / "prompts", base, tmp_path / "merged")
    get_peft_model(make_llama(inner=96), make_lora(target_modules=["up_proj"])).save_pretrained(tmp_path / "wide")
    with pytest.raises(UserError, match="it does not fit"):
        merge_adapter(tmp_path / "wide", base, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_the_precision_is_the_base_s(world, tmp_path):
    from transformers import AutoModelForCausalLM

    base, adapter, _ = world
    AutoModelForCausalLM.from_pretrained(base).bfloat16().save_pretrained(base)
    merge_adapter(adapter, base, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}


def test_mistakes_are_said(world, tmp_path, capsys):
    base, adapter, _ = world
    with pytest.raises(UserError, match="there is something already"):
        merge_adapter(adapter, base, adapter)
    with pytest.raises(UserError, match="cannot find the model"):
        merge_adapter(adapter, tmp_path / "no", tmp_path / "out")
    with pytest.raises(UserError, match="no text LoRA"):
        merge_adapter(base, base, tmp_path / "out")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": {"load_in_4bit": True}}))
    main = runpy.run_path(str(ROOT / "tools" / "merge_adapter.py"))["main"]
    assert main(["--adapter", str(adapter), "--base", str(base), "--output", str(tmp_path / "out")]) == 2
    assert "it is quantised" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["not finite", "packed", "drawn by lot"])
def test_what_peft_would_merge_without_a_word_is_refused(world, tmp_path, kind):
    from safetensors.torch import load_file, save_file

    base, adapter, _ = world
    path, config = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    tensors = load_file(path)
    first = next(iter(tensors))
    spoilt = {"not finite": tensors[first] * torch.inf, "packed": tensors[first].to(torch.int8), "drawn by lot": tensors[first]}
    save_file({**tensors, first: spoilt[kind]}, path)
    if kind == "drawn by lot":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"init_lora_weights": "pissa_niter_4"}))
    words = {"not finite": "values that are no numbers", "packed": "holds int8", "drawn by lot": "init_lora_weights: pissa_niter_4"}
    with pytest.raises(UserError, match=f"cannot merge '.*': .*{words[kind]}"):
        merge_adapter(adapter, base, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
