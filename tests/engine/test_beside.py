"""A run beside its program: the run of the program itself, bit for bit, while that is not touched; and how wishes, ends and deaths go."""

import subprocess
import sys
import time

import beside_worker
import psutil
import pytest
import torch
from beside_worker import RUN, Program
from hotlora.engine.errors import UserError
from hotlora.engine.events import Drawn, Failed, Finished, Paused, Previewed, Saved, Step, read_events
from hotlora.engine.jobs import Jobs
from hotlora.engine.run import find_state_step
from safetensors.torch import load_file
from toy import ToyConfig, ToyHost, run_toy, toy_config
from waiting import wait_until

LENGTH = {"max_steps": 20, "scheduler": "constant"}


@pytest.fixture
def program(tmp_path):
    host = Program()
    host.jobs = Jobs(lambda: host, tmp_path / "für Zoë", ToyConfig)
    yield host
    while host.jobs.current:
        host.jobs.current.control.stop()
        time.sleep(0.1)


def wait_for(jobs, name, *statuses):
    wait_until(lambda: jobs.status(name) in statuses, 60)


def events_of(jobs, name="far"):
    return list(read_events(jobs.folder / name / "events.jsonl"))


def tensors_of(jobs, name="far"):
    return load_file(jobs.folder / name / f"{name}.safetensors")


def assert_equals_never_stopped(jobs, tmp_path):
    _, _, run = run_toy(toy_config(tmp_path / "alone" / "far", **{**RUN, **LENGTH, "train_device": "", "output_name": "far"}))
    wanted, made = load_file(run.final_path), tensors_of(jobs)
    assert made.keys() == wanted.keys() and all(torch.equal(made[key], wanted[key]) for key in wanted)


def kill_the_process():
    (child,) = psutil.Process().children()
    child.kill()


def test_it_is_the_run_of_the_program_itself_which_is_not_touched(program, tmp_path):
    before, heard = torch.get_rng_state(), []
    job = program.jobs.start({**RUN, **LENGTH, "save_steps": 5, "keep_last": 0})
    job.subscribe(heard.append)
    program.jobs.start({**RUN, **LENGTH, "output_name": "next"})
    assert program.jobs.status("next") == "waiting"
    wait_for(program.jobs, "next", "done")
    assert torch.equal(torch.get_rng_state(), before) and program.turns == 0 and program.trainee is None
    assert heard == events_of(program.jobs)
    saved = [event.path for event in heard if isinstance(event, Saved)]
    assert [str(path) for path in program.published if "next" not in path.name] == saved and len(saved) > 4
    assert program.jobs.values("far")["base_model"] == "loaded", "as the program calls it"
    assert_equals_never_stopped(program.jobs, tmp_path)


def test_wishes_reach_it_and_it_goes_on_in_the_program(program, tmp_path):
    jobs, values = program.jobs, {**RUN, **LENGTH, "max_steps": 100_000, "sample_prompts": ["x"], "sheet_weights": []}
    jobs.start(values)
    jobs.control("far").pause()  # before there is anybody to hear it
    wait_until(lambda: any(isinstance(event, Paused) for event in events_of(jobs)), 60)
    assert jobs.status("far") == "paused"
    count = len(events_of(jobs))
    time.sleep(0.5)
    assert len(events_of(jobs)) == count
    jobs.control("far").go_on()
    jobs.control("far").sample_now()
    jobs.control("far").save_now()
    for kind in (Previewed, Saved):
        wait_until(lambda kind=kind: any(isinstance(event, kind) for event in events_of(jobs)), 60)
    assert jobs.draw("far", {}) == 1
    wait_until(lambda: any(isinstance(event, Drawn) for event in events_of(jobs)), 60)
    jobs.control("far").pause(free=True)
    wait_until(lambda: any(isinstance(event, Paused) and event.freed for event in events_of(jobs)), 60)
    jobs.stop("far")
    wait_for(jobs, "far", "stopped")
    here = ToyHost()
    jobs._make_host = lambda: here
    step = find_state_step(jobs.folder / "far")
    jobs.resume("far", {"train_device": "", "max_steps": step + 3})
    wait_for(jobs, "far", "done")
    assert here.turns and not program.turns and jobs.values("far")["train_device"] == ""


def test_a_process_that_is_killed_is_a_sentence_and_can_be_gone_on_with(program, tmp_path):
    job = program.jobs.start({**RUN, **LENGTH, "state_minutes": 0})
    wait_until(lambda: find_state_step(program.jobs.folder / "far") >= 3, 60)
    kill_the_process()
    wait_for(program.jobs, "far", "failed")
    assert isinstance(job.outcome, Failed) and not job.outcome.bug
    assert "the process that trained 'far' on cpu has died" in events_of(program.jobs)[-1].message
    program.jobs.resume("far")
    wait_for(program.jobs, "far", "done")
    assert_equals_never_stopped(program.jobs, tmp_path)


def test_where_the_program_ends_it_saves_and_ends_and_is_in_line_again(tmp_path):
    worker = subprocess.Popen([sys.executable, beside_worker.__file__, str(tmp_path)])
    wait_until(lambda: any(isinstance(event, Step) for event in read_events(tmp_path / "far" / "events.jsonl")), 60)
    (child,) = psutil.Process(worker.pid).children()
    worker.kill()
    worker.wait()
    gone, _ = psutil.wait_procs([child], timeout=60)
    assert gone, "it has stayed"
    jobs = Jobs(ToyHost, tmp_path, ToyConfig)
    steps = [event.step for event in events_of(jobs) if isinstance(event, Step)]
    assert find_state_step(tmp_path / "far") == steps[-1] and not any(isinstance(event, Finished) for event in events_of(jobs))
    (left,) = jobs.list_left()
    assert left.name == "far" and left.lost_steps == 0


def test_what_only_the_programs_own_model_does_is_refused(program):
    for ask in (lambda: program.jobs.look_ahead(RUN), lambda: program.jobs.search({**RUN, "validation_split": 0.1}, {})):
        with pytest.raises(UserError, match="on 'cpu': only the program's own model does that"):
            ask()
    assert not program.jobs.list_line()
