"""A pause that hands back the device's memory: the host unloads its model, nothing of the run is kept, and the run goes on as if nothing
had been."""

import threading
import weakref

import pytest
import torch
from hotlora.engine import control as control_module
from hotlora.engine import job as job_module
from hotlora.engine.events import Finished, Paused, Started, Step, read_events
from hotlora.engine.freeing import Freeing
from hotlora.engine.jobs import Jobs
from safetensors.torch import load_file
from toy import ToyConfig, ToyHost, ToyTrainee
from waiting import wait_until

OPTIONS = {"lora_rank": 2, "max_steps": 12, "batch_size": 4, "learning_rate": 1e-2, "tensorboard": False, "sheet_weights": []}
OPTIONS |= {"ema_decay": 0.8, "validation_split": 0.1, "validation_every_steps": 4}


class Unloading(ToyHost):
    """Keeps a model of its own, as programs do."""

    def __init__(self, make=ToyTrainee):
        super().__init__(make)
        self.did = []

    def unload(self, config):
        assert not self.inside
        self.did.append("unload")
        self.trainee, self.away = None, True

    def load_again(self, config):
        self.did.append("load")
        self.away = False


class Program:
    def __init__(self, folder, host):
        self.host = host
        self.jobs = Jobs(lambda: host, folder, ToyConfig)

    def start(self, name, act=None, **options):
        """A run, held before its first event until ``act`` is subscribed."""
        gate = threading.Event()
        borrow = self.host.borrow
        self.host.borrow = lambda config: gate.wait(20) and borrow(config)
        job = self.jobs.start({**OPTIONS, "output_name": name, **options})
        job.subscribe(act or (lambda event: None))
        gate.set()
        return job

    def wait_for(self, name, *statuses):
        wait_until(lambda: self.jobs.status(name) in statuses)

    def events(self, name):
        return list(read_events(self.jobs.folder / name / "events.jsonl"))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(job_module, "_LOOK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(control_module, "_LOOK_SECONDS", 0.05)


@pytest.fixture(scope="module")
def never_paused(tmp_path_factory):
    program = Program(tmp_path_factory.mktemp("never paused"), ToyHost())
    program.start("whole")
    program.wait_for("whole", "done")
    return program


def free_at(jobs, name, is_moment):
    once = []

    def act(event):
        if is_moment(event) and not once:
            once.append(event)
            jobs.control(name).pause(free=True)

    return act


def is_freed(program, name):
    return any(isinstance(event, Paused) and event.freed for event in program.events(name))


def check_equal(program, never_paused, name="a"):
    found, wanted = ([(e.step, e.loss) for e in p.events(n) if isinstance(e, Step)] for p, n in ((program, name), (never_paused, "whole")))
    assert found == wanted and len(found) == 12
    one, other = (load_file(str(p.jobs.folder / n / f"{n}.safetensors")) for p, n in ((program, name), (never_paused, "whole")))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


MOMENTS = {
    "started": lambda e: isinstance(e, Started),
    "a step": lambda e: isinstance(e, Step) and e.step == 5,
    "a step with judging": lambda e: isinstance(e, Step) and e.step == 4,
    "the last step": lambda e: isinstance(e, Step) and e.step == 12,
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_freed_and_resumed_equals_never_paused(tmp_path, never_paused, moment):
    program = Program(tmp_path, Unloading())
    program.start("a", free_at(program.jobs, "a", moment))
    wait_until(lambda: is_freed(program, "a"))
    control = program.jobs.control("a")
    assert program.host.did == ["unload"] and program.jobs.status("a") == "paused" and control.freeing
    assert "to free its memory. Press Go on" in program.jobs.explain_wait()
    control.go_on()
    program.wait_for("a", "done")
    assert program.host.did == ["unload", "load"]
    check_equal(program, never_paused)


def test_nothing_of_model_and_run_is_kept_meanwhile(tmp_path, never_paused):
    program, kept = Program(tmp_path, Unloading()), []

    def act(event):
        if isinstance(event, Step) and event.step == 3:
            kept.append(weakref.ref(program.host.trainee.net))
            program.jobs.control("a").pause(free=True)

    job = program.start("a", act)
    wait_until(lambda: is_freed(program, "a"))
    assert kept[0]() is None and job.control.newest is None
    job.control.go_on()
    program.wait_for("a", "done")
    check_equal(program, never_paused)


def test_a_run_that_is_paused_already_can_be_freed(tmp_path, never_paused):
    program = Program(tmp_path, Unloading())

    def act(event):
        if isinstance(event, Step) and event.step == 6:
            program.jobs.control("a").pause()

    job = program.start("a", act)
    wait_until(lambda: any(isinstance(event, Paused) for event in program.events("a")))
    assert program.host.did == []
    job.control.pause(free=True)
    wait_until(lambda: is_freed(program, "a"))
    job.control.go_on()
    program.wait_for("a", "done")
    assert program.host.did == ["unload", "load"]
    check_equal(program, never_paused)


def test_a_host_that_loads_for_each_run_has_nothing_to_unload(tmp_path, never_paused):
    program = Program(tmp_path, ToyHost())
    assert not isinstance(program.host, Freeing)
    program.start("a", free_at(program.jobs, "a", MOMENTS["a step"]))
    wait_until(lambda: is_freed(program, "a"))
    program.jobs.control("a").go_on()
    program.wait_for("a", "done")
    check_equal(program, never_paused)


def test_a_freed_run_that_is_stopped_leaves_the_model_loaded_and_can_be_resumed(tmp_path, never_paused):
    program = Program(tmp_path, Unloading())
    job = program.start("a", free_at(program.jobs, "a", MOMENTS["a step"]))
    wait_until(lambda: is_freed(program, "a"))
    program.jobs.stop("a")
    program.wait_for("a", "stopped")
    assert isinstance(job.outcome, Finished) and job.outcome.reason == "stopped" and program.host.did == ["unload", "load"]
    program.jobs.resume("a")
    program.wait_for("a", "done")
    check_equal(program, never_paused)


def test_another_model_that_was_loaded_meanwhile_stays_and_is_waited_for(tmp_path, never_paused):
    class Other(Unloading):
        def load_again(self, config):
            self.did.append("left as it is")

    program = Program(tmp_path, Other())
    program.start("a", free_at(program.jobs, "a", MOMENTS["a step"]))
    wait_until(lambda: is_freed(program, "a"))
    program.jobs.control("a").go_on()
    wait_until(lambda: program.host.did == ["unload", "left as it is"])
    assert program.jobs.status("a") != "done"
    program.host.away = False
    program.wait_for("a", "done")
    check_equal(program, never_paused)
