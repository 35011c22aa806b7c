"""A run that goes on from a file of any spelling begins with just what the file holds: at learning rate 0 it writes it out again."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from a1111_delta import a1111_delta
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.engine.recipe import read_options
from hotlora.engine.run import Run
from hotlora.engine.session import Session
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.sd.config import ImageConfig
from hotlora.sd.continuing import check_initial, find_source
from pictures import NOTES, make_pictures
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import build_sd1, build_sdxl, compvis_unet_key, tiny_sd1, tiny_sdxl

BUILDERS = {"sd1": build_sd1, "sdxl": build_sdxl}
UNDER = str.maketrans(".", "_")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    bases = {"sd1": tiny_sd1(folder / "sd1"), "sdxl": tiny_sdxl(folder / "sdxl")}
    make_pictures(folder / "data", 2)
    return SimpleNamespace(folder=folder, bases=bases, parts={family: make() for family, make in BUILDERS.items()})


class Layer:
    """One layer of a LoRA: where it is, by diffusers' and transformers' paths, and what it holds."""

    def __init__(self, part, path, module, number, keys):
        self.part, self.path, self.weight = part, path, module.weight
        self.rank, self.alpha = 1 + number % 3, 1.0 + number % 4
        generator = torch.Generator().manual_seed(number)
        kernel = self.weight.shape[2:]
        self.down = torch.randn(self.rank, self.weight.shape[1], *kernel, generator=generator)
        self.up = torch.randn(self.weight.shape[0], self.rank, *[1] * len(kernel), generator=generator)
        self.compvis = compvis_unet_key(f"{path}.weight", keys).removesuffix(".weight") if part == "unet" else ""

    def kohya(self, family):
        """Its name as sd-scripts writes it."""
        if self.part == "unet":
            return "lora_unet_" + (self.compvis if family == "sdxl" else self.path).translate(UNDER)
        number = ("2" if self.part == "text_encoder_2" else "1") if family == "sdxl" else ""
        return f"lora_te{number}_text_model_{self.path.removeprefix('text_model.').translate(UNDER)}"


def layers_of(world, family, *, text=True, only="attentions"):
    found = []
    for part, model in world.parts[family].items():
        if part == "vae" or (part != "unet" and not text):
            continue
        keys = world.parts[family]["unet"].state_dict().keys()
        for path, module in model.named_modules():
            is_layer = isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
            wanted = only in path if part == "unet" else ".layers." in path
            if is_layer and wanted:
                found.append(Layer(part, path, module, len(found), keys))
    return found


def plain(name, layer, suffixes=("lora_down.weight", "lora_up.weight"), *, alpha=True):
    tensors = {f"{name}.{suffixes[0]}": layer.down, f"{name}.{suffixes[1]}": layer.up}
    return {**tensors, **({f"{name}.alpha": torch.tensor(layer.alpha)} if alpha else {})}


AB = ("lora_A.weight", "lora_B.weight")


def of_kohya(layer, family):
    return plain(layer.kohya(family), layer)


def of_kohya_without_alpha(layer, family):
    return plain(layer.kohya(family), layer, AB, alpha=False)


def with_the_other_unet_names(layer, family):
    """diffusers' for SDXL, CompVis' for SD 1.x; and the other number of the first text encoder."""
    if layer.part == "unet":
        return plain("lora_unet_" + (layer.path if family == "sdxl" else layer.compvis).translate(UNDER), layer)
    return plain(layer.kohya(family).replace("lora_te1", "lora_te") if family == "sdxl" else layer.kohya("sdxl"), layer)


def of_diffusers(layer, family):
    path = layer.path if layer.part == "unet" else f"text_model.{layer.path.removeprefix('text_model.')}"
    return plain(f"{layer.part}.{path}", layer, AB, alpha=False)


def of_older_diffusers(layer, family):
    if layer.part == "unet":
        return plain(f"unet.{layer.path}.lora", layer, ("down.weight", "up.weight"), alpha=False)
    return plain(f"{layer.part}.{layer.path}.lora_linear_layer", layer, ("down.weight", "up.weight"), alpha=False)


def of_comfy(layer, family):
    if layer.part == "unet":
        return plain(f"diffusion_model.{layer.compvis}", layer)
    clip = "clip_g" if layer.part == "text_encoder_2" else "clip_l"
    return plain(f"text_encoders.{clip}.transformer.text_model.{layer.path.removeprefix('text_model.')}", layer)


SPELLINGS = [of_kohya, of_kohya_without_alpha, with_the_other_unet_names, of_diffusers, of_older_diffusers, of_comfy]


def of_peft(layer, family):
    return plain(f"base_model.model.{layer.path}", layer, AB, alpha=False)


def of_peft_with_its_adapter(layer, family):
    return plain(f"base_model.model.{layer.path}", layer, ("lora_A.default.weight", "lora_B.default.weight"), alpha=False)


def of_bare_paths(layer, family):
    return plain(layer.path, layer, AB, alpha=False)


def of_attention_processors(layer, family):
    before, _, name = layer.path.rpartition(".attn1.")
    if not before or not name.startswith("to_"):
        return {}
    stem = f"{before}.attn1.processor.{name.removesuffix('.0')}_lora"
    return plain(stem, layer, ("down.weight", "up.weight"), alpha=False)


def save(path, tensors, metadata=None):
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, str(path), metadata)
    return path


def write_file(path, layers, family, spell, metadata=None):
    return save(path, {key: tensor for layer in layers for key, tensor in spell(layer, family).items()}, metadata)


def borrow(world, folder, family, init, **options):
    values = {
        "base_model": str(world.bases[family]),
        "train_data_dir": str(world.folder / "data"),
        "output_dir": str(folder / "run"),
        "resolution": 64,
        "min_bucket_reso": 64,
        "learning_rate": 0,
        "save_precision": "fp32",
        "sample_prompts": ["a cat"],
        "sheet_weights": [],
        "tensorboard": False,
        "init_lora": str(init),
    }
    config = build(ImageConfig, {**values, **options})
    return DiffusersHost().borrow(config), config


def go_on(world, folder, family, init, **options):
    """The file that a run writes after a step, and its notes."""
    trainee, config = borrow(world, folder, family, init, **options)
    for _ in trainee.prepare():
        pass
    session = Session(trainee, config, Run.start(config))
    with session.attached():
        session.train_step()
    path = trainee.write(session.adapters, folder / "again.safetensors", NOTES)
    session.save_state()
    return load_file(path), [*config.notes, *trainee.warnings()], session


def expected(layers, family, *, alpha=True):
    tensors = {}
    for layer in layers:
        name = layer.kohya(family)
        strength = layer.alpha if alpha else float(layer.rank)
        tensors |= {f"{name}.lora_down.weight": layer.down, f"{name}.lora_up.weight": layer.up, f"{name}.alpha": torch.tensor(strength)}
    return tensors


def same(one, two):
    assert one.keys() == two.keys()
    for key, tensor in one.items():
        assert torch.equal(tensor.float().flatten(), two[key].float().flatten()), key


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("spell", SPELLINGS, ids=lambda spell: spell.__name__)
def test_every_spelling_is_written_out_again(world, tmp_path, family, spell):
    layers = layers_of(world, family)
    path = write_file(tmp_path / "it.safetensors", layers, family, spell)
    with_alpha = any(key.endswith(".alpha") for key in load_file(path))
    written, notes, session = go_on(world, tmp_path, family, path)
    same(written, expected(layers, family, alpha=with_alpha))
    assert session.config.train_text_encoder and session.config.train_unet
    assert any("each layer its own: rank 1 to 3" in note for note in notes)
    assert any("say no alpha" in note for note in notes) == (not with_alpha)


@pytest.mark.parametrize("spell", [of_peft, of_peft_with_its_adapter, of_bare_paths, of_attention_processors], ids=lambda s: s.__name__)
def test_spellings_of_unets_alone(world, tmp_path, spell):
    layers = [layer for layer in layers_of(world, "sd1", text=False) if spell(layer, "sd1")]
    path = write_file(tmp_path / "it.safetensors", layers, "sd1", spell)
    written, notes, session = go_on(world, tmp_path, "sd1", path)
    same(written, expected(layers, "sd1", alpha=False))
    assert not session.config.train_text_encoder and len(layers) > 3
    assert any("the new file has kohya's" in note for note in notes)


def test_a_file_that_is_gone_on_from_is_what_comes_out(world, tmp_path):
    """And so again and again, in half precision, with one rank for all."""
    layers = layers_of(world, "sd1")
    for layer in layers:
        layer.rank, layer.alpha = 2, 1.0
        layer.down, layer.up = (
            tensor.half() for tensor in (layer.down[:1].repeat_interleave(2, 0), layer.up[:, :1].repeat_interleave(2, 1))
        )
    path = write_file(tmp_path / "it.safetensors", layers, "sd1", of_kohya)
    written, notes, session = go_on(world, tmp_path, "sd1", path, save_precision="fp16")
    same(written, load_file(path))
    assert (session.config.lora_rank, session.config.lora_alpha) == (2, 1.0)
    assert not any("rank" in note for note in notes)


def test_peft_folders_say_their_scaling(world, tmp_path):
    layers = layers_of(world, "sd1", text=False)
    folder = tmp_path / "adapter"
    folder.mkdir()
    write_file(folder / "adapter_model.safetensors", layers, "sd1", of_peft)
    said = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "use_rslora": True, "alpha_pattern": {"attn2.to_k": 3}}
    (folder / "adapter_config.json").write_text(json.dumps(said), encoding="utf-8")
    written, notes, session = go_on(world, tmp_path, "sd1", folder)
    assert session.config.use_rslora
    for layer in layers:
        wanted = (3 if layer.path.endswith("attn2.to_k") else 6) * layer.rank**0.5  # a reader divides it by the rank
        assert written[f"{layer.kohya('sd1')}.alpha"].item() == pytest.approx(wanted)
    assert not any("no alpha" in note for note in notes)
    (folder / "adapter_config.json").write_text(json.dumps({**said, "init_lora_weights": "pissa_niter_4"}), encoding="utf-8")
    with pytest.raises(UserError, match="init_lora_weights: pissa_niter_4.*Convert it"):
        borrow(world, tmp_path / "other", "sd1", folder)
    for damage in ({"alpha_pattern": {"attn2.(": 3}}, {"alpha_pattern": [3]}, {"lora_alpha": "much"}, {"lora_alpha": 1e999}):
        (folder / "adapter_config.json").write_text(json.dumps({**said, **damage}), encoding="utf-8")
        with pytest.raises(UserError, match="alphas in its adapter_config.json cannot be used"):
            borrow(world, tmp_path / "other", "sd1", folder)


def test_diffusers_own_header_says_the_scaling(world, tmp_path):
    layers = layers_of(world, "sd1")
    said = {"unet.r": 2, "unet.lora_alpha": 5, "text_encoder.r": 2, "text_encoder.lora_alpha": 7}
    path = write_file(
        tmp_path / "pytorch_lora_weights.safetensors", layers, "sd1", of_diffusers, {"lora_adapter_metadata": json.dumps(said)}
    )
    written, _, _ = go_on(world, tmp_path, "sd1", path.parent)
    assert {tensor.item() for key, tensor in written.items() if key.endswith("alpha") and "lora_te" in key} == {7}
    assert {tensor.item() for key, tensor in written.items() if key.endswith("alpha") and "lora_unet" in key} == {5}


# -- parts of the model --------------------------------------------------------------------------------------------------


def test_a_frozen_part_is_applied_and_stays_as_it_is(world, tmp_path):
    layers = layers_of(world, "sd1")
    path = write_file(tmp_path / "it.safetensors", layers, "sd1", of_kohya)
    options = {"learning_rate": 1e-2, "optimizer": "Prodigy", "lora_dropout": 0.5, "max_norm": 0.001}
    written, notes, session = go_on(world, tmp_path, "sd1", path, train_text_encoder=False, **options)
    wanted = expected(layers, "sd1")
    same(
        {key: tensor for key, tensor in written.items() if key.startswith("lora_te")},
        {key: tensor for key, tensor in wanted.items() if key.startswith("lora_te")},
    )
    changed = [key for key, tensor in written.items() if not torch.equal(tensor, wanted[key]) and key.endswith("weight")]
    assert changed and all(key.startswith("lora_unet") for key in changed)
    assert any("of what 'it.safetensors' has of the text encoder, 18 layers" in note and "not be trained" in note for note in notes)
    with session.attached():  # so captions mean what they will mean with the finished file
        adapted = session.trainee.model.encode_text(["a cat"], clip_skip=None, max_token_length=75).context
        assert not any(p.requires_grad for n, layer in session.adapters.layers.items() if "lora_te" in n for p in layer.parameters())
    bare = session.trainee.model.encode_text(["a cat"], clip_skip=None, max_token_length=75).context
    assert (adapted - bare).abs().max() > 1e-3


@pytest.mark.parametrize("options", [{"include": "attn2"}, {"block_lrs": {"mid_block": 0}}, {"block_ranks": {"mid_block": 0}}])
def test_layers_that_options_leave_out_stay_as_they_are(world, tmp_path, options):
    layers = layers_of(world, "sd1", text=False)
    path = write_file(tmp_path / "it.safetensors", layers, "sd1", of_kohya)
    written, notes, session = go_on(world, tmp_path, "sd1", path, learning_rate=1e-2, **options)
    wanted, frozen = expected(layers, "sd1"), {name for name, target in session.adapters.targets.items() if target.frozen}
    assert 0 < len(frozen) < len(layers) and any(f", {len(frozen)} layers (" in note for note in notes)
    for key, tensor in written.items():
        if key.endswith("weight"):
            assert torch.equal(tensor, wanted[key]) == (key.partition(".")[0] in frozen), key


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_options_follow_a_file_of_one_part(world, tmp_path, part):
    layers = [layer for layer in layers_of(world, "sd1") if layer.part == part]
    path = write_file(tmp_path / "it.safetensors", layers, "sd1", of_kohya)
    written, _, session = go_on(world, tmp_path, "sd1", path)
    same(written, expected(layers, "sd1"))
    assert (session.config.train_unet, session.config.train_text_encoder) == (part == "unet", part == "text_encoder")
    missing = "train_text_encoder" if part == "unet" else "train_unet"
    with pytest.raises(UserError, match=f"with {missing} true: it has nothing of the .*Set {missing}: false"):
        borrow(world, tmp_path / "other", "sd1", path, **{missing: True})
    there = "train_unet" if part == "unet" else "train_text_encoder"
    with pytest.raises(UserError, match="train nothing"):
        borrow(world, tmp_path / "other", "sd1", path, train_unet=False, **({there: False} if there != "train_unet" else {}))


def test_a_text_encoder_that_takes_no_lora_keeps_the_files(world, tmp_path, monkeypatch):
    """As the WebUI's open_clip encoders."""
    from hotlora.hosts.standalone.images import DiffusersModel

    monkeypatch.setattr(DiffusersModel, "text_layers", lambda self: {})
    layers = layers_of(world, "sdxl")
    path = write_file(tmp_path / "it.safetensors", layers, "sdxl", of_diffusers)
    written, notes, session = go_on(world, tmp_path, "sdxl", path)
    same(written, expected(layers, "sdxl", alpha=False))
    assert not session.config.train_text_encoder and not any(name.startswith("lora_te") for name in session.adapters.targets)
    assert any("not applied while training" in note for note in notes)
    with pytest.raises(UserError, match="train_text_encoder True"):
        borrow(world, tmp_path / "other", "sdxl", path, train_text_encoder=True)


