"""Metadata has sd-scripts' keys in sd-scripts' forms, and says what other programs look for."""

import datetime
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hotlora import __version__
from hotlora.engine.options import build
from hotlora.hosts.webui.checkpoints import hash_checkpoint
from hotlora.sd import file_hashes as file_hashes_module
from hotlora.sd.config import ImageConfig
from hotlora.sd.file_hashes import FileHashes, file_hashes, hash_ahead
from hotlora.sd.metadata import DatasetFacts, build_metadata, write_sidecar

FIXTURES = Path(__file__).parents[1] / "fixtures"
WRITTEN_LATER = {"sshs_model_hash", "sshs_legacy_hash"}  # by write_lora: they are of the tensors
OURS_ALONE = {"hotlora_config"}  # the options, to train like this again
OTHER_VALUES = {
    "ss_sd_scripts_commit_hash": "it was not sd-scripts that trained",
    "modelspec.implementation_version": "likewise",
}

FIXTURE_NOTES = {"step": 6, "epoch": 1, "total_steps": 6, "steps_per_epoch": 12, "optimizer": "torch.optim.adamw.AdamW"}
FIXTURE_OPTIONS = {
    "lora_rank": 2,
    "lora_alpha": 2,
    "train_text_encoder": True,
    "resolution": 256,
    "enable_bucket": False,
    "scheduler": "constant",
    "max_steps": 6,
}
NOTES = {**FIXTURE_NOTES, "started_at": 1795461666.5, "finished_at": 1795461739.25, "session_id": 77}


def fixture_metadata(file):
    return json.loads((FIXTURES / f"{file}.json").read_text(encoding="utf-8"))["metadata"]


def model(family="sd1", prediction_type="epsilon", zero_terminal_snr=False):
    return SimpleNamespace(
        name="base",
        path=Path("models") / "base.safetensors",
        family=family,
        prediction_type=prediction_type,
        zero_terminal_snr=zero_terminal_snr,
        compute_dtype=torch.float32,
    )


def metadata_of(options=None, base=None, **more):
    facts = DatasetFacts(num_train_images=12, num_batches_per_epoch=12)
    return build_metadata(build(ImageConfig, options or {}), base or model(), facts, NOTES, **more)


@pytest.mark.parametrize(("dtype", "told"), [(torch.float32, "no"), (torch.float16, "fp16"), (torch.bfloat16, "bf16")])
def test_the_precision_is_the_one_that_was_computed_in(dtype, told):
    base = model()
    base.compute_dtype = dtype
    assert metadata_of(base=base)["ss_mixed_precision"] == told


@pytest.mark.parametrize(("file", "options"), [("sdscripts-sd15-r2", {}), ("sdscripts-sd15-locon-r2", {"conv_rank": 2, "conv_alpha": 1})])
def test_the_same_run_has_sd_scripts_keys_and_values(file, options):
    wanted = fixture_metadata(file)
    finished = float(wanted["ss_training_finished_at"])
    notes = {
        **FIXTURE_NOTES,
        "started_at": float(wanted["ss_training_started_at"]),
        "finished_at": finished,
        "session_id": int(wanted["ss_session_id"]),
    }
    base = model()
    base.path = Path(wanted["ss_sd_model_name"])
    facts = DatasetFacts(
        num_train_images=12,
        num_batches_per_epoch=12,
        dataset_dirs=json.loads(wanted["ss_dataset_dirs"]),
        tag_frequency=json.loads(wanted["ss_tag_frequency"]),
    )
    hashes = FileHashes(wanted["ss_sd_model_hash"], wanted["ss_new_sd_model_hash"])
    config = build(ImageConfig, {**FIXTURE_OPTIONS, **options, "output_name": file})
    ours = build_metadata(config, base, facts, notes, hashes=hashes)
    assert ours.keys() - OURS_ALONE == wanted.keys() - WRITTEN_LATER
    different = {key for key in wanted if key in ours and ours[key] != wanted[key]}
    wanted_day = datetime.datetime.fromisoformat(wanted["modelspec.date"])
    our_day = datetime.datetime.fromisoformat(ours["modelspec.date"])
    assert abs(our_day - wanted_day) < datetime.timedelta(days=1, minutes=5)  # the same moment in this machine's time zone
    assert different - {"modelspec.date"} == OTHER_VALUES.keys()


def test_every_value_is_text():
    assert all(isinstance(value, str) for value in metadata_of().values())


