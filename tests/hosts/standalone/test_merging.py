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
