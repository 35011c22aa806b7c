"""Recipes of other trainers become ours: what is taken, what differs, what has no counterpart; and no key is left out in silence."""

import importlib
import json
import re
import sys

import pytest
import yaml
from full_size_models import make_unet
from hotlora.engine.errors import UserError
from hotlora.engine.optimizers import try_optimizer
from hotlora.engine.options import build, options_of
from hotlora.sd.config import ImageConfig
from hotlora.sd.names import block_of, is_transformer_layer, list_blocks, name_unet_layers
from hotlora.sd.recipes import blocks, files
from hotlora.sd.recipes.imported import is_off
from hotlora.sd.recipes.names import NAMES as KOHYA
from hotlora.sd.recipes.onetrainer import NAMES as ONETRAINER

import_tool = importlib.import_module("import_recipe")
write_import_table = importlib.import_module("write_import_table")

LORA_SCRIPTS = """
[model]
v2 = false
pretrained_model_name_or_path = "C:\\models\\new.safetensors"

[dataset]
train_data_dir = "./train/aki"
reg_data_dir = ""
cache_latents = true
enable_bucket = true

[additional_network]
network_dim = 32
network_alpha = 16
network_module = "networks.lora"
network_args = []

[optimizer]
unet_lr = 1e-4
text_encoder_lr = 1e-5
optimizer_type = "AdamW8bit"
lr_scheduler = "cosine_with_restarts"
lr_warmup_steps = 20
lr_restart_cycles = 3

[training]
resolution = "512,768"
train_batch_size = 2
max_train_epochs = 10
xformers = true
clip_skip = 2
max_token_length = 255
seed = 1337
save_every_n_epochs = 2
made_up_key = "x"
"""
KOHYA_SS = {
    "LoRA_type": "Kohya LoCon",
    "network_dim": 16,
    "network_alpha": 1,
    "conv_dim": 8,
    "conv_alpha": 4,
    "learning_rate": 0.0001,
    "unet_lr": 0.0002,
    "text_encoder_lr": 0.0,
    "optimizer": "Prodigy",
    "optimizer_args": '"d_coef=2.0" "weight_decay=0.4" "decouple=True"',
    "lr_scheduler": "constant",
    "lr_warmup": 10,
    "epoch": 5,
    "max_train_steps": "",
    "max_resolution": "1024,1024",
    "enable_bucket": True,
    "train_batch_size": 1,
    "seed": "1234",
    "min_snr_gamma": 5,
    "noise_offset": 0.05,
    "noise_offset_type": "Original",
    "multires_noise_iterations": 6,
    "v_parameterization": False,
    "sdxl": True,
    "vae_batch_size": 0,
    "stop_text_encoder_training": 0,
    "output_name": "cat",
    "output_dir": "out",
    "sample_prompts": "a cat --n bad\n# comment\na dog",
    "sample_sampler": "euler_a",
    "color_aug": True,
}
ONE = {
    "training_method": "LORA",
    "model_type": "STABLE_DIFFUSION_XL_10_BASE",
    "base_model_name": "sdxl.safetensors",
    "lora_rank": 8,
    "learning_rate": 3e-4,
    "learning_rate_scheduler": "COSINE",
    "learning_rate_warmup_steps": 50,
    "batch_size": 4,
    "epochs": 7,
    "resolution": "512,768",
    "layer_filter_preset": "attn-only",
    "loss_weight_fn": "MIN_SNR_GAMMA",
    "loss_weight_strength": 4.0,
    "train_dtype": "BFLOAT_16",
    "unet": {"learning_rate": 1e-4},
    "text_encoder": {"train": False},
    "optimizer": {"optimizer": "PRODIGY", "d_coef": 1.5, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1},
    "save_every": 2,
    "save_every_unit": "EPOCH",
    "output_model_destination": "models/cat lora.safetensors",
    "masked_training": True,
    "max_noising_strength": 0.8,
    "concepts": [{"path": "data/cats", "enabled": True, "text": {"enable_tag_shuffling": True, "keep_tags_count": 2}}],
    "samples": [{"prompt": "a cat", "width": 512, "seed": 3, "enabled": True}],
}
DATASET = """
[general]
shuffle_caption = true
keep_tokens = 2

[[datasets]]
resolution = 768
batch_size = 4

  [[datasets.subsets]]
  image_dir = "img/10_cat"
  num_repeats = 10
  caption_extension = ".txt"

  [[datasets.subsets]]
  image_dir = "img/dog"
  num_repeats = 3
  class_tokens = "shs dog"

  [[datasets.subsets]]
  is_reg = true
  image_dir = "reg"
"""


