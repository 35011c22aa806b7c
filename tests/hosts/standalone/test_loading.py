"""Every way of loading gives the same numbers: those that diffusers and transformers load themselves."""

import json
import shutil
import socket

import diffusers
import pytest
import tiny
import torch
import transformers
from hotlora.engine.errors import UserError
from hotlora.engine.pickled import is_unsafe
from hotlora.hosts.shared.image_models import fingerprint_vae
from hotlora.hosts.standalone.checkpoints.architecture import list_text_encoders
from hotlora.hosts.standalone.checkpoints.checkpoint import fingerprint_checkpoint
from hotlora.hosts.standalone.checkpoints.recognising import describe, describe_vae
from hotlora.hosts.standalone.loading import load_parts
from safetensors.torch import load_file, save_file

CPU = torch.device("cpu")
FAMILIES = ("sd1", "sd2", "sdxl")


def load(path, **options):
    return load_parts(describe(path), **({"vae": "", "device": CPU, "dtype": torch.float32} | options))


def assert_same(model, reference):
    ours, theirs = model.state_dict(), reference.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_numbers_are_those_of_the_libraries_own_loading(models, family, kind):
    folder, parts = getattr(models, f"{family}_folder"), load(getattr(models, f"{family}_{kind}"))
    assert_same(parts.unet, diffusers.UNet2DConditionModel.from_pretrained(str(folder / "unet")))
    assert_same(parts.vae, diffusers.AutoencoderKL.from_pretrained(str(folder / "vae")))
    for name, encoder in zip(list_text_encoders(family), parts.text_encoders, strict=True):
        text_class = transformers.CLIPTextModelWithProjection if name.endswith("_2") else transformers.CLIPTextModel
        assert_same(encoder, text_class.from_pretrained(str(folder / name)))
    for part in (parts.unet, parts.vae, *parts.text_encoders):
        assert not part.training
        assert not any(parameter.requires_grad or parameter.is_meta for parameter in part.parameters())
        assert not any(buffer.is_meta for buffer in part.buffers())


@pytest.mark.parametrize("family", FAMILIES)
def test_unet_file_is_read_as_diffusers_reads_it(models, family):
    """diffusers' single-file conversion is independent of ours and of the test models'."""
    folder, file = getattr(models, f"{family}_folder"), getattr(models, f"{family}_file")
    options = {"config": str(folder), "local_files_only": True}
    parts = load(file)
    assert_same(parts.unet, diffusers.UNet2DConditionModel.from_single_file(str(file), subfolder="unet", **options))
    assert_same(parts.vae, diffusers.AutoencoderKL.from_single_file(str(file), subfolder="vae", **options))


@pytest.mark.parametrize("family", FAMILIES)
def test_file_and_folder_compute_the_same(models, family):
    file, folder = (load(getattr(models, f"{family}_{kind}")) for kind in ("file", "folder"))
    generator = torch.Generator().manual_seed(0)
    noisy, pixels = torch.randn(1, 4, 8, 8, generator=generator), torch.rand(1, 3, 64, 64, generator=generator)
    context = torch.randn(1, 7, file.unet.config.cross_attention_dim, generator=generator)
    added = {"text_embeds": torch.randn(1, 64, generator=generator), "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]])}
    options = {"added_cond_kwargs": added} if family == "sdxl" else {}
    with torch.no_grad():
        outputs = [
            (p.unet(noisy, 500, context, **options).sample, p.vae.encode(pixels).latent_dist.parameters, p.vae.config.scaling_factor)
            for p in (file, folder)
        ]
    assert torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[0][1], outputs[1][1])
    assert outputs[0][2] == outputs[1][2] == (0.13025 if family == "sdxl" else 0.18215)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizers_pad_as_the_family_was_trained(models, family):
    expected = {"sd1": [49407], "sd2": [0], "sdxl": [49407, 0]}[family]
    for kind in ("file", "folder"):
        tokenizers = load(getattr(models, f"{family}_{kind}")).tokenizers
        assert [tokenizer.pad_token_id for tokenizer in tokenizers] == expected
        assert tokenizers[0]("A photo, café", add_special_tokens=False).input_ids == [320, 1125, 267, 15304]


