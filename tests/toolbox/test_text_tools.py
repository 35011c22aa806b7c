"""What the tools make of text LoRAs: peft loads the folders, and the model's logits are those of the dense changes."""

import json
import shutil

import pytest
import torch
from hotlora.cli import main
from lora_files import nearest
from small_llama import make_llama
from small_text import make_tokenizer


def use(*words):
    return main(["tool", *map(str, words)])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(base folder, two adapters that peft has made)."""
    from peft import LoraConfig, get_peft_model

    folder, tokenizer = tmp_path_factory.mktemp("text"), make_tokenizer()
    make_llama(vocabulary=len(tokenizer)).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    choices = {
        "a": (["q_proj", "down_proj"], {"r": 4, "lora_alpha": 6, "use_rslora": True, "rank_pattern": {"layers.0.self_attn.q_proj": 6}}),
        "b": (["q_proj", "o_proj"], {"r": 3, "lora_alpha": 3}),
    }
    for number, (name, (targets, options)) in enumerate(choices.items()):
        torch.manual_seed(number)
        config = LoraConfig(target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM", **options)
        get_peft_model(make_llama(vocabulary=len(tokenizer)), config).save_pretrained(folder / name)
    return folder


def load(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder / "base")


def changes(folder, adapter):
    """Path -> what peft adds to the weight."""
    from peft import PeftModel

    wrapped = PeftModel.from_pretrained(load(folder), str(adapter))
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
        for name, module in wrapped.named_modules()
        if hasattr(module, "get_delta_weight")
    }


def test_a_resized_adapter_is_the_nearest(world, tmp_path, capsys):
    assert use("resize", world / "a", "--rank", 2, "--precision", "fp32", "--output", tmp_path / "small") == 0
    made, before = changes(world, tmp_path / "small"), changes(world, world / "a")
    assert made.keys() == before.keys()
    for name, change in before.items():
        torch.testing.assert_close(made[name], nearest(change, 2), atol=1e-5, rtol=1e-4)
    said = json.loads((tmp_path / "small" / "adapter_config.json").read_text())
    assert said["r"] == 2 and not said["use_rslora"] and sorted(said["target_modules"]) == ["down_proj", "q_proj"]
    assert "resized from ranks 4 to 6" in (tmp_path / "small" / "README.md").read_text()
    assert use("resize", world / "a", "--rank", 2, "--output", tmp_path / "small") == 2  # nothing is replaced unasked


def test_merged_adapters_are_their_sum(world, tmp_path):
    first, second = changes(world, world / "a"), changes(world, world / "b")
    assert use("merge", world / "a", world / "b", "--weights", 1, -0.5, "--output", tmp_path / "sum") == 0
    found = changes(world, tmp_path / "sum")
    assert found.keys() == first.keys() | second.keys()
    for name, change in found.items():
        torch.testing.assert_close(change, first.get(name, 0) - 0.5 * second.get(name, torch.zeros(1)), atol=1e-5, rtol=1e-4)


def test_the_difference_of_two_models_is_the_adapter(world, tmp_path, capsys):
    assert use("bake", world / "b", "--base", world / "base", "--output", tmp_path / "merged") == 0
    words = ("--base", world / "base", "--tuned", tmp_path / "merged", "--rank", 3, "--precision", "fp32")
    assert use("extract", *words, "--output", tmp_path / "found") == 0
    made, wanted = changes(world, tmp_path / "found"), changes(world, world / "b")
    assert made.keys() == wanted.keys() and "note:" not in capsys.readouterr().out
    for name, change in wanted.items():
        torch.testing.assert_close(made[name], change, atol=1e-4, rtol=1e-3)


def test_judging_measures_what_the_merged_model_has(world, tmp_path):
    from hotlora.engine.control import Control
    from hotlora.engine.loop import train
    from hotlora.engine.options import build
    from hotlora.engine.run import Run
    from hotlora.hosts.standalone.texts import TransformersHost
    from hotlora.llm.config import TextConfig

    rows = [{"question": f"Where is number {number}?", "answer": f"In house {number * 7}."} for number in range(10)]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    values = {"train_data_dir": str(tmp_path / "facts.jsonl"), "output_dir": str(tmp_path / "run"), "max_steps": 2, "learning_rate": 0.01}
    values |= {"validation_split": 0.3, "test_answers": 0, "tensorboard": False, "sheet_weights": [], "save_precision": "fp32"}
    values |= {"sample_max_tokens": 2, "base_model": str(world / "base")}

    def kept_back_loss(**changes):
        trainee = TransformersHost().borrow(build(TextConfig, {**values, **changes}))
        for _ in trainee.prepare():
            pass
        with torch.no_grad():
            losses = [trainee.validation_loss(batch) for batch in trainee.validation_batches()]
        return sum(loss.total.item() for loss in losses) / sum(loss.count for loss in losses)

    config = build(TextConfig, values)
    host, run = TransformersHost(), Run.start(config)
    list(train(host.borrow(config), config, Control(host, run, 60.0)))
    run.close()
    assert use("judge", tmp_path / "run") == 0
    told = {one["label"]: one for one in json.loads((tmp_path / "run" / "judgement.json").read_text())["checkpoints"]}
    assert use("bake", run.final_path, "--base", world / "base", "--output", tmp_path / "merged") == 0
    assert told["without"]["kept_back"] == pytest.approx(kept_back_loss(), rel=1e-5)
    assert told["finished"]["kept_back"] == pytest.approx(kept_back_loss(base_model=str(tmp_path / "merged")), rel=1e-4)


def test_info_and_check_know_a_text_lora(world, tmp_path, capsys):
    assert use("info", world / "a", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["for"] == "text" and facts["layers"] == {"down_proj": 2, "q_proj": 2} and facts["ranks"] == {"4": 3, "6": 1}
    assert facts["peft config"]["use_rslora"]
    assert use("check", world / "a") == 0
    shown = capsys.readouterr().out
    assert "text-generation-webui: loads all 4 layers." in shown and "--max-lora-rank is 6" in shown and "convert_lora_to_gguf" in shown
    assert use("convert", world / "a", "--to", "kohya", "--output", tmp_path / "x.safetensors") == 2
    assert use("merge", world / "a", world / "base", "--output", tmp_path / "x") == 2


@pytest.mark.parametrize("kind", ["loha", "head"])
def test_text_adapters_of_other_kinds_are_text(world, tmp_path, kind, capsys):
    import peft

    other = {
        "loha": lambda: peft.LoHaConfig(r=2, target_modules=["q_proj"], init_weights=False),
        "head": lambda: peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    }
    peft.get_peft_model(load(world), other[kind]()).save_pretrained(tmp_path / "other")
    assert use("check", tmp_path / "other") == 0 and "text-generation-webui" in capsys.readouterr().out
    assert use("resize", tmp_path / "other", "--rank", 1, "--output", tmp_path / "small") == 2
    assert ("it is a LOHA" if kind == "loha" else "trained with modules_to_save") in capsys.readouterr().err
    assert use("bake", tmp_path / "other", "--base", world / "base", "--output", tmp_path / "whole") == 0


def test_check_says_what_is_missing_of_an_adapter(world, tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    shutil.copytree(world / "a", tmp_path / "a")
    path = tmp_path / "a" / "adapter_model.safetensors"
    tensors = load_file(path)
    key = next(key for key in tensors if "lora_B" in key)
    save_file({name: tensor for name, tensor in tensors.items() if name != key}, path)
    assert use("check", tmp_path / "a") == 0
    assert f"Damaged: 1 of its tensors have no other half ({key.replace('lora_B', 'lora_A')})" in capsys.readouterr().out
    (tmp_path / "a" / "adapter_config.json").write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    assert use("check", tmp_path / "a") == 2 and "only a Git LFS pointer" in capsys.readouterr().err