def test_bundled_embeddings_stay_in_the_file(world, tmp_path):
    layers = layers_of(world, "sd1", text=False)
    bundled = {"bundle_emb.zwx.string_to_param.*": torch.randn(2, 32), "bundle_emb.bad.emb_params": torch.randn(1, 32).half()}
    path = save(tmp_path / "it.safetensors", {**expected(layers, "sd1"), **bundled})
    written, notes, _ = go_on(world, tmp_path, "sd1", path, save_precision="fp16")
    for key, tensor in bundled.items():
        assert torch.equal(written[key], tensor) and written[key].dtype == tensor.dtype
    assert any("embeddings it holds (bad, zwx) stay" in note for note in notes)


# -- kinds ---------------------------------------------------------------------------------------------------------------


def outer_layers(unet):
    return [(path, unet.get_submodule(path)) for path in ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2")]


def test_convolutions_and_layers_outside_the_blocks(world, tmp_path):
    """LyCORIS' preset "full" trains conv_in, conv_out and the time embedding too."""
    layers = layers_of(world, "sd1", text=False, only="blocks") + layers_of(world, "sd1", text=False, only="mid_block.resnets")
    layers = list({layer.path: layer for layer in layers}.values())
    tensors = expected(layers, "sd1")
    for number, (path, module) in enumerate(outer_layers(world.parts["sd1"]["unet"])):
        layer = Layer("other", path, module, number, ())
        tensors |= plain(f"lora_unet_{path.translate(UNDER)}", layer)
    path = save(tmp_path / "it.safetensors", tensors)
    written, _, session = go_on(world, tmp_path, "sd1", path)
    same(written, tensors)
    assert session.config.conv_rank in (1, 2, 3)
    with safe_open(str(tmp_path / "again.safetensors"), "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_dim"] == metadata["ss_network_alpha"] == "Dynamic"
    said = json.loads(metadata["ss_network_args"])
    assert said["conv_dim"] == "Dynamic" and said["layers_by_rank"].startswith("1: ") and "convolutions_by_rank" in said
    notes = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))["notes"]
    assert "ranks 1 to 3" in notes


