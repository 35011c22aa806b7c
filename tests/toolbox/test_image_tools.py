"""What the tools make of image LoRAs, against dense weight changes and checkpoints' own tensors."""

import json

import pytest
import torch
from hotlora.cli import main
from hotlora.engine.errors import UserError
from hotlora.engine.low_rank import CRITERIA, choose_rank
from hotlora.toolbox.baking import bake
from hotlora.toolbox.extracting import extract
from hotlora.toolbox.opening import read_adapter
from hotlora.toolbox.resizing import Size
from lora_files import BUILDERS, dense_of, make_layers, nearest, save, write
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import compvis_unet_key, tiny_sd1_file, tiny_sd2_file, tiny_sdxl_file

FILES = {"sd1": tiny_sd1_file, "sd2": tiny_sd2_file, "sdxl": tiny_sdxl_file}
METADATA = {"ss_output_name": "a", "ss_tag_frequency": '{"x": {"y": 1}}', "ss_training_comment": "mine", "ss_network_dim": "4"}


@pytest.fixture(scope="module")
def parts():
    return {family: make() for family, make in BUILDERS.items()}


@pytest.fixture
def lora(tmp_path, parts):
    layers = make_layers("sd1", parts["sd1"])
    return write(tmp_path / "a.safetensors", layers, METADATA), layers


def metadata_of(path):
    with safe_open(str(path), "pt") as file:
        return file.metadata()


def use(*words):
    return main(["tool", *map(str, words)])


def test_a_resized_lora_is_the_nearest_of_that_rank(lora, tmp_path):
    path, layers = lora
    output = tmp_path / "b.safetensors"
    assert use("resize", path, "--rank", 2, "--conv-rank", 1, "--output", output) == 0
    made = load_file(output)
    for layer in layers:
        rank = 1 if layer.shape[2:] == (3, 3) else 2
        assert made[f"{layer.name}.lora_down.weight"].shape == (rank, *layer.shape[1:])
        torch.testing.assert_close(dense_of(made, layer.name, layer.shape), nearest(layer.dense(), rank), atol=1e-5, rtol=1e-4)
    assert len({tensor.item() for key, tensor in made.items() if key.endswith(".alpha")}) == 1  # others are not read by every program
    said = metadata_of(output)
    assert said["ss_tag_frequency"] == METADATA["ss_tag_frequency"] and said["ss_output_name"] == "b" and said["ss_network_dim"] == "2"
    assert said["ss_training_comment"].startswith("resized from ranks 2 to 4") and said["ss_training_comment"].endswith("; mine")
    assert json.loads(said["ss_network_args"])["conv_dim"] == "1" and len(said["sshs_model_hash"]) == 64


def kept_by_hand(values, criterion, target):
    """How many values a criterion keeps, counted one by one."""
    values = [value.item() for value in values.double()]
    power = 2 if criterion == "sv_fro" else 1
    for count in range(1, len(values) + 1):
        if criterion == "sv_ratio":
            if count == len(values) or values[count] <= values[0] / target:
                return count
        elif (sum(v**power for v in values[:count]) / sum(v**power for v in values)) ** (1 / power) >= target - 1e-12:
            return count
    return len(values)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_criteria_keep_what_they_say(criterion, lora, tmp_path):
    path, layers = lora
    target = 1.5 if criterion == "sv_ratio" else 0.8
    output = tmp_path / "b.safetensors"
    assert use("resize", path, f"--{criterion.replace('_', '-')}", target, "--output", output) == 0
    made, different = load_file(output), set()
    for layer in layers:
        rank = kept_by_hand(torch.linalg.svdvals(layer.dense().flatten(1).double())[: layer.rank], criterion, target)
        assert made[f"{layer.name}.lora_down.weight"].shape[0] == rank, layer.name
        different.add(rank)
    assert len(different) > 1 and metadata_of(output)["ss_network_dim"] == "Dynamic"
    assert choose_rank(torch.zeros(3), 3, criterion, target) == 1


