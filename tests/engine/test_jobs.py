"""Runs in a line, as people start, stop and find them again; and a run whose model is taken away meanwhile."""

import shutil
import threading
import time
import weakref
from pathlib import Path

import pytest
import torch
from hotlora.engine import job as job_module
from hotlora.engine.config import RunConfig
from hotlora.engine.entries import STATUSES
from hotlora.engine.errors import UserError
from hotlora.engine.events import Failed, Finished, Paused, Preparing, Previewed, Saved, Started, Step, Validated, Warned, read_events
from hotlora.engine.history import History
from hotlora.engine.interfaces import Progress
from hotlora.engine.jobs import Jobs
from safetensors.torch import load_file
from toy import ToyConfig, ToyHost, ToyTrainee
from waiting import wait_until

OPTIONS = {"lora_rank": 2, "max_steps": 12, "batch_size": 4, "learning_rate": 1e-2, "tensorboard": False, "sheet_weights": []}
KINDS = {
    "plain": {},
    "averaged": {"ema_decay": 0.9},
    "schedule-free": {"optimizer": "AdamWScheduleFree"},
    "dropout": {"lora_dropout": 0.3},
}


class Program:
    """A program that trains toys, whose steps can be held back."""

    def __init__(self, folder: Path):
        self.let_go, self.held = threading.Event(), threading.Event()
        self.let_go.set()
        self.hosts: list[ToyHost] = []
        self.ended: list[str] = []
        self.jobs = Jobs(self.make_host, folder, ToyConfig, on_end=lambda job: self.ended.append(job.name))

    def make_host(self) -> ToyHost:
        self.hosts.append(ToyHost(self.make_trainee))
        return self.hosts[-1]

    def make_trainee(self, config: RunConfig) -> ToyTrainee:
        program = self

        class Held(ToyTrainee):
            def loss(self, batch, draws):
                if not program.let_go.is_set():
                    program.held.set()
                    assert program.let_go.wait(20)
                return super().loss(batch, draws)

        return Held(config)

    def start(self, name: str, **options):
        return self.jobs.start({**OPTIONS, "output_name": name, **options})

    def hold(self) -> None:
        """Let no step go on from now."""
        self.held.clear()
        self.let_go.clear()

    def wait_for_step(self) -> None:
        """Until a run has come to its next step, and is held there."""
        assert self.held.wait(20)

    def wait_for(self, name: str, *statuses: str) -> str:
        wait_until(lambda: self.jobs.status(name) in statuses)
        return self.jobs.status(name)


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.setattr(job_module, "_LOOK_AGAIN_SECONDS", 0.01)
    program = Program(tmp_path / "runs")
    yield program
    program.let_go.set()
    while job := program.jobs.current:
        job.control.stop()
        time.sleep(0.002)


def same_tensors(first: Path, second: Path) -> bool:
    one, two = load_file(first), load_file(second)
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def curve(folder: Path) -> list:
    return [(e.step, e.loss, e.learning_rate) for e in History(read_events(folder / "events.jsonl")).steps]


# -- the line ----------------------------------------------------------------------------------------------------------


def test_runs_train_one_after_the_other_in_the_order_they_were_started(program):
    program.hold()
    for name in ("first", "second", "third"):
        program.start(name)
    program.wait_for("first", "training")
    assert [program.jobs.status(name) for name in ("second", "third")] == ["waiting", "waiting"]
    assert program.jobs.current.name == "first" and len(program.hosts) == 3
    program.let_go.set()
    wait_until(lambda: len(program.ended) == 3)
    assert program.ended == ["first", "second", "third"] and program.jobs.current is None
    assert [program.jobs.status(name) for name in program.ended] == ["done"] * 3
    ends = [list(read_events(program.jobs.folder / name / "events.jsonl"))[-1].time for name in program.ended]
    assert ends == sorted(ends)
    program.start("later")
    program.wait_for("later", "done")
    assert program.jobs.names() == ["later", "third", "second", "first"]


