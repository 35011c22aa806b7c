"""A grid over the toy: what is drawn, what is not drawn again, and that a run does not notice."""

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hotlora.engine.control import Control
from hotlora.engine.drawing import draw_grid
from hotlora.engine.errors import UserError
from hotlora.engine.events import Drawn, Finished, Step, Warned
from hotlora.engine.grid import MOST_PICTURES, GridPlan, lay_out, read_grid
from hotlora.engine.grid_job import GridJob
from hotlora.engine.history import History
from hotlora.engine.jobs import Jobs
from hotlora.engine.loop import train
from hotlora.engine.run import Run
from toy import ToyConfig, ToyHost, ToyTrainee, run_toy, toy_config
from waiting import wait_until

OPTIONS = {"max_steps": 6, "save_steps": 2, "sheet_weights": [], "sample_prompts": ["a"], "sample_every_epochs": 0}
PLAN = GridPlan(prompts=("a", "b"))


@pytest.fixture
def config(tmp_path):
    return toy_config(tmp_path / "cat", **OPTIONS)


def draw(config, plan=PLAN, host=None):
    run = Run(run_folder(config), config.name, config.FILE_SUFFIX)
    run.take()
    job = GridJob(host or ToyHost(), config, run, plan)
    events = []
    job.subscribe(events.append)
    return job.work(), [event for event in events if isinstance(event, Drawn)], [event for event in events if isinstance(event, Warned)]


def run_folder(config):
    return Path(config.output_dir)


def test_each_picture_is_what_the_file_gives_and_the_runs_end_stays(config):
    run_toy(config)
    outcome, drawn, _ = draw(config)
    assert isinstance(outcome, Finished) and [(event.done, event.total) for event in drawn] == [(n, 10) for n in range(1, 11)]
    grid = read_grid(run_folder(config))
    assert [cell.checkpoint for cell in grid.cells[0]] == ["step 2", "step 4", "step 6", "best", "finished"]
    trainee = ToyTrainee(config)
    for cell in grid.cells[1]:
        found = trainee.open(next(run_folder(config).rglob(f"{cell.adapter}.safetensors")))
        change = {name: parts["lora_B"] @ parts["lora_A"] * found.targets[name].alpha / 2 for name, parts in found.tensors.items()}
        plain = ToyTrainee(config)
        with torch.no_grad():
            for place in (0, 2):
                plain.net[place].weight += change[f"layer_{place}"]
            wanted = plain.net(plain.inputs[:1])
        text = grid.paths()[cell.name].read_text().partition(" ")[2]
        assert torch.allclose(torch.tensor(json.loads(text)), wanted, atol=1e-6)
    history = History().read_on(run_folder(config) / "events.jsonl")
    assert isinstance(history.outcome, Finished) and history.step == 6


def test_nothing_is_drawn_twice_and_new_values_draw_only_what_is_new(config):
    run_toy(config)
    draw(config)
    assert draw(config)[1] == []
    assert len(draw(config, dataclasses.replace(PLAN, prompts=("a", "b", "c")))[1]) == 5
    weights = GridPlan(rows="weight", checkpoints=("step 2", "finished"), weights=(0.0, 0.5, 1.0), prompts=("a",))
    assert len(draw(config, weights)[1]) == 3  # at weight 1 both are there, and at 0 both are the model alone
    (run_folder(config) / "checkpoints" / "cat-step00000002.safetensors").write_bytes(
        (run_folder(config) / "checkpoints" / "cat-step00000004.safetensors").read_bytes()
    )
    assert len(draw(config)[1]) == 0  # it is the one that was drawn as step 4


def test_cut_short_anywhere_it_goes_on_and_the_model_is_as_found(config):
    run_toy(config)
    host = ToyHost()
    control = Control(host, Run(run_folder(config), config.name, config.FILE_SUFFIX), 60.0)
    trainee = host.borrow(config)
    before = {key: value.clone() for key, value in trainee.net.state_dict().items()}
    layers = list(trainee.net)
    work = draw_grid(trainee, config, control, PLAN)
    for _ in range(3):
        next(work)
        assert list(trainee.net) == layers  # between pictures nothing is attached
    work.close()
    assert all(torch.equal(value, before[key]) for key, value in trainee.net.state_dict().items()) and not trainee.net.training
    assert read_grid(run_folder(config)).count() == (3, 10)
    assert len(draw(config)[1]) == 7 and read_grid(run_folder(config)).count() == (10, 10)


def test_a_grid_in_the_middle_of_a_run_changes_no_number(config, tmp_path):
    plan = dataclasses.replace(PLAN, checkpoints=("step 2", "step 4"))
    plain = [event.loss for event in run_toy(config)[0] if isinstance(event, Step)]
    other = toy_config(tmp_path / "other", **OPTIONS)
    host, run = ToyHost(), Run.start(other)
    control = Control(host, run, other.slice_seconds)
    events = []
    with contextlib.closing(train(host.borrow(other), other, control)) as work:
        for event in work:
            events.append(event)
            if isinstance(event, Step) and event.step == 4:
                control.draw(plan)
    run.close()
    assert [event.loss for event in events if isinstance(event, Step)] == plain
    assert sum(isinstance(event, Drawn) for event in events) == 4
    assert draw(other, plan)[1] == []  # nor is a picture another one for having been drawn in a run


def test_a_grid_that_fails_in_a_run_costs_a_warning(config):
    host, run = ToyHost(), Run.start(config)
    control = Control(host, run, config.slice_seconds)
    control.draw(dataclasses.replace(PLAN, checkpoints=("step 9",)))
    events = list(train(host.borrow(config), config, control))
    run.close()
    assert any(isinstance(event, Warned) and "The grid failed" in event.message for event in events) and isinstance(events[-1], Finished)


def test_in_a_program_it_stands_in_line_under_its_runs_name(tmp_path):
    jobs = Jobs(ToyHost, tmp_path, ToyConfig)
    values = {**OPTIONS, "output_name": "cat", "lora_rank": 2, "batch_size": 4, "learning_rate": 1e-2, "tensorboard": False}
    jobs.start(values)
    wait_until(lambda: jobs.status("cat") == "done")
    options = (tmp_path / "cat" / "config.yaml").read_bytes()
    assert jobs.draw("cat", {"checkpoints": ["step 2", "finished"], "weights": [0.8]}) == 2
    wait_until(lambda: not jobs.list_line())
    assert jobs.status("cat") == "done" and read_grid(tmp_path / "cat").count() == (2, 2)
    assert (tmp_path / "cat" / "config.yaml").read_bytes() == options
    for wrong in ({"colour": 1}, {"weights": ["a"]}, {"weights": [float("nan")]}, {"seeds": [1.5]}, {"prompts": "a"}, {"rows": 3}):
        with pytest.raises(UserError, match="cannot draw a grid with"):
            jobs.draw("cat", wrong)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (GridPlan(rows="colour"), "by 'colour'"),
        (GridPlan(rows="seed", columns="seed"), "both ways"),
        (GridPlan(), "without a prompt"),
        (GridPlan(prompts=("a",), checkpoints=("step 3",)), "step 3"),
        (GridPlan(prompts=("a",), seeds=(1, 2)), "2 seeds"),
        (GridPlan(rows="seed", prompts=("a",), seeds=tuple(range(MOST_PICTURES))), "the most"),
    ],
)
def test_what_makes_no_grid_is_a_sentence(tmp_path, plan, reason):
    with pytest.raises(UserError, match=reason):
        lay_out(plan, {"step 2": tmp_path / "a", "finished": tmp_path / "b"})