def test_what_means_nothing_is_a_sentence(lora, tmp_path, capsys):
    for words in (["--rank", 0], ["--sv-ratio", 0.5], ["--sv-fro", 2], ["--rank", 2, "--conv-rank", 0]):
        assert use("resize", lora[0], *words, "--output", tmp_path / "b.safetensors") == 2
    (tmp_path / "there.safetensors").write_bytes(b"precious")
    for name, words in {"there.safetensors": "there is something already", "b.ckpt": "ends in .safetensors"}.items():
        assert use("resize", lora[0], "--rank", 2, "--output", tmp_path / name) == 2
        assert words in capsys.readouterr().err
    assert (tmp_path / "there.safetensors").read_bytes() == b"precious" and not (tmp_path / "b.safetensors").exists()
    assert use("resize", lora[0], "--rank", 2, "--output", tmp_path / "there.safetensors", "--overwrite") == 0
    assert use("info", tmp_path / "none.safetensors") == 2 and "no such file" in capsys.readouterr().err


def test_merged_loras_are_their_exact_sum(parts, tmp_path):
    first, second = make_layers("sd1", parts["sd1"]), make_layers("sd1", parts["sd1"], conv=False, text=False, start=77)
    paths = [write(tmp_path / f"{name}.safetensors", layers) for name, layers in (("a", first), ("b", second))]
    output = tmp_path / "sum.safetensors"
    assert use("merge", *paths, "--weights", 0.5, -0.25, "--output", output) == 0
    made, others = load_file(output), {layer.name: layer for layer in second}
    for layer in first:
        wanted, rank = 0.5 * layer.dense(), layer.rank
        if layer.name in others:
            wanted, rank = wanted - 0.25 * others[layer.name].dense(), rank + others[layer.name].rank
        torch.testing.assert_close(dense_of(made, layer.name, layer.shape), wanted, atol=1e-5, rtol=1e-4)
        assert made[f"{layer.name}.lora_down.weight"].shape[0] == rank
    assert use("merge", *paths, "--rank", 3, "--output", output, "--overwrite") == 0
    made = load_file(output)
    for layer in first:
        wanted = layer.dense() + (others[layer.name].dense() if layer.name in others else 0)
        torch.testing.assert_close(dense_of(made, layer.name, layer.shape), nearest(wanted, 3), atol=1e-5, rtol=1e-4)


def test_other_kinds_become_loras(tmp_path):
    """LoHa and LoKr of a linear layer and of a convolution, in LyCORIS' forms."""
    linear, conv = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", "lora_unet_down_blocks_0_resnets_0_conv1"
    shapes = {linear: (12, 8), conv: (12, 8, 3, 3)}
    torch.manual_seed(0)
    files: dict = {"loha": {}, "lokr": {}}
    wanted: dict = {"loha": {}, "lokr": {}}
    for name, shape in shapes.items():
        inputs = 72 if shape[2:] else 8
        a, b, c, d = torch.randn(12, 2), torch.randn(2, inputs), torch.randn(12, 2), torch.randn(2, inputs)
        files["loha"] |= {f"{name}.hada_{part}": tensor for part, tensor in (("w1_a", a), ("w1_b", b), ("w2_a", c), ("w2_b", d))}
        wanted["loha"][name] = 0.5 * (a @ b) * (c @ d)
    w1, a, b = torch.randn(3, 2), torch.randn(4, 2), torch.randn(2, 4)
    files["lokr"] |= {f"{linear}.lokr_w1": w1, f"{linear}.lokr_w2_a": a, f"{linear}.lokr_w2_b": b}
    wanted["lokr"][linear] = 0.5 * torch.kron(w1, a @ b)
    w1, w2 = torch.randn(3, 2), torch.randn(4, 4, 3, 3)
    files["lokr"] |= {f"{conv}.lokr_w1": w1, f"{conv}.lokr_w2": w2}
    wanted["lokr"][conv] = torch.kron(w1[..., None, None], w2)  # of two full factors no reader scales
    for kind, tensors in files.items():
        path = save(tmp_path / f"{kind}.safetensors", tensors | {f"{name}.alpha": torch.tensor(1.0) for name in shapes})
        assert use("resize", path, "--rank", 5, "--output", tmp_path / f"{kind}-r5.safetensors") == 0
        made = load_file(tmp_path / f"{kind}-r5.safetensors")
        for name, shape in shapes.items():
            assert made[f"{name}.lora_down.weight"].shape == (5, *shape[1:])
            torch.testing.assert_close(dense_of(made, name, shape), nearest(wanted[kind][name].reshape(shape), 5), atol=1e-4, rtol=1e-4)