def test_one_that_waits_leaves_the_line_when_it_is_stopped_and_can_be_started_later(program):
    program.hold()
    for name in ("first", "second", "third"):
        program.start(name)
    program.jobs.stop("second")
    assert program.jobs.status("second") == "not started" and program.jobs.find_job("second") is None
    program.let_go.set()
    wait_until(lambda: len(program.ended) == 2)
    assert program.ended == ["first", "third"] and not (program.jobs.folder / "second" / "events.jsonl").exists()
    program.jobs.resume("second")
    assert program.wait_for("second", "done")
    assert len(curve(program.jobs.folder / "second")) == 12


def test_a_run_that_fails_or_a_listener_that_does_leaves_the_line_moving(program):
    def fail(job):
        raise RuntimeError("a listener's bug")

    program.jobs._on_end = fail
    program.start("bad", init_lora="no-such-file.safetensors")
    program.start("good")
    assert program.wait_for("good", "done")
    assert program.jobs.status("bad") == "failed" and "no-such-file" in program.jobs.history("bad").outcome.message
    program.start("after")
    assert program.wait_for("after", "done")


def test_unusable_tensorboard_does_not_keep_a_run_from_training(program, monkeypatch):
    from hotlora.engine import tensorboard

    def break_down(folder):
        raise TypeError("Descriptors cannot be created directly.")  # what protobuf says to code of another age

    monkeypatch.setattr(tensorboard, "TensorBoard", break_down)
    program.start("a", tensorboard=True)
    program.wait_for("a", "done")
    assert "Descriptors" in (program.jobs.folder / "a" / "run.log").read_text(encoding="utf-8")


# -- names -------------------------------------------------------------------------------------------------------------


def test_a_name_is_taken_from_the_start_on_until_its_run_is_deleted(program):
    program.hold()
    program.start("cat")
    program.start("dog")
    for name in ("cat", "dog"):
        with pytest.raises(UserError, match=f"called '{name}': there is one already"):
            program.start(name)
        with pytest.raises(UserError, match="training or waiting"):
            program.jobs.delete(name)
        with pytest.raises(UserError, match="training or waiting already"):
            program.jobs.resume(name)
    program.let_go.set()
    wait_until(lambda: len(program.ended) == 2)
    with pytest.raises(UserError, match="there is one already"):
        program.start("cat")
    program.jobs.delete("cat")
    assert [path.name for path in program.jobs.folder.iterdir()] == ["dog"] and program.jobs.names() == ["dog"]
    program.start("cat", max_steps=3)
    program.wait_for("cat", "done")
    assert program.jobs.history("cat").step == 3  # nothing of the deleted run is remembered


def test_a_run_that_failed_before_it_learned_anything_does_not_take_its_name(program):
    program.start("cat", init_lora="missing.safetensors")
    program.wait_for("cat", "failed")
    program.start("cat")
    program.wait_for("cat", "done")
    assert not any(isinstance(e, Failed) for e in read_events(program.jobs.folder / "cat" / "events.jsonl"))


@pytest.mark.parametrize("name", ["../cat", "a/b", "a\\b", "C:cat", "..", ".", "", "  "])
def test_no_name_leads_out_of_the_folder(program, name):
    with pytest.raises(UserError, match="cannot (name|start)"):
        program.start(name)
    assert not program.jobs.folder.exists()


def test_a_runs_folder_is_below_the_programs_whatever_output_dir_says(program, tmp_path):
    job = program.jobs.start({**OPTIONS, "output_dir": str(tmp_path / "elsewhere" / "cat")})
    program.wait_for("cat", "done")
    assert job.run.folder == program.jobs.folder / "cat" and not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("ask", ["status", "history", "values", "delete", "resume", "stop", "control"])
def test_a_name_that_there_is_not_is_told_with_those_there_are(program, ask):
    program.start("cat")
    program.wait_for("cat", "done")
    for name in ("dog", "../runs/cat", "cat/../cat", ""):
        with pytest.raises(UserError, match=r"cannot find a run called .* There are: cat\."):
            getattr(program.jobs, ask)(name)


