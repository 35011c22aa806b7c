"""The line over a restart of the program, and what is refused before a run is made."""

import json
import shutil

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.jobs import Jobs
from hotlora.engine.line import Left, LineFile
from hotlora.engine.run import find_state_step
from test_jobs import Program, program  # noqa: F401
from toy import ToyConfig
from waiting import wait_until


def restart(before: Program, folder) -> Program:
    """The same runs in a new program, as they were when the other was killed."""
    shutil.copytree(before.jobs.folder, folder, ignore=shutil.ignore_patterns(".lock"))
    after = Program(folder)
    after.hold()
    return after


@pytest.fixture
def killed(program, tmp_path):  # noqa: F811
    """A program with a run at step 3 and two that wait, killed and started again."""
    program.start("first", save_steps=2, max_steps=40)
    program.wait_for("first", "training")
    wait_until(lambda: program.jobs.history("first").step >= 3)
    program.hold()
    program.wait_for_step()
    for name in ("third", "second"):
        program.start(name)
    again = restart(program, tmp_path / "again")
    yield again
    again.let_go.set()
    while job := again.jobs.current:
        job.control.stop()


def test_after_a_restart_the_line_is_there_and_goes_on_in_its_order(killed):
    step = killed.jobs.history("first").step
    lost = step - find_state_step(killed.jobs.folder / "first")
    assert killed.jobs.list_left() == [Left("first", step, lost), Left("third", 0, 0), Left("second", 0, 0)]
    assert killed.jobs.list_line() == [] and killed.jobs.current is None
    assert killed.jobs.go_on_with_left() == []
    assert killed.jobs.list_left() == [] and killed.jobs.list_line() == ["first", "third", "second"]
    killed.let_go.set()
    wait_until(lambda: len(killed.ended) == 3)
    assert killed.ended == ["first", "third", "second"]
    assert not (killed.jobs.folder / "queue.json").exists()


def test_what_was_lost_since_the_last_state_is_counted(killed):
    for state in (killed.jobs.folder / "first" / "state").glob("*.pt"):
        if state.stem != "step-00000002":
            state.unlink()
    step = killed.jobs.history("first").step
    assert killed.jobs.list_left()[0].lost_steps == step - find_state_step(killed.jobs.folder / "first") > 0


def test_it_can_be_forgotten_and_each_is_still_there(killed):
    killed.jobs.forget_left()
    assert killed.jobs.list_left() == [] and Jobs(None, killed.jobs.folder, ToyConfig).list_left() == []
    killed.jobs.resume("third")
    assert killed.jobs.list_line() == ["third"]


def test_those_that_somebody_has_dealt_with_are_no_longer_left(killed):
    killed.jobs.resume("second")
    killed.jobs.delete("third")
    assert [left.name for left in killed.jobs.list_left()] == ["first"]
    again = Jobs(None, killed.jobs.folder, ToyConfig)  # killed once more, before anything was decided
    assert [left.name for left in again.list_left()] == ["second", "first"]


def test_one_that_cannot_be_gone_on_with_does_not_hold_up_the_others(killed):
    (killed.jobs.folder / "third" / "config.yaml").write_text("lora_rank: minus one")
    (refused,) = killed.jobs.go_on_with_left()
    assert "lora_rank" in refused
    assert killed.jobs.list_line() == ["first", "second"] and killed.jobs.list_left() == []


def test_a_run_that_is_stopped_or_done_is_not_in_the_file(program):  # noqa: F811
    program.hold()
    for name in ("first", "second", "third"):
        program.start(name)
    assert LineFile(program.jobs.folder).read() == ["first", "second", "third"]
    program.jobs.stop("second")
    assert LineFile(program.jobs.folder).read() == ["first", "third"]
    program.let_go.set()
    wait_until(lambda: len(program.ended) == 2)
    assert LineFile(program.jobs.folder).read() == []


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}', "[1, null]", "\x00", '["gone", "gone"]', '["../../etc"]'])
def test_a_damaged_file_is_none(tmp_path, content):
    (tmp_path / "queue.json").write_text(content)
    assert Jobs(None, tmp_path, ToyConfig).list_left() == []


def test_programs_that_share_a_folder_keep_each_others_line(tmp_path):
    one, other = LineFile(tmp_path), LineFile(tmp_path)
    one.write(["a", "b"])
    other.write(["c"])
    assert LineFile(tmp_path).read() == ["c", "a", "b"]
    one.write(["b"])
    assert LineFile(tmp_path).read() == ["b", "c"]
    one.write([])
    assert LineFile(tmp_path).read() == ["c"]
    other.write([])
    assert not (tmp_path / "queue.json").exists()


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path):
    (tmp_path / "queue.json").mkdir()
    LineFile(tmp_path).write(["a"])
    assert LineFile(tmp_path).read() == []


# -- before a run is made -----------------------------------------------------------------------------------------------


class Shelf:
    """A program's adapters."""

    def __init__(self):
        self.removed = []

    def check_name(self, name):
        if name == "taken":
            raise UserError("cannot call a run 'taken': there is one. Choose another name.")

    def remove_copies(self, name):
        if name == "open":
            raise UserError("cannot delete 'open': a viewer has it. Close that.")
        self.removed.append(name)


@pytest.fixture
def checked(program):  # noqa: F811
    def check(config):
        if config.seed == 13:
            raise UserError("cannot train with the seed 13. Set another.")

    program.jobs = Jobs(program.make_host, program.jobs.folder, ToyConfig, check_start=check, library=Shelf())
    return program


def test_what_is_seen_to_be_wrong_makes_no_run(checked):
    with pytest.raises(UserError, match="seed 13"):
        checked.start("cat", seed=13)
    with pytest.raises(UserError, match="seed 13"):
        checked.jobs.look_ahead({"seed": 13})
    with pytest.raises(UserError, match="call a run 'taken'"):
        checked.start("taken")
    assert not checked.jobs.folder.exists() and not checked.hosts


def test_a_run_goes_on_under_its_name_though_its_copy_has_it_now(checked):
    checked.start("fine")
    checked.wait_for("fine", "done")
    (checked.jobs.folder / "fine").rename(checked.jobs.folder / "taken")
    checked.jobs.resume("taken", {"max_steps": 14, "output_name": "taken"})
    checked.wait_for("taken", "done")


def test_copies_go_with_the_run_only_where_that_is_asked_for(checked):
    for name, copies in (("kept", False), ("gone", True)):
        checked.start(name)
        checked.wait_for(name, "done")
        wait_until(lambda: checked.jobs.current is None)
        checked.jobs.delete(name, copies=copies)
    assert checked.jobs.library.removed == ["gone"] and checked.jobs.names() == []
    checked.start("open")
    checked.wait_for("open", "done")
    wait_until(lambda: checked.jobs.current is None)
    with pytest.raises(UserError, match="Close that"):
        checked.jobs.delete("open", copies=True)
    assert checked.jobs.names() == ["open"]  # to be tried again


def test_the_file_is_a_plain_list(program):  # noqa: F811
    program.hold()
    program.start("für Zoë")
    assert json.loads((program.jobs.folder / "queue.json").read_text(encoding="utf-8")) == ["für Zoë"]
