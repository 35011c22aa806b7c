"""Runs are renamed, annotated and put away; whatever lies beside them goes on."""

import os

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.events import Finished, Paused, Preparing, Started, Step, Warned
from hotlora.engine.history import History
from hotlora.engine.jobs import Jobs
from hotlora.engine.marks import FILE
from toy import ToyConfig, ToyHost, ToyTrainee
from waiting import wait_until

OPTIONS = {"lora_rank": 2, "max_steps": 4, "batch_size": 4, "learning_rate": 1e-2, "tensorboard": False, "sheet_weights": []}


@pytest.fixture
def jobs(tmp_path):
    return Jobs(lambda: ToyHost(ToyTrainee), tmp_path / "runs", ToyConfig)


def train(jobs, name, **options):
    jobs.start(OPTIONS | {"output_name": name} | options)
    wait_until(lambda: not jobs.list_line())
    assert jobs.status(name) == "done"


def test_a_renamed_run_is_the_same_run_and_its_files_keep_their_names(jobs):
    train(jobs, "cat")
    train(jobs, "dog")
    before, other = jobs.history("cat"), [file.path for file in jobs.history("dog").files]
    jobs.rename("cat", " tiger ")
    assert set(jobs.names()) == {"tiger", "dog"} and jobs.status("tiger") == "done"
    for history in (jobs.history("tiger"), jobs.outline("tiger")):
        assert [os.path.basename(file.path) for file in history.files] == [os.path.basename(file.path) for file in before.files]
        assert history.files and all(os.path.exists(file.path) for file in history.files)
        assert all(os.path.exists(path) for path in history.outcome.files.values())
    assert [file.path for file in jobs.history("dog").files] == other
    jobs.rename("tiger", "lion")
    jobs.rename("lion", "cat")
    assert all(os.path.exists(file.path) for file in jobs.history("cat").files)


def test_a_renamed_run_is_resumed(jobs):
    train(jobs, "cat")
    jobs.rename("cat", "tiger")
    jobs.resume("tiger", {"max_steps": 8})
    wait_until(lambda: not jobs.list_line())
    assert jobs.outline("tiger").step == 8 and jobs.status("tiger") == "done"
    assert all(os.path.exists(file.path) and "tiger" in file.path for file in jobs.history("tiger").files)


def test_a_name_that_is_taken_is_none_or_is_in_files_is_refused(jobs):
    train(jobs, "cat")
    train(jobs, "dog")
    for new, told in (("dog", "there is one already"), ("a/b", "cannot name"), ("", "cannot name")):
        with pytest.raises(UserError, match=told):
            jobs.rename("cat", new)
    jobs.rename("cat", "tiger")
    with pytest.raises(UserError, match="the files of 'tiger' are called so"):
        jobs.start(OPTIONS | {"output_name": "cat"})
    assert set(jobs.names()) == {"tiger", "dog"}


def test_a_run_that_trains_waits_or_is_read_by_one_keeps_its_name(jobs):
    train(jobs, "cat")
    newest = jobs.history("cat").files[-1].path
    jobs.start(OPTIONS | {"output_name": "first", "max_steps": 100_000})
    jobs.start(OPTIONS | {"output_name": "second", "init_lora": newest})
    try:
        for name in ("first", "second"):
            with pytest.raises(UserError, match="training or waiting"):
                jobs.rename(name, "other")
        with pytest.raises(UserError, match="'second' goes on from a file in it"):
            jobs.rename("cat", "tiger")
    finally:
        jobs.stop("second")
        jobs.stop("first")
        wait_until(lambda: not jobs.list_line())
    jobs.rename("cat", "tiger")


def test_a_note_and_the_archive_stay_and_a_damaged_file_hides_no_run(jobs):
    train(jobs, "cat")
    jobs.mark("cat", note="the good one")
    jobs.mark("cat", archived=True)
    jobs.rename("cat", "tiger")
    (entry,) = Jobs(lambda: None, jobs.folder, ToyConfig).list_all()
    assert (entry.name, entry.marks.note, entry.marks.archived) == ("tiger", "the good one", True)
    with pytest.raises(UserError, match="cannot keep a note"):
        jobs.mark("tiger", note="x" * 3000)
    (jobs.folder / "tiger" / FILE).write_text("[", encoding="utf-8")
    (entry,) = Jobs(lambda: None, jobs.folder, ToyConfig).list_all()
    assert entry.marks.note == "" and entry.status == "done"


def test_the_time_that_a_run_worked_leaves_out_what_lay_between():
    def step(number, time):
        return Step(number, 1.0, 0.5, 0.5, 1e-4, 1.0, 0.5, 1, time=time)

    events = [Preparing("x", 0, 1, time=100.0), Started("x", 0, 9, 1, 1, {}, time=110.0), step(1, 120.0), Paused("", time=121.0)]
    events += [step(2, 500.0), Warned("x", time=505.0), step(3, 510.0)]
    events += [Preparing("x", 0, 1, time=9000.0), Started("x", 3, 9, 1, 1, {}, time=9005.0), step(4, 9010.0)]
    events += [Finished(4, "stopped", {}, time=9011.0)]
    assert History(events).worked_seconds == 21 + 10 + 11
