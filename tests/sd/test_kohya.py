"""LoRA files equal sd-scripts' in names, shapes, dtypes and hashes, and a reader gets back exactly what peft applied."""

import hashlib
import json
import struct
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from a1111_delta import a1111_delta
from full_size_models import Adapters, make_text_encoders, make_unet
from hotlora.engine.errors import UserError
from hotlora.engine.interfaces import Target
from hotlora.engine.options import build
from hotlora.sd.config import ImageConfig
from hotlora.sd.kohya import write_lora
from hotlora.sd.lora_files import read_lora
from hotlora.sd.names import name_text_layers, name_unet_layers
from hotlora.sd.targets import choose_targets
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

FIXTURES = Path(__file__).parents[1] / "fixtures"
DTYPE_NAMES = {torch.float16: "F16", torch.float32: "F32", torch.bfloat16: "BF16"}


def header(path):
    data = path.read_bytes()
    return json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])


def peft_layer(layer, config):
    from peft import inject_adapter_in_model

    parent = inject_adapter_in_model(config, nn.ModuleDict({"it": layer}), "default")
    adapted = parent["it"]
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "base_layer" not in name:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    parts = {
        name.replace(".default", "").replace(".weight", ""): parameter.detach().clone()
        for name, parameter in adapted.named_parameters()
        if "base_layer" not in name
    }
    return adapted, parts


def stand_in(kind, layer, parts, config, alpha):
    target = Target(layer, config.r, alpha, 1e-4)
    rslora = getattr(config, "use_rslora", False)
    return SimpleNamespace(kind=kind, use_rslora=rslora, targets={"lora_unet_x": target}, tensors=lambda: {"lora_unet_x": parts})


LAYERS = {
    "linear": lambda: nn.Linear(12, 20),
    "1x1": lambda: nn.Conv2d(12, 20, 1),
    "3x3": lambda: nn.Conv2d(12, 20, 3, padding=1),
}


def peft_config(kind, options):
    from peft import LoHaConfig, LoKrConfig, LoraConfig

    classes = {"lora": LoraConfig, "loha": LoHaConfig, "lokr": LoKrConfig}
    strength = "lora_alpha" if kind == "lora" else "alpha"
    options = {strength if key == "alpha" else key: value for key, value in options.items()}
    return classes[kind](target_modules=["it"], **options)


CASES = [
    ("lora", {"r": 2, "alpha": 3}),
    ("lora", {"r": 8, "alpha": 4, "use_rslora": True}),
    ("loha", {"r": 2, "alpha": 3}),
    ("loha", {"r": 2, "alpha": 3, "use_effective_conv2d": True}),
    ("lokr", {"r": 2, "alpha": 3}),
    ("lokr", {"r": 1, "alpha": 3, "use_effective_conv2d": True}),
    ("lokr", {"r": 1, "alpha": 3, "decompose_both": True, "decompose_factor": 4}),
    ("lokr", {"r": 16, "alpha": 4}),
    ("lokr", {"r": 16, "alpha": 16, "decompose_factor": 2}),
]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a1111_applies_what_peft_trained(tmp_path, kind, options, layer):
    torch.manual_seed(0)
    config = peft_config(kind, options)
    base = LAYERS[layer]()
    adapted, parts = peft_layer(base, config)
    path = tmp_path / "x.safetensors"
    write_lora(stand_in(kind, base, parts, config, options["alpha"]), path, {}, torch.float32)
    tensors = {key.partition(".")[2]: value for key, value in load_file(path).items()}
    wanted = adapted.get_delta_weight("default").detach()
    if kind == "lokr" and version("peft").startswith("0.13"):
        wanted = wanted * options["alpha"] / options["r"]  # that version's LoKr leaves the scale out
    assert torch.allclose(a1111_delta(tensors, base.weight.shape), wanted, atol=1e-6, rtol=1e-5)
    assert wanted.abs().max() > 1e-3


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_reading_back_gives_the_same_change(tmp_path, kind, options, layer):
    """read -> scaled by alpha / rank as read == what a loader makes of the file."""
    torch.manual_seed(0)
    config = peft_config(kind, options)
    base = LAYERS[layer]()
    _, parts = peft_layer(base, config)
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    write_lora(stand_in(kind, base, parts, config, options["alpha"]), first, {"ss_a": "b"}, torch.float32)
    lora = read_lora(first)
    assert lora.kind == kind and lora.metadata["ss_a"] == "b"
    read = lora.tensors["lora_unet_x"]
    assert {part: tensor.shape for part, tensor in read.items()} == {part: tensor.shape for part, tensor in parts.items()}
    if kind != "lokr" or {"lokr_w1_b", "lokr_w2_b"} & parts.keys():
        assert lora.ranks == {"lora_unet_x": options["r"]}
    again = SimpleNamespace(r=lora.ranks["lora_unet_x"])
    write_lora(stand_in(kind, base, lora.tensors["lora_unet_x"], again, lora.alphas["lora_unet_x"]), second, {}, torch.float32)
    one, two = load_file(first), load_file(second)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_dora_scale_and_alpha_are_kept(tmp_path):
    parts = {"lora_A": torch.randn(2, 12), "lora_B": torch.randn(20, 2), "dora_scale": torch.rand(1, 12)}
    adapters = stand_in("lora", nn.Linear(12, 20), parts, SimpleNamespace(r=2), 1.0)
    write_lora(adapters, tmp_path / "d.safetensors", {}, torch.float16)
    stored = load_file(tmp_path / "d.safetensors")
    assert {key: (tuple(t.shape), t.dtype) for key, t in stored.items()} == {
        "lora_unet_x.lora_down.weight": ((2, 12), torch.float16),
        "lora_unet_x.lora_up.weight": ((20, 2), torch.float16),
        "lora_unet_x.dora_scale": ((1, 12), torch.float16),
        "lora_unet_x.alpha": ((), torch.float16),
    }
    assert torch.equal(stored["lora_unet_x.dora_scale"], parts["dora_scale"].half())