def test_tucker_form_goes_on_as_a_plain_convolution(world, tmp_path):
    name, module = "lora_unet_mid_block_resnets_0_conv1", world.parts["sd1"]["unet"].mid_block.resnets[0].conv1
    outputs, inputs = module.weight.shape[:2]
    up, middle, down = torch.randn(outputs, 2, 1, 1), torch.randn(2, 2, 3, 3), torch.randn(2, inputs, 1, 1)
    tensors = {f"{name}.lora_up.weight": up, f"{name}.lora_mid.weight": middle, f"{name}.lora_down.weight": down}
    path = save(tmp_path / "it.safetensors", {**tensors, f"{name}.alpha": torch.tensor(2.0)})
    written, notes, _ = go_on(world, tmp_path, "sd1", path)
    for o, c in ((0, 0), (3, 5), (outputs - 1, inputs - 1)):
        by_hand = sum(up[o, i, 0, 0] * middle[i, j] * down[j, c, 0, 0] for i in range(2) for j in range(2))
        ours = sum(written[f"{name}.lora_up.weight"][o, i, 0, 0] * written[f"{name}.lora_down.weight"][i, c] for i in range(2))
        assert torch.allclose(ours, by_hand, atol=1e-4)
    assert any("Tucker" in note for note in notes)


