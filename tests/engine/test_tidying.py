"""Of a run's checkpoints one is kept: which files go, and which never."""

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.events import Finished
from hotlora.engine.jobs import Jobs
from hotlora.engine.run import Run
from hotlora.engine.tidying import keep_only, list_checkpoints
from toy import ToyConfig, ToyHost, run_toy, toy_config
from waiting import wait_until


class Library:
    """A program's folder of LoRAs, which writes down what goes."""

    def __init__(self):
        self.removed = []

    def remove_copy(self, name):
        self.removed.append(name)


@pytest.fixture
def jobs(tmp_path):
    jobs = Jobs(ToyHost, tmp_path, ToyConfig, library=Library())
    run_toy(toy_config(tmp_path / "cat", max_steps=6, save_steps=2, sample_every_epochs=0))
    return jobs


def names(folder):
    return {path.name for path in folder.rglob("*.safetensors")}


def test_the_others_go_with_what_lies_beside_them_and_the_finished_one_stays(jobs, tmp_path):
    checkpoints = tmp_path / "cat" / "checkpoints"
    for name in ("cat-step00000002.json", "cat-step00000002.preview.png", "cat-step00000004.json", "mine.txt"):
        (checkpoints / name).write_bytes(b"")
    gone = keep_only(jobs, "cat", "step 4")
    assert sorted(gone) == ["cat-best.safetensors", "cat-step00000002.safetensors", "cat-step00000006.safetensors"]
    assert names(tmp_path) == {"cat.safetensors", "cat-step00000004.safetensors"}
    assert {path.name for path in checkpoints.iterdir()} == {"cat-step00000004.safetensors", "cat-step00000004.json", "mine.txt"}
    assert sorted(jobs.library.removed) == ["cat-best", "cat-step00000002", "cat-step00000006"]
    assert list(list_checkpoints(jobs, "cat")) == ["step 4", "finished"]
    assert keep_only(jobs, "cat", "step 4") == []


def test_a_run_goes_on_after_it(jobs, tmp_path):
    keep_only(jobs, "cat", "finished")
    assert names(tmp_path) == {"cat.safetensors"}
    job = jobs.resume("cat", {"max_steps": 8})
    wait_until(lambda: jobs.find_job("cat") is None)
    assert isinstance(jobs.history("cat").outcome, Finished) and job.run.final_path.exists()


def test_what_is_not_there_and_a_run_that_trains_are_refused(jobs, tmp_path):
    with pytest.raises(UserError, match="cannot keep 'step 3' of 'cat': there is step 2, step 4, step 6, best, finished"):
        keep_only(jobs, "cat", "step 3")
    jobs.resume("cat", {"max_steps": 5000})
    with pytest.raises(UserError, match="it is training or waiting. Stop it first"):
        keep_only(jobs, "cat", "step 4")
    jobs.stop("cat")
    wait_until(lambda: jobs.find_job("cat") is None)
    assert "cat-step00000002.safetensors" in names(tmp_path)


def test_a_look_changes_nothing_in_the_folder(jobs, tmp_path):
    """A run that trains may be in the middle of a line."""
    with open(tmp_path / "cat" / "events.jsonl", "ab") as events:
        events.write(b'{"type": "Step", "st')
    before = {path: path.read_bytes() for path in (tmp_path / "cat").rglob("*") if path.is_file()}
    assert "step 2" in list_checkpoints(jobs, "cat") and "step 2" in Run(tmp_path / "cat", "cat", ".safetensors").list_adapters()
    assert {path: path.read_bytes() for path in (tmp_path / "cat").rglob("*") if path.is_file()} == before