@pytest.mark.parametrize(
    ("family", "predicts", "version", "v2", "architecture", "prediction"),
    [
        ("sd1", "epsilon", "sd_v1", "False", "stable-diffusion-v1/lora", "epsilon"),
        ("sd1", "v_prediction", "sd_v1_v", "False", "stable-diffusion-v1/lora", "v"),
        ("sd2", "epsilon", "sd_v2", "True", "stable-diffusion-v2-512/lora", "epsilon"),
        ("sd2", "v_prediction", "sd_v2_v", "True", "stable-diffusion-v2-768-v/lora", "v"),
        ("sdxl", "epsilon", "sdxl_base_v1-0", "False", "stable-diffusion-xl-v1-base/lora", "epsilon"),
        ("sdxl", "v_prediction", "sdxl_base_v1-0", "False", "stable-diffusion-xl-v1-base/lora", "v"),
    ],
)
def test_families(family, predicts, version, v2, architecture, prediction):
    ours = metadata_of({"clip_skip": 2}, model(family, predicts, zero_terminal_snr=predicts != "epsilon"))
    assert (ours["ss_base_model_version"], ours["ss_v2"]) == (version, v2)
    assert (ours["modelspec.architecture"], ours["modelspec.prediction_type"]) == (architecture, prediction)
    assert ours["ss_zero_terminal_snr"] == str(predicts != "epsilon")
    assert (ours["modelspec.implementation"] == "https://github.com/Stability-AI/generative-models") == (family == "sdxl")
    assert ("modelspec.encoder_layer" in ours) == (family != "sdxl")
    assert ours["modelspec.implementation_version"] == f"hotlora/{__version__}"


@pytest.mark.parametrize(
    ("options", "module", "args"),
    [
        ({}, "networks.lora", None),
        ({"conv_rank": 4, "conv_alpha": 1.5}, "networks.lora", {"conv_dim": "4", "conv_alpha": "1.5", "dropout": None}),
        ({"use_rslora": True, "lora_dropout": 0.1}, "networks.lora", {"rs_lora": "True", "dropout": 0.1}),
        ({"network_type": "loha"}, "lycoris.kohya", {"algo": "loha", "dropout": None}),
        ({"network_type": "lokr", "lokr_factor": 8}, "lycoris.kohya", {"algo": "lokr", "factor": "8", "dropout": None}),
        ({"use_dora": True}, "lycoris.kohya", {"algo": "lora", "dora_wd": "True", "wd_on_out": "False", "dropout": None}),
    ],
)
def test_network_module(options, module, args):
    ours = metadata_of(options)
    assert ours["ss_network_module"] == module
    assert (json.loads(ours["ss_network_args"]) if "ss_network_args" in ours else None) == args


def test_a1111_can_read_the_mappings():
    """It decodes what starts with a brace, and its dialog then reads these as mappings."""
    facts = DatasetFacts(
        num_train_images=20,
        num_batches_per_epoch=10,
        num_reg_images=4,
        dataset_dirs={"10_cat größe": {"n_repeats": 10, "img_count": 2}},
        bucket_info={"buckets": {"0": {"resolution": [512, 768], "count": 20}}, "mean_img_ar_error": 0.25},
    )
    ours = build_metadata(build(ImageConfig, {"resolution": 640}), model(), facts, NOTES)
    for key in ("ss_dataset_dirs", "ss_reg_dataset_dirs", "ss_tag_frequency", "ss_bucket_info"):
        assert ours[key].startswith("{")
    assert sum(int(folder["img_count"]) for folder in json.loads(ours["ss_dataset_dirs"]).values()) == 2
    assert json.loads(ours["ss_bucket_info"])["buckets"]["0"]["resolution"] == [512, 768]
    assert (ours["ss_resolution"], ours["modelspec.resolution"]) == ("(640, 640)", "640x640")
    assert (ours["ss_min_bucket_reso"], ours["ss_max_bucket_reso"], ours["ss_num_reg_images"]) == ("256", "1024", "4")
    assert float(ours["ss_training_started_at"]) == NOTES["started_at"]


def test_what_was_set_is_said():
    options = {
        "trigger_word": "sks cat",
        "clip_skip": 2,
        "max_token_length": 225,
        "min_timestep": 100,
        "max_timestep": 900,
        "noise_offset": 0.05,
        "min_snr_gamma": 5,
        "vae": "/home/someone/vae.pt",
        "batch_size": 2,
        "gradient_accumulation_steps": 3,
        "training_comment": "first try",
        "max_norm": 1,
    }
    ours = metadata_of(options, vae_hashes=FileHashes("12345678", "ab" * 32))
    assert ours["modelspec.trigger_phrase"] == "sks cat"
    assert ours["modelspec.timestep_range"] == "100,900"
    assert ours["modelspec.encoder_layer"] == ours["ss_clip_skip"] == "2"
    assert (ours["ss_max_token_length"], ours["ss_noise_offset"], ours["ss_min_snr_gamma"]) == ("225", "0.05", "5.0")
    assert (ours["ss_vae_name"], ours["ss_vae_hash"], ours["ss_new_vae_hash"]) == ("vae.pt", "12345678", "ab" * 32)
    assert (ours["ss_batch_size_per_device"], ours["ss_total_batch_size"]) == ("2", "6")
    assert ours["ss_training_comment"] == "first try"
    assert ours["ss_scale_weight_norms"] == "1.0"


