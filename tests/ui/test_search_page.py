"""Find settings on the page: asked beside the recipe, watched like a run, its proposal taken into the form; and where Optuna is missing."""

import importlib.util
import json
from urllib.parse import quote

import pytest
import yaml
from bench_runs import append, make_runs
from hotlora.engine import search_plan
from hotlora.engine.events import Concluded, Finished, Searching, Tried
from hotlora.ui.page import build_standalone_page
from test_api import ROOT, connect
from toy_studio import toy_studio
from waiting import wait_until

WIDTHS = {"desktop": 1280, "phone": 390}
NAME = "run 0000"
WORDS = "The config as given has a kept-back loss of 0.30000. Trial 4 beats it beyond that: by 0.10000."


def trial(number, kind, state="done", loss=None, **told):
    return Tried({"number": number, "kind": kind, "chosen": {}, "state": state, "loss": loss, "seconds": 61.0, "parameters": 92160} | told)


@pytest.fixture
def searched(tmp_path):
    """A search that has ended, as any set of packages can show it."""
    make_runs(tmp_path / "runs", 1, steps=1)
    folder = tmp_path / "runs" / NAME
    (folder / "search.json").write_text(json.dumps({"plan": {"minutes": 20}, "options": {}}), encoding="utf-8")
    (folder / "best.yaml").write_text(yaml.safe_dump({"output_name": "cat", "lora_rank": 32, "learning_rate": 0.0007}), encoding="utf-8")
    (folder / "events.jsonl").unlink()
    trials = [trial(n, "as given", loss=0.3 + n / 1000) for n in range(3)]
    trials += [trial(3, "search", "cut short", chosen={"lora_rank": 4}, why="cut short")]
    trials += [trial(4, "search", loss=0.2, chosen={"lora_rank": 32, "learning_rate": 0.0007})]
    trials += [trial(5, "repeat", loss=0.21, of=4, chosen={"lora_rank": 32, "learning_rate": 0.0007})]
    end = [Concluded(WORDS, {"lora_rank": 32, "learning_rate": 0.0007}), Finished(0, "done", {})]
    append(folder / "events.jsonl", [Searching(1200.0), *trials, *end])
    return folder


def value_of(page, option):
    return page.locator(f"#hotlora_{option}").locator("input, textarea").first.input_value()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", WIDTHS)
def test_what_a_search_has_found_is_shown_and_taken(serve, open_page, tmp_path, searched, size, theme):
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path))), size=size, theme=theme)
    found = page.locator("#hotlora_found")
    found.get_by_text(WORDS).first.wait_for()
    cells = found.locator("tbody tr").first.locator("td").all_inner_texts()
    assert cells[:4] == ["4", "0.20000", "lora_rank 32, learning_rate 0.0007", "other settings"]
    assert found.locator("tbody tr[data-state='cut short']").first.locator("td").nth(1).inner_text() == "cut short"
    assert page.locator("#hotlora_status").get_by_text("0.20000, #4").first.is_visible()
    assert not page.locator("#hotlora_sample button, button#hotlora_sample").first.is_enabled()
    page.locator("#hotlora_take").first.click()
    for option, wanted in {"lora_rank": "32", "learning_rate": "0.0007", "output_name": "cat"}.items():
        wait_until(lambda option=option, wanted=wanted: value_of(page, option) == wanted)
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[size]


def test_without_optuna_the_page_says_how_to_add_it_before_anything_starts(serve, open_page, tmp_path, monkeypatch):
    """As it is in the sets of a host's pins; in the other one it is taken away."""
    if importlib.util.find_spec("optuna"):
        monkeypatch.setattr(search_plan, "find_spec", lambda name: None)
    studio = toy_studio(tmp_path, add_optuna="Tick it in Settings, and restart.")
    page = open_page(serve(build_standalone_page(studio)))
    page.locator("#hotlora_finding").get_by_text("Find settings", exact=True).first.click()
    for told in ("the package optuna is missing.", "Tick it in Settings, and restart."):
        page.locator("#hotlora_find_missing").get_by_text(told).first.wait_for()
    assert not page.locator("button#hotlora_find, #hotlora_find button").first.is_enabled()
    assert not list((tmp_path / "runs").glob("*"))


def test_by_http_it_is_told_what_was_found_and_what_is_missing(tmp_path, searched, monkeypatch):
    make_runs(tmp_path / "other", 1, steps=1)
    (tmp_path / "other" / "run 0000").rename(tmp_path / "runs" / "a run")
    client = connect(tmp_path)
    found = client.get(f"{ROOT}/searches/{quote(NAME)}").json()
    assert found["verdict"] == WORDS and found["proposal"]["lora_rank"] == found["best"]["lora_rank"] == 32
    assert [row["loss"] for row in found["trials"]] == [0.3, 0.301, 0.302, None, 0.2, 0.21] and found["plan"]["minutes"] == 20
    assert client.get(f"{ROOT}/searches/{quote('a run')}").status_code == client.get(f"{ROOT}/searches/nobody").status_code == 404
    monkeypatch.setattr(search_plan, "find_spec", lambda name: None)
    refused = client.post(f"{ROOT}/searches", json={"options": {"output_name": "cat"}})
    assert refused.status_code == 400 and "the package optuna is missing. Install it: " in refused.json()["detail"]
    for body in ({}, {"options": "all"}, {"options": {"output_name": "cat"}, "minutes": "long"}):
        assert client.post(f"{ROOT}/searches", json=body).status_code == 400
    assert not (tmp_path / "runs" / "cat-search").exists()
