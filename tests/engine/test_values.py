"""Options as people write them: YAML with all its traps, spellings, empty values, paths as a file manager copies them."""

import os
import time
from pathlib import Path

import pytest
import yaml
from hotlora.engine.errors import UserError
from hotlora.engine.options import as_plain, build
from hotlora.engine.recipe import choose_task, read_options, read_override
from hotlora.engine.yaml_file import read_yaml
from hotlora.llm.config import TextConfig
from hotlora.sd.config import ImageConfig

TASKS = {c.TASK: c for c in (ImageConfig, TextConfig)}


def read(tmp_path: Path, text: str, config_class=ImageConfig):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return build(config_class, read_yaml(path))


@pytest.mark.parametrize(
    ("written", "key", "meant"),
    [
        ("optimizer: adamw8bit", "optimizer", "AdamW8bit"),
        ("optimizer: ADAMW_8BIT", "optimizer", "AdamW8bit"),
        ("optimizer: bitsandbytes.optim.PagedAdamW8bit", "optimizer", "PagedAdamW8bit"),
        ("optimizer: adafactor", "optimizer", "Adafactor"),
        ("optimizer: paged_adamw_8bit", "optimizer", "PagedAdamW8bit"),
        ("optimizer: schedule-free AdamW", "optimizer", "AdamWScheduleFree"),
        ("scheduler: constant_with_warmup", "scheduler", "constant"),
        ("scheduler: Cosine", "scheduler", "cosine"),
        ("scheduler: COSINE_WITH_HARD_RESTARTS", "scheduler", "cosine_with_restarts"),
        ("mixed_precision: no", "mixed_precision", "no"),
        ("mixed_precision: fp32", "mixed_precision", "no"),
        ("mixed_precision: BF16", "mixed_precision", "bf16"),
        ("mixed_precision: float16", "mixed_precision", "fp16"),
        ("save_precision: float", "save_precision", "fp32"),
        ("prediction_type: v-prediction", "prediction_type", "v_prediction"),
        ("loss_type: MSE", "loss_type", "l2"),
        ('max_token_length: "225"', "max_token_length", 225),
        ("crop: Random", "crop", "random"),
        ("on_bad_data: SKIP", "on_bad_data", "skip"),
        ('lora_rank: "16"', "lora_rank", 16),
        ("lora_rank: 16.0", "lora_rank", 16),
        ("save_steps: 1e3", "save_steps", 1000),
        ("learning_rate: 1e-4", "learning_rate", 1e-4),
        ("learning_rate: '5E-05'", "learning_rate", 5e-5),
        ("use_dora: 'True'", "use_dora", True),
        ("flip_aug: 1", "flip_aug", True),
        ("resolution: 512,768", "resolution", 628),
        ("resolution: 768x768", "resolution", 768),
        ("resolution: [512, 512]", "resolution", 512),
        ("resolution: '640 , 640'", "resolution", 640),
        ("output_name: 007", "output_name", "007"),
        ("output_name: 1.10", "output_name", "1.10"),
        ("output_name: 2024-01-05", "output_name", "2024-01-05"),
        ("output_name: 1_000", "output_name", "1_000"),
        ("output_name: 12:30", None, None),
        ("trigger_word: on", "trigger_word", "on"),
        ("trigger_word: No", "trigger_word", "No"),
        ("trigger_word: 1e5", "trigger_word", "1e5"),
        ("sample_prompts: a cat", "sample_prompts", ["a cat"]),
        ("sample_prompts: |\n  a cat\n  a dog\n", "sample_prompts", ["a cat", "a dog"]),
        ("sample_prompts: [7, 1.50]", "sample_prompts", ["7", "1.50"]),
        ("sheet_weights: 0, 0.5, 1", "sheet_weights", [0, 0.5, 1]),
        ('sheet_weights: ["0.5", "1"]', "sheet_weights", [0.5, 1]),
        ("sheet_weights: 1", "sheet_weights", [1]),
        ('optimizer_args: {betas: "0.9, 0.95", eps: "1e-8"}', "optimizer_args", {"betas": [0.9, 0.95], "eps": 1e-8}),
        ('optimizer_args: ["betas=0.9,0.95", "amsgrad=True"]', "optimizer_args", {"betas": [0.9, 0.95], "amsgrad": True}),
        ("optimizer_args: betas=(0.9,0.95) eps=1e-7", "optimizer_args", {"betas": [0.9, 0.95], "eps": 1e-7}),
        ('train_data_dir: "C:\\new\\table"', "train_data_dir", "C:\\new\\table" if os.name == "nt" else "C:/new/table"),
        ("train_data_dir: '\"D:\\cats and dogs\"'", "train_data_dir", "D:\\cats and dogs" if os.name == "nt" else "D:/cats and dogs"),
        ("train_data_dir: C:\\Users\\me", "train_data_dir", "C:\\Users\\me" if os.name == "nt" else "C:/Users/me"),
        ('train_data_dir: "\\\\server\\share"', "train_data_dir", "\\\\server\\share" if os.name == "nt" else "//server/share"),
        ("base_model: ' ~/m.safetensors '", "base_model", str(Path.home() / "m.safetensors")),
        ("output_dir: ~/runs/a", "output_dir", str(Path.home() / "runs/a")),
    ],
)
def test_what_is_written_is_what_is_meant(tmp_path, written, key, meant):
    if key is None:
        with pytest.raises(UserError, match="cannot name the LoRA"):
            read(tmp_path, written)
        return
    value = getattr(read(tmp_path, written), key)
    assert value == meant and type(value) is type(meant)