def test_what_may_not_be_asked_for_is_refused_before_anything_is_made(program):
    def refuse(config):
        raise UserError("cannot read that folder here.")

    jobs = Jobs(program.make_host, program.jobs.folder, ToyConfig, check_access=refuse)
    for ask in (jobs.start, jobs.look_ahead):
        with pytest.raises(UserError, match="cannot read that folder here"):
            ask({**OPTIONS, "output_name": "cat"})
    assert not program.jobs.folder.exists() and not program.hosts
    program.start("cat")
    program.wait_for("cat", "done")
    with pytest.raises(UserError, match="cannot read that folder here"):
        jobs.resume("cat")


# -- states ------------------------------------------------------------------------------------------------------------


def test_a_run_is_called_what_it_does(program):
    seen = set()
    program.hold()
    program.start("a", sample_prompts=["x"], sheet_weights=[1.0])
    program.start("b")
    program.wait_for_step()
    seen.add(program.wait_for("a", "training"))
    seen.add(program.wait_for("b", "waiting"))
    program.jobs.control("a").pause()
    seen.add(program.wait_for("a", "paused"))
    program.let_go.set()
    wait_until(lambda: isinstance(program.jobs.history("a").latest, Paused))
    assert program.jobs.history("a").step == 1
    program.jobs.control("a").go_on()
    seen.add(program.wait_for("a", "done"))
    program.wait_for("b", "done")
    program.hold()
    program.start("c")
    program.wait_for_step()
    program.jobs.stop("c")
    program.let_go.set()
    seen.add(program.wait_for("c", "stopped"))
    assert program.jobs.history("c").step == 1 and (program.jobs.folder / "c" / "c.safetensors").exists()
    assert seen == {"training", "waiting", "paused", "done", "stopped"} <= set(STATUSES)


def test_a_resumed_run_is_not_called_by_how_it_ended_before(program):
    program.start("a", max_steps=3)
    program.wait_for("a", "done")
    borrowing, go_on = threading.Event(), threading.Event()
    make = program.make_trainee

    def make_slowly(config):
        borrowing.set()
        assert go_on.wait(20)
        return make(config)

    program.make_trainee = make_slowly
    program.jobs.resume("a")
    assert borrowing.wait(20)
    assert program.jobs.status("a") == "preparing"
    go_on.set()
    program.wait_for("a", "done")


def test_whoever_reads_done_may_resume_or_delete_at_once(program):
    for number in range(5):
        program.start(f"a{number}", max_steps=1)
        wait_until(lambda name=f"a{number}": program.jobs.status(name) == "done")
        program.jobs.delete(f"a{number}")
    assert program.jobs.names() == []


def test_a_run_that_ends_while_somebody_looks_is_not_called_interrupted(program, monkeypatch):
    program.hold()
    program.start("a", max_steps=1)
    program.wait_for_step()
    read = program.jobs.outline

    def read_and_be_overtaken(name):
        history = read(name)
        program.let_go.set()
        wait_until(lambda: program.ended == ["a"])
        return history

    monkeypatch.setattr(program.jobs, "outline", read_and_be_overtaken)
    assert program.jobs.status("a") in ("preparing", "training", "done")


def test_a_program_that_starts_again_finds_its_runs(program, tmp_path):
    program.hold()
    program.start("done", max_steps=1)
    program.start("cut", save_steps=2)
    program.start("waiting")
    program.let_go.set()
    program.jobs.control("cut").pause()
    program.wait_for("done", "done")
    wait_until(lambda: isinstance(program.jobs.history("cut").latest, Paused))
    after_kill = tmp_path / "after a kill"
    shutil.copytree(program.jobs.folder, after_kill)
    again = Program(after_kill)
    assert {name: again.jobs.status(name) for name in again.jobs.names()} == {
        "done": "done",
        "cut": "interrupted",
        "waiting": "not started",
    }
    again.jobs.resume("cut")
    again.jobs.resume("waiting")
    assert again.jobs.status("waiting") == "waiting"
    again.wait_for("waiting", "done")
    program.jobs.control("cut").go_on()
    program.wait_for("waiting", "done")
    for name in ("cut", "waiting"):
        assert same_tensors(after_kill / name / f"{name}.safetensors", program.jobs.folder / name / f"{name}.safetensors")
        assert curve(after_kill / name) == curve(program.jobs.folder / name)


