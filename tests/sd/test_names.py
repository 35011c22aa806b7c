"""Exported names equal those in files that sd-scripts wrote, and diffusers' own map between the two ways of naming."""

import json
from pathlib import Path

import pytest
import torch
from full_size_models import UNETS, make_text_encoders, make_unet
from hotlora.sd.names import block_of, is_transformer_layer, list_blocks, name_text_layers, name_unet_layers, name_unet_paths
from torch import nn

FIXTURES = Path(__file__).parents[1] / "fixtures"
TINY = {"block_out_channels": (32, 64), "norm_num_groups": 8, "cross_attention_dim": 16}
TINY_SHAPES = {
    "one residual block per level": {
        **TINY,
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "transformer_layers_per_block": 1,
    },
    "three residual blocks, attention everywhere": {
        **TINY,
        "layers_per_block": 3,
        "attention_head_dim": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "transformer_layers_per_block": 1,
    },
}


def fixture_names(file):
    return {key.partition(".")[0] for key in json.loads((FIXTURES / file).read_text(encoding="utf-8"))["tensors"]}


def compvis_paths(config, modules):
    """CompVis module paths -> parameters' diffusers paths, as diffusers' own single-file loader maps them.

    The CompVis paths are laid out as CompVis' UNetModel counts its blocks.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    paths = ["time_embed.0", "time_embed.2", "out.0", "out.2", "input_blocks.0.0"]
    attention = ["proj_in", "proj_out", "norm", "transformer_blocks.0.attn1.to_q", "transformer_blocks.0.ff.net.0.proj"]
    residual = ["in_layers.0", "in_layers.2", "out_layers.0", "out_layers.3", "emb_layers.1", "skip_connection"]
    number = 1
    for level, kind in enumerate(config["down_block_types"]):
        for _ in range(config["layers_per_block"]):
            paths += [f"input_blocks.{number}.0.{part}" for part in residual]
            paths += [f"input_blocks.{number}.1.{part}" for part in attention if "Attn" in kind]
            number += 1
        if level + 1 < len(config["down_block_types"]):
            paths.append(f"input_blocks.{number}.0.op")
            number += 1
    paths += [f"middle_block.{slot}.{part}" for slot in (0, 2) for part in residual] + [f"middle_block.1.{part}" for part in attention]
    number = 0
    for level, kind in enumerate(config["up_block_types"]):
        for i in range(config["layers_per_block"] + 1):
            paths += [f"output_blocks.{number}.0.{part}" for part in residual]
            paths += [f"output_blocks.{number}.1.{part}" for part in attention if "Attn" in kind]
            if i == config["layers_per_block"] and level + 1 < len(config["up_block_types"]):
                paths.append(f"output_blocks.{number}.{2 if 'Attn' in kind else 1}.conv")
            number += 1
    marked = {f"model.diffusion_model.{path}.{part}": torch.tensor(i) for i, path in enumerate(paths) for part in ("weight", "bias")}
    converted = convert_ldm_unet_checkpoint(marked, {**config, "class_embed_type": None, "addition_embed_type": None})
    back = {int(value): key.rpartition(".")[0] for key, value in converted.items()}
    pairs = {path: back[i] for i, path in enumerate(paths)}
    return {compvis: diffusers for compvis, diffusers in pairs.items() if diffusers in modules}


@pytest.mark.parametrize("file", ["sdscripts-sd15-r2.json", "sdscripts-sd15-locon-r2.json"])
def test_sd1_names_are_sd_scripts(file):
    layers = {**name_unet_layers(make_unet("sd1"), "sd1"), **name_text_layers(make_text_encoders("sd1"), "sd1")}
    named = set(layers) if "locon" in file else {n for n in layers if n.startswith("lora_te") or is_transformer_layer(n)}
    assert named == fixture_names(file)


@pytest.mark.parametrize(("family", "transformer", "text"), [("sd1", 192, 72), ("sd2", 192, 138), ("sdxl", 722, 264)])
def test_counts_are_kohyas(family, transformer, text):
    unet = name_unet_layers(make_unet(family), family)
    assert sum(map(is_transformer_layer, unet)) == transformer
    encoders = name_text_layers(make_text_encoders(family), family)
    assert len(encoders) == text


def test_sdxl_names_are_counted_out_by_hand():
    """sdxl_original_unet of sd-scripts: attentions in input blocks 4, 5, 7, 8 and output blocks 0 to 5."""
    depth = {f"input_blocks_{n}_1": d for n, d in ((4, 2), (5, 2), (7, 10), (8, 10))} | {"middle_block_1": 10}
    depth |= {f"output_blocks_{n}_1": d for n, d in ((0, 10), (1, 10), (2, 10), (3, 2), (4, 2), (5, 2))}
    inner = [f"attn{a}_{p}" for a in (1, 2) for p in ("to_q", "to_k", "to_v", "to_out_0")] + ["ff_net_0_proj", "ff_net_2"]
    wanted = {f"lora_unet_{block}_{p}" for block in depth for p in ("proj_in", "proj_out")}
    wanted |= {f"lora_unet_{b}_transformer_blocks_{i}_{p}" for b, d in depth.items() for i in range(d) for p in inner}
    layers = name_unet_layers(make_unet("sdxl"), "sdxl")
    assert {n for n in layers if is_transformer_layer(n)} == wanted
    residual = [f"input_blocks_{n}_0" for n in (1, 2, 4, 5, 7, 8)] + [f"output_blocks_{n}_0" for n in range(9)]
    residual += ["middle_block_0", "middle_block_2"]
    parts = {f"lora_unet_{b}_{p}" for b in residual for p in ("in_layers_2", "out_layers_3", "emb_layers_1")}
    parts |= {f"lora_unet_input_blocks_{n}_0_op" for n in (3, 6)} | {f"lora_unet_output_blocks_{n}_2_conv" for n in (2, 5)}
    shortcuts = [f"input_blocks_{n}" for n in (4, 7)] + [f"output_blocks_{n}" for n in range(9)]
    parts |= {f"lora_unet_{b}_0_skip_connection" for b in shortcuts}
    assert {n for n in layers if not is_transformer_layer(n)} == parts


def test_sdxl_text_names():
    names = set(name_text_layers(make_text_encoders("sdxl"), "sdxl"))
    assert "lora_te1_text_model_encoder_layers_11_mlp_fc2" in names
    assert "lora_te2_text_model_encoder_layers_31_self_attn_q_proj" in names
    assert not any("text_projection" in name for name in names)


def test_text_paths_with_and_without_their_prefix_have_one_name():
    layer = nn.ModuleDict({"mlp": nn.ModuleDict({"fc1": nn.Linear(2, 2)})})
    inner = nn.ModuleDict({"encoder": nn.ModuleDict({"layers": nn.ModuleList([layer])})})
    for encoder in (inner, nn.ModuleDict({"text_model": inner})):
        assert list(name_text_layers([encoder], "sd1")) == ["lora_te_text_model_encoder_layers_0_mlp_fc1"]


CONFIGS = [(family, UNETS[family]) for family in UNETS] + [(f, {**UNETS[f], **s}) for f in ("sd1", "sdxl") for s in TINY_SHAPES.values()]


@pytest.mark.parametrize(("family", "config"), CONFIGS)
def test_both_ways_of_naming_give_one_name(family, config):
    changes = {key: value for key, value in config.items() if UNETS[family].get(key) != value}
    modules = dict(make_unet(family, **changes).named_modules())
    same = compvis_paths(config, modules)
    from_compvis = name_unet_paths(same, family)
    from_diffusers = name_unet_paths(modules, family)
    compared = 0
    for compvis, diffusers in same.items():
        if from_diffusers.get(diffusers):
            assert from_compvis[compvis] == from_diffusers[diffusers]
            compared += 1
            if family == "sdxl":
                assert from_compvis[compvis] == "lora_unet_" + compvis.replace(".", "_")
            else:
                assert from_diffusers[diffusers] == "lora_unet_" + diffusers.replace(".", "_")
    layers = {p for p, m in modules.items() if isinstance(m, (nn.Linear, nn.Conv2d)) and p in from_diffusers}
    assert compared >= len({p for p in layers if p in same.values()}) > 20


def test_every_layer_has_its_own_name():
    for family in UNETS:
        modules = dict(make_unet(family).named_modules())
        names = name_unet_paths(modules, family)
        assert len(set(names.values())) == len(names)


def test_blocks_of_names():
    assert list_blocks(name_unet_layers(make_unet("sd1"), "sd1")) == [
        *[f"down_blocks_{i}" for i in range(4)],
        *[f"up_blocks_{i}" for i in range(4)],
        "mid_block",
    ]
    assert set(list_blocks(name_unet_layers(make_unet("sdxl"), "sdxl"))) == {
        *[f"input_blocks_{i}" for i in range(1, 9)],
        "middle_block",
        *[f"output_blocks_{i}" for i in range(9)],
    }
    assert block_of("lora_unet_input_blocks_14_1_proj_in") == "input_blocks_14"
    assert block_of("lora_te_text_model_encoder_layers_0_mlp_fc1") is None
