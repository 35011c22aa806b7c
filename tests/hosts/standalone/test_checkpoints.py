"""What a file or folder is found to be, and what is said of those that cannot be trained."""

import json
import re
import struct
from pathlib import Path

import pytest
import tiny
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.pickled import is_unsafe
from hotlora.hosts.standalone.checkpoints.architecture import derive_configs, read_published
from hotlora.hosts.standalone.checkpoints.original_config import OriginalConfig, read_original_config
from hotlora.hosts.standalone.checkpoints.recognising import describe
from hotlora.hosts.standalone.loading import build_empty
from safetensors.torch import load_file

UNET = "model.diffusion_model."


def write_table_of_contents(path, shapes, metadata=None):
    """A safetensors file with the right header and zeros behind it: a sparse file, however large it says it is."""
    header, place = {"__metadata__": metadata or {}}, 0
    for name, shape in shapes.items():
        count = 2
        for side in shape:
            count *= side
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [place, place + count]}
        place += count
    raw = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + place)
    return path


@pytest.fixture(scope="module")
def shapes(models):
    """Names and shapes of tiny files by family."""
    files = {"sd1": models.sd1_file, "sd2": models.sd2_file, "sdxl": models.sdxl_file}
    return {family: {name: tuple(tensor.shape) for name, tensor in load_file(str(path)).items()} for family, path in files.items()}


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_family_is_found(models, family, kind):
    found = describe(getattr(models, f"{family}_{kind}"))
    assert found.family == family
    assert found.prediction_type == ("v_prediction" if family == "sd2" else "epsilon")
    assert not found.zero_terminal_snr


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_file_gives_the_folders_configurations(models, family):
    file, folder = (describe(getattr(models, f"{family}_{kind}")).configs for kind in ("file", "folder"))
    same = {
        "unet": ["block_out_channels", "layers_per_block", "down_block_types", "up_block_types", "cross_attention_dim"],
        "vae": ["block_out_channels", "layers_per_block", "scaling_factor", "latent_channels"],
        "text_encoder": ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "vocab_size"],
        "text_encoder_2": ["hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "projection_dim"],
    }
    for component in folder.keys() & same.keys():
        for key in same[component]:
            assert file[component][key] == folder[component][key], (component, key)


PUBLISHED_SIZES = [  # parameter counts of the published weights
    ("sd1", "unet", 859_520_964),
    ("sd1", "vae", 83_653_863),
    ("sd1", "text_encoder", 123_060_480),
    ("sd2", "unet", 865_910_724),
    ("sd2", "text_encoder", 340_387_840),
    ("sdxl", "unet", 2_567_463_684),
    ("sdxl", "vae", 83_653_863),
    ("sdxl", "text_encoder_2", 694_659_840),
]


@pytest.mark.parametrize(("family", "component", "count"), PUBLISHED_SIZES)
def test_published_configurations_have_the_published_size(family, component, count):
    model = build_empty(component, read_published(family, component))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_full_size_shapes_give_the_published_configurations(family):
    names = ["unet", "vae", "text_encoder", *(["text_encoder_2"] if family == "sdxl" else [])]
    parts = {name: build_empty(name, read_published(family, name)) for name in names}
    with torch.device("meta"):
        tensors = tiny.compvis_tensors(parts)
        if family == "sd1":
            tensors |= tiny.transformers_tensors(parts["text_encoder"], "cond_stage_model.transformer.")
        elif family == "sd2":
            tensors |= tiny.open_clip_tensors(parts["text_encoder"], "cond_stage_model.model.", unused_layers=1)
        else:
            tensors |= tiny.transformers_tensors(parts["text_encoder"], "conditioner.embedders.0.transformer.")
            tensors |= tiny.open_clip_tensors(parts["text_encoder_2"], "conditioner.embedders.1.model.", unused_layers=0)
    found = derive_configs({name: tuple(tensor.shape) for name, tensor in tensors.items()}, family, OriginalConfig())
    for name in names:
        expected = read_published(family, name)
        if name == "unet" and family != "sdxl":
            expected["transformer_layers_per_block"] = [1, 1, 1, 1]
        if name == "unet" and family == "sd1":
            expected["use_linear_projection"] = False
        assert found[name] == expected


# -- what the model predicts -------------------------------------------------------------------------------------------