def test_what_has_no_sum_is_refused(parts, tmp_path, capsys):
    layers = make_layers("sd1", parts["sd1"], conv=False)
    plain, xl = write(tmp_path / "a.safetensors", layers), write(tmp_path / "xl.safetensors", make_layers("sdxl", parts["sdxl"]))
    scales = {f"{layer.name}.dora_scale": torch.ones(1, layer.shape[1]) for layer in layers}
    dora = save(tmp_path / "dora.safetensors", load_file(plain) | scales)
    for paths, words in (((plain, xl), "one is for SD 1.x, the other for SDXL"), ((plain, dora), "it is DoRA")):
        assert use("merge", *paths, "--output", tmp_path / "sum.safetensors") == 2
        assert words in capsys.readouterr().err
    assert use("merge", plain, plain, "--weights", 1, "--output", tmp_path / "sum.safetensors") == 2
    ends = ("lora_down.weight", "lora_up.weight")
    flux = save(tmp_path / "flux.safetensors", {f"lora_unet_double_blocks_0_img_attn_qkv.{end}": torch.ones(2, 2) for end in ends})
    capsys.readouterr()
    assert use("merge", flux, flux, "--output", tmp_path / "sum.safetensors") == 2 and "FLUX" in capsys.readouterr().err


def where(layer, parts):
    """(key in the original checkpoint, rows) of a layer's weight, by the tests' own tables."""
    if layer.part == "unet":
        return "model.diffusion_model." + compvis_unet_key(f"{layer.path}.weight", parts["unet"].state_dict()), slice(None)
    open_clip = layer.part == "text_encoder_2" or parts["text_encoder"].config.hidden_size == 64
    path = layer.path.removeprefix("text_model.")
    if not open_clip:
        prefix = "conditioner.embedders.0.transformer." if "text_encoder_2" in parts else "cond_stage_model.transformer."
        return f"{prefix}text_model.{path}.weight", slice(None)
    prefix = "conditioner.embedders.1.model." if layer.part == "text_encoder_2" else "cond_stage_model.model."
    number, inner = path.split(".")[2], ".".join(path.split(".")[3:])
    stem, rows = f"{prefix}transformer.resblocks.{number}", layer.shape[0]
    names = {"self_attn.out_proj": "attn.out_proj.weight", "mlp.fc1": "mlp.c_fc.weight", "mlp.fc2": "mlp.c_proj.weight"}
    if inner in names:
        return f"{stem}.{names[inner]}", slice(None)
    third = "qkv".index(inner.split(".")[1][0])
    return f"{stem}.attn.in_proj_weight", slice(third * rows, (third + 1) * rows)


@pytest.mark.parametrize("family", FILES)
def test_baking_adds_and_extracting_takes_out(family, parts, tmp_path):
    layers = make_layers(family, parts[family], rank=2)
    base, lora = FILES[family](tmp_path / "base.safetensors"), write(tmp_path / "a.safetensors", layers)
    assert use("bake", lora, "--weights", 0.7, "--base", base, "--output", tmp_path / "baked.safetensors") == 0
    before, after = load_file(base), load_file(tmp_path / "baked.safetensors")
    wanted = {key: tensor.clone() for key, tensor in before.items()}
    for layer in layers:
        key, rows = where(layer, parts[family])
        wanted[key][rows] += 0.7 * layer.dense().reshape(wanted[key][rows].shape)
    assert after.keys() == before.keys()
    for key, tensor in wanted.items():
        torch.testing.assert_close(after[key], tensor, atol=1e-5, rtol=1e-5)
    assert metadata_of(tmp_path / "baked.safetensors")["format"] == "pt"
    assert use("extract", "--base", base, "--tuned", tmp_path / "baked.safetensors", "--rank", 2, "--precision", "fp32", "--output",
               tmp_path / "out.safetensors") == 0  # fmt: skip
    found = load_file(tmp_path / "out.safetensors")
    assert {key.partition(".")[0] for key in found} == {layer.name for layer in layers}
    for layer in layers:
        torch.testing.assert_close(dense_of(found, layer.name, layer.shape), 0.7 * layer.dense(), atol=1e-4, rtol=1e-3)