def lycoris_layers():
    """LoHa's and LoKr's forms as LyCORIS cuts them, which differ from peft's own choice: (kind, tensors of a 3x3 convolution of
    64 to 64 channels, tensors of a linear layer of 64 to 64)."""
    torch.manual_seed(0)
    wide, thin = 64 * 9, 64
    loha = {f"hada_w{n}_{side}": torch.randn(*shape) * 0.1 for n in "12" for side, shape in (("a", (64, 2)), ("b", (2, wide)))}
    loha_linear = {f"hada_w{n}_{side}": torch.randn(*shape) * 0.1 for n in "12" for side, shape in (("a", (64, 3)), ("b", (3, thin)))}
    factor4 = {"lokr_w1": torch.randn(4, 4), "lokr_w2_a": torch.randn(16, 2), "lokr_w2_b": torch.randn(2, 16 * 9)}
    full = {"lokr_w1": torch.randn(8, 8), "lokr_w2": torch.randn(8, 8, 3, 3)}
    both = {"lokr_w1_a": torch.randn(8, 1), "lokr_w1_b": torch.randn(1, 8), "lokr_w2_a": torch.randn(8, 1), "lokr_w2_b": torch.randn(1, 8)}
    return [
        ("loha", loha, loha_linear),
        ("lokr", factor4, both),
        ("lokr", full, {"lokr_w1": torch.randn(2, 2), "lokr_w2": torch.randn(32, 32)}),
    ]