def test_sdxl_tells_v_prediction_and_zero_terminal_snr_by_tensors(tmp_path, shapes):
    plain = write_table_of_contents(tmp_path / "a.safetensors", shapes["sdxl"] | {"v_pred": (0,)})
    both = write_table_of_contents(tmp_path / "b.safetensors", shapes["sdxl"] | {"v_pred": (0,), "ztsnr": (0,)})
    assert (describe(plain).prediction_type, describe(plain).zero_terminal_snr) == ("v_prediction", False)
    assert (describe(both).prediction_type, describe(both).zero_terminal_snr) == ("v_prediction", True)


@pytest.mark.parametrize(
    ("stem", "metadata", "expected"),
    [
        ("model", {}, None),
        ("model", {"modelspec.prediction_type": "v"}, "v_prediction"),
        ("model", {"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ("v2-1_768-v-ema-pruned", {}, "v_prediction"),
        ("v2-1_768-ema", {}, None),
        ("dream vpred", {}, "v_prediction"),
        ("dream V-Pred 2", {}, "v_prediction"),
        ("dream-vpred", {"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ("model", {"modelspec.architecture": "stable-diffusion-v2-768-v"}, "v_prediction"),
    ],
)
def test_sd2_prediction_type(tmp_path, shapes, stem, metadata, expected):
    assert describe(write_table_of_contents(tmp_path / f"{stem}.safetensors", shapes["sd2"], metadata)).prediction_type == expected


@pytest.mark.parametrize(("line", "expected"), [('    parameterization: "v"\n', "v_prediction"), ("", "epsilon")])
def test_yaml_beside_the_file_says_what_it_predicts(tmp_path, shapes, line, expected):
    path = write_table_of_contents(tmp_path / "m.safetensors", shapes["sd2"])
    (tmp_path / "m.yaml").write_text(f"model:\n  params:\n{line}    linear_start: 0.001\n    linear_end: 0.02\n", encoding="utf-8")
    found = describe(path)
    assert found.prediction_type == expected
    assert (found.configs["scheduler"]["beta_start"], found.configs["scheduler"]["beta_end"]) == (0.001, 0.02)


def test_yaml_of_sdxl_names_its_scaling(tmp_path):
    yaml = "model:\n  params:\n    denoiser_config:\n      params:\n        scaling_config:\n          target: sgm.modules.X.VScaling\n"
    (tmp_path / "m.yaml").write_text(yaml, encoding="utf-8")
    assert read_original_config(tmp_path / "m.safetensors").prediction_type == "v_prediction"


def test_yaml_sets_heads_and_text_encoder(tmp_path, shapes):
    path = write_table_of_contents(tmp_path / "m.safetensors", shapes["sd1"])
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text('{"text_config": {"num_attention_heads": 2}}', encoding="utf-8")
    yaml = "model:\n  params:\n    unet_config: {params: {num_heads: 4}}\n    cond_stage_config: {params: {version: ./clip}}\n"
    (tmp_path / "m.yaml").write_text(yaml, encoding="utf-8")
    configs = describe(path).configs
    assert configs["unet"]["attention_head_dim"] == 4
    assert configs["text_encoder"]["num_attention_heads"] == 2


# -- refusals ----------------------------------------------------------------------------------------------------------


def refuse(path, *words):
    with pytest.raises(UserError) as caught:
        describe(path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("cannot ")
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("shapes_of_file", "words"),
    [
        ({"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (4, 8)}, ["a LoRA", "init_lora"]),
        ({"unet.mid_block.attentions.0.proj_in.lora_A.weight": (4, 8)}, ["a LoRA"]),
        ({"encoder.conv_in.weight": (32, 3, 3, 3), "decoder.conv_in.weight": (32, 4, 3, 3)}, ["it is a VAE", "as vae"]),
        ({"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (4, 4)}, ["Stable Diffusion 3"]),
        ({"double_blocks.0.img_attn.qkv.weight": (4, 4)}, ["Flux"]),
        ({"control_model.input_blocks.0.0.weight": (4, 4)}, ["ControlNet"]),
        ({"emb_params": (2, 768)}, ["textual inversion"]),
        ({"down_blocks.0.resnets.0.conv1.weight": (4, 4)}, ["one part of a diffusers model", "model_index.json"]),
        ({"text_model.embeddings.position_embedding.weight": (77, 4)}, ["text encoder alone"]),
        ({"something": (1,)}, ["no Stable Diffusion U-Net"]),
    ],
)
def test_other_kinds_of_file_are_named(tmp_path, shapes_of_file, words):
    refuse(write_table_of_contents(tmp_path / "x.safetensors", shapes_of_file), *words)


@pytest.mark.parametrize(("channels", "kind"), [(9, "inpainting"), (8, "instruct-pix2pix"), (5, "depth"), (6, "6 input channels")])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_models_with_more_inputs_are_refused(tmp_path, shapes, family, channels, kind):
    changed = shapes[family] | {UNET + "input_blocks.0.0.weight": (32, channels, 3, 3)}
    refuse(write_table_of_contents(tmp_path / "x.safetensors", changed), kind)


def test_refiner_is_refused(tmp_path, shapes):
    renamed = {re.sub(r"embedders\.1", "embedders.0", name): shape for name, shape in shapes["sdxl"].items() if "embedders.0." not in name}
    refuse(write_table_of_contents(tmp_path / "x.safetensors", renamed), "refiner", "SDXL base")


def test_unet_alone_is_refused(tmp_path, shapes):
    unet = {name: shape for name, shape in shapes["sd1"].items() if "cond_stage" not in name}
    refuse(write_table_of_contents(tmp_path / "x.safetensors", unet), "no text encoder")


def test_incomplete_model_names_the_missing_tensor(tmp_path, shapes):
    lacking = "middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    refuse(write_table_of_contents(tmp_path / "x.safetensors", {n: s for n, s in shapes["sd1"].items() if n != UNET + lacking}), lacking)


def test_distilled_sdxl_is_refused(tmp_path, shapes):
    fewer = {name: shape for name, shape in shapes["sdxl"].items() if "input_blocks.8.1.transformer_blocks.1." not in name}
    refuse(write_table_of_contents(tmp_path / "x.safetensors", fewer), "blocks were removed", "SSD-1B")


def test_missing_file_suggests_the_nearest(models):
    refuse(models.root / "onr.safetensors", "Did you mean", "one.safetensors")
    refuse(models.root / "sdxll", "Did you mean", "sdxl")


def test_hub_name_is_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse(Path("runwayml/stable-diffusion-v1-5"), "not downloaded")


def test_broken_files_are_named(tmp_path, models):
    whole = models.sd1_file.read_bytes()
    cut, garbage, empty = tmp_path / "cut.safetensors", tmp_path / "garbage.safetensors", tmp_path / "empty.safetensors"
    cut.write_bytes(whole[: len(whole) // 2])
    garbage.write_bytes(b"<html>404</html>" * 10)
    empty.write_bytes(b"")
    refuse(cut, "cut off", f"{len(whole) // 2:,}", f"{len(whole):,}")
    refuse(garbage, "no safetensors file")
    refuse(empty, "no safetensors file")


class _Program:
    """What a malicious pickle would hold."""

    def __reduce__(self):
        return print, ("this ran",)


def test_no_pickle_is_read_where_torch_would_run_it(tmp_path, monkeypatch, capsys):
    torch.save({"state_dict": _Program()}, tmp_path / "evil.ckpt")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu124")
    refuse(tmp_path / "evil.ckpt", "with torch 2.5.1+cu124", "CVE-2025-32434", "torch 2.6 or newer")
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.skipif(is_unsafe(), reason="this torch cannot read pickled files safely")
def test_pickles_are_read_without_running_them(tmp_path, models, capsys):
    good, evil, broken, text = (tmp_path / f"{name}.ckpt" for name in ("good", "evil", "broken", "text"))
    torch.save({"state_dict": load_file(str(models.sd1_file)), "global_step": 3}, good)
    torch.save({"state_dict": _Program()}, evil)
    broken.write_bytes(good.read_bytes()[:5000])
    text.write_text("no such file", encoding="utf-8")
    assert describe(good).family == "sd1"
    refuse(evil, "more than tensors", ".safetensors")
    refuse(broken, "broken or incomplete")
    refuse(text, "no checkpoint")
    assert "this ran" not in capsys.readouterr().out


def test_wrong_suffix_and_folders_without_index(tmp_path, models):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    refuse(tmp_path / "model.gguf", ".safetensors")
    refuse(models.root, "no model_index.json", ".safetensors")


@pytest.mark.parametrize(
    ("index", "unet", "word"),
    [
        ({"_class_name": "StableDiffusion3Pipeline"}, {}, "StableDiffusion3Pipeline"),
        ({"_class_name": "StableDiffusionPipeline"}, {"in_channels": 9}, "inpainting"),
        ({"_class_name": "StableDiffusionXLPipeline"}, {"in_channels": 4}, "refiner"),
    ],
)
def test_folders_of_other_kinds_are_refused(tmp_path, index, unet, word):
    (tmp_path / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    for name in ("unet", "vae"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(unet), encoding="utf-8")
    refuse(tmp_path, word)


def test_incomplete_folder_names_what_is_missing(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}', encoding="utf-8")
    refuse(tmp_path, str(tmp_path / "unet" / "config.json"), "missing")
