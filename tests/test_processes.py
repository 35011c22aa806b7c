"""Runs in two and three processes, by gloo on the CPU: the numbers of one process's run, one writer, and an end for all.

Processes are started once for all jobs; what one process alone does is computed here meanwhile.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hotlora.cli import run_door
from hotlora.engine.events import Step, read_events
from hotlora.engine.job import Job
from hotlora.engine.launch import check_launch
from hotlora.engine.run import Run
from pictures import make_pictures
from processes_worker import make_toy
from safetensors.torch import load_file
from small_llama import make_llama
from small_text import make_tokenizer
from test_train_cli import train_in_process
from tiny import tiny_sd1
from toy import ToyHost, toy_config

WORKER = Path(__file__).with_name("processes_worker.py")
SECONDS = 200  # for all jobs together, on a machine that does something else too
FEW = {"max_steps": 6, "scheduler": "constant", "save_precision": "fp32", "learning_rate": 1e-3, "tensorboard": False, "lora_rank": 2}
TOYS = {  # name -> what is special about it; of each, one process's run is made to compare with, unless it fails
    "three": {"processes": 3, "options": {"validation_every_steps": 2, "sample_every_steps": 3, "sample_prompts": ["x"], "save_steps": 4}},
    "whole": {"processes": 2, "examples": 16, "options": {"gradient_accumulation_steps": 2}},
    "memory": {"processes": 2, "fault": "memory", "fault_in": 1},
    "nan": {"processes": 2, "fault": "nan", "fault_in": 1, "at_step": 5},
    "stopped": {"processes": 2, "fault": "stop", "fault_in": 1, "at_step": 6, "options": {"scheduler": "constant"}},
    "resumed": {"processes": 3, "folder": "stopped", "resume": True, "options": {"scheduler": "constant"}},
}
BROKEN = {  # the last two end processes, so they stand last
    "bug": {"processes": 3, "fault": "bug", "fault_in": 2, "at_step": 2},
    "own bug": {"processes": 2, "fault": "bug", "fault_in": 0, "at_step": 3},
    "unfit": {"processes": 2, "fault": "unfit", "fault_in": 1},
    "death": {"processes": 3, "fault": "death", "fault_in": 2, "at_step": 2},
    "first's death": {"processes": 2, "fault": "death", "fault_in": 0, "at_step": 3},
}


class World:
    """What the jobs were and came to."""

    def __init__(self, folder: Path):
        self.folder, self.jobs = folder, dict[str, dict]()

    def add(self, name: str, **job) -> None:
        self.jobs[name] = job

    def add_command(self, name: str, processes: int, arguments: list, **more) -> None:
        output = ["--set", f"output_dir={self.folder / name}"] if "--resume" not in arguments else []
        arguments = [*map(str, arguments), *output]
        self.add(name, processes=processes, folder=str(self.folder / name), arguments=arguments, **more)

    def start(self) -> subprocess.Popen:
        path = self.folder / "jobs.json"
        path.write_text(json.dumps(list(self.jobs.values())), encoding="utf-8")
        (self.folder / "said").mkdir()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONIOENCODING": "utf-8"}
        with open(self.folder / "workers.log", "wb") as log:
            command = [sys.executable, str(WORKER), str(path), str(SECONDS)]
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self.folder)

    def ended(self, name: str) -> list[str]:
        """How each process that lived ended."""
        return [ended for ended, _ in self._said(name)]

    def printed(self, name: str) -> list[str]:
        return [text for _, text in self._said(name)]

    def _said(self, name: str) -> list:
        paths = sorted((self.folder / "said").glob(f"{list(self.jobs).index(name)}-*.json"))
        assert paths, (self.folder / "workers.log").read_text(encoding="utf-8", errors="replace")[-3000:]
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def losses(self, name: str) -> list[float]:
        steps = {event.step: event.loss for event in read_events(self.folder / name / "events.jsonl") if isinstance(event, Step)}
        return [steps[step] for step in sorted(steps)]

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        path = self.folder / name / name
        return load_file(str(path / "adapter_model.safetensors" if path.is_dir() else path.with_name(f"{name}.safetensors")))


def write_runs(folder: Path) -> tuple[Path, Path]:
    """A run file of pictures and one of texts."""
    tiny_sd1(folder / "model")
    tokenizer = make_tokenizer()
    make_llama(vocabulary=len(tokenizer)).save_pretrained(folder / "words")
    tokenizer.save_pretrained(folder / "words")
    (folder / "facts.csv").write_text("question;answer\n" + "".join(f"Who is {n}?;Lamp {n * n}\n" for n in range(9)), encoding="utf-8")
    images = {"base_model": str(folder / "model"), "train_data_dir": str(make_pictures(folder / "data", 7)), "train_text_encoder": True}
    images |= {"resolution": 64, "min_bucket_reso": 64, "batch_size": 4, "vae_batch_size": 1, "sheet_weights": [], **FEW}
    texts = {"task_type": "text-generation", "base_model": str(folder / "words"), "train_data_dir": str(folder / "facts.csv")}
    texts |= {"batch_size": 4, "sample_max_tokens": 4, "test_answers": 2, "sheet_weights": [], "neftune_alpha": 5, **FEW}
    for name, values in (("images", images), ("texts", texts)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return folder / "images.yaml", folder / "texts.yaml"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("viele Läufe"))
    images, texts = write_runs(world.folder)
    for name, job in {**TOYS, **dict(list(BROKEN.items())[:-2])}.items():
        world.add(name, **{**job, "folder": str(world.folder / job.get("folder", name))})
    world.add_command("picture", 2, ["--config", images, "--set", "cache_latents=memory"])
    world.add_command("begun", 1, ["--config", images, "--set", "max_steps=3"])
    world.add_command("gone on", 2, ["--resume", world.folder / "begun", "--set", "max_steps=6"])
    world.add_command("interrupted", 2, ["--config", images, "--set", "max_steps=9000"], interrupted=1)
    world.add_command("text", 2, ["--config", texts])
    world.add_command("refused", 2, ["--config", images, "--set", "batch_size=1"])
    world.add_command("checked", 2, ["--config", images, "--check"])
    for name, job in list(BROKEN.items())[-2:]:
        world.add(name, **{**job, "folder": str(world.folder / name)})
    workers = world.start()
    try:
        make_alone(world.folder, images, texts)
    finally:
        workers.wait()  # it ends by itself
    log = (world.folder / "workers.log").read_text(encoding="utf-8", errors="replace")
    codes = json.loads((world.folder / "codes.json").read_text(encoding="utf-8"))
    assert codes == [3, 0, 3], f"a process hung, or died by itself: {log[-3000:]}"
    return world


def make_alone(folder: Path, images: Path, texts: Path) -> None:
    """The same runs in one process: "<name> alone"."""
    for name, job in TOYS.items():
        if name in ("stopped", "memory"):
            continue
        config = toy_config(folder / f"{name} alone", **job.get("options", {}))
        poison = {"fault_in": 0} if name == "nan" else {"fault_in": None}
        outcome = Job(ToyHost(make_toy({**job, **poison}, 0)), config, Run.start(config)).work()
        assert outcome.reason == "done"
    for name, file in (("picture", images), ("text", texts)):
        assert train_in_process("--config", file, "--set", f"output_dir={folder / f'{name} alone'}") == 0


def assert_same_run(world: World, name: str, other: str, tolerance: float = 2e-5) -> None:
    """6 steps of 1e-3 move an adapter's values by as much as 6e-3."""
    one, many = world.tensors(other), world.tensors(name)
    assert one.keys() == many.keys()
    for key in one:
        torch.testing.assert_close(many[key], one[key], atol=tolerance, rtol=0, msg=lambda text, key=key: f"{key}: {text}")
    losses, wanted = torch.tensor(world.losses(name)), torch.tensor(world.losses(other))
    torch.testing.assert_close(losses, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", ["three", "nan", "picture", "text"])
def test_several_processes_give_the_run_of_one(world, name):
    assert_same_run(world, name, f"{name} alone")


def test_where_batches_stay_whole_it_is_the_same_run_bit_by_bit(world):
    assert_same_run(world, "whole", "whole alone", tolerance=0)


def test_stopped_in_one_process_and_resumed_in_more_it_is_the_run_of_one(world):
    assert world.ended("stopped") == ["Finished stopped", "followed"]
    assert world.ended("resumed") == ["Finished done", "followed", "followed"]
    assert_same_run(world, "stopped", "resumed alone")


def test_begun_by_one_process_it_goes_on_in_two(world):
    assert [ended.split()[0] for ended in world.ended("gone on")] == ["0", "0"]
    assert_same_run(world, "begun", "picture alone")


def test_an_interrupt_of_any_process_ends_all_in_order(world):
    assert [ended.split()[0] for ended in world.ended("interrupted")] == ["0", "0"]
    assert "finished (stopped)" in world.printed("interrupted")[0] and world.tensors("interrupted")


def test_lack_of_memory_in_one_cuts_batches_in_all_and_changes_no_number(world):
    assert world.ended("memory") == ["Finished done", "followed"]
    assert "Out of memory: batches are cut to 1" in (world.folder / "memory" / "events.jsonl").read_text(encoding="utf-8")
    torch.testing.assert_close(torch.tensor(world.losses("memory")), torch.tensor(world.losses("three alone")), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "said", "others"),
    [
        ("bug", "Failed Training failed because of a bug (ElsewhereError: in process 3 of 3: ValueError: sour milk)", 2),
        ("own bug", "Failed Training failed because of a bug (ValueError: sour milk)", 1),
        ("unfit", "Failed cannot read the toy: it is broken. Mend it. This was said by process 2 of 2.", 1),
    ],
)
def test_an_error_in_one_process_ends_all_with_one_sentence(world, name, said, others):
    first, *rest = world.ended(name)
    assert first.startswith(said) and rest == ["followed"] * others
    if "bug" in name:
        assert "sour milk" in (log := (world.folder / name / "run.log").read_text(encoding="utf-8")) and "in loss" in log