@pytest.mark.parametrize("number", range(3))
def test_lycoris_forms_are_kept(world, tmp_path, number):
    kind, conv, linear = lycoris_layers()[number]
    names = ("lora_unet_mid_block_resnets_0_conv2", "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q")
    tensors = {f"{name}.{part}": tensor for name, parts in zip(names, (conv, linear), strict=True) for part, tensor in parts.items()}
    tensors |= {f"{name}.alpha": torch.tensor(1.0) for name in names}
    path = save(tmp_path / "it.safetensors", tensors)
    written, _, session = go_on(world, tmp_path, "sd1", path)
    assert session.config.network_type == kind
    same({key: t for key, t in written.items() if "alpha" not in key}, {key: t for key, t in tensors.items() if "alpha" not in key})
    for name, parts in zip(names, (conv, linear), strict=True):
        layer = session.adapters.layers[name]
        wanted = a1111_delta({**parts, "alpha": torch.tensor(1.0)}, layer.get_base_layer().weight.shape)
        assert torch.allclose(layer.get_delta_weight("default"), wanted, atol=1e-5) and wanted.abs().max() > 1e-4


@pytest.mark.parametrize("axis", ["input", "rows"])
def test_dora_keeps_its_axis(world, tmp_path, axis):
    """W' = (W + dW) * m / ||W + dW||, by the definition."""
    layers = layers_of(world, "sd1", text=False) + layers_of(world, "sd1", text=False, only="mid_block.resnets.0.conv1")
    tensors = expected(layers, "sd1")
    for layer in layers:
        shape = [1] * layer.weight.dim()
        kept = 1 if axis == "input" else 0
        shape[kept] = layer.weight.shape[kept]
        tensors[f"{layer.kohya('sd1')}.dora_scale"] = torch.rand(shape) + 0.5
    path = save(tmp_path / "it.safetensors", tensors)
    written, notes, session = go_on(world, tmp_path, "sd1", path)
    same(written, tensors)
    assert session.config.use_dora and any("magnitudes are per output" in note for note in notes) == (axis == "rows")
    layer = layers[0]
    adapter = session.adapters.layers[layer.kohya("sd1")]
    base = adapter.lora.base_layer
    merged = base.weight + (layer.up.flatten(1) @ layer.down.flatten(1)).reshape(base.weight.shape) * layer.alpha / layer.rank
    norm = merged.flatten(1).norm(dim=1) if axis == "rows" else merged.transpose(0, 1).flatten(1).norm(dim=1)
    scale = tensors[f"{layer.kohya('sd1')}.dora_scale"] / norm.reshape(tensors[f"{layer.kohya('sd1')}.dora_scale"].shape)
    x = torch.randn(1, base.weight.shape[1], 4, 4)
    session.adapters.set_training(False)
    with torch.no_grad():
        wanted = torch.nn.functional.conv2d(x, merged * scale, base.bias)
        assert torch.allclose(adapter(x), wanted, atol=1e-4)
    with safe_open(str(tmp_path / "again.safetensors"), "pt") as file:
        assert json.loads(file.metadata()["ss_network_args"])["wd_on_out"] == f"{axis == 'rows'}"