def convert(tmp_path, content, name=""):
    path = tmp_path / (name or ("a.json" if isinstance(content, dict) else "a.toml"))
    path.write_text(json.dumps(content) if isinstance(content, dict) else content, encoding="utf-8")
    return ImageConfig.import_recipe(path)


def everything(imported) -> str:
    return "\n".join(imported.report())


def test_lora_scripts(tmp_path):
    result = convert(tmp_path, LORA_SCRIPTS)
    expected = {
        "base_model": "C:/models/new.safetensors" if sys.platform != "win32" else "C:\\models\\new.safetensors",
        "lora_rank": 32, "lora_alpha": 16.0, "learning_rate": 1e-4, "train_text_encoder": True, "text_encoder_lr": 1e-5, "epochs": 10,
        "optimizer": "AdamW8bit", "scheduler": "cosine_with_restarts", "scheduler_cycles": 3, "warmup_steps": 20, "resolution": 628,
        "batch_size": 2, "clip_skip": 2, "max_token_length": 225, "seed": 1337, "save_epochs": 2, "enable_bucket": True,
    }  # fmt: skip
    assert result.source == "lora-scripts" and {key: result.values.get(key) for key in expected} == expected
    assert any("made_up_key" in line for line in result.left_out) and any("xformers" in line for line in result.left_out)
    assert any("255 becomes 225" in line for line in result.differs)


def test_kohya_ss(tmp_path):
    result = convert(tmp_path, KOHYA_SS)
    expected = {
        "network_type": "lora", "lora_rank": 16, "conv_rank": 8, "conv_alpha": 4.0, "learning_rate": 2e-4, "train_text_encoder": False,
        "optimizer": "Prodigy", "scheduler": "constant", "epochs": 5, "resolution": 1024, "seed": 1234, "min_snr_gamma": 5.0,
        "noise_offset": 0.05, "output_dir": "out/cat", "sample_prompts": ["a cat --n bad", "a dog"], "sample_sampler": "Euler a",
    }  # fmt: skip
    assert result.source == "kohya_ss" and {key: result.values.get(key) for key in expected} == expected
    config = build(ImageConfig, result.values)
    assert config.weight_decay == 0.4 and config.optimizer_args == {"d_coef": 2.0, "decouple": True} and config.warmup_steps == 0
    assert any("multires_noise_iterations" in line for line in result.left_out) and any("color_aug" in line for line in result.left_out)
    assert any("ignores its warm-up" in line for line in result.differs)


def test_onetrainer(tmp_path):
    result = convert(tmp_path, ONE)
    expected = {
        "base_model": "sdxl.safetensors", "lora_rank": 8, "lora_alpha": 1.0, "learning_rate": 1e-4, "train_text_encoder": False,
        "scheduler": "cosine", "warmup_steps": 50, "resolutions": [512, 768],
        "include": "attn", "min_snr_gamma": 4.0, "mixed_precision": "bf16",
        "optimizer": "Prodigy", "weight_decay": 0.1, "save_epochs": 2, "output_dir": "output/cat lora", "masked_loss": True,
        "max_timestep": 800, "train_data_dir": "data/cats", "shuffle_caption": True, "keep_tokens": 2,
        "sample_prompts": ["a cat --w 512 --d 3"], "optimizer_args": {"d_coef": 1.5, "betas": [0.9, 0.99]},
    }  # fmt: skip
    assert {key: result.values.get(key) for key in expected} == expected
    assert any("each of the resolutions" in line for line in result.differs)


def test_a_data_set_file(tmp_path):
    result = convert(tmp_path, DATASET)
    cats, dogs = {"folder": "img/10_cat", "repeats": 10}, {"folder": "img/dog", "repeats": 3, "class_words": "shs dog"}
    assert result.values == {
        "shuffle_caption": True, "keep_tokens": 2, "resolution": 768, "batch_size": 4, "datasets": [cats, dogs], "reg_data_dir": "reg",
    }  # fmt: skip
    assert build(ImageConfig, result.values).datasets == [cats, dogs] and not result.left_out and not result.differs