@pytest.mark.parametrize("key", [key for key in as_plain(ImageConfig()) if key != "task_type"] + ["max_steps", "lora_alpha", "clip_skip"])
@pytest.mark.parametrize("empty", ["", " ~", " null"])
def test_an_empty_value_is_the_default(tmp_path, key, empty):
    config = read(tmp_path, f"{key}:{empty}")
    assert config == ImageConfig() and config.given == frozenset()


@pytest.mark.parametrize("key", ["lora_rank", "max_steps", "learning_rate", "text_encoder_lr", "optimizer", "output_dir", "sample_prompts"])
def test_so_is_an_empty_text(key):
    assert build(ImageConfig, {key: ""}) == ImageConfig() == build(ImageConfig, {key: "  "})
    assert build(ImageConfig, dict([read_override(f"{key}=")])) == ImageConfig()


def test_the_yaml_that_everybody_starts_from_runs_as_it_stands(tmp_path):
    text = """
task_type: text-generation
base_model: models/llama
train_data_dir: data
output_dir: output/my_lora
lora_rank: 16
lora_alpha: 32
target_modules: ["q_proj", "v_proj"]
optimizer: adamw8bit
scheduler: cosine
learning_rate: 1e-4
mixed_precision: fp16
trigger_word:
"""
    (tmp_path / "seed.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="'trigger_word': it is an option of image-generation. Leave it out"):
        read_options(TASKS, tmp_path / "seed.yaml")
    config = read(tmp_path, text.replace("trigger_word:\n", ""), TextConfig)
    assert (config.optimizer, config.scheduler, config.target_modules) == ("AdamW8bit", "cosine", "q_proj, v_proj")


@pytest.mark.parametrize("task", ["text", "LLM", "text_generation", "Text-Generation", "causal-lm"])
def test_tasks_have_other_names(task):
    assert choose_task({"task_type": task}, TASKS) is TextConfig
    assert build(TextConfig, {"task_type": task}).task_type == "text-generation"


@pytest.mark.parametrize("task", [["a"], {"a": 1}, 3, "music", True])
def test_a_task_there_is_not_is_said(task):
    with pytest.raises(UserError, match="cannot train task_type"):
        choose_task({"task_type": task}, TASKS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lora_rank: 2001-99-99", "whole number"),
        ("lora_rank: !!int abc", "cannot read"),
        ("x: !!float abc", "cannot read"),
        ("x: !!bool maybe", "cannot read"),
        ("x: !!timestamp xx", "cannot read"),
        ("x: !!python/object:os.system {}", "cannot read"),
        ("x: !!set [1]", "cannot read"),
        ("? [1]\n: 2", "cannot read"),
        ("x: *nobody", "asterisk"),
        ("a: 1\n---\nb: 2", "second '---'"),
        ("a:\n\t- 1", "spaces instead of tabs"),
        ("trigger_word: a: b", "quotes"),
        ("trigger_word: 'a", "Close the quote"),
        ("trigger_word: @cat", "keeps for itself"),
        ('base_model: "models\\qwerty.ckpt"', "single quotes"),
        ("lora_rank:16", "space behind the colon"),
        ("- a\n- b", "lines of 'key: value'"),
        ("sample_prompts: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("sample_prompts: &a [*a]", "nested too deeply"),
        ("sample_prompts: " + "[" * 20 + "]" * 20, "nested too deeply"),
        ("max_steps: " + "9" * 5000, "whole number"),
        ("epochs: 1e12", "between 1 and 100,000"),
        ("epochs: 1e400", "whole number"),
        ("resolution: 1e9", "between 64 and 8,192"),
        ("resolution: 99999999,99999999", "between 64 and 8,192"),
        ("resolution: [-512]", "resolution"),
        ("resolution: [.inf, 512]", "resolution"),
        ("lora_rank: 1000000000", "between"),
        ("batch_size: 1e15", "between"),
        ("save_steps: 1e30", "between 0 and"),
        ("seed: 18446744073709551616", "between 0 and"),
        ("seed: -1", "at least 0"),
        ("learning_rate: .nan", "a number"),
        ("learning_rate: 0,0001", "a point, not a comma"),
        ("learning_rate: '1,5e-4'", "a point, not a comma"),
        ("max_steps: 1,000", "without a mark between the thousands"),
        ("max_steps: 1.000", "without a mark between the thousands"),
        ("lora_rank: 8\nmax_steps 4\nseed: 1", "line 2: .* plain colon"),
        ('trigger_word: "a\x07b"', "Type that part anew"),
        ("model:\n  name: x", "the section 'model'"),
        ("config:\n  lora_rank: 4", "the section 'config'"),
        ("sample_prompts:\n  - prompt: a cat", "Each entry is a text"),
        ("sheet_weights: [a]", "no number"),
        ("sheet_weights: [.nan]", "no number"),
        ("trigger_word: true", "in quotes"),
        ("sample_prompts: {a: 1}", "a list"),
        ("train_data_dir: [a, b]", "takes text"),
        ('trigger_word: "\\ud800"', "half of a character"),
        ('sample_prompts: ["a\\0b"]', "NUL"),
        ('optimizer_args: {"\\ud800": 1}', "half of a character"),
        ('output_dir: "a\\nb"', "line break"),
        ("train_data_dir: ~nosuchuser/x", "no user 'nosuchuser'"),
        ("vae: ~nosuchuser/x", "no user 'nosuchuser'"),
        (f"output_dir: /tmp/{'a' * 300}", "longer than 255 bytes"),
        (f"mask_dir: {'ä' * 200}", "longer than 255 bytes"),
        (f"base_model: {'a/' * 3000}", "longer than 255 bytes"),
    ],
)
def test_what_cannot_be_is_a_sentence_within_a_second(tmp_path, text, said):
    began = time.thread_time()
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path, text)
    assert time.thread_time() - began < 1
    assert str(caught.value).startswith("cannot ") and len(str(caught.value)) < 1500


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes among its files")
def test_pipes_devices_and_folders_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / "none.yaml"):
        with pytest.raises(UserError, match="cannot read"):
            read_yaml(path)
    for key in ("base_model", "train_data_dir", "metadata_path", "init_lora", "vae"):
        with pytest.raises(UserError, match="a pipe or a device"):
            build(ImageConfig, {key: str(tmp_path / "pipe")})