def test_pefts_dora_goes_on_as_peft_applies_it(world, tmp_path):
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    unet = build_sd1()["unet"]
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["attn1.to_q", "conv1"], use_dora=True, init_lora_weights=False)
    wrapped = get_peft_model(unet, config)
    folder = tmp_path / "adapter"
    wrapped.save_pretrained(str(folder))
    assert any("lora_magnitude_vector" in key for key in get_peft_model_state_dict(wrapped))
    _, _, session = go_on(world, tmp_path, "sd1", folder)
    noise, context = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 32)
    session.adapters.set_training(False)
    with torch.no_grad(), session.adapters.attached(session.trainee.modules):
        ours = session.trainee.model.unet(noise, 5, context).sample
    with torch.no_grad():
        theirs = wrapped.eval()(noise, 5, context).sample
    assert torch.allclose(ours, theirs, atol=1e-4) and (ours - build_sd1()["unet"](noise, 5, context).sample).abs().max() > 1e-2


# -- what is refused, and when ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("made_for", "base", "words"), [("sdxl", "sd1", "SDXL.*is SD 1.x"), ("sd1", "sdxl", "SD 1.x.*is SDXL")])
def test_another_family_is_named_with_the_models_own(world, tmp_path, made_for, base, words):
    layers = layers_of(world, made_for)
    path = write_file(
        tmp_path / "it.safetensors",
        layers,
        made_for,
        of_kohya,
        {"ss_base_model_version": {"sd1": "sd_v1", "sdxl": "sdxl_base_v1-0"}[made_for]},
    )
    with pytest.raises(UserError, match=f"it was made for {words}. Choose a LoRA for"):
        borrow(world, tmp_path, base, path)