TWO_SIZES = """
[general]
enable_bucket = true
caption_extension = ".txt"

[[datasets]]
resolution = 512
batch_size = 4
max_bucket_reso = 1024
  [[datasets.subsets]]
  image_dir = "cats"
  flip_aug = true
  [[datasets.subsets]]
  image_dir = "dogs"
  num_repeats = 2

[[datasets]]
resolution = [768, 768]
batch_size = 2
max_bucket_reso = 1536
  [[datasets.subsets]]
  image_dir = "cats"
  flip_aug = true
  [[datasets.subsets]]
  image_dir = "people"
  is_reg = true
  class_tokens = "person"
  [[datasets.subsets]]
  image_dir = "dogs"
  num_repeats = 3
"""


def test_several_data_sets(tmp_path):
    """What is the same everywhere holds for the run; a folder at two resolutions is one entry; nothing is dropped in silence."""
    result = convert(tmp_path, TWO_SIZES)
    assert result.values == {
        "enable_bucket": True, "batch_size": 4, "datasets": [
            {"folder": "cats", "repeats": 1, "max_bucket_reso": 1536, "flip_aug": True, "resolutions": [512, 768]},
            {"folder": "dogs", "repeats": 2, "resolution": 512, "max_bucket_reso": 1024},
            {"folder": "people", "repeats": 1, "regularisation": True, "class_words": "person", "resolution": 768, "max_bucket_reso": 1536},
        ],
    }  # fmt: skip
    assert any("batch_size differs" in line and "4 is taken" in line for line in result.differs)
    assert any("dogs stands there again with another num_repeats" in line for line in result.differs)
    assert len(result.differs) == 2


def test_a_folder_that_stands_twice_is_seen_as_often(tmp_path):
    twice = "[[datasets]]\nresolution = [512, 768]\n" + '[[datasets.subsets]]\nimage_dir = "cats"\nnum_repeats = 2\n' * 2
    values = convert(tmp_path, twice).values
    assert values == {"resolution": 628, "datasets": [{"folder": "cats", "repeats": 4}]}


def test_masks_of_a_subset(tmp_path):
    masked = (
        'network_dim = 8\nmasked_loss = true\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = "cats"\nconditioning_data_dir = "masks"\n'
    )
    assert convert(tmp_path, masked).values["datasets"] == [{"folder": "cats", "repeats": 1, "mask_dir": "masks"}]


def test_several_concepts_of_onetrainer(tmp_path):
    dogs = {"path": "data/dogs", "balancing": 2.4, "loss_weight": 0.5, "image": {"enable_random_flip": True}}
    prior = {"path": "data/prior", "type": "PRIOR_PREDICTION"}
    result = convert(tmp_path, {**ONE, "concepts": [*ONE["concepts"], dogs, prior]})
    assert result.values["datasets"] == [
        {"folder": "data/cats", "shuffle_caption": True, "keep_tokens": 2},
        {"folder": "data/dogs", "repeats": 2, "weight": 0.5, "flip_aug": True},
    ]
    assert any("repeated 2.4 times" in line for line in result.differs) and any("PRIOR_PREDICTION" in line for line in result.left_out)


def test_options_with_their_data_set_file(tmp_path):
    (tmp_path / "data.toml").write_text('[[datasets]]\nresolution = 640\n[[datasets.subsets]]\nimage_dir = "cats"\nnum_repeats = 5\n')
    result = convert(tmp_path, 'network_dim = 8\nlearning_rate = 1e-4\nmax_train_epochs = 2\ndataset_config = "data.toml"\n')
    assert result.values["datasets"] == [{"folder": "cats", "repeats": 5}]
    assert (result.values["epochs"], result.values["resolution"], result.values["enable_bucket"]) == (2, 640, False)
    result = convert(tmp_path, 'network_dim = 8\nlearning_rate = 1e-4\nmax_train_epochs = 2\ndataset_config = "gone.toml"\n')
    assert result.values["epochs"] == 2 and any("gone.toml" in line for line in result.left_out)