def test_options_are_kept_without_paths():
    """A shared file must not tell how its maker's disk is laid out."""
    paths = {
        key: "/home/someone/secret"
        for key in ImageConfig.__dataclass_fields__
        if key.endswith(("_dir", "_path", "_model", "_lora", "vae")) and ImageConfig.__dataclass_fields__[key].default == ""
    }
    assert len(paths) >= 8
    paths["masked_loss"] = True
    ours = metadata_of({**paths, "output_dir": "/home/someone/out", "flip_aug": True, "loss_type": "huber"})
    assert not any("someone" in value for value in ours.values())
    kept = json.loads(ours["hotlora_config"])
    assert (kept["flip_aug"], kept["loss_type"]) == (True, "huber") and "lora_rank" not in kept


def test_file_hashes_of_large_and_small_files(tmp_path):
    data = bytes(i * 7 % 251 for i in range(0x100000 + 0x20000))
    (tmp_path / "large.bin").write_bytes(data)
    (tmp_path / "small.bin").write_bytes(b"abc")
    large, small = file_hashes(tmp_path / "large.bin"), file_hashes(tmp_path / "small.bin")
    assert large == (hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8], hashlib.sha256(data).hexdigest())
    assert small == ("e3b0c442", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


def test_sidecar_is_what_a1111_reads(tmp_path):
    config = build(ImageConfig, {"trigger_word": "ö-style", "lora_rank": 4, "training_comment": "Ölfarben"})
    path = write_sidecar(tmp_path / "my.style v1.safetensors", config, "sdxl", NOTES, preferred_weight=0.8)
    assert path.name == "my.style v1.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content.keys() == {"description", "sd version", "activation text", "preferred weight", "negative text", "notes"}
    assert (content["sd version"], content["activation text"], content["preferred weight"]) == ("SDXL", "ö-style", 0.8)
    assert content["description"] == "Ölfarben" and "rank 4" in content["notes"] and "6 steps" in content["notes"]


def test_sidecar_keeps_what_a_person_wrote(tmp_path):
    lora, config = tmp_path / "a.safetensors", build(ImageConfig, {"trigger_word": "new"})
    written = {"description": "mine", "preferred weight": 0.6, "negative text": "blurry", "activation text": "old", "extra": 1}
    (tmp_path / "a.json").write_text(json.dumps(written), encoding="utf-8-sig")
    content = json.loads(write_sidecar(lora, config, "sd1", NOTES).read_text(encoding="utf-8"))
    assert {key: content[key] for key in written} == {**written, "activation text": "new"} and "rank 16" in content["notes"]
    (tmp_path / "a.json").write_text(json.dumps({**content, "notes": "works best at night"}), encoding="utf-8")
    assert json.loads(write_sidecar(lora, config, "sd1", NOTES).read_text(encoding="utf-8"))["notes"] == "works best at night"
    (tmp_path / "a.json").write_text("{broken", encoding="utf-8")
    assert json.loads(write_sidecar(lora, config, "sd2", NOTES).read_text(encoding="utf-8"))["sd version"] == "SD2"


def test_a_file_that_is_hashed_in_the_background_is_read_once(tmp_path):
    path, before = tmp_path / "model.bin", file_hashes_module._hash_file.cache_info().misses
    path.write_bytes(b"abc" * 1_000_000)
    hash_ahead([tmp_path / "gone.bin", path])
    assert file_hashes(path).sha256 == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    hash_ahead([path])
    assert file_hashes(path).legacy and file_hashes_module._hash_file.cache_info().misses == before + 1


def test_a_program_that_knows_its_checkpoint_does_not_wait_for_the_hashes(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"abc")
    with file_hashes_module._one_at_a_time:
        hash_checkpoint(SimpleNamespace(filename=str(path), sha256="ab" * 32))  # or it would never come back
    hash_checkpoint(SimpleNamespace(filename=str(path), sha256=None))
    assert file_hashes(path).legacy == "e3b0c442"