def test_a_failed_run_goes_on_from_its_last_state(program):
    make = program.make_trainee

    def make_broken(config):
        trainee = make(config)
        right = trainee.loss

        def loss(batch, draws):
            if draws.step == 7:
                raise ValueError("a bug of ours")
            return right(batch, draws)

        trainee.loss = loss
        return trainee

    program.make_trainee = make_broken
    program.start("a", save_steps=3)
    program.wait_for("a", "failed")
    failed = program.jobs.history("a").outcome
    assert failed.bug and "a bug of ours" in failed.message
    assert "ValueError" in (program.jobs.folder / "a" / "run.log").read_text(encoding="utf-8")
    program.make_trainee = make
    program.jobs.resume("a")
    program.wait_for("a", "done")
    program.start("whole", save_steps=3)
    program.wait_for("whole", "done")
    assert [e.step for e in program.jobs.history("a").steps] == list(range(1, 13))
    assert same_tensors(program.jobs.folder / "a" / "a.safetensors", program.jobs.folder / "whole" / "whole.safetensors")


def test_a_resume_may_change_what_was_not_learned_with_but_neither_rank_nor_name(program):
    program.start("a", max_steps=4)
    program.wait_for("a", "done")
    with pytest.raises(UserError, match="cannot resume 'a' with lora_rank 4: it was trained with lora_rank 2"):
        program.jobs.resume("a", {"lora_rank": 4})
    program.jobs.resume("a", {"max_steps": 6, "output_name": "b", "output_dir": "elsewhere"})
    assert program.jobs.find_job("a") or program.jobs.status("a") == "done"
    program.wait_for("a", "done")
    assert program.jobs.history("a").step == 6 and program.jobs.names() == ["a"] and program.jobs.values("a")["max_steps"] == 6


def test_a_run_folder_that_was_named_otherwise_is_reached_by_its_folder(program):
    """Such as one that train.py made, and somebody moved here."""
    program.start("cat", max_steps=4)
    program.wait_for("cat", "done")
    (program.jobs.folder / "cat").rename(program.jobs.folder / "my cat")
    program.hold()
    program.jobs.resume("my cat", {"max_steps": 8})
    assert program.wait_for("my cat", "training")
    program.jobs.stop("my cat")
    program.let_go.set()
    program.wait_for("my cat", "stopped", "done")
    assert program.jobs.names() == ["my cat"] and program.jobs.history("my cat").files[-1].path.endswith("cat.safetensors")


# -- a look ahead ------------------------------------------------------------------------------------------------------


def test_a_look_ahead_tells_steps_and_speed_and_makes_no_run(program):
    outlook = program.jobs.look_ahead({**OPTIONS, "max_steps": 77})
    wait_until(lambda: not outlook.busy)
    assert outlook.error == "" and outlook.estimate.total_steps == 77 and outlook.summary == {"examples": 13}
    assert program.jobs.names() == [] and not program.jobs.folder.exists()


def test_a_second_look_is_refused_while_one_goes_on(program):
    program.hold()
    outlook = program.jobs.look_ahead(OPTIONS)
    with pytest.raises(UserError, match="two runs at once"):
        program.jobs.look_ahead(OPTIONS)
    program.let_go.set()
    wait_until(lambda: not outlook.busy)
    outlook = program.jobs.look_ahead({**OPTIONS, "init_lora": "missing.safetensors"})
    wait_until(lambda: not outlook.busy)
    assert "missing.safetensors" in outlook.error and outlook.estimate is None