def test_what_is_not_set_there_is_what_it_is_there(tmp_path):
    result = convert(tmp_path, "train_batch_size = 1\n")
    for key, value in {"lora_rank": 4, "lora_alpha": 1.0, "scheduler": "constant", "max_steps": 1600, "enable_bucket": False}.items():
        assert result.values[key] == value, key
    assert any("network_alpha was not set" in line for line in result.differs) and any("2e-6" in line for line in result.differs)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"network_module": "lycoris.kohya", "network_args": ["algo=loha", "conv_dim=4", "conv_alpha=2"]},
            {"network_type": "loha", "conv_rank": 4},
        ),
        ({"network_module": "lycoris.kohya", "network_args": ["algo=lokr", "factor=8"]}, {"network_type": "lokr", "lokr_factor": 8}),
        ({"network_module": "lycoris.kohya", "network_args": ["dora_wd=True"]}, {"network_type": "lora", "use_dora": True}),
        ({"LoRA_type": "Standard", "conv_dim": 8}, {"network_type": "lora", "conv_rank": None}),
        ({"network_train_unet_only": True, "unet_lr": 1e-4}, {"train_text_encoder": False, "text_encoder_lr": None}),
        ({"network_train_text_encoder_only": True, "text_encoder_lr": 1e-5}, {"train_unet": False, "train_text_encoder": True}),
        ({"text_encoder_lr": [1e-5, 2e-5], "unet_lr": 1e-4}, {"text_encoder_lr": 1e-5}),
        ({"optimizer_type": "DAdaptAdam", "learning_rate": 1.0}, {"optimizer": "Prodigy", "optimizer_args": None}),
        ({"optimizer_type": "Lion8bit"}, {"optimizer": "Lion"}),
        ({"use_8bit_adam": True}, {"optimizer": "AdamW8bit"}),
        ({"optimizer_type": "Adafactor", "optimizer_args": ["relative_step=False"]}, {"optimizer_args": {"relative_step": False}}),
        ({"lr_scheduler": "cosine", "lr_warmup": 10, "max_train_steps": 500}, {"warmup_steps": 50}),
        ({"lr_warmup_steps": 0.1, "lr_scheduler": "cosine", "max_train_steps": 500}, {"warmup_steps": 50}),
        ({"v_parameterization": True}, {"prediction_type": "v_prediction"}),
        ({"cache_latents": True, "cache_latents_to_disk": True}, {"cache_latents": "disk"}),
        ({"random_crop": True}, {"crop": "random"}),
        ({"resolution": "512,768"}, {"enable_bucket": True, "resolution": 628}),
        ({"seed": 0}, {"seed": None}),
        ({"min_snr_gamma": 0}, {"min_snr_gamma": None}),
        ({"scale_weight_norms": 1}, {"max_norm": 1.0}),
    ],
)
def test_what_needs_more_than_another_name(tmp_path, keys, expected):
    result = convert(tmp_path, {"network_dim": 8, **keys})
    assert {key: result.values.get(key) for key in expected} == expected
    try_optimizer(build(ImageConfig, result.values))


DOWN = "down_lr_weight=0,0.5,0.5,1,1,1,1,0,0,1,1,1"
EVEN = [4, *[2, 2, 9] * 3, 9, 9, 16, 9, 9, 9, *[8] * 9]
XL_RATES = {"input_blocks_4": 5e-5, "input_blocks_5": 5e-5, "output_blocks_0": 1e-5}


@pytest.mark.parametrize(
    ("words", "keys", "expected"),
    [
        ([DOWN, "mid_lr_weight=2"], {}, {"block_lrs": {"down_blocks_0": 5e-5, "down_blocks_2": 0.0, "mid_block": 2e-4}}),
        ([], {"mid_lr_weight": "0", "down_lr_weight": "", "up_lr_weight": None}, {"block_lrs": {"mid_block": 0.0}}),
        ([], {"mid_lr_weight": 0, "enable_block_weights": True}, {"block_lrs": {"mid_block": 0.0}}),
        ([], {"mid_lr_weight": 0, "block_dims": 0}, {"block_lrs": None, "block_ranks": None}),
        ([], {"up_lr_weight": ",".join(["1"] * 12)}, {"block_lrs": None}),
        (["mid_lr_weight=0.1", "block_lr_zero_threshold=0.1"], {}, {"block_lrs": {"mid_block": 0.0}}),
        (["down_lr_weight=1,1,1,1,0.5,0.5,1,1,1", "up_lr_weight=0.1,1,1,1,1,1,0,0,0"], {"sdxl": True}, {"block_lrs": XL_RATES}),
        ([f"block_dims={','.join(map(str, EVEN))}"], {}, {"block_ranks": {**{f"down_blocks_{i}": 2 for i in range(3)}, "mid_block": 16}}),
        ([DOWN, "mid_lr_weight=0"], {"optimizer_type": "Prodigy"}, {"block_lrs": None}),
        (["mid_lr_weight=0"], {"optimizer_type": "Prodigy"}, {"block_lrs": {"mid_block": 0.0}}),
    ],
)
def test_numbers_by_part_of_the_u_net_become_those_of_blocks(tmp_path, words, keys, expected):
    recipe = {"network_dim": 8, "network_module": "networks.lora", "unet_lr": 1e-4, "network_args": words}
    result = convert(tmp_path, {**recipe, **keys})
    assert {key: result.values.get(key) for key in expected} == expected
    given = [word.partition("=")[0] for word in words] + [key for key, value in keys.items() if value not in (None, "")]
    assert all(key in everything(result) for key in given)


