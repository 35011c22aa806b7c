"""Folders that hold no model which can be trained on are said to be what they are, in a sentence, before anything is loaded."""

import json
import struct

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.hosts.standalone.model_folder import check_model_folder, quantization_of
from hotlora.hosts.standalone.texts import TransformersHost, load_model
from hotlora.llm.config import TextConfig
from safetensors.torch import load_file, save_file
from small_llama import make_llama
from small_text import make_tokenizer

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4976698672\n"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "model"
    tokenizer = make_tokenizer()
    make_llama(vocabulary=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    import shutil

    return shutil.copytree(original, tmp_path / "model")


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def cut(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def shard(folder, *, missing=False):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = (
        {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        if missing
        else {"a": "model-00001-of-00002.safetensors"}
    )
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


SPOILED = {
    "LFS pointer": (
        lambda f: (f / "model.safetensors").write_text(POINTER),
        "model.safetensors was not downloaded: it is only a Git LFS pointer",
    ),
    "LFS pointer for the tokenizer": (lambda f: (f / "tokenizer.json").write_text(POINTER), "tokenizer.json was not downloaded"),
    "LFS pointer in a shard": (
        lambda f: [shard(f), (f / "model-00001-of-00002.safetensors").write_text(POINTER)],
        "00001-of-00002.safetensors was not downloaded",
    ),
    "web page": (lambda f: (f / "model.safetensors").write_text("<!DOCTYPE html><html>Sign in</html>"), "is a web page"),
    "server's message": (lambda f: (f / "model.safetensors").write_text("Entry not found"), "a server's message .Entry not found"),
    "cut off": (lambda f: cut(f / "model.safetensors"), "is cut off: it has .* of its .* bytes"),
    "cut off at the head": (lambda f: cut(f / "model.safetensors", 0.001), "no safetensors file, or cut off"),
    "damaged head": (lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 8) + b"notjson!" + b"0" * 99), "is damaged"),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "is empty"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "there are no weights in it"),
    "a shard is missing": (lambda f: shard(f, missing=True), "1 of its 2 files of weights are not there .model-00002"),
    "config is a pointer": (lambda f: (f / "config.json").write_text(POINTER), "config.json': was not downloaded"),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), "no valid JSON"),
    "tokenizer cut off": (lambda f: cut(f / "tokenizer.json"), "tokenizer.json is cut off"),
    "adapter inside": (lambda f: (f / "adapter_config.json").write_text("{}"), "an adapter lies in it"),
    "unknown kind": (lambda f: change(f, model_type="tomorrow"), "knows no models of the kind 'tomorrow'"),
    "code of its own": (
        lambda f: change(f, model_type="mine", auto_map={"AutoModelForCausalLM": "modeling_mine.MineForCausalLM"}),
        "code of its own .modeling_mine.py.*trust_remote_code: true",
    ),
    "awq": (lambda f: change(f, quantization_config={"quant_method": "awq", "bits": 4}), "packed with awq, and the package gptqmodel"),
    "gptq": (lambda f: change(f, quantization_config={"quant_method": "gptq", "bits": 4}), "packed with gptq"),
    "compressed": (lambda f: change(f, quantization_config={"quant_method": "compressed-tensors"}), "the package compressed_tensors"),
    "bnb without a method": (lambda f: change(f, quantization_config={"load_in_4bit": True}), "packed with bitsandbytes"),
    "inside a tower's settings": (lambda f: change(f, text_config={"quantization_config": {"quant_method": "hqq"}}), "packed with hqq"),
    "exl2": (lambda f: change(f, quantization_config={"quant_method": "exl2"}), "which only answers"),
    "mlx": (lambda f: change(f, quantization={"group_size": 64, "bits": 4}), "packed with mlx, which only answers"),
    "mlx, as transformers has it": (lambda f: change(f, quantization_config={"group_size": 64, "bits": 4}), "as mlx, which only answers"),
    "packing that is no object": (lambda f: change(f, quantization_config="4 bits"), "or quantization_config is none"),
    "other sizes": (lambda f: change(f, hidden_size=8), "its weights are of other sizes than its config.json says"),
    "fills gaps": (lambda f: change(f, model_type="bert", architectures=["BertForMaskedLM"]), "BertForMaskedLM fills gaps in texts"),
    "two halves": (
        lambda f: change(f, model_type="t5", architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True),
        "T5ForConditionalGeneration does not write on",
    ),
    "sees only": (lambda f: change(f, model_type="clip", architectures=["CLIPModel"]), "CLIPModel does not write on"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_what_is_wrong_with_a_folder_is_a_sentence(folder, kind, monkeypatch):
    spoil, words = SPOILED[kind]
    monkeypatch.setattr("hotlora.hosts.standalone.model_folder._is_installed", lambda name: False)  # what unpacks weights
    spoil(folder)
    with pytest.raises(UserError, match=words) as caught:
        TransformersHost().borrow(build(TextConfig, {"base_model": str(folder), "output_name": "x"}))
    assert str(caught.value).startswith("cannot ") and str(caught.value).endswith(".")


def test_a_folder_that_is_something_else_says_what(tmp_path):
    places = {
        "adapter": (
            "adapter_config.json",
            '{"base_model_name_or_path": "some/base"}',
            "an adapter. Give the model it was trained on .some/base.",
        ),
        "gguf": ("model.Q4_K_M.gguf", "", "GGUF files only answer"),
        "snapshot": ("abc/config.json", "{}", "There are models in it: give one of abc"),
    }
    for name, (file, text, words) in places.items():
        path = tmp_path / name / file
        path.parent.mkdir(parents=True)
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            check_model_folder(tmp_path / name)


def test_a_file_and_a_name_of_the_hub_say_what_to_do(folder):
    from pathlib import Path

    for place, words in (
        (folder / "model.safetensors", "it is a file.*the folder that it lies in"),
        (Path("some/model"), "Nothing is downloaded"),
    ):
        with pytest.raises(UserError, match=words):
            check_model_folder(place)


def test_a_sound_folder_is_sound(folder):
    assert check_model_folder(folder)["model_type"] == "llama" and quantization_of(check_model_folder(folder)) == ""


def test_weights_that_are_not_in_the_file_are_not_random_numbers(folder):
    import torch

    flat = load_file(folder / "model.safetensors")
    del flat["model.layers.1.mlp.up_proj.weight"]
    save_file(flat, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="its files lack 1 of the model's weights .model.layers.1.mlp.up_proj.weight"):
        load_model(folder, build(TextConfig, {"base_model": str(folder), "output_name": "x"}), torch.device("cpu"))


def test_weights_that_the_config_has_no_place_for_are_told(folder):
    import torch

    change(folder, num_hidden_layers=1)
    config = build(TextConfig, {"base_model": str(folder), "output_name": "x"})
    load_model(folder, config, torch.device("cpu"))
    assert len(config.notes) == 1 and "9 of its weights (model.layers.1." in config.notes[0]


def test_a_model_that_breaks_down_before_it_has_learned_is_a_sentence(folder, tmp_path):
    import torch
    from hotlora.engine.probe import look_ahead

    flat = load_file(folder / "model.safetensors")
    flat["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(flat, folder / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "data.txt").write_text("the cat sat on the mat", encoding="utf-8")
    config = build(TextConfig, {"base_model": str(folder), "train_data_dir": str(tmp_path / "data.txt"), "output_name": "x"})
    with pytest.raises(UserError, match="it gives no usable numbers before anything is learned .loss nan.*mixed_precision: no"):
        list(look_ahead(TransformersHost(), config))


def test_a_model_that_also_sees_is_trained_as_peft_finds_it(tmp_path):
    import torch
    import transformers as tf
    from hotlora.llm.targets import choose_text_targets, name_targets
    from peft import LoraConfig, get_peft_model

    tokenizer = make_tokenizer()
    text = tf.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2
    )
    seen = tf.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    net = tf.LlavaForConditionalGeneration(tf.LlavaConfig(text_config=text, vision_config=seen, image_token_index=len(tokenizer) - 1))
    net.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = load_model(tmp_path, build(TextConfig, {"base_model": str(tmp_path), "output_name": "x"}), torch.device("cpu"))
    targets = choose_text_targets(model.net, build(TextConfig, {"output_name": "x"}))
    assert len(targets) == 7 and all("language_model" in name for name in targets)
    wrapped = get_peft_model(net.eval(), LoraConfig(r=2, target_modules=name_targets(model.net, targets)))
    adapted = {name.removesuffix(".lora_A.default").removeprefix("base_model.model.") for name, _ in wrapped.named_modules()}
    assert set(targets) == adapted & set(targets) and not any("vision" in name and "lora" in name for name in adapted)
    ids = torch.tensor([[4, 5, 6, 7]])
    torch.testing.assert_close(model.net(input_ids=ids).logits, net(input_ids=ids).logits)


def test_a_missing_tokenizer_is_said_before_the_weights_are_read(folder, monkeypatch):
    for path in [*folder.glob("tokenizer*"), *folder.glob("*.jinja"), *folder.glob("special*")]:
        path.unlink()
    monkeypatch.setattr("hotlora.hosts.standalone.texts.load_net", lambda *a, **k: pytest.fail("too late"))
    with pytest.raises(UserError, match="cannot load the tokenizer.*tokenizer.json"):
        TransformersHost().borrow(build(TextConfig, {"base_model": str(folder), "output_name": "x"}))


def test_temperature_0_is_the_likeliest_token_whatever_the_model_wishes(folder):
    import torch

    plain = load_model(folder, build(TextConfig, {"base_model": str(folder), "output_name": "x"}), torch.device("cpu"))
    wanted = plain.generate([4, 5, 6], max_tokens=8, temperature=0.0, seed=0, stop=[3])
    wishes = {
        "repetition_penalty": 5.0,
        "no_repeat_ngram_size": 1,
        "suppress_tokens": wanted[:1],
        "num_beams": 3,
        "do_sample": True,
        "top_k": 1,
    }
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {**wishes, "min_new_tokens": 8, "temperature": 2.0}))
    model = load_model(folder, build(TextConfig, {"base_model": str(folder), "output_name": "x"}), torch.device("cpu"))
    found = model.net.generation_config
    assert found.repetition_penalty == 5.0, "else this test shows nothing"
    assert model.generate([4, 5, 6], max_tokens=8, temperature=0.0, seed=0, stop=[3]) == wanted
    assert model.net.generation_config is found
