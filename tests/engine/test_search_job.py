"""A search as an entry of the line: it waits its turn, trains in turns, stops, goes on, and lets go of a model that is away."""

import json
import sys
import weakref

import pytest
import torch
import yaml
from hotlora.engine.errors import UserError
from hotlora.engine.events import Concluded, Paused, Searching, Tried
from hotlora.engine.jobs import Jobs
from hotlora.engine.options import build
from hotlora.engine.search_plan import say_missing
from hotlora.hosts.standalone import images
from hotlora.hosts.standalone.texts import TransformersHost
from hotlora.llm.config import TextConfig
from hotlora.sd.config import ImageConfig
from pictures import make_pictures
from small_llama import make_llama
from small_text import make_tokenizer
from tiny import tiny_sd1_file
from toy import SearchedToy, ToyConfig, ToyHost
from waiting import wait_until

VALUES = {"output_name": "cat", "lora_rank": 8, "epochs": 1, "batch_size": 4, "learning_rate": 1e-2, "tensorboard": False}
VALUES |= {"sample_every_epochs": 0, "slice_seconds": 0.05}
WISHES = {"minutes": 5, "trials": 2, "over": ["lora_rank=2,4"], "keep": ["lora_alpha", "learning_rate", "scheduler"]}
NAME = "cat-search"


class Host(ToyHost):
    """Calls what it is given at the start of every turn."""

    at_turn = staticmethod(lambda host: None)

    def turn(self):
        self.at_turn(self)
        return super().turn()


@pytest.fixture
def make(tmp_path):
    """``make()`` is a program's line; another call is the program after a restart."""

    def make(host=None, trainee=SearchedToy):
        return Jobs(lambda: host or Host(trainee), tmp_path / "runs", ToyConfig)

    return make


def ended(jobs, name=NAME):
    wait_until(lambda: not jobs.list_line() and jobs._worker is None, seconds=300)  # which writes the line's file last
    return jobs.status(name)


def told(jobs):
    """(kind, settings, seed) -> loss of every trial that has one."""
    rows = jobs.history(NAME).trials.values()
    return {(row.kind, str(row.chosen), row.seed): row.loss for row in rows if row.loss is not None}


def test_it_searches_in_turns_and_proposes_a_run_file(make, tmp_path):
    host = Host(SearchedToy)
    jobs = make(host)
    jobs.search(VALUES, WISHES)
    assert ended(jobs) == "done"
    history = jobs.history(NAME)
    kinds = [row.kind for row in history.trials.values()]
    assert kinds.count("as given") == 3 and kinds.count("search") >= 2
    assert host.turns > len(kinds) and not host.published  # nobody is offered a trial's adapter
    assert history.conclusion.words and any("validation_split 0.2" in text for _, text in history.log)
    best = yaml.safe_load((tmp_path / "runs" / NAME / "best.yaml").read_text())
    assert best["output_name"] == "cat" and best["validation_split"] == 0.2
    assert history.conclusion.proposal.get("lora_rank", 8) == best["lora_rank"]


def test_the_model_is_afterwards_what_it_was(make):
    host = Host(SearchedToy)
    jobs = make(host)
    jobs.search(VALUES, WISHES | {"trials": 1})
    ended(jobs)
    mine, its = SearchedToy(None).net, host.trainee.net
    assert all(torch.equal(its.state_dict()[name], value) for name, value in mine.state_dict().items())
    assert [name for name, _ in mine.named_modules()] == [name for name, _ in its.named_modules()]


def test_pictures_are_encoded_once_whatever_the_number_of_trials(tmp_path, monkeypatch):
    """On a real model's layers, with the stand-alone host."""
    loaded, encoded = [], []
    load, encode = images.load_parts, images.DiffusersModel.encode_pixels
    monkeypatch.setattr(images, "load_parts", lambda *args, **options: loaded.append(1) or load(*args, **options))
    monkeypatch.setattr(images.DiffusersModel, "encode_pixels", lambda model, pixels: encoded.extend(pixels) or encode(model, pixels))
    values = {"base_model": str(tiny_sd1_file(tmp_path / "base.safetensors")), "train_data_dir": str(make_pictures(tmp_path / "data", 5))}
    values |= {"output_name": "cat", "resolution": 64, "min_bucket_reso": 64, "max_steps": 2, "cache_latents": "memory"}
    jobs = Jobs(images.DiffusersHost, tmp_path / "runs", ImageConfig)
    jobs.search(values, {"minutes": 10, "trials": 2, "over": ["lora_rank=2,4"]})
    assert ended(jobs) == "done"
    assert sum(row.loss is not None for row in jobs.history(NAME).trials.values()) >= 4
    assert loaded == [1] and len(encoded) == 5
    best = yaml.safe_load((tmp_path / "runs" / NAME / "best.yaml").read_text())
    assert build(ImageConfig, best).base_model == values["base_model"]