class Preparer(ToyTrainee):
    """Prepares for very long, a little at a time."""

    def prepare(self):
        for number in range(100_000):
            time.sleep(0.002)
            yield Progress("looking", number, 100_000)


class Leaver(ToyTrainee):
    """Ends the program, as some libraries do."""

    def prepare(self):
        raise SystemExit(0)
        yield


def test_a_look_at_what_ends_the_program_is_an_error(program):
    program.make_trainee = Leaver
    outlook = program.jobs.look_ahead(OPTIONS)
    wait_until(lambda: not outlook.busy)
    assert "because of a bug (SystemExit: 0)" in outlook.error and outlook.estimate is None


def test_a_look_ends_at_the_next_sign_of_progress_when_it_is_cancelled(program):
    right, program.make_trainee = program.make_trainee, Preparer
    with pytest.raises(UserError, match="nothing is being looked at"):
        program.jobs.cancel_look()
    outlook = program.jobs.look_ahead(OPTIONS)
    wait_until(lambda: outlook.progress and outlook.progress.done > 2)
    assert program.jobs.cancel_look() is outlook
    wait_until(lambda: not outlook.busy)
    assert outlook.cancelled and outlook.error == "" and outlook.estimate is None and not outlook.stopping
    assert not program.hosts[-1].inside and outlook.progress.done < 50_000
    with pytest.raises(UserError, match="nothing is being looked at"):
        program.jobs.cancel_look()
    program.make_trainee = right
    again = program.jobs.look_ahead(OPTIONS)
    wait_until(lambda: not again.busy)
    assert again.estimate and not again.cancelled and again.number != outlook.number


def test_a_look_that_is_cancelled_during_its_step_says_so(program):
    program.hold()
    outlook = program.jobs.look_ahead(OPTIONS)
    program.wait_for_step()
    program.jobs.cancel_look()
    assert outlook.stopping and outlook.busy
    program.let_go.set()
    wait_until(lambda: not outlook.busy)
    assert outlook.cancelled and outlook.estimate is None


def test_a_look_that_goes_on_when_its_run_starts_is_given_up(program):
    program.make_trainee = Preparer
    outlook = program.jobs.look_ahead(OPTIONS)
    program.jobs.drop_look()
    assert program.jobs.outlook is None
    wait_until(lambda: not outlook.busy)
    assert outlook.cancelled


# -- a model that goes away --------------------------------------------------------------------------------------------


def is_checkpoint(event) -> bool:
    return isinstance(event, Saved) and event.kind == "checkpoint"


MOMENTS = {
    "preparing": lambda e: isinstance(e, Preparing),
    "started": lambda e: isinstance(e, Started),
    "a plain step": lambda e: isinstance(e, Step) and e.step == 5,
    "a step with all that is due": lambda e: isinstance(e, Step) and e.step == 4,
    "judged": lambda e: isinstance(e, Validated) and e.step == 8,
    "sampled": lambda e: isinstance(e, Previewed) and e.step == 8,
    "saved": is_checkpoint,
    "the last step": lambda e: isinstance(e, Step) and e.step == 12,
    "the final file": lambda e: isinstance(e, Saved) and e.kind == "final",
    "the sheet": lambda e: isinstance(e, Preparing) and e.what == "comparison sheet",
}


EVERYTHING = {
    **{"validation_split": 0.1, "validation_every_steps": 4, "save_steps": 4, "early_stopping_patience": 50},
    **{"sample_prompts": ["x", "y"], "sample_every_steps": 4, "sheet_weights": [0, 1], "ema_decay": 0.8},
}


