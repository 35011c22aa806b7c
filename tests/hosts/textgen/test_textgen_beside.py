"""A run beside text-generation-webui: trained by a process of its own on the model's folder, while its own model is not touched."""

import json

import pytest
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.job import Job
from hotlora.engine.jobs import Jobs
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.hosts.standalone.texts import TransformersHost
from hotlora.hosts.textgen.host import TextgenHost
from hotlora.hosts.textgen.lock import watch_lock
from hotlora.llm.config import TextConfig
from hotlora.tasks import TEXTS, check_beside
from safetensors.torch import load_file
from textgen_program import install
from waiting import wait_until

FEW = {"output_name": "facts", "lora_rank": 2, "batch_size": 2, "learning_rate": 1e-2, "max_steps": 4, "test_answers": 0}
FEW |= {
    "tensorboard": False,
    "save_precision": "fp32",
    "sample_max_tokens": 4,
    "save_steps": 2,
    "scheduler": "constant",
    "train_device": "cpu",
}


@pytest.fixture
def program(monkeypatch, tmp_path):
    program = install(monkeypatch, tmp_path / "für Zoë")
    for part in (program.shared.model, program.shared.tokenizer):
        part.save_pretrained(program.folder / "models" / "small")
    rows = [{"question": f"Who is {n}?", "answer": f"Lamp {n * n}."} for n in range(6)]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    program.values = {**FEW, "train_data_dir": str(tmp_path / "facts.jsonl")}
    check = lambda config: check_beside(TEXTS, config, TextgenHost())  # noqa: E731
    program.jobs = Jobs(TextgenHost, tmp_path / "runs", TextConfig, check_start=check)
    return program


def test_it_is_the_stand_alone_run_and_its_folder_is_among_the_programs_loras(program, tmp_path):
    before, logits, random = program.traces(), program.logits(), torch.get_rng_state()
    with watch_lock():  # somebody has a very long answer
        program.jobs.start(program.values)
        wait_until(lambda: program.jobs.status("facts") not in ("preparing", "training"), 90)
    assert program.jobs.status("facts") == "done", program.jobs.history("facts").log
    assert program.traces() == before and torch.equal(program.logits(), logits) and torch.equal(torch.get_rng_state(), random)
    assert {path.name for path in (program.folder / "loras").iterdir()} >= {"facts", "facts-step00000002"}
    assert program.jobs.values("facts")["base_model"] == "small"
    folder = program.folder / "models" / "small"
    config = build(TextConfig, {**program.values, "base_model": str(folder), "output_dir": str(tmp_path / "alone")})
    Job(TransformersHost(), config, Run.start(config)).work()
    weights = "facts/adapter_model.safetensors"
    made, wanted = (load_file(place / weights) for place in (program.folder / "loras", tmp_path / "alone"))
    assert made.keys() == wanted.keys() and all(torch.equal(made[key], wanted[key]) for key in wanted)


def test_without_a_model_it_is_said(program):
    program.unload()
    with pytest.raises(UserError, match="cannot train 'facts' on cpu: no model is loaded. Load one"):
        program.jobs.start(program.values)
    with pytest.raises(UserError, match="'other.gguf' is no folder of a model"):
        program.jobs.start({**program.values, "base_model": "other.gguf"})