def test_a_process_that_dies_leaves_none_waiting(world):
    first, other = world.ended("death")
    assert first.startswith("Failed cannot go on: another process of this run has died") and other == "lost"
    assert world.ended("first's death") == ["lost"]


def test_one_process_prints_and_writes(world):
    for name in ("picture", "gone on", "interrupted", "text", "refused", "checked"):
        assert [bool(text) for text in world.printed(name)] == [True] + [False] * (world.jobs[name]["processes"] - 1), name
    for name in ("three", "picture", "text"):
        folders = [world.folder / name, world.folder / f"{name} alone"]
        made, alone = (sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) for folder in folders)
        assert [path.replace(name, "x") for path in made] == [path.replace(f"{name} alone", "x") for path in alone]
        kinds, kinds_alone = ([type(event).__name__ for event in read_events(folder / "events.jsonl")] for folder in folders)
        assert [kind for kind in kinds if kind != "Preparing"] == [kind for kind in kinds_alone if kind != "Preparing"]


def test_pictures_are_encoded_by_all_of_them_and_each_only_once(world):
    assert sorted(int(ended.split()[1]) for ended in world.ended("picture")) == [3, 4]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("refused", "error: cannot train in 2 processes: a step has 1 example,"),
        ("checked", "error: cannot check a run in several processes"),
    ],
)
def test_what_makes_no_sense_in_several_is_refused_in_one_sentence_and_leaves_nothing(world, name, said):
    assert world.ended(name)[0].split()[0] == "2"
    assert world.printed(name)[0].startswith(said) and world.printed(name)[0].count("\n") == 1
    assert not (world.folder / name).exists()


@pytest.mark.parametrize("key", ["DEEPSPEED", "FSDP"])
def test_other_engines_are_refused_and_other_precisions_said(world, key, monkeypatch, capfd):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert check_launch(4, 2) == ["mixed_precision bf16 of accelerate is not used: a run goes by its own options."]
    monkeypatch.setenv(f"ACCELERATE_USE_{key}", "true")
    assert run_door("train", ["--config", str(world.folder / "images.yaml"), "--set", f"output_dir={world.folder / key}"]) == 2
    assert "cannot train by" in capfd.readouterr().err and not (world.folder / key).exists()