@pytest.mark.parametrize(
    ("key", "shapes", "family"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv.{}.weight", (64, 64), "FLUX"),
        ("transformer.single_transformer_blocks.0.attn.to_q.{}.weight", (64, 64), "FLUX"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv.{}.weight", (64, 64), "SD 3"),
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.{}.weight", (2048, 640), "SDXL"),
        ("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.{}.weight", (1024, 640), "SD 2.x"),
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1.{}.weight", (1280, 5120), "SDXL"),
    ],
)
def test_families_are_known_by_names_and_sizes(world, tmp_path, key, shapes, family):
    path = save(
        tmp_path / "it.safetensors", {key.format("lora_A"): torch.ones(2, shapes[0]), key.format("lora_B"): torch.ones(shapes[1], 2)}
    )
    with pytest.raises(UserError, match=f"it was made for {family}, and the base model sd1 is SD 1.x"):
        borrow(world, tmp_path, "sd1", path)


def test_other_sizes_and_layers_are_said(world, tmp_path):
    name = "lora_unet_mid_block_attentions_0_proj_in"
    path = save(tmp_path / "a.safetensors", {f"{name}.lora_down.weight": torch.ones(2, 12), f"{name}.lora_up.weight": torch.ones(64, 2)})
    with pytest.raises(UserError, match="is for 12 inputs and 64 outputs, and that of sd1 has 64 and 64. Choose the base_model"):
        borrow(world, tmp_path, "sd1", path)
    path = save(
        tmp_path / "b.safetensors", {"lora_unet_x.lora_down.weight": torch.ones(2, 12), "lora_unet_x.lora_up.weight": torch.ones(64, 2)}
    )
    with pytest.raises(UserError, match="its layer lora_unet_x is none that a LoRA can be trained on in sd1"):
        borrow(world, tmp_path, "sd1", path)
    both = {
        f"{stem}.{key}": torch.ones(2, 64) if "down" in key or "A" in key else torch.ones(64, 2)
        for stem, keys in ((name, ("lora_down.weight", "lora_up.weight")), ("unet.mid_block.attentions.0.proj_in", AB))
        for key in keys
    }
    with pytest.raises(UserError, match=f"it has the layer {name} twice"):
        borrow(world, tmp_path, "sd1", save(tmp_path / "c.safetensors", both))


def test_bundled_embeddings_make_no_lora(world, tmp_path):
    words = {"bundle_emb.x.string_to_param.*": torch.ones(2, 4), "bundle_emb.x.hada_w1_b": torch.ones(1, 2)}
    with pytest.raises(UserError, match="textual inversions only"):
        borrow(world, tmp_path, "sd1", save(tmp_path / "words.safetensors", words))
    with pytest.raises(UserError, match="Give a LoRA"):
        borrow(world, tmp_path, "sd1", save(tmp_path / "both.safetensors", {**words, "lora_unet_x.alpha": torch.ones(())}))


@pytest.mark.parametrize(
    "damage",
    [
        {"lora_down.weight": torch.ones(())},
        {"lora_up.weight": torch.ones(4)},
        {"lora_mid.weight": torch.ones(4, 4)},
        {"lora_mid.weight": torch.ones(4, 3, 1, 1)},
    ],
)
def test_shapes_that_no_layer_has(world, tmp_path, damage):
    good = {"lora_down.weight": torch.ones(4, 8), "lora_up.weight": torch.ones(8, 4)}
    path = save(tmp_path / "it.safetensors", {f"lora_unet_x.{part}": tensor for part, tensor in (good | damage).items()})
    with pytest.raises(UserError, match=r"lora_unet_x.* has the shape \[.*It is damaged"):
        borrow(world, tmp_path, "sd1", path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lora_rank": 8}, "with lora_rank 8: its layers have 1 to 3, each its own. Leave lora_rank out"),
        ({"lora_alpha": 9}, "with lora_alpha 9: its layers have 1 to 4"),
        ({"conv_rank": 4}, "conv_rank 4: it has conv_rank 0"),
        ({"network_type": "lokr"}, "network_type lokr: it has network_type lora"),
        ({"block_ranks": {"mid_block": 5}}, "with rank 5 for mid_block in block_ranks.*Leave block_ranks out"),
        ({"exclude": "."}, "train nothing"),
    ],
)
def test_options_that_contradict_the_file(world, tmp_path, options, said):
    path = write_file(tmp_path / "it.safetensors", layers_of(world, "sd1"), "sd1", of_kohya)
    with pytest.raises(UserError, match=said):
        borrow(world, tmp_path, "sd1", path, **options)