@pytest.mark.parametrize(
    ("words", "keys", "said"),
    [
        (["down_lr_weight=0,1,0.5,1,1,1,1,1,1,1,1,1"], {}, "It differs inside down_blocks_0 .1, 0.5., which has one number here"),
        (["up_lr_weight=cosine+.25"], {}, "up_lr_weight is no list of numbers"),
        (["mid_lr_weight=-1"], {}, "no list of numbers that are not negative"),
        (["mid_lr_weight=nan"], {}, "no list of numbers"),
        (["down_lr_weight=1,0"], {}, "Lists of 2 numbers: SD 1 and 2 have 12, 1 and 12 parts there, SDXL 9, 3 and 9"),
        ([DOWN], {"sdxl": True}, "Lists of 12 numbers"),
        (["mid_lr_weight=0"], {"network_train_text_encoder_only": True}, "Only the text encoder is trained"),
        (["block_dims=4,4"], {}, "It has 2 numbers; SD 1 and 2 have 25"),
        (["block_dims=" + ",".join(["4.5"] * 25)], {}, "A rank is a whole number"),
        (["block_alphas=" + ",".join(["4"] * 25)], {}, "alpha / rank is the same in all blocks here"),
        ([DOWN], {"optimizer_type": "Prodigy"}, "Prodigy finds one rate"),
    ],
)
def test_numbers_by_part_that_are_not_taken_say_why(tmp_path, words, keys, said):
    recipe = {"network_dim": 8, "network_module": "networks.lora", "learning_rate": 1e-4, "network_args": words, **keys}
    result = convert(tmp_path, recipe)
    assert "block_lrs" not in result.values and "block_ranks" not in result.values
    (line,) = [line for line in result.left_out if line.startswith(words[0].partition("=")[0])]
    assert re.search(said, line) and line.endswith(".")


def count_part(name: str) -> int:
    """sd-scripts' place of an SD 1 layer in its 12, 1 and 12 parts, counted out from its name as they count it."""
    side, level, kind, number = re.search(
        r"unet_(down|mid|up)_blocks?_(\d?)_?(attentions|resnets|downsamplers|upsamplers)_(\d)", name
    ).groups()
    part = 3 * int(level or 0) + (2 if "samplers" in kind else int(number))
    return {"down": 1 + part, "mid": 12, "up": 13 + part}[side]


def test_the_blocks_of_a_recipe_are_the_models():
    for family, layout in (("sd1", blocks._SD1), ("sdxl", blocks._SDXL)):
        layers = name_unet_layers(make_unet(family), family)
        assert set(layout.all_layers) == set(list_blocks(layers))
        assert set(layout.attention) == set(list_blocks({name: layer for name, layer in layers.items() if is_transformer_layer(name)}))
    for only_attention, layout in ((False, blocks._SD1.all_layers), (True, blocks._SD1.attention)):
        parts = {block: set() for block in layout}
        for name in name_unet_layers(make_unet("sd1"), "sd1"):
            if is_transformer_layer(name) or not only_attention:
                parts[block_of(name)].add(count_part(name))
        assert parts == {block: set(places) for block, places in layout.items()}


@pytest.mark.parametrize("dims", [[8] * 12 + [4] + [8] * 12])
def test_alpha_of_blocks_is_told_where_it_differs(tmp_path, dims):
    recipe = {"network_dim": 8, "network_alpha": 8, "network_args": ["block_dims=" + ",".join(map(str, dims))]}
    assert any("alpha / rank is the same" in line for line in convert(tmp_path, recipe).differs)
    recipe["network_args"].append("block_alphas=" + ",".join(map(str, dims)))
    assert not any("alpha / rank is the same" in line for line in convert(tmp_path, recipe).differs)