@pytest.fixture(scope="module")
def never_away(tmp_path_factory) -> Jobs:
    """With a run called 'whole' that had its model all the time."""
    program = Program(tmp_path_factory.mktemp("never away"))
    program.start("whole", **EVERYTHING)
    program.wait_for("whole", "done")
    return program.jobs


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_a_run_whose_model_is_away_waits_and_equals_one_that_never_did(program, never_away, moment):
    program.hold()
    program.start("blocker", max_steps=1)
    job = program.start("a", **EVERYTHING)
    host = program.hosts[-1]
    host.waiting = True  # somebody waits at all times: every event ends a turn
    once = []

    def take_away(event):
        if moment(event) and not once:
            once.append(event)
            host.away = True

    job.subscribe(take_away)
    program.let_go.set()
    program.wait_for("a", "paused")
    time.sleep(0.05)  # some looks for the model
    waits = [e for e in read_events(job.run.events.path) if isinstance(e, Paused)]
    assert len(waits) == 1 and "another toy is loaded. Load this one." in waits[0].message
    assert program.jobs.status("a") == "paused" and program.jobs.current is job
    host.away = False
    program.wait_for("a", "done")

    whole, folder = never_away.folder / "whole", program.jobs.folder / "a"
    assert curve(folder) == curve(whole)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert len(files) == 5  # at steps 4, 8, 12, the best, the final
    for path in files:
        assert same_tensors(whole / path, folder / path.parent / path.name.replace("whole", "a"))
    expected, found = never_away.history("whole"), program.jobs.history("a")
    assert [(e.step, e.loss, e.best) for e in found.validations] == [(e.step, e.loss, e.best) for e in expected.validations]
    assert sorted(Path(e.path).name for e in found.samples) == sorted(Path(e.path).name for e in expected.samples)
    assert (folder / "comparison.txt").read_text() == (whole / "comparison.txt").read_text()


def test_a_run_that_waits_for_its_model_can_be_stopped_and_resumed(program):
    program.hold()
    job = program.start("a")
    program.wait_for_step()
    program.hosts[0].waiting = program.hosts[0].away = True
    program.let_go.set()
    program.wait_for("a", "paused")
    wait_until(lambda: isinstance(program.jobs.history("a").latest, Paused))
    program.jobs.stop("a")
    program.wait_for("a", "stopped")
    assert isinstance(job.outcome, Finished) and job.outcome.step == 1 and job.outcome.files == {}
    program.jobs.resume("a")
    program.wait_for("a", "done")
    program.start("whole")
    program.wait_for("whole", "done")
    assert same_tensors(program.jobs.folder / "a" / "a.safetensors", program.jobs.folder / "whole" / "whole.safetensors")


@pytest.mark.parametrize("in_a_pause", [False, True])
def test_a_model_that_is_away_is_let_go_of(program, in_a_pause):
    """The program may want its memory for the other one. The run's layers are found again by their names."""
    program.hold()
    program.start("a")
    program.wait_for_step()
    host = program.hosts[0]
    net, host.trainee = weakref.ref(host.trainee.net), None
    if in_a_pause:
        program.jobs.control("a").pause()
    else:
        host.waiting = host.away = True
    program.let_go.set()
    program.wait_for("a", "paused")
    host.away = True
    wait_until(lambda: net() is None)
    host.waiting = host.away = False
    program.jobs.control("a").go_on()
    program.wait_for("a", "done")
    program.start("whole")
    program.wait_for("whole", "done")
    assert same_tensors(program.jobs.folder / "a" / "a.safetensors", program.jobs.folder / "whole" / "whole.safetensors")


def test_those_that_wait_behind_a_pause_are_told_what_holds_them_up(program):
    program.hold()
    program.start("a")
    program.wait_for_step()
    program.start("b")
    assert program.jobs.explain_wait() == ""
    program.hosts[0].waiting = program.hosts[0].away = True
    program.let_go.set()
    wait_until(lambda: isinstance(program.jobs.history("a").latest, Paused))
    assert program.jobs.status("b") == "waiting"
    assert program.jobs.explain_wait() == program.jobs.history("a").latest.message != ""
    program.hosts[0].away = False
    program.jobs.control("a").pause()
    wait_until(lambda: "'a' is paused" in program.jobs.explain_wait())
    program.jobs.control("a").go_on()
    program.wait_for("b", "done")
    assert program.jobs.explain_wait() == ""