def test_texts_are_searched_alike(tmp_path):
    tokenizer = make_tokenizer()
    make_llama(vocabulary=len(tokenizer)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    rows = [{"question": f"Where is number {number}?", "answer": f"In house {number * 7}."} for number in range(10)]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    values = {"base_model": str(tmp_path / "base"), "train_data_dir": str(tmp_path / "facts.jsonl"), "output_name": "cat", "max_steps": 2}
    jobs = Jobs(TransformersHost, tmp_path / "runs", TextConfig)
    jobs.search(values, {"minutes": 10, "trials": 2, "keep": ["lora_rank"]})
    assert ended(jobs) == "done"
    rows = [row for row in jobs.history(NAME).trials.values() if row.kind == "search"]
    assert len(rows) == 2 and all(row.loss is not None or row.state == "cut short" for row in rows)
    assert all({"target_modules", "learning_rate"} <= row.chosen.keys() for row in rows)


def test_it_waits_its_turn_and_a_run_after_it_trains(make):
    jobs = make()
    jobs.start(VALUES | {"output_name": "before", "epochs": 200})
    jobs.search(VALUES, WISHES | {"trials": 1})
    jobs.start(VALUES | {"output_name": "after"})
    assert jobs.status(NAME) == "waiting" and jobs.list_line() == ["before", NAME, "after"]
    assert ended(jobs) == "done" and jobs.status("before") == jobs.status("after") == "done"
    began = {name: jobs.history(name).log[0][0] for name in ("after",)} | {"search": jobs.history(NAME).log[-1][0]}
    assert began["after"] >= began["search"]


def test_stopped_and_gone_on_with_equals_not_stopped(make, tmp_path):
    whole = make()
    whole.search(VALUES, WISHES)
    ended(whole)
    wanted = told(whole)
    (tmp_path / "runs").rename(tmp_path / "other")

    jobs = make()
    jobs.search(VALUES, WISHES)
    wait_until(lambda: len(jobs.history(NAME).trials) >= 2, seconds=60)
    jobs.stop(NAME)
    assert ended(jobs) == "stopped"
    again = make()  # the program has started anew
    again.search(VALUES, WISHES)
    assert ended(again) == "done"
    found = told(again)
    for key in found.keys() & wanted.keys():
        assert found[key] == wanted[key]  # the same trial comes to the same loss, bit for bit
    assert {key for key in found if key[0] == "as given"} == {key for key in wanted if key[0] == "as given"}
    assert sum(row.kind == "search" and row.state != "failed" for row in again.history(NAME).trials.values()) == 2
    before = len(again.history(NAME).trials)
    again.resume(NAME)  # nothing is left to do
    ended(again)
    assert len(again.history(NAME).trials) == before


def test_it_stops_within_a_step(make):
    class Endless(SearchedToy):
        def loss(self, batch, draws):
            if draws.step == 3:
                jobs.stop(NAME)
            assert draws.step < 5, "it went on"
            return super().loss(batch, draws)

    jobs = make(trainee=Endless)
    jobs.search(VALUES | {"epochs": 1000}, WISHES)
    assert ended(jobs) == "stopped"
    (row,) = jobs.history(NAME).trials.values()
    assert row.why == "interrupted" and "Nothing can be said yet" in jobs.history(NAME).conclusion.words


def test_what_a_restart_interrupts_is_listed_and_gone_on_with(make, tmp_path):
    jobs = make()
    jobs.search(VALUES, WISHES | {"trials": 1})
    ended(jobs)
    events = tmp_path / "runs" / NAME / "events.jsonl"
    lines = events.read_text().splitlines()
    events.write_text("\n".join(lines[:-2]) + "\n")  # as a kill before its end leaves it
    (tmp_path / "runs" / "queue.json").write_text(json.dumps([NAME]))
    again = make()
    assert again.status(NAME) == "interrupted"
    (left,) = again.list_left()
    assert left.name == NAME and left.trials >= 4
    assert again.go_on_with_left() == [] and ended(again) == "done"


def test_a_pause_costs_no_time_and_others_have_the_model_meanwhile(make):
    jobs = make()
    job = jobs.search(VALUES | {"epochs": 30}, WISHES)
    wait_until(lambda: jobs.history(NAME).trials, seconds=60)
    job.control.pause()
    wait_until(lambda: jobs.status(NAME) == "paused" and isinstance(jobs.history(NAME).latest, Paused), seconds=60)
    before = jobs.history(NAME).search.seconds
    job.control.go_on()
    wait_until(lambda: jobs.history(NAME).search.seconds < before, seconds=60)  # it says anew how long it goes on
    jobs.stop(NAME)
    assert ended(jobs) == "stopped"


def test_a_model_that_is_away_is_let_go_of_and_waited_for(make):
    host = Host(SearchedToy)
    jobs = make(host)

    def go_away(host):
        if host.turns == 8:
            host.away, host.turns = True, host.turns + 1

    Host.at_turn = staticmethod(go_away)
    try:
        jobs.search(VALUES | {"epochs": 20}, WISHES)
        wait_until(lambda: jobs.status(NAME) == "paused", seconds=60)
        assert "another toy is loaded" in jobs.history(NAME).latest.message
        nets = weakref.ref(host.trainee.net)
        host.trainee = None
        wait_until(lambda: nets() is None, seconds=10)
        host.away = False
        assert ended(jobs) == "done"
    finally:
        Host.at_turn = staticmethod(lambda host: None)
    rows = jobs.history(NAME).trials.values()
    assert [row.why for row in rows].count("its model was away") == 1
    assert sum(row.kind == "as given" and row.loss is not None for row in rows) == 3


def test_events_tell_a_page_all_it_shows(make):
    jobs = make()
    events = []
    job = jobs.search(VALUES, WISHES | {"trials": 1})
    job.subscribe(events.append)
    ended(jobs)
    kinds = [type(event) for event in events]
    assert kinds.index(Searching) < kinds.index(Tried) and kinds[-2] is Concluded
    assert {event.trial["state"] for event in events if isinstance(event, Tried)} >= {"running", "done"}
    assert jobs.outline(NAME).trials.keys() == jobs.history(NAME).trials.keys()


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"minutes": 0}, "minutes 0"),
        ({"minutes": "long"}, "minutes 'long'"),
        ({"minutes": True}, "minutes True"),
        ({"trials": 1.5}, "trials 1.5"),
        ({"over": "lora_rank=2,4"}, "such as lora_rank=4,8"),
        ({"over": ["batch_size=1,2", "resolution=64,128"]}, "cannot search over"),
        ({"keep": ["lora_rank", "lora_alpha", "learning_rate", "scheduler"]}, "over nothing"),
        ({"pruner": "scissors"}, "median or hyperband"),
        ({"colour": 1}, "it takes minutes"),
    ],
)
def test_what_cannot_be_searched_is_said_before_anything_starts(make, tmp_path, wishes, said):
    with pytest.raises(UserError, match=said):
        make().search(VALUES, wishes)
    assert not (tmp_path / "runs" / NAME).exists()


