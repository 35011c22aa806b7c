"""Recipes that are kept, given away and taken in: what comes back is what was saved, and what is wrong is said."""

import base64
import re
import runpy
import sys
from pathlib import Path

import pytest
import yaml
from hotlora.engine.errors import UserError
from hotlora.engine.options import as_plain, build
from hotlora.sd.config import ImageConfig
from hotlora.ui.page import build_page
from hotlora.ui.presets import export_recipe, import_recipe, list_presets, personal_options, read_preset, save_preset
from toy_studio import toy_studio

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ["Style", "Character", "Small data", "Quick try"]
MINE = {"output_name": "cat", "trigger_word": "ohwx", "train_data_dir": "x", "sample_prompts": ["a cat"], "init_lora": "a.safetensors"}


@pytest.fixture
def studio(tmp_path):
    return toy_studio(tmp_path)


@pytest.fixture
def write(tmp_path):
    def write(text, name="recipe.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return path

    return write


def test_shipped_presets_are_listed_first_and_hold_nothing_personal(studio):
    assert list_presets(studio) == SHIPPED
    for name in SHIPPED:
        values = read_preset(name, studio)
        assert values["lora_rank"] >= 1 and not set(values) & personal_options(ImageConfig)
        build(ImageConfig, values)


def test_a_preset_comes_back_without_what_is_personal(studio):
    config = build(
        ImageConfig, {**MINE, "lora_rank": 7, "learning_rate": 3e-5, "caption_prefix": "一张图: ", "block_ranks": {"mid_block": 4}}
    )
    save_preset(" 我的 ä preset ", config, studio)
    save_preset("B", build(ImageConfig, {}), studio)
    assert list_presets(studio) == [*SHIPPED, "B", "我的 ä preset"]
    kept = {"lora_rank": 7, "learning_rate": 3e-5, "caption_prefix": "一张图: ", "block_ranks": {"mid_block": 4}}
    assert read_preset("我的 ä preset", studio) == kept
    assert read_preset("B", studio) == {}
    save_preset("B", build(ImageConfig, {"lora_rank": 3}), studio)
    assert read_preset("B", studio) == {"lora_rank": 3}


@pytest.mark.parametrize("name", ["Style", "style", " Quick try "])
def test_a_shipped_preset_is_not_written_over(studio, name):
    with pytest.raises(UserError, match="that one is built in"):
        save_preset(name, build(ImageConfig, {}), studio)


@pytest.mark.parametrize("name", ["../secret", "..\\secret", "/etc/passwd", "none", "", None, ".", "con"])
def test_no_name_reads_elsewhere(studio, write, name):
    write("lora_rank: 3", "secret.yaml")
    with pytest.raises(UserError):
        read_preset(name, studio)


BAD = [
    ("lora_rnak: 3", "Did you mean 'lora_rank'"),
    ("1: 2", "cannot use the option '1'"),
    ("lora_rank: many", "lora_rank to 'many': it takes a whole number"),
    ("lora_rank: 0", "at least 1"),
    ("lora_rank: 2001-01-01", "a whole number"),
    ("learning_rate: .nan", "a number"),
    ("learning_rate: .inf", "a number"),
    ("max_steps: .inf", "a whole number"),
    ("sheet_weights: [a]", "sheet_weights"),
    ("- a\n- b", "lines of 'key: value'"),
    ("just text", "lines of 'key: value'"),
    ("a: [", "not valid YAML"),
    ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
    (b"\x89PNG\r\n\x1a\n\x00\xff", "not valid YAML"),
    ("lora_rank: 8\x00", "not valid YAML"),
    ("output_name: con", "Windows keeps that name"),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_what_is_wrong_with_a_file_is_said(studio, write, text, said):
    with pytest.raises(UserError, match=re.escape(said)):
        import_recipe(write(text), ImageConfig)
    write(text, "presets/broken.yaml")
    with pytest.raises(UserError, match=re.escape(said)):
        read_preset("broken", studio)


def test_files_are_taken_in_as_the_types_that_options_have(write):
    text = "\ufefflearning_rate: 1e-4\nsample_prompts: a cat\ntrigger_word: 123\nsave_steps: 100.0\nmax_steps: null\n"
    values, told = import_recipe(write(text), ImageConfig)
    assert told == "Imported." and values == {"learning_rate": 1e-4, "sample_prompts": ["a cat"], "trigger_word": "123", "save_steps": 100}
    assert import_recipe(write(""), ImageConfig) == ({}, "Imported.")


def test_other_trainers_recipes_are_taken_in_and_told_of(tmp_path):
    (tmp_path / "a.toml").write_text("network_dim = 8\nlearning_rate = 1e-4\nmax_train_epochs = 3\nxformers = true\n")
    values, told = import_recipe(tmp_path / "a.toml", ImageConfig)
    assert values["lora_rank"] == 8 and values["epochs"] == 3
    assert "Imported from sd-scripts" in told and "xformers" in told and "network_alpha was not set" in told
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(UserError, match="none of its keys is known"):
        import_recipe(tmp_path / "b.json", ImageConfig)


def test_an_exported_recipe_is_taken_in_whole(write):
    config = build(ImageConfig, {**MINE, "lora_rank": 7, "trigger_word": "一只猫: #1", "optimizer_args": {"betas": [0.9, 0.99]}})
    values, _ = import_recipe(write(export_recipe(config)), ImageConfig)
    assert values == as_plain(config)
    assert yaml.safe_load(export_recipe(config)) == as_plain(config)


def test_the_page_keeps_gives_and_takes_recipes(studio, tmp_path, monkeypatch):
    """And what it gives is what ``train.py`` reads."""
    recipe = build_page(studio).hotlora.recipe
    shown = recipe.options.show({"output_name": "my cat", "lora_rank": 7, "trigger_word": "ohwx", "train_data_dir": "pictures"})
    said, update = recipe._keep_preset("mine", *shown)
    assert "Saved as preset" in said and update["value"] == "mine" and "mine" in update["choices"]
    said, _, *other = recipe._show_preset("mine", *recipe.options.show({"output_name": "dog", "lora_rank": 3}))
    values = recipe.options.values(other)
    assert values["lora_rank"] == 7 and values["output_name"] == "dog" and "trigger_word" not in values

    _, link = recipe._write_yaml(*shown)
    path = tmp_path / "given.yaml"
    path.write_bytes(base64.b64decode(re.search('base64,([^"]+)', link)[1]))
    taken = recipe.options.values(recipe._read_yaml(str(path))[1:])
    assert taken == recipe.options.values(shown) | {"sample_prompts": ["ohwx"]}
    monkeypatch.setattr(sys, "argv", ["train.py"])
    train = runpy.run_path(str(ROOT / "train.py"))
    assert train["main"](["--config", str(path), "--check"]) == 2  # there is no base model: that is all it misses


def test_a_recipe_that_cannot_be_trained_is_not_kept(studio):
    recipe = build_page(studio).hotlora.recipe
    with pytest.raises(UserError, match="max_steps"):
        recipe._keep_preset("mine", *recipe.options.show({"max_steps": "many"}))
    assert list_presets(studio) == SHIPPED
