"""The folder of all runs: exact names, and no more work than the number of runs asks for."""

import builtins
import dataclasses
import json
import os
import random
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from bench_runs import append, make_runs
from hotlora.engine import archive as archive_module
from hotlora.engine.archive import Archive
from hotlora.engine.config import RunConfig
from hotlora.engine.errors import UserError
from hotlora.engine.events import Failed, Finished, Graded, Paused, Preparing, Previewed, Saved, Started, Step, Validated, Warned
from hotlora.engine.history import History
from hotlora.engine.jobs import Jobs


def make_run(folder: Path, name: str, *events) -> Path:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "config.yaml").write_text(f"output_name: {json.dumps(name)}\n", encoding="utf-8")
    append(folder / name / "events.jsonl", list(events))
    return folder / name / "events.jsonl"


def step(number, **fields) -> Step:
    return Step(number, number / 10, 1 / number, 1 / number, 1e-4, 1.0, 0.5, 1, **fields)


def started(at=0) -> Started:
    return Started("x", at, 1000, 10, 1, {})


@pytest.fixture
def work(monkeypatch):
    """Counts what the file system is asked."""
    counted: Counter = Counter()

    def count(owner, name, kind):
        right = getattr(owner, name)

        def counting(*args, **options):
            counted[kind] += 1
            return right(*args, **options)

        monkeypatch.setattr(owner, name, counting)

    count(builtins, "open", "open")
    for kind in ("stat", "listdir", "scandir"):
        count(os, kind, kind)
    for kind in ("stat", "open", "is_file", "exists", "iterdir", "glob"):
        count(Path, kind, f"Path.{kind}")
    return counted


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["CAT", "Cat", "cat.", "cat ", "./cat", "cat/", "cat/../cat", "../runs/cat", "", ".", "..", "cat\0", "\ud800"]
)
def test_only_what_the_folder_spells_so_is_a_name_even_where_the_system_would_find_it(tmp_path, monkeypatch, name):
    """As on Windows, which knows no case and drops dots and spaces at the end."""
    make_run(tmp_path / "runs", "cat", started())
    monkeypatch.setattr(archive_module, "_stat", lambda path: os.stat(tmp_path / "runs" / "cat" / "config.yaml"))
    archive = Archive(tmp_path / "runs")
    for ask in (archive.find, archive.history, archive.outline, archive.values):
        with pytest.raises(UserError, match="cannot find a run called"):
            ask(name)
    assert archive.find("cat") == tmp_path / "runs" / "cat"


def test_what_is_being_deleted_and_what_is_no_run_is_none(tmp_path):
    make_run(tmp_path, "cat", started())
    make_run(tmp_path, ".0123.deleted", started())
    make_run(tmp_path, ".mine", started())  # whoever named it so has it
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("config.yaml")
    archive = Archive(tmp_path)
    assert sorted(archive.names()) == sorted(archive.look()) == [".mine", "cat"]
    for name in (".0123.deleted", "empty", "notes.txt"):
        with pytest.raises(UserError, match="cannot find"):
            archive.find(name)
    assert Archive(tmp_path / "none").names() == [] and Archive(tmp_path / "notes.txt").names() == []


def test_runs_that_come_go_and_are_renamed_by_others_are_noticed(tmp_path):
    archive = Archive(tmp_path)
    make_run(tmp_path, "a", started())
    assert archive.outline("a").started and list(archive.look()) == ["a"]
    (tmp_path / "a").rename(tmp_path / "b")
    assert archive.outline("b").started
    with pytest.raises(UserError, match="There are: b"):
        archive.find("a")
    assert list(archive.look()) == ["b"] and list(archive._outlines) == ["b"]


# -- outlines ----------------------------------------------------------------------------------------------------------


def invent_events(chance: random.Random, count: int) -> list:
    """Whatever a training may do, in whatever order: resumes, rewinds, all kinds of events between steps."""
    events, at = [Preparing("x", 1, 2), started()], 0
    for _ in range(count):
        what = chance.random()
        if what < 0.8:
            at += 1
            events.append(step(at))
        elif what < 0.84:
            at = chance.randint(0, at)
            events.append(started(at))
        elif what < 0.88:
            at = chance.randint(0, at)  # a rewind announces nothing but its next step
        else:
            others = (Validated(at, 1 / (at + 1), True), Saved(at, "best", "b"), Previewed(at, "p", 1.0, 1, f"s{at}"), Warned("w"))
            events.append(chance.choice([*others, Paused(), Graded(at, "q", 3, {"right": at / 100}), Failed("no", False)]))
    return [*events, chance.choice([Finished(at, "done", {}), step(at + 1), Failed("no", True)])]


@pytest.mark.parametrize("seed", range(40))
def test_an_outline_says_what_the_whole_history_says(tmp_path, seed):
    chance = random.Random(seed)
    events = invent_events(chance, chance.choice([3, 60, 400]))
    lines = [json.dumps({"type": type(e).__name__, **dataclasses.asdict(e)}).encode() + b"\n" for e in events]
    data, path, outline = b"".join(lines), tmp_path / "events.jsonl", History(is_outline=True)
    for end in [*sorted(chance.sample(range(len(data)), 4)), len(data)]:  # in pieces, which end in the middle of lines
        path.write_bytes(data[:end])
        outline.read_on(path)
        whole = History().read_on(path)
        for name in ("count", "started", "latest", "outcome", "step", "validations", "grades", "samples", "files", "log"):
            assert getattr(outline, name) == getattr(whole, name), name
        assert len(outline.steps) <= 30 and outline.steps[-1:] == whole.steps[-1:]
        assert outline.steps == whole.steps[len(whole.steps) - len(outline.steps) :]