def test_deleting_a_search_leaves_the_runs_published_adapter(make, tmp_path):
    class Library:
        removed: list = []

        def check_name(self, name):
            pass

        def remove_copies(self, name):
            self.removed.append(name)

    jobs = make()
    jobs.library = Library()
    jobs.search(VALUES, WISHES | {"minutes": 0.001})
    ended(jobs)
    jobs.delete(NAME, copies=True)
    assert not Library.removed and not (tmp_path / "runs" / NAME).exists()


def test_another_search_or_a_run_of_that_name_is_refused(make):
    jobs = make()
    jobs.search(VALUES, WISHES | {"trials": 1})
    with pytest.raises(UserError, match="waiting already"):
        jobs.search(VALUES, WISHES)
    ended(jobs)
    for values, wishes in ((VALUES | {"lora_rank": 6}, WISHES), (VALUES, WISHES | {"over": []})):
        with pytest.raises(UserError, match="over other options or values"):
            jobs.search(values, wishes)
    with pytest.raises(UserError, match="there is one already"):
        jobs.start(VALUES | {"output_name": NAME})
    jobs.search(VALUES | {"sample_prompts": ["a cat"]}, WISHES)  # on which no loss depends
    ended(jobs)
    jobs.start(VALUES | {"output_name": "dog-search"})
    ended(jobs, "dog-search")
    with pytest.raises(UserError, match="a run is called 'dog-search'"):
        jobs.search(VALUES | {"output_name": "dog"}, WISHES)
    with pytest.raises(UserError, match="settled by that file"):
        jobs.search(VALUES | {"output_name": "bird", "init_lora": "a.safetensors"}, WISHES)


def test_without_optuna_one_sentence_says_how_to_add_it(make, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr("hotlora.engine.search_plan.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"the package optuna is missing\. Install it: .*pip install optuna"):
        make().search(VALUES, WISHES)
    assert say_missing("Tick it.")[1] == "Tick it." and not (tmp_path / "runs" / NAME).exists()
