"""What is often thought to need a GPU, on a processor: language models in 8 and 4 bits, 8-bit optimizers, arithmetic in bf16 and fp16."""

import importlib.util
import json
import shutil

import pytest
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.events import Finished, Step
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.hosts.shared.devices import can_compute
from hotlora.hosts.standalone import few_bits
from hotlora.hosts.standalone.merging import merge_adapter
from hotlora.hosts.standalone.texts import TransformersHost, load_model
from hotlora.llm.config import TextConfig
from safetensors.torch import load_file
from small_llama import make_llama
from small_text import make_tokenizer
from toy import run_toy

CPU = torch.device("cpu")
HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None  # on macOS it computes nothing on processors
needs_bitsandbytes = pytest.mark.skipif(not HAS_BITSANDBYTES, reason="bitsandbytes is not here")
BITS = {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}
PRECISIONS = [name for name, dtype in {"bf16": torch.bfloat16, "fp16": torch.float16}.items() if can_compute(CPU, dtype)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "small"
    tokenizer = make_tokenizer()
    make_llama(vocabulary=len(tokenizer), width=64, inner=128).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def text_config(place, folder, **options):
    data = place.parent / "facts.csv"
    data.write_text("question;answer\nWho keeps the lamp?;The ferryman\nWhere?;Quillmere\nWhat is eaten?;Moon moss\n", encoding="utf-8")
    values = {"base_model": str(folder), "train_data_dir": str(data), "output_dir": str(place), "output_name": "a", "tensorboard": False}
    values |= {"lora_rank": 4, "max_steps": 12, "batch_size": 2, "learning_rate": 1e-2, "scheduler": "constant", "save_steps": 5}
    values |= {"sample_prompts": ["Where?"], "sample_every_steps": 4, "sample_max_tokens": 4, "test_answers": 0}
    return build(TextConfig, values | options)


def losses(events):
    return [event.loss for event in events if isinstance(event, Step)]


def kinds_in(kept):
    """Of the tensors in a mapping of mappings."""
    for value in kept.values():
        if torch.is_tensor(value):
            yield value.dtype
        elif isinstance(value, dict):
            yield from kinds_in(value)


def check_falls(events):
    assert isinstance(events[-1], Finished) and events[-1].reason == "done"
    found = losses(events)
    assert sum(found[-3:]) < 0.8 * sum(found[:3]), found


@needs_bitsandbytes
@pytest.mark.parametrize("bits", BITS)
def test_a_base_in_few_bits_is_trained_resumed_loaded_and_merged(tmp_path, folder, bits):
    """Uninterrupted and killed in between, bit for bit, across a sample; the adapter in peft, and in the unquantised model."""
    import peft
    from transformers import AutoModelForCausalLM

    options = {"quantization": bits, "optimizer": "AdamW8bit", "optimizer_args": {"min_8bit_size": 64}}
    host = TransformersHost()
    events, _, whole = run_toy(text_config(tmp_path / "whole", folder, **options), host=host)
    check_falls(events)
    config = text_config(tmp_path / "cut", folder, **options)
    run_toy(config, host=host, steps=7)
    resumed, _, cut = run_toy(config, host=host, run=Run.reopen(config))
    assert losses(resumed) == losses(events)[5:]
    first, second = (load_file(run.final_path / "adapter_model.safetensors") for run in (whole, cut))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert torch.uint8 in set(kinds_in(next(whole.read_states())[1]["optimizer"]["state"]))

    merge_adapter(whole.final_path, folder, tmp_path / "merged")
    with torch.no_grad():
        tokens = torch.arange(4, 24)[None]
        loaded = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), whole.final_path)(tokens).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(tokens).logits
        plain = AutoModelForCausalLM.from_pretrained(folder)(tokens).logits
    assert torch.allclose(loaded, merged, atol=1e-3) and not torch.allclose(loaded, plain, atol=0.1)


@needs_bitsandbytes
@pytest.mark.parametrize("bits", BITS)
def test_an_answer_leaves_the_weights_as_they_are_packed(folder, tmp_path, bits):
    model = load_model(folder, text_config(tmp_path / "x", folder, quantization=bits), CPU)
    layers = [module for module in model.net.modules() if type(module).__name__ == BITS[bits]]
    assert len(layers) == 14
    before = [layer.weight.data.clone() for layer in layers]
    model.generate([4, 5, 6], max_tokens=3, temperature=0.0, seed=0, stop=[3])
    assert all(torch.equal(layer.weight.data, found) for layer, found in zip(layers, before, strict=True))


@pytest.mark.parametrize("found", ["", "0.45.5"])
def test_where_bitsandbytes_cannot_do_it_a_sentence_says_so(folder, tmp_path, monkeypatch, found):
    monkeypatch.setattr(few_bits, "find_spec", lambda name: found or None)
    monkeypatch.setattr(few_bits, "version", lambda name: found)
    with pytest.raises(UserError, match=f"needs the package bitsandbytes 0.50 or newer, and {found or 'it'} is"):
        load_model(folder, text_config(tmp_path / "x", folder, quantization="4bit"), CPU)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_texts_are_learned_in_half_precision(tmp_path, folder, precision):
    events, *_ = run_toy(text_config(tmp_path / "run", folder, mixed_precision=precision), host=TransformersHost())
    check_falls(events)


@needs_bitsandbytes
@pytest.mark.parametrize(
    "packed", [{"load_in_4bit": True, "quant_method": "bitsandbytes"}, {"load_in_8bit": True, "quant_method": "bitsandbytes"}]
)
def test_weights_that_are_not_packed_as_their_config_says(folder, tmp_path, packed):
    place = shutil.copytree(folder, tmp_path / "model")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "quantization_config": packed}))
    with pytest.raises(UserError, match="and they are not. Take quantization_config out"):
        load_model(place, build(TextConfig, {"base_model": str(place), "output_name": "x"}), CPU)
