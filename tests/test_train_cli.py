"""The command line as people use it: a YAML file in, a run folder out, kills and mistakes in between."""

import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pictures import make_pictures
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import tiny_sd1
from waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent
main = runpy.run_path(str(ROOT / "train.py"))["main"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model, pictures, and a run file, in a folder with a space and letters beyond ASCII."""
    folder = tmp_path_factory.mktemp("meine Läufe")
    tiny_sd1(folder / "model")
    make_pictures(folder / "data", 5)
    return folder


def write_config(world: Path, name: str, **options) -> Path:
    values = {
        "base_model": str(world / "model"),
        "train_data_dir": str(world / "data"),
        "output_dir": str(world / name),
        "resolution": 64,
        "min_bucket_reso": 64,
        "lora_rank": 2,
        "batch_size": 2,
        "max_steps": 6,
        "learning_rate": "1e-3",
        "sample_prompts": ["a red square"],
        "sample_steps": 2,
        "sheet_weights": [0, 1.0],
    }
    path = world / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**values, **options}), encoding="utf-8")
    return path


def tensors(path: Path) -> dict:
    return load_file(str(path))


def train_in_process(*arguments) -> int:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return main([str(a) for a in arguments])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def start_process(*arguments) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "train.py"), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=ROOT)


def wait_for_step(run: Path, step: int) -> None:
    events = run / "events.jsonl"
    wait_until(lambda: events.exists() and f'"step": {step},' in events.read_text(encoding="utf-8"), 90)


def test_a_whole_run_leaves_everything_the_readme_promises(world, capfd):
    options = {
        "save_steps": 2,
        "keep_last": 2,
        "validation_split": 0.2,
        "validation_every_steps": 3,
        "sample_every_steps": 3,
        "trigger_word": "zwx",
    }
    config = write_config(world, "whole", **options)
    assert train_in_process("--config", config, "--set", "lora_alpha=1") == 0
    run = world / "whole"
    for name in (
        "whole.safetensors",
        "whole.json",
        "whole.png",
        "comparison.png",
        "loss.png",
        "config.yaml",
        "events.jsonl",
        "whole-best.safetensors",
    ):
        assert (run / name).is_file(), name
    assert sorted(p.name for p in (run / "checkpoints").glob("*.safetensors")) == [f"whole-step{s:08d}.safetensors" for s in (4, 6)]
    assert len(list((run / "samples").glob("*.png"))) == 2
    assert list((run / "logs").glob("events.out*"))
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["lora_alpha"] == 1
    with safe_open(str(run / "whole.safetensors"), "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_alpha"] == "1.0" and metadata["ss_steps"] == "6" and metadata["ss_num_train_images"] == "4"
    assert json.loads((run / "whole.json").read_text(encoding="utf-8"))["activation text"] == "zwx"
    with Image.open(run / "whole.png") as cover:
        assert cover.size == (64, 64) and "a red square" in cover.info["parameters"]
    shown = capfd.readouterr().err
    assert "step 6/6" in shown and "finished (done)" in shown and "whole.safetensors" in shown


def test_killed_and_resumed_equals_uninterrupted(world):
    options = {"save_steps": 3, "max_steps": 9, "output_name": "a"}
    # all in processes of their own: sums depend on how many threads make them
    whole = start_process("--config", write_config(world, "never-stopped", **options))
    output = whole.communicate(timeout=120)[0]
    assert whole.returncode == 0, output
    process = start_process("--config", write_config(world, "killed", **options))
    wait_for_step(world / "killed", 4)
    process.kill()
    process.communicate()
    assert not (world / "killed" / "a.safetensors").exists()
    process = start_process("--resume", world / "killed")
    wait_for_step(world / "killed", 7)
    process.kill()
    process.communicate()
    process = start_process("--resume", world / "killed")
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    first, second = (tensors(world / name / "a.safetensors") for name in ("never-stopped", "killed"))
    assert first.keys() == second.keys() and all(first[key].equal(second[key]) for key in first)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no way to send Ctrl-C to one process")
def test_ctrl_c_saves_and_exits_cleanly(world):
    process = start_process("--config", write_config(world, "stopped", max_steps=5000))
    wait_for_step(world / "stopped", 2)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0].decode("utf-8")
    assert process.returncode == 0, output
    assert "Traceback" not in output and "finished (stopped)" in output
    assert (world / "stopped" / "stopped.safetensors").is_file()
    assert train_in_process("--resume", world / "stopped", "--set", "max_steps=4") == 0


def test_check_trains_nothing(world, capfd):
    assert train_in_process("--config", write_config(world, "checked"), "--check") == 0
    shown = capfd.readouterr().out
    for word in ("pictures: 5", "sd1", "steps: 6", "GB", "Nothing was trained"):
        assert word in shown, word
    assert not (world / "checked").exists()


def test_check_tells_what_commonly_goes_wrong_with_such_data(world, capfd):
    config = write_config(world, "checked")
    folder = Path(yaml.safe_load(config.read_text(encoding="utf-8"))["train_data_dir"])
    text = next(folder.rglob("*.txt"))
    before = text.read_bytes()
    text.write_text("ein schÃ¶nes Bild", encoding="utf-8")
    try:
        assert train_in_process("--config", config, "--check") == 0
    finally:
        text.write_bytes(before)
    assert "with garbled letters in its caption. Mend the caption, or save it anew as UTF-8." in capfd.readouterr().out


MISTAKES = {
    "unknown key": ({"learning_rte": 1}, "Did you mean 'learning_rate'"),
    "wrong type": ({"epochs": "many"}, "takes a whole number"),
    "no model": ({"base_model": "modle"}, "cannot"),
    "no base model given": ({"base_model": ""}, "base_model"),
    "no pictures": ({"train_data_dir": "/nowhere"}, "there is no such folder"),
    "no data given": ({"train_data_dir": ""}, "train_data_dir"),
    "a block that is not there": ({"block_ranks": {"down_block_9": 4}}, "down_blocks_0"),
    "a task there is not": ({"task_type": "music"}, "text-generation"),
    "an option of pictures for text": ({"task_type": "text-generation", "resolution": 512}, "it is an option of image-generation"),
    "a bad sample prompt": ({"sample_prompts": ["x --w wide"]}, "--w takes a number"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence_and_exit_code_2(world, capfd, mistake):
    options, said = MISTAKES[mistake]
    assert train_in_process("--config", write_config(world, f"mistake {mistake}", **options)) == 2
    shown = capfd.readouterr().err
    assert said in shown and "Traceback" not in shown
    first, *listed = shown.strip().partition("error: ")[2].splitlines()
    assert first.startswith("cannot ") and all(line.startswith("- cannot ") for line in listed)


def test_a_start_that_failed_can_be_tried_again_in_the_same_place(world):
    assert train_in_process("--config", write_config(world, "again", train_data_dir="nowhere")) == 2
    assert train_in_process("--config", write_config(world, "again", max_steps=1)) == 0


def test_missing_and_malformed_files_are_said(world, capfd):
    assert train_in_process("--config", world / "none.yaml") == 2
    (world / "bad.yaml").write_text("a: [1", encoding="utf-8")
    assert train_in_process("--config", world / "bad.yaml") == 2
    assert train_in_process("--resume", world / "data") == 2
    shown = capfd.readouterr().err
    assert "there is no such file" in shown and "not valid YAML" in shown and "there is no run in it" in shown


def test_resume_refuses_another_rank_and_takes_more_steps(world, capfd):
    assert train_in_process("--config", write_config(world, "longer", max_steps=2)) == 0
    assert train_in_process("--resume", world / "longer", "--set", "lora_rank=8") == 2
    assert "lora_rank 8: it was trained with lora_rank 2" in capfd.readouterr().err
    assert train_in_process("--config", write_config(world, "longer")) == 2
    assert "there is one already" in capfd.readouterr().err
    assert train_in_process("--resume", world / "longer", "--set", "max_steps=4", "--set", f"output_dir={world / 'elsewhere'}") == 0
    assert "a run that is resumed stays in its folder" in "".join(capfd.readouterr())


def test_every_bad_picture_is_named_at_once_or_skipped(world, capfd):
    data = make_pictures(world / "bad data", 3)
    (data / "broken.png").write_bytes(b"not a picture")
    (data / "broken.txt").write_text("x", encoding="utf-8")
    Image.new("RGB", (64, 64), "red").save(data / "bare.png")
    options = {"train_data_dir": str(data)}
    assert train_in_process("--config", write_config(world, "bad1", **options)) == 2
    shown = capfd.readouterr().err
    assert "broken.png" in shown and "bare.png" in shown
    assert train_in_process("--config", write_config(world, "bad2", on_bad_data="skip", **options)) == 0
    shown = capfd.readouterr().err
    assert "broken.png" in shown and "bare.png" in shown and "pictures 3" in shown


def test_init_lora_goes_on_from_a_finished_file(world, capfd):
    assert train_in_process("--config", write_config(world, "first", max_steps=2, train_text_encoder=True)) == 0
    path = world / "first" / "first.safetensors"
    values = yaml.safe_load(write_config(world, "second").read_text(encoding="utf-8")) | {"init_lora": str(path), "max_steps": 2}
    config = world / "second.yaml"
    config.write_text(yaml.safe_dump({**values, "lora_rank": 7}), encoding="utf-8")
    assert train_in_process("--config", config) == 2
    assert "with lora_rank 7: it has lora_rank 2" in capfd.readouterr().err
    del values["lora_rank"]
    values["output_dir"] = str(world / "third")
    config.write_text(yaml.safe_dump({**values, "learning_rate": 0, "save_precision": "fp16"}), encoding="utf-8")
    assert train_in_process("--config", config) == 0
    first, third = tensors(path), tensors(world / "third" / "third.safetensors")
    assert first.keys() == third.keys() and all(first[key].equal(third[key]) for key in first)