def test_it_is_said_before_a_model_is_loaded(tmp_path):
    for name in ("nowhere.safetensors", "nowhere"):
        config = build(ImageConfig, {"output_dir": str(tmp_path / "run"), "init_lora": str(tmp_path / name), "base_model": "none-such"})
        with pytest.raises(UserError, match="there is no such file"):
            DiffusersHost().borrow(config)
        with pytest.raises(UserError, match="there is no such file"):
            check_initial(config)


def test_resuming_needs_the_file_no_more(world, tmp_path):
    """Ranks by layer, what is frozen, and what is kept come from the run's own copy."""
    layers = layers_of(world, "sd1")
    bundled = {"bundle_emb.zwx.string_to_param.*": torch.randn(2, 32)}
    path = save(tmp_path / "it.safetensors", {**expected(layers, "sd1"), **bundled})
    written, _, first = go_on(world, tmp_path, "sd1", path, train_text_encoder=False, include="attn2|lora_te", learning_rate=1e-3)
    first.run.close()
    path.unlink()
    config = read_options({ImageConfig.TASK: ImageConfig}, resume=Path(first.config.output_dir))
    trainee = DiffusersHost().borrow(config)
    for _ in trainee.prepare():
        pass
    session = Session(trainee, config, Run.reopen(config))
    assert session.resumed and session.step == 1
    again = load_file(trainee.write(session.adapters, tmp_path / "resumed.safetensors", NOTES))
    same(again, written)
    assert {n for n, t in session.adapters.targets.items() if t.frozen} == {n for n, t in first.adapters.targets.items() if t.frozen}
    assert not config.train_text_encoder


def test_the_states_of_another_run_are_not_taken_for_its_own(world, tmp_path):
    """A look at a run file that names the folder of a run without ``init_lora``, or of one that went on from another file."""
    config = build(ImageConfig, {"output_dir": str(tmp_path / "run"), "init_lora": str(tmp_path / "a.safetensors")})
    states = tmp_path / "run" / "state"
    states.mkdir(parents=True)
    (states / "step-00000001.pt").write_bytes(b"")
    for before in ("", "elsewhere.safetensors"):
        (tmp_path / "run" / "config.yaml").write_text(f"init_lora: {before!r}\n", encoding="utf-8")
        assert find_source(config) == tmp_path / "a.safetensors"
    (tmp_path / "run" / "config.yaml").write_text(f"init_lora: {config.init_lora!r}\n", encoding="utf-8")
    (states / "init_lora").mkdir()
    assert find_source(config) == states / "init_lora"