def test_a_backslash_parts_folders_everywhere(tmp_path, monkeypatch):
    (tmp_path / "data" / "cats").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert Path(build(ImageConfig, {"train_data_dir": "data\\cats"}).train_data_dir).is_dir()


@pytest.mark.parametrize("name", ["run.toml", "run.json"])
def test_other_trainers_files_are_named_with_what_converts_them(tmp_path, name):
    (tmp_path / name).write_text('network_dim = 32\n[training]\nlr = "1"\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"other trainers write it.*tools/import_recipe\.py"):
        read_yaml(tmp_path / name)


def test_toml_is_recognised_by_its_looks_too(tmp_path):
    (tmp_path / "x.yaml").write_text("[training]\nlr = 1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"it is TOML"):
        read_yaml(tmp_path / "x.yaml")


def test_files_of_windows_programs_are_read(tmp_path):
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "a.yaml").write_text("trigger_word: Käse\r\n", encoding=encoding)
        assert read_yaml(tmp_path / "a.yaml") == {"trigger_word": "Käse"}
    (tmp_path / "a.yaml").write_bytes("trigger_word: Käse".encode("cp1252"))
    with pytest.raises(UserError, match="encoding UTF-8"):
        read_yaml(tmp_path / "a.yaml")


def test_a_key_that_stands_twice_is_said_and_the_last_counts(tmp_path):
    (tmp_path / "a.yaml").write_text("scheduler: constant\nlora_rank: 4\nscheduler: cosine\n", encoding="utf-8")
    config = read_options(TASKS, tmp_path / "a.yaml")
    assert config.scheduler == "cosine" and "'scheduler' stands in the file twice" in config.notes[0]


def test_all_unknown_keys_and_bad_values_are_said_at_once():
    with pytest.raises(UserError) as caught:
        build(ImageConfig, {"network_dim": 32, "train_batch_size": 4, "max_train_epochs": 3, "xformers": True, "epochs": 0, "lora_rnk": 4})
    said = str(caught.value)
    for part in (
        "6 of the options",
        "'lora_rank'",
        "'batch_size'",
        "called 'epochs'",
        "attention",
        "epochs to 0",
        "Did you mean 'lora_rank'",
    ):
        assert part in said, part


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("network_dim", "lora_rank"),
        ("network_alpha", "lora_alpha"),
        ("train_batch_size", "batch_size"),
        ("max_train_epochs", "epochs"),
        ("max_train_steps", "max_steps"),
        ("unet_lr", "learning_rate"),
        ("save_every_n_epochs", "save_epochs"),
        ("network_weights", "init_lora"),
        ("scale_weight_norms", "max_norm"),
        ("lr_scheduler", "scheduler"),
        ("optimizer_type", "optimizer"),
        ("pretrained_model_name_or_path", "base_model"),
        ("Learning-Rate", "learning_rate"),
        ("v_parameterization", "prediction_type"),
        ("conv_dim", "conv_rank"),
    ],
)
def test_other_trainers_names_lead_to_ours(key, right):
    with pytest.raises(UserError, match=f"'{right}'"):
        build(ImageConfig, {key: 1})


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("lora_r", "lora_rank"),
        ("micro_batch_size", "batch_size"),
        ("num_train_epochs", "epochs"),
        ("cutoff_len", "max_tokens"),
        ("sequence_len", "max_tokens"),
        ("lora_target_modules", "target_modules"),
        ("val_set_size", "validation_split"),
        ("load_in_4bit", "quantization"),
        ("neftune_noise_alpha", "neftune_alpha"),
    ],
)
def test_text_trainers_names_lead_to_ours(key, right):
    with pytest.raises(UserError, match=f"'{right}'"):
        build(TextConfig, {key: 1})