def test_half_a_precision_and_other_models_are_told(parts, tmp_path):
    layers = make_layers("sd1", parts["sd1"], conv=False, text=False)
    lora, base = write(tmp_path / "a.safetensors", layers), tiny_sd1_file(tmp_path / "base.safetensors", dtype=torch.float16)
    assert bake(base, [lora], [1.0], tmp_path / "same.safetensors") == []
    made, before = load_file(tmp_path / "same.safetensors"), load_file(base)
    assert {key: tensor.dtype for key, tensor in made.items()} == {key: tensor.dtype for key, tensor in before.items()}
    bake(base, [lora], [1.0], tmp_path / "full.safetensors", "fp32")
    full = load_file(tmp_path / "full.safetensors")
    key = where(layers[0], parts["sd1"])[0]
    torch.testing.assert_close(full[key], before[key].float() + layers[0].dense().reshape(full[key].shape))
    assert full["cond_stage_model.transformer.text_model.embeddings.position_ids"].dtype == torch.int64
    other = tiny_sdxl_file(tmp_path / "xl.safetensors")
    with pytest.raises(UserError, match="has no layer like its|of another size"):
        bake(other, [lora], [1.0], tmp_path / "no.safetensors")
    with pytest.raises(UserError, match="it is SDXL, and .* is SD 1.x"):
        extract(base, other, Size(2))
    with pytest.raises(UserError, match="no layer of it differs"):
        extract(base, base, Size(2))
    assert not (tmp_path / "no.safetensors").exists()


def test_the_settings_beside_the_base_go_with_what_is_baked_and_nothing_is_written_over(parts, tmp_path):
    lora = write(tmp_path / "a.safetensors", make_layers("sd1", parts["sd1"], conv=False, text=False))
    base, new = tiny_sd1_file(tmp_path / "base.safetensors"), tmp_path / "new" / "mine v1.safetensors"
    (tmp_path / "base.yaml").write_bytes(b"parameterization: v\r\n")
    for _ in range(2):  # the same file is no other
        (told,) = bake(base, [lora], [1.0], new)
        assert "'base.yaml'" in told and "copied as 'mine v1.yaml'" in told
        assert new.with_suffix(".yaml").read_bytes() == b"parameterization: v\r\n"
    new.with_suffix(".yaml").write_text("of another", encoding="utf-8")
    (told,) = bake(base, [lora], [1.0], new)
    assert "it was left as it is" in told and new.with_suffix(".yaml").read_text(encoding="utf-8") == "of another"
    assert sorted(path.name for path in new.parent.iterdir()) == ["mine v1.safetensors", "mine v1.yaml"]


@pytest.mark.parametrize("axis", [0, 1])
def test_dora_is_baked_as_programs_apply_it(axis, parts, tmp_path):
    layers = make_layers("sd1", parts["sd1"], text=False)
    tensors = {key: tensor for layer in layers for key, tensor in layer.tensors().items()}
    for layer in layers:
        shape = [1] * len(layer.shape)
        shape[axis] = layer.shape[axis]
        tensors[f"{layer.name}.dora_scale"] = torch.rand(shape) + 0.5
    base = tiny_sd1_file(tmp_path / "base.safetensors")
    bake(base, [save(tmp_path / "a.safetensors", tensors)], [0.5], tmp_path / "b.safetensors")
    before, after = load_file(base), load_file(tmp_path / "b.safetensors")
    for layer in layers:
        key = where(layer, parts["sd1"])[0]
        weight, scale = before[key], tensors[f"{layer.name}.dora_scale"].reshape([-1 if i == axis else 1 for i in range(before[key].dim())])
        moved = weight + layer.dense().reshape(weight.shape)
        norm = moved.square().sum([i for i in range(weight.dim()) if i != axis], keepdim=True).sqrt()
        torch.testing.assert_close(after[key], weight + 0.5 * (moved / norm * scale - weight), atol=1e-5, rtol=1e-4)


def test_info_holds_everything(lora, capsys):
    path, layers = lora
    assert use("info", path, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kind"], facts["family"], facts["form"], facts["for"]) == ("LoCon", "sd1", "kohya", "images")
    assert facts["metadata"]["ss_tag_frequency"] == {"x": {"y": 1}} and facts["tensors"].keys() == load_file(path).keys()
    assert facts["ranks"] == {str(rank): sum(layer.rank == rank for layer in layers) for rank in (2, 3, 4)}
    assert use("info", path) == 0
    shown = capsys.readouterr().out
    assert "kind: LoCon" in shown and "U-Net (" in shown and "ss_training_comment: mine" in shown


def test_a_family_is_found_or_said(parts, tmp_path):
    versions = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
    for family in BUILDERS:
        layers = make_layers(family, parts[family])
        path = write(tmp_path / f"{family}.safetensors", layers, {"ss_base_model_version": versions[family]})
        assert read_adapter(path).family == family
        assert read_adapter(write(path, layers), family).layers.keys() == {layer.name for layer in layers}