def test_a_host_that_promises_the_model_and_does_not_give_it_is_not_asked_without_end(program):
    class Promising(ToyHost):
        def has_model(self, config):
            return True

    host = Promising(program.make_trainee)
    host.away = True
    program.make_host = None
    program.jobs._make_host = lambda: host
    program.start("a")
    program.wait_for("a", "paused")
    time.sleep(0.3)
    count = len(list(read_events(program.jobs.folder / "a" / "events.jsonl")))
    assert count <= 31  # one per look, which is every 10 ms in these tests
    host.away = False
    program.wait_for("a", "done")


# -- the newest state of a run in training -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
def test_the_newest_adapter_is_the_checkpoint_of_that_step_and_writing_it_changes_nothing(program, options, tmp_path):
    program.start("whole", save_steps=1, **options)
    program.wait_for("whole", "done")
    program.hold()
    program.start("blocker", max_steps=1)
    job = program.start("a", save_steps=3, **options)
    asked = []

    def write_newest(event):
        newest = job.control.newest
        if isinstance(event, Step):
            path = newest.write(tmp_path / f"newest-{event.step}.safetensors")
            asked.append((newest.step(), path))
        elif isinstance(event, Started):
            assert newest.step() == 0

    assert job.control.newest is None
    job.subscribe(write_newest)
    program.let_go.set()
    program.wait_for("a", "done")
    assert job.control.newest is None and [step for step, _ in asked] == list(range(1, 13))
    for step, path in asked:
        assert same_tensors(path, program.jobs.folder / "whole" / "checkpoints" / f"whole-step{step:08d}.safetensors")
    assert same_tensors(program.jobs.folder / "a" / "a.safetensors", program.jobs.folder / "whole" / "whole.safetensors")
    assert curve(program.jobs.folder / "a") == curve(program.jobs.folder / "whole")


def test_the_newest_adapter_can_be_written_from_elsewhere_during_a_pause(program, tmp_path):
    program.hold()
    job = program.start("a", ema_decay=0.5, save_steps=1)
    program.wait_for_step()
    job.control.pause()
    program.let_go.set()
    wait_until(lambda: isinstance(program.jobs.history("a").latest, Paused))
    newest = job.control.newest.write(tmp_path / "one.safetensors")
    job.control.go_on()
    program.wait_for("a", "done")
    assert same_tensors(newest, program.jobs.folder / "a" / "checkpoints" / "a-step00000001.safetensors")


# -- wishes ------------------------------------------------------------------------------------------------------------


def test_samples_and_files_come_when_they_are_asked_for(program):
    program.hold()
    program.start("a", sample_prompts=["x"])
    program.wait_for_step()
    control = program.jobs.control("a")
    control.sample_now()
    control.save_now()
    program.let_go.set()
    program.wait_for("a", "done")
    history = program.jobs.history("a")
    assert [e.step for e in history.samples] == [1]
    assert [(e.step, e.kind) for e in history.files] == [(1, "checkpoint"), (12, "best"), (12, "final")]
    assert not [e for e in read_events(program.jobs.folder / "a" / "events.jsonl") if isinstance(e, Warned)]


def test_a_run_that_does_not_train_cannot_be_told_anything(program):
    program.start("a")
    program.wait_for("a", "done")
    for ask in (program.jobs.control, program.jobs.stop):
        with pytest.raises(UserError, match="cannot reach 'a': it is not training now. Resume it first."):
            ask("a")


def test_names_are_listed_while_others_are_deleted(program):
    for number in range(6):
        program.start(f"a{number}", max_steps=1)
    wait_until(lambda: len(program.ended) == 6)
    errors = []

    def list_names():
        try:
            while program.jobs.names():
                pass
        except Exception as error:
            errors.append(error)

    reader = threading.Thread(target=list_names)
    reader.start()
    for number in range(6):
        program.jobs.delete(f"a{number}")
    reader.join(20)
    assert not errors and not reader.is_alive()