def test_half_precision_file_becomes_full_precision_and_the_other_way(tmp_path, models):
    half = tiny.tiny_sd1_file(tmp_path / "half.safetensors", dtype=torch.float16)
    full = load(half)
    assert {p.dtype for part in (full.unet, full.vae, *full.text_encoders) for p in part.parameters()} == {torch.float32}
    reduced = load(models.sd1_file, dtype=torch.bfloat16)
    assert {p.dtype for part in (reduced.unet, *reduced.text_encoders) for p in part.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in reduced.vae.parameters()} == {torch.float32}


def test_averaged_weights_beside_the_plain_ones_are_ignored(tmp_path, models):
    tensors = load_file(str(models.sd1_file))
    tensors["model_ema.diffusion_modelinput_blocks00weight"] = torch.zeros(32, 4, 3, 3)
    save_file(tensors, str(tmp_path / "ema.safetensors"))
    assert_same(load(tmp_path / "ema.safetensors").unet, load(models.sd1_file).unet)


@pytest.mark.skipif(is_unsafe(), reason="this torch cannot read pickled files safely")
def test_checkpoint_of_pytorch_loads(tmp_path, models):
    torch.save({"state_dict": load_file(str(models.sd1_file))}, tmp_path / "old.ckpt")
    assert_same(load(tmp_path / "old.ckpt").unet, load(models.sd1_file).unet)


def test_nothing_is_kept_of_the_file(models, tmp_path):
    """Windows cannot replace an open file, and a mapped one would change under the model."""
    path = tmp_path / "model.safetensors"
    shutil.copyfile(models.sd1_file, path)
    unet = load(path).unet
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    with open(path, "rb+") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())


def test_loading_and_sampling_need_no_network(models, monkeypatch):
    from hotlora.hosts.standalone.images import DiffusersModel
    from hotlora.sd.config import ImageConfig
    from hotlora.sd.model import SdSampleRequest

    def refuse(*arguments):
        raise AssertionError(f"the network was asked for: {arguments}")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for family in FAMILIES:
        for kind in ("file", "folder"):
            model = DiffusersModel(describe(getattr(models, f"{family}_{kind}")), ImageConfig(), CPU)
            model.sample(SdSampleRequest("a cat", "", 64, 64, 1, 5.0, "DDIM", 1))


# -- folders as people have them ---------------------------------------------------------------------------------------


def copy_folder(models, tmp_path):
    return shutil.copytree(models.sd1_folder, tmp_path / "copy")


def test_folder_of_half_precision_variants_only(models, tmp_path):
    folder = copy_folder(models, tmp_path)
    for name, stem in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model")):
        (folder / name / f"{stem}.safetensors").rename(folder / name / f"{stem}.fp16.safetensors")
    assert_same(load(folder).unet, load(models.sd1_folder).unet)


def test_folder_with_shards(models, tmp_path):
    folder = copy_folder(models, tmp_path)
    whole = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(str(whole))
    whole.unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[:50], "b.safetensors": names[50:]}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, str(folder / "unet" / shard))
    index = {"weight_map": {name: shard for shard, members in shards.items() for name in members}}
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert_same(load(folder).unet, load(models.sd1_folder).unet)
    (folder / "unet" / "b.safetensors").unlink()
    with pytest.raises(UserError, match=r"b\.safetensors' is missing"):
        load(folder)


def test_folder_of_the_first_diffusers_versions(models, tmp_path):
    """Pickled weights, other names in the VAE's attention, and a version number that makes pipelines rewrite configurations."""
    folder = copy_folder(models, tmp_path)
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    renames = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, tensor in load_file(str(file)).items():
        for new_part, old_part in renames.items():
            name = name.replace(new_part, old_part)
        old[name] = tensor
    save_file(old, str(file))
    config = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    (folder / "unet" / "config.json").write_text(json.dumps(config | {"_diffusers_version": "0.6.0"}), encoding="utf-8")
    parts = load(folder)
    assert_same(parts.vae, load(models.sd1_folder).vae)
    assert "_diffusers_version" not in parts.unet.config


@pytest.mark.parametrize("prefix", [True, False])
def test_text_encoder_saved_by_any_version_of_transformers(models, tmp_path, prefix):
    """Version 5 leaves ``text_model.`` out; older ones, given such a file, would go on with random numbers."""
    folder = copy_folder(models, tmp_path)
    file = folder / "text_encoder" / "model.safetensors"
    bare = {name.removeprefix("text_model."): tensor for name, tensor in load_file(str(file)).items()}
    save_file({("text_model." if prefix else "") + name: tensor for name, tensor in bare.items()}, str(file))
    assert_same(load(folder).text_encoders[0], load(models.sd1_folder).text_encoders[0])