def test_damaged_lines_cost_only_themselves(tmp_path, work):
    make_run(tmp_path, "good", started(), step(1))
    path = make_run(tmp_path, "bad", started(), *map(step, range(1, 100)))
    lines = path.read_bytes().splitlines(keepends=True)
    for number, damage in ((2, b"garbage\n"), (50, b'{"type": "Step", "time": 1, "step": 49, \n'), (101, b"\0\0\0\n"), (7, b"\xff\n")):
        path.write_bytes(b"".join([*lines[: number - 1], damage, *lines[number - 1 :]]))
        jobs = Jobs(None, tmp_path, RunConfig)
        found = {entry.name: entry for entry in jobs.list_all()}
        assert found["good"].status == found["bad"].status == "interrupted"
        assert found["bad"].outline.step == jobs.history("bad").step == 99
        work.clear()
        jobs.list_all()
        assert not work["open"]


def test_events_that_may_not_be_read_hide_no_other_run(tmp_path):
    make_run(tmp_path, "good", started(), step(1))
    make_run(tmp_path, "bad").unlink()
    (tmp_path / "bad" / "events.jsonl").mkdir()
    jobs = Jobs(None, tmp_path, RunConfig)
    found = {entry.name: entry for entry in jobs.list_all()}
    assert found["good"].status == "interrupted" and found["bad"].status == "" and "cannot read" in found["bad"].problem
    with pytest.raises(UserError, match="cannot read"):
        jobs.history("bad")


def test_a_run_that_begins_anew_is_read_anew(tmp_path):
    path = make_run(tmp_path, "a", started(), step(1), step(2), Failed("no", False))
    archive = Archive(tmp_path)
    assert archive.history("a").step == archive.outline("a").step == 2
    path.write_bytes(b"")
    append(path, [started(), step(1)])
    assert archive.history("a").step == archive.outline("a").step == 1 and archive.outline("a").count == 2


# -- how much work it is -------------------------------------------------------------------------------------------------


def asked(work, ask) -> Counter:
    work.clear()
    ask()
    return Counter(work)


def test_the_work_grows_with_the_number_of_runs_and_not_faster(tmp_path, work):
    found = {}
    for count in (20, 40, 80):
        make_runs(tmp_path / str(count), count, steps=3)
        jobs = Jobs(None, tmp_path / str(count), RunConfig)
        found[count] = {
            "cold": asked(work, jobs.list_all),
            "warm": asked(work, jobs.list_all),
            "names": asked(work, jobs.names),
            "news": asked(work, lambda jobs=jobs: (append(jobs.folder / "run 0001" / "events.jsonl", [step(4)]), jobs.list_all())),
        }
        for ask in (jobs.find_folder, jobs.status, jobs.history, jobs.outline, jobs.look_up, jobs.values):
            ask("run 0002")
            found[count][ask.__name__] = asked(work, lambda ask=ask: ask("run 0002"))
        found[count]["explain_wait"] = asked(work, jobs.explain_wait)
    for what in found[20]:
        few, more, most = (sum(found[count][what].values()) for count in (20, 40, 80))
        assert most - more == 2 * (more - few), (what, few, more, most)  # a straight line
        if what not in ("cold", "warm", "names", "news"):
            assert few == most <= 6 and not found[80][what]["listdir"], (what, found[80][what])
    assert sum(found[80]["warm"].values()) <= 3 * 80 + 1 and not found[80]["warm"]["open"]
    assert found[80]["cold"]["open"] == 80 and found[80]["news"]["open"] == 2  # one to write it, one to read it


def test_four_hundred_runs_are_listed_at_once_and_five_hundred_times_in_the_same_memory(tmp_path):
    make_runs(tmp_path, 400, steps=100)
    jobs = Jobs(None, tmp_path, RunConfig)
    jobs.list_all()
    began = time.thread_time()
    assert len(jobs.list_all()) == 400
    assert time.thread_time() - began < 2  # it takes 10 ms on a machine that does nothing else
    few = Jobs(None, tmp_path / "few", RunConfig)
    make_runs(tmp_path / "few", 10, steps=100)
    names = few.names()
    few.list_all()
    tracemalloc.start()
    try:
        for number in range(500):
            few.list_all()
            few.history(names[number % 10])
            if number == 100:
                before = tracemalloc.get_traced_memory()[0]
        assert tracemalloc.get_traced_memory()[0] - before < 50_000
    finally:
        tracemalloc.stop()


def test_only_the_runs_that_were_looked_at_last_are_kept_whole(tmp_path):
    make_runs(tmp_path, 40, steps=50)
    archive = Archive(tmp_path)
    for name in [*archive.names(), *archive.names()]:
        assert len(archive.history(name).steps) == 50
    assert len(archive._histories) == archive_module._HISTORIES_KEPT
    assert archive.look() and all(len(outline.steps) <= 30 for outline in archive._outlines.values())


def test_the_options_of_a_run_are_parsed_when_they_have_changed(tmp_path, monkeypatch):
    make_run(tmp_path, "a", started())
    archive, parsed = Archive(tmp_path), []
    right = archive_module.read_run_config
    monkeypatch.setattr(archive_module, "read_run_config", lambda folder: parsed.append(folder) or right(folder))
    for _ in range(3):
        archive.values("a")["output_name"] = "changed by whoever asked"
    assert archive.values("a")["output_name"] == "a" and len(parsed) == 1
    (tmp_path / "a" / "config.yaml").write_text("output_name: a\nepochs: 12\n")
    assert archive.values("a")["epochs"] == 12