@pytest.mark.parametrize(("file", "options"), [("sdscripts-sd15-r2", {}), ("sdscripts-sd15-locon-r2", {"conv_rank": 2, "conv_alpha": 1})])
def test_names_shapes_and_dtypes_are_sd_scripts(tmp_path, file, options):
    config = build(ImageConfig, {"lora_rank": 2, "lora_alpha": 2, "train_text_encoder": True, **options})
    unet = name_unet_layers(make_unet("sd1"), "sd1")
    targets = choose_targets(unet, name_text_layers(make_text_encoders("sd1"), "sd1"), config)
    path = tmp_path / f"{file}.safetensors"
    write_lora(Adapters(targets), path, {}, torch.float16)
    written = {key: {"shape": v["shape"], "dtype": v["dtype"]} for key, v in header(path).items() if key != "__metadata__"}
    wanted = json.loads((FIXTURES / f"{file}.json").read_text(encoding="utf-8"))["tensors"]
    assert written == wanted
    if options:
        alphas = {key: t.item() for key, t in load_file(path).items() if key.endswith("alpha")}
        assert alphas["lora_unet_mid_block_resnets_0_conv1.alpha"] == 1
        assert alphas["lora_unet_mid_block_resnets_0_time_emb_proj.alpha"] == 2


def test_hashes_of_sd_scripts_own_file_come_out_again(tmp_path):
    """Its tensors and ss_ metadata, written by us, have the hashes that sd-scripts stored in it."""
    lora = read_lora(FIXTURES / "sdscripts-sd15-r2.safetensors")
    stored = lora.metadata
    targets = {name: Target(None, lora.ranks[name], lora.alphas[name], 1e-4) for name in lora.tensors}
    adapters = SimpleNamespace(kind="lora", use_rslora=False, targets=targets, tensors=lambda: lora.tensors)
    metadata = {key: value for key, value in stored.items() if not key.startswith("sshs_")}
    path = tmp_path / f"{stored['ss_output_name']}.safetensors"
    write_lora(adapters, path, metadata, torch.float16)
    with safe_open(str(path), framework="pt") as file:
        ours = file.metadata()
    assert ours["sshs_model_hash"] == stored["sshs_model_hash"]
    assert ours["sshs_legacy_hash"] == stored["sshs_legacy_hash"]
    assert ours == stored
    original, copy = load_file(FIXTURES / "sdscripts-sd15-r2.safetensors"), load_file(path)
    assert original.keys() == copy.keys() and all(torch.equal(original[key], copy[key]) for key in original)


def test_model_hash_is_of_the_file_without_its_header(tmp_path):
    """What A1111 computes for a file that has none stored (modules/hashes.py)."""
    path = tmp_path / "katze größer.safetensors"
    write_lora(Adapters({"lora_unet_x": Target(nn.Linear(4, 4), 2, 2.0, 0)}, value=0.5), path, {"ss_note": "ü"}, torch.float16)
    data = path.read_bytes()
    metadata = header(path)["__metadata__"]
    assert metadata["sshs_model_hash"] == hashlib.sha256(data[8 + struct.unpack("<Q", data[:8])[0] :]).hexdigest()
    assert metadata["ss_output_name"] == metadata["modelspec.title"] == "katze größer"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 70000.0])
def test_nothing_that_is_not_a_number_is_written(tmp_path, value):
    path = tmp_path / "bad.safetensors"
    with pytest.raises((RuntimeError, UserError), match="lora_unet_x.lora_down.weight") as refused:
        write_lora(Adapters({"lora_unet_x": Target(nn.Linear(4, 4), 2, 2.0, 0)}, value=value), path, {}, torch.float16)
    assert not list(tmp_path.iterdir())
    assert isinstance(refused.value, UserError) == (value == 70000.0)  # only that can be mended by an option


def test_large_values_fit_wider_formats(tmp_path):
    for name, dtype in (("a", torch.float32), ("b", torch.bfloat16)):
        path = tmp_path / f"{name}.safetensors"
        write_lora(Adapters({"lora_unet_x": Target(nn.Linear(4, 4), 2, 2.0, 0)}, value=70000.0), path, {}, dtype)
        assert header(path)["lora_unet_x.lora_up.weight"]["dtype"] == DTYPE_NAMES[dtype]


