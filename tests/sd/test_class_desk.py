"""Regularisation pictures in line with the runs of a program, on a tiny model: how many, where, stopped and gone on with."""

import time

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.jobs import Jobs
from hotlora.hosts.standalone.images import DiffusersHost
from hotlora.pictures import class_desk
from hotlora.pictures.class_desk import ClassDesk
from hotlora.pictures.dataset import read_dataset
from hotlora.sd.config import ImageConfig
from pictures import make_pictures
from tiny import tiny_sd1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_sd1(tmp_path_factory.mktemp("model") / "sd1")


@pytest.fixture
def jobs(tmp_path):
    return Jobs(DiffusersHost, tmp_path / "runs", ImageConfig)


@pytest.fixture
def desk(jobs, tmp_path):
    return ClassDesk(jobs, tmp_path / "data")


@pytest.fixture
def config(model, jobs, tmp_path):
    folder = make_pictures(tmp_path / "data" / "cats" / "3_zwx cat", 2).parent
    shapes = {"resolution": 64, "min_bucket_reso": 64, "sample_steps": 2, "sample_seed": 5, "trigger_word": "zwx"}

    def make(**values):
        return jobs.build_config({"base_model": str(model), "train_data_dir": str(folder), "output_name": "unnamed", **shapes, **values})

    return make


def wait(desk, until=lambda status: not status.busy):
    for _ in range(1200):
        if until(desk.status):
            return desk.status
        time.sleep(0.05)
    raise AssertionError(desk.status)


def test_as_many_are_drawn_as_an_epoch_shows_pictures_and_a_run_takes_the_row(desk, config, tmp_path, monkeypatch):
    assert desk.status.number == 0 and not desk.status.busy
    status = desk.start(config(), ["photo of a cat", "  ", "a cat"])
    assert status.busy and status.total == 6 and status.folder == str(tmp_path / "data" / "photo of a cat class")
    status = wait(desk)
    assert status.complete and status.done == 6 and status.message.startswith("Done.")
    drawn = sorted((tmp_path / "data" / "photo of a cat class").glob("*.png"))
    said = [path.with_suffix(".txt").read_text(encoding="utf-8").strip() for path in drawn]
    assert said == ["photo of a cat", "a cat"] * 3
    data = read_dataset(config(datasets=[{"folder": status.folder, "regularisation": True}]))
    assert [example.caption for example in data.train if example.is_reg] == said
    monkeypatch.setattr(class_desk, "MOST_USUAL", 4)
    assert desk.suggest(config()) == 4


def test_stopped_they_go_on_and_nothing_is_drawn_twice(desk, config, tmp_path):
    desk.start(config(), ["cat"], 30, "cats beside")
    wait(desk, lambda status: status.done >= 2)
    desk.stop()
    status = wait(desk)
    assert 2 <= status.done < 30 and not status.complete and status.message == "Stopped. Draw goes on from there."
    first = tmp_path / "data" / "cats beside" / "class 00001.png"
    made = first.stat().st_mtime_ns
    wanted = status.done + 1
    desk.start(config(), ["cat"], wanted, "cats beside")
    assert wait(desk).complete and len(list(first.parent.glob("*.png"))) == wanted and first.stat().st_mtime_ns == made
    desk.start(config(), ["dog"], 2, "cats beside")
    status = wait(desk)
    assert "were drawn with another prompt, words. Choose another folder" in status.message


def test_they_wait_for_the_run_before_them_and_leave_the_line(desk, jobs, config, tmp_path):
    values = {**vars(config()), "output_name": "a run", "max_train_steps": 100_000, "output_dir": ""}
    jobs.start({key: values[key] for key in ("base_model", "train_data_dir", "output_name", "resolution", "min_bucket_reso")})
    status = desk.start(config(), ["cat"], 2)
    assert status.busy and status.message == "They are drawn when the runs before them are done."
    assert jobs.list_line() == ["a run", "cat class"]
    assert "cat class" not in (tmp_path / "runs" / "queue.json").read_text(encoding="utf-8"), "it is no run that can be resumed"
    with pytest.raises(UserError, match="some are being drawn"):
        desk.start(config(), ["dog"], 2)
    desk.stop()
    assert jobs.list_line() == ["a run"] and desk.status.message.startswith("Stopped.")
    desk.start(config(), ["cat"], 2)
    jobs.stop("a run")
    assert wait(desk).complete


def test_what_cannot_be_drawn_is_a_sentence(desk, jobs, config, tmp_path):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    for words, more, said in (
        ([" "], {}, "there are no class words"),
        (["cat"], {"name": "a/b"}, "/ cannot be used in names"),
        (["cat"], {"name": "mine"}, "there is one of that name already"),
        (["cat"], {"name": "cats"}, "it is train_data_dir"),
        (["cat"], {"count": 20_000}, "it takes 1 to 10,000"),
    ):
        with pytest.raises(UserError, match=said):
            desk.start(config(), words, **more)
    with pytest.raises(UserError, match="no regularisation pictures are being drawn"):
        desk.stop()
    assert not desk.status.busy and jobs.list_line() == []
    with pytest.raises(UserError, match="train_data_dir"):
        desk.start(config(train_data_dir=str(tmp_path / "nothing")), ["cat"])
