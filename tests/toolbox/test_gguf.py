"""Text LoRAs as GGUF: the numbers that llama.cpp reads are peft's change, each head's rows where a GGUF model has them."""

import json
import shutil
import sys

import gguf
import pytest
import torch
from hotlora.cli import main
from hotlora.engine.errors import UserError
from hotlora.toolbox.gguf_files import write_gguf
from hotlora.toolbox.opening import read_adapter
from small_llama import make_llama

HEADS = {"q_proj": 4, "k_proj": 2}
PLACES = {"q_proj": "attn_q", "k_proj": "attn_k", "o_proj": "attn_output", "down_proj": "ffn_down"}


def use(*words):
    return main(["tool", *map(str, words)])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A base's folder, an adapter by peft of several ranks and strengths, and peft's change of each layer."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("für Zoë")
    make_llama().save_pretrained(folder / "base")
    sizes = {"rank_pattern": {"layers.0.self_attn.q_proj": 6}, "alpha_pattern": {"down_proj": 10}}
    config = LoraConfig(r=4, lora_alpha=6, target_modules=list(PLACES), use_rslora=True, init_lora_weights=False, **sizes)
    wrapped = get_peft_model(make_llama(), config)
    wrapped.peft_config["default"].base_model_name_or_path = str(folder / "base")
    wrapped.save_pretrained(folder / "adapter")
    changes = {
        path.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
        for path, module in wrapped.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    return folder, changes


def read(path):
    """(alpha, tensor name -> values)."""
    reader = gguf.GGUFReader(str(path))
    said = {key: field.contents() for key, field in reader.fields.items()}
    assert (said["general.architecture"], said["general.type"], said["adapter.type"]) == ("llama", "adapter", "lora")
    return said["adapter.lora.alpha"], {tensor.name: torch.tensor(tensor.data).clone() for tensor in reader.tensors}


def row_in_gguf(row, heads, rows):
    """Where transformers' row of queries or keys is in a GGUF model of LLaMA: its rotary pairs are neighbours there, and half a head apart
    here."""
    size = rows // heads
    head, place = divmod(row, size)
    return head * size + (2 * place if place < size // 2 else 2 * (place - size // 2) + 1)


def test_what_is_read_is_pefts_change(world, tmp_path, capsys):
    folder, changes = world
    output = tmp_path / "für Zoë.gguf"
    assert use("convert", folder / "adapter", "--to", "gguf", "--output", output) == 0
    assert "8 layers for GGUF models of the architecture llama" in capsys.readouterr().out
    alpha, tensors = read(output)
    assert len(tensors) == 2 * len(changes) == 16
    for path, change in changes.items():
        block, end = path.split(".")[2], path.rpartition(".")[2]
        down, up = (tensors[f"blk.{block}.{PLACES[end]}.weight.lora_{part}"] for part in "ab")
        made = alpha / down.shape[0] * up @ down
        if end in HEADS:
            made = made[[row_in_gguf(row, HEADS[end], len(change)) for row in range(len(change))]]
        torch.testing.assert_close(made, change, atol=1e-5, rtol=1e-4)
    assert use("check", output) == 0 and "load all 8 layers, with a GGUF model of the architecture llama" in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_it_is_written_in_the_precision_asked_for(world, tmp_path, precision):
    output = tmp_path / "a.gguf"
    assert use("convert", world[0] / "adapter", "--to", "gguf", "--output", output, "--precision", precision) == 0
    kinds = {tensor.tensor_type.name for tensor in gguf.GGUFReader(str(output)).tensors}
    assert kinds == {{"fp16": "F16", "bf16": "BF16"}[precision]}


def change_config(folder, name="adapter_config.json", **values):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda world: change_config(world / "adapter", base_model_name_or_path="somebody/model"), "Name the model's folder with --base"),
        (lambda world: change_config(world / "base", "config.json", model_type="mamba"), "its model is a mamba"),
        (lambda world: change_config(world / "base", "config.json", num_hidden_layers=1), "no layer of its own for model.layers.1"),
        (lambda world: change_config(world / "adapter", modules_to_save=["lm_head"]), "modules_to_save"),
    ],
)
def test_what_such_a_file_cannot_hold_is_said(world, tmp_path, spoil, said, capsys):
    copy = shutil.copytree(world[0], tmp_path / "world")
    change_config(copy / "adapter", base_model_name_or_path=str(copy / "base"))
    spoil(copy)
    assert use("convert", copy / "adapter", "--to", "gguf", "--output", tmp_path / "a.gguf") == 2
    assert said in capsys.readouterr().err and not list(tmp_path.glob("*gguf*"))


def test_dora_other_names_and_a_missing_package_are_said(world, tmp_path, monkeypatch):
    from peft import LoraConfig, get_peft_model

    adapter = read_adapter(world[0] / "adapter")
    with pytest.raises(UserError, match=r"ends in \.gguf"):
        write_gguf(adapter, tmp_path / "a.bin", "fp32")
    get_peft_model(make_llama(), LoraConfig(r=2, target_modules=["q_proj"], use_dora=True)).save_pretrained(tmp_path / "dora")
    with pytest.raises(UserError, match="knows no DoRA"):
        write_gguf(read_adapter(tmp_path / "dora"), tmp_path / "a.gguf", "fp32", world[0] / "base")
    (tmp_path / "b.gguf").write_bytes(b"no")
    with pytest.raises(UserError, match="no GGUF file"):
        from hotlora.toolbox.looking import check

        check(tmp_path / "b.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match="the package gguf is missing"):
        write_gguf(adapter, tmp_path / "a.gguf", "fp32")