def test_incomplete_and_mixed_up_folders_are_refused(models, tmp_path):
    folder = copy_folder(models, tmp_path)
    config = folder / "unet" / "config.json"
    plain = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(plain | {"cross_attention_dim": 48}), encoding="utf-8")
    with pytest.raises(UserError, match=r"attn2\.to_k\.weight is \[32, 32\] and should be \[32, 48\]"):
        load(folder)
    config.write_text(json.dumps(plain), encoding="utf-8")
    (folder / "tokenizer" / "vocab.json").unlink()
    with pytest.raises(UserError, match="no vocab.json"):
        load(folder)
    (folder / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights in"):
        load(folder)


def test_file_that_lacks_a_tensor_is_refused_by_name(tmp_path, models):
    tensors = load_file(str(models.sdxl_file))
    del tensors["model.diffusion_model.output_blocks.3.0.in_layers.2.weight"]
    save_file(tensors, str(tmp_path / "x.safetensors"))
    with pytest.raises(UserError, match=r"lacks the tensor .*output_blocks\.3\.0\.in_layers\.2\.weight"):
        load(tmp_path / "x.safetensors")


# -- another VAE -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The folder of a model with other numbers, and its VAE alone as a file in three layouts."""
    root = tmp_path_factory.mktemp("other")
    folder = tiny.tiny_sd1(root / "model", seed=5)
    whole = tiny.compvis_tensors(tiny.build_sd1(seed=5))
    prefixed = {name: tensor for name, tensor in whole.items() if name.startswith("first_stage_model.")}
    bare = {name.removeprefix("first_stage_model."): tensor for name, tensor in prefixed.items()}
    return {
        "bare": tiny.save_checkpoint(root / "bare.safetensors", bare),
        "prefixed": tiny.save_checkpoint(root / "prefixed.safetensors", prefixed),
        "vae folder": folder / "vae",
        "model folder": folder,
    }


@pytest.mark.parametrize("layout", ["bare", "prefixed", "vae folder", "model folder"])
def test_vae_of_ones_own(models, other, layout):
    vae = load(models.sd1_file, vae=str(other[layout])).vae
    assert_same(vae, diffusers.AutoencoderKL.from_pretrained(str(other["vae folder"])))
    assert vae.config.scaling_factor == 0.18215


def test_vae_is_asked_for_where_a_checkpoint_has_none(tmp_path, models, other):
    tensors = {name: tensor for name, tensor in load_file(str(models.sd1_file)).items() if not name.startswith("first_stage")}
    path = tiny.save_checkpoint(tmp_path / "x.safetensors", tensors)
    with pytest.raises(UserError, match="no VAE in it"):
        load(path)
    assert load(path, vae=str(other["bare"])).vae is not None


def test_what_is_no_vae_is_refused(tmp_path, models):
    tiny.save_checkpoint(tmp_path / "lora.safetensors", {"lora_unet_x.lora_down.weight": torch.zeros(1, 1)})
    with pytest.raises(UserError, match="no VAE in it"):
        describe_vae(tmp_path / "lora.safetensors", "sd1")
    with pytest.raises(UserError, match="cannot find the VAE"):
        describe_vae(tmp_path / "nowhere.safetensors", "sd1")


# -- fingerprints ------------------------------------------------------------------------------------------------------


def test_fingerprints_follow_the_weights(tmp_path, models):
    same = shutil.copyfile(models.sd1_file, tmp_path / "renamed.safetensors")
    different = tiny.tiny_sd1_file(tmp_path / "different.safetensors", seed=1)
    assert fingerprint_checkpoint(describe(same)) == fingerprint_checkpoint(describe(models.sd1_file))
    assert fingerprint_checkpoint(describe(different)) != fingerprint_checkpoint(describe(models.sd1_file))
    assert fingerprint_checkpoint(describe(models.sd1_folder)) != fingerprint_checkpoint(describe(models.sd2_folder))
    shutil.copyfile(different, same)  # the same path with other content is hashed again
    assert fingerprint_checkpoint(describe(same)) == fingerprint_checkpoint(describe(different))


def test_vae_fingerprint_is_the_same_wherever_the_vae_comes_from(models, other):
    assert fingerprint_vae(load(models.sd1_file).vae) == fingerprint_vae(load(models.sd1_folder).vae)
    assert fingerprint_vae(load(models.sd1_file).vae) != fingerprint_vae(load(models.sd1_file, vae=str(other["bare"])).vae)