@pytest.mark.parametrize("config_class", [ImageConfig, TextConfig])
def test_tables_of_other_names_lead_to_options_there_are(config_class):
    known = as_plain(config_class()) | dict.fromkeys(config_class.__dataclass_fields__)
    for name, other in config_class.OTHER_NAMES.items():
        assert (other.option in known) if other.option else (other.note[:1].isupper() or other.note[:1] == "`"), name
        assert not other.note or other.note.endswith("."), name
        assert name not in known or other.option == name, f"{name} is an option of ours"


def test_prompts_come_from_a_file(tmp_path):
    (tmp_path / "prompts.txt").write_text("\ufeffa red cat --n blurry\n# a comment\n\n  a blue dog\n", encoding="utf-8")
    (tmp_path / "run.yaml").write_text("sample_prompts: prompts.txt\n", encoding="utf-8")
    config = read_options(TASKS, tmp_path / "run.yaml")
    assert config.sample_prompts == ["a red cat --n blurry", "a blue dog"] and "2 sample prompts are read from" in config.notes[0]
    config = read_options(TASKS, tmp_path / "run.yaml", [f"sample_prompts=[a bird, '{tmp_path / 'prompts.txt'}']"])
    assert config.sample_prompts == ["a bird", "a red cat --n blurry", "a blue dog"]
    (tmp_path / "prompts.txt").write_text("# nothing\n", encoding="utf-8")
    for override in ("sample_prompts=nowhere.txt", "sample_prompts=prompts.txt", "sample_prompts=prompts.json"):
        with pytest.raises(UserError, match="cannot read sample prompts from"):
            read_options(TASKS, tmp_path / "run.yaml", [override])


@pytest.mark.parametrize("text", ["a cat", "7", "path/like but no file", "ends in a word.txt"])
def test_words_are_prompts(text):
    assert build(ImageConfig, {"sample_prompts": [text]}).sample_prompts == [text]
    assert read_options(TASKS, None, [f"sample_prompts=['{text}']"]).sample_prompts == [text]


def test_written_configs_are_plain_yaml(tmp_path):
    config = read(
        tmp_path, "learning_rate: 1e-4\noutput_name: 007\noptimizer_args: {eps: 1e-7}\nblock_lrs: {mid_block: 1e-5}\nsheet_weights: [0, 1]"
    )
    assert build(ImageConfig, yaml.safe_load(yaml.safe_dump(as_plain(config)))) == config


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("trigger_word=#mys", "#mys"),
        ("caption_prefix=a photo # of", "a photo # of"),
        ('caption_prefix="a photo # of"', "a photo # of"),
        ("sample_prompts=[a cat, a dog]", ["a cat", "a dog"]),
        ("lora_rank=8", 8),
    ],
)
def test_no_part_of_an_override_is_a_comment(written, value):
    assert read_override(written)[1] == value