def test_sd_scripts_file_is_read():
    lora = read_lora(FIXTURES / "sdscripts-sd15-r2.safetensors")
    assert lora.kind == "lora" and len(lora.tensors) == 264
    assert set(lora.ranks.values()) == {2} and set(lora.alphas.values()) == {2.0}
    tensor = lora.tensors["lora_unet_mid_block_attentions_0_proj_in"]["lora_B"]
    raw = load_file(FIXTURES / "sdscripts-sd15-r2.safetensors")["lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"]
    assert tensor.dtype == torch.float32 and torch.equal(tensor, raw.float())


def plain_lora(names=("lora_down", "lora_up"), **more):
    tensors = {f"lora_unet_x.{names[0]}.weight": torch.ones(4, 8), f"lora_unet_x.{names[1]}.weight": torch.ones(8, 4)}
    return {**tensors, **{f"lora_unet_x.{key}": value for key, value in more.items()}}


def test_other_spellings_and_missing_alpha(tmp_path):
    save_file(plain_lora(("lora_A", "lora_B")), str(tmp_path / "x.safetensors"))
    lora = read_lora(tmp_path / "x.safetensors")
    assert set(lora.tensors["lora_unet_x"]) == {"lora_A", "lora_B"}
    assert lora.ranks == {"lora_unet_x": 4} and lora.alphas == {"lora_unet_x": 4.0} and lora.metadata == {}


@pytest.mark.parametrize("name", ["x.pt", "x.ckpt", "pytorch_lora_weights.bin"])
def test_pickled_files_are_never_opened(tmp_path, name):
    torch.save({"state_dict": plain_lora(alpha=torch.tensor(2.0))}, tmp_path / name)
    with pytest.raises(UserError, match="can hold a program that runs when it is opened. Convert it to .safetensors"):
        read_lora(tmp_path / name)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"model.diffusion_model.input_blocks.0.0.weight": torch.ones(1)}, "a whole checkpoint"),
        ({"control_model.input_hint_block.0.weight": torch.ones(1)}, "a ControlNet"),
        ({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(1)}, "a language model's adapter"),
        ({"emb_params": torch.ones(1)}, "a textual inversion"),
        ({"decoder.conv_in.weight": torch.ones(1)}, "a VAE"),
        ({"lora_unet_x.oft_blocks": torch.ones(1)}, "a LyCORIS file of a kind that is not trained here"),
        ({"lora_unet_x.alpha": torch.ones(())}, "something else"),
        ({"fc.weight": torch.ones(1)}, "its first tensor is 'fc.weight'"),
        ({"lora_unet_x.lora_down.weight": torch.ones(4, 8)}, "there are only lora_A. It is damaged"),
        ({**plain_lora(), **{f"lora_unet_y.hada_w{w}": torch.ones(2, 2) for w in ("1_a", "1_b", "2_a", "2_b")}}, "it mixes loha and lora"),
        (
            {
                **plain_lora(dora_scale=torch.ones(8, 1)),
                "lora_unet_y.lora_A.weight": torch.ones(4, 8),
                "lora_unet_y.lora_B.weight": torch.ones(8, 4),
            },
            "only 1 of its 2 layers have DoRA",
        ),
        (plain_lora(alpha=torch.tensor(float("nan"))), "no numbers"),
        (plain_lora() | {"lora_unet_x.lora_down.weight": torch.ones(4, 8, dtype=torch.int8)}, "holds int8, and weights are fractions"),
        (
            {"lora_unet_x.lora_down.weight": torch.ones(4, 8), "lora_unet_x.lora_up.weight": torch.ones(8, 2)},
            "one matrix has rank 4 and the other 2",
        ),
        (
            {f"lora_unet_x.{key}": torch.ones(2, 2) for key in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "dora_scale")},
            "DoRA on loha",
        ),
    ],
)
def test_what_is_no_lora_is_named(tmp_path, tensors, said):
    path = tmp_path / "it.safetensors"
    save_file(tensors, str(path))
    with pytest.raises(UserError, match=said):
        read_lora(path)


def test_unreadable_files(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        read_lora(tmp_path / "missing.safetensors")
    for content, said in (
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
    ):
        (tmp_path / "pointer.safetensors").write_bytes(content)
        with pytest.raises(UserError, match=f"it .*is (only )?{said}"):
            read_lora(tmp_path / "pointer.safetensors")
    for content in (b"", b"not a safetensors file at all", b"\xff" * 64):
        (tmp_path / "broken.safetensors").write_bytes(content)
        with pytest.raises(UserError, match="it cannot be read" if content else "it is empty"):
            read_lora(tmp_path / "broken.safetensors")
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(UserError, match="'.png' is not a LoRA file's ending"):
        read_lora(tmp_path / "x.png")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="this folder holds no .safetensors file"):
        read_lora(tmp_path / "folder")
    for name in "ab":
        save_file(plain_lora(), str(tmp_path / "folder" / f"{name}.safetensors"))
    with pytest.raises(UserError, match="it holds 2 files. Name one of them, such as 'a.safetensors'"):
        read_lora(tmp_path / "folder")