@pytest.mark.parametrize("table", [KOHYA, ONETRAINER])
@pytest.mark.parametrize("value", [True, 3, "text", ["a"], {"a": 1}, None])
def test_every_key_with_every_kind_of_value_is_told_of_and_breaks_nothing(tmp_path, table, value):
    base = {"network_dim": 4} if table is KOHYA else {"training_method": "LORA", "model_type": "STABLE_DIFFUSION_15"}
    refused = {"flux1_checkbox", "sd3_checkbox", "model_type", "training_method", "datasets"}
    for key in table:
        if key in refused or ("." in key and isinstance(value, dict)):
            continue
        name, _, inner = key.partition(".")
        recipe = {**base, name: {inner: value} if inner else value}
        try:
            result = convert(tmp_path, recipe)
        except UserError as error:
            assert str(error).startswith("cannot "), key
            continue
        if not is_off(value) and not isinstance(value, (dict, list)) and not inner and not key.endswith("_unit"):
            told = everything(result)
            assert name in told or f"{value!r}" in told or any(option in told for option in (table[key].option,) if option), key


def test_the_tables_name_options_there_are():
    known = options_of(ImageConfig)
    for table in (KOHYA, ONETRAINER):
        assert {other.option for other in table.values() if other.option} <= set(known)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"LoRA_type": "Flux1", "network_dim": 4}, "Only Stable Diffusion"),
        ({"flux1_checkbox": True, "network_dim": 4}, "Only Stable Diffusion"),
        ({"model_train_type": "flux-lora", "network_dim": 4}, "Only Stable Diffusion"),
        ({"training_method": "LORA", "model_type": "FLUX_DEV_1"}, "Only Stable Diffusion"),
        ({"training_method": "EMBEDDING", "model_type": "STABLE_DIFFUSION_15"}, "Only LoRA"),
        ({"colour": "red"}, "none of its keys is known"),
        ("[broken", "neither JSON nor TOML"),
        ("a = ", "neither JSON nor TOML"),
    ],
)
def test_what_cannot_be_imported_is_a_sentence(tmp_path, content, said):
    with pytest.raises(UserError, match=said) as caught:
        convert(tmp_path, content)
    assert str(caught.value).startswith("cannot import")


def test_files_that_are_none(tmp_path):
    (tmp_path / "a.yaml").write_text("lora_rank: 4")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{}")
    (tmp_path / "list.json").write_text("[1]")
    for name in ("a.yaml", "a.json", "list.json", "gone.toml", "."):
        with pytest.raises(UserError, match="cannot import"):
            ImageConfig.import_recipe(tmp_path / name)


def test_without_a_reader_of_toml_a_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_READERS", ("no_such_reader",))
    with pytest.raises(UserError, match="Install tomli"):
        convert(tmp_path, LORA_SCRIPTS)


def test_the_tool_writes_a_run_file_and_tells(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my recipe.toml").write_text(LORA_SCRIPTS, encoding="utf-8")
    assert import_tool.main(["my recipe.toml"]) == 0
    told = capsys.readouterr().out
    assert "network_dim: 32 -> lora_rank: 32" in told and "No counterpart:" in told and "Differs in meaning:" in told
    written = (tmp_path / "my recipe.yaml").read_text(encoding="utf-8")
    assert build(ImageConfig, yaml.safe_load(written)).lora_rank == 32 and "# Not taken: xformers" in written
    assert import_tool.main(["my recipe.toml"]) == 2 and "there already" in capsys.readouterr().err
    assert import_tool.main(["gone.toml"]) == 2 and "no such file" in capsys.readouterr().err


def test_the_page_of_all_keys_is_up_to_date():
    page = write_import_table.ROOT / "docs" / "import.md"
    assert page.read_text(encoding="utf-8") == write_import_table.write_page(), "run: python tools/write_import_table.py"


@pytest.mark.parametrize("content", [{"general": True}, {"datasets": [{"subsets": 3}]}, {"datasets": 3}])
def test_values_that_no_trainer_writes_are_said(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="cannot import .*of a kind that no trainer writes there"):
        files.convert_file(tmp_path / "a.json", ImageConfig)
