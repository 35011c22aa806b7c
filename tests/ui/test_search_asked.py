"""A search asked for on the page and by HTTP, where Optuna is installed."""

import json

import pytest
from hotlora.engine.errors import UserError
from hotlora.ui.page import build_page, build_standalone_page
from test_api import ROOT, connect
from toy_studio import toy_studio
from waiting import wait_until

WIDTHS = {"desktop": 1280, "phone": 390}


@pytest.mark.parametrize("size", WIDTHS)
def test_a_search_is_asked_for_watched_and_stopped(serve, open_page, tmp_path, size):
    studio = toy_studio(tmp_path)
    page = open_page(serve(build_standalone_page(studio)), size=size)
    page.locator("#hotlora_output_name").locator("textarea, input").first.fill("cat")
    page.locator("[data-length=max_steps]").first.click()
    page.locator("#hotlora_max_steps").locator("textarea, input").first.fill("5")
    page.locator("#hotlora_finding").get_by_text("Find settings", exact=True).first.click()
    page.locator("#hotlora_find_minutes input").first.fill("5")
    page.locator("#hotlora_find_over").get_by_text("Scheduler", exact=True).first.click()
    page.locator("#hotlora_find_others textarea").first.fill("weight_decay=0.1,0.2")
    page.locator("#hotlora_find").first.click()
    page.locator("#hotlora_status [data-status='searching']").first.wait_for()
    page.locator("#hotlora_found tbody tr[data-state='done']").first.wait_for()
    kept = json.loads((tmp_path / "runs" / "cat-search" / "search.json").read_text(encoding="utf-8"))
    assert kept["plan"]["minutes"] == 5 and kept["plan"]["keep"] == ["scheduler"] and kept["plan"]["over"] == ["weight_decay=0.1,0.2"]
    assert kept["options"]["validation_split"] == 0.2
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[size]
    page.locator("#hotlora_stop").first.click()
    page.locator("#hotlora_status [data-status='stopped']").first.wait_for()
    page.locator("#hotlora_found .hotlora-card").get_by_text("config as given").first.wait_for()


def test_what_cannot_be_searched_is_said_there(tmp_path):
    search = build_page(toy_studio(tmp_path)).hotlora.search
    shown = search._recipe.options.show({"output_name": "cat"})
    for minutes, over, others in ((0, ["Rank"], ""), (5, [], ""), (5, ["Rank"], "nonsense=1,2")):
        with pytest.raises(UserError, match="cannot"):
            search._start(minutes, over, others, *shown)
    assert not (tmp_path / "runs" / "cat-search").exists()


def test_by_http_it_is_asked_for_followed_stopped_and_gone_on_with(tmp_path):
    client = connect(tmp_path)
    options = {"output_name": "cat", "train_data_dir": "x", "max_steps": 5, "tensorboard": False}
    answer = client.post(f"{ROOT}/searches", json={"options": options, "minutes": 5, "trials": 1, "over": ["lora_rank=2,4"]})
    assert answer.status_code == 201 and answer.json()["name"] == "cat-search"
    wait_until(lambda: client.get(f"{ROOT}/runs/cat-search").json()["status"] == "searching")
    assert 0 < client.get(f"{ROOT}/runs/cat-search").json()["seconds_left"] <= 300
    client.post(f"{ROOT}/runs/cat-search/stop")
    wait_until(lambda: client.get(f"{ROOT}/runs/cat-search").json()["status"] == "stopped")
    client.post(f"{ROOT}/runs/cat-search/resume", json={"minutes": 6})
    wait_until(lambda: client.get(f"{ROOT}/runs/cat-search").json()["status"] == "done", seconds=120)
    found = client.get(f"{ROOT}/searches/cat-search").json()
    assert found["plan"]["minutes"] == 6 and found["verdict"] and found["best"]["output_name"] == "cat"
    assert [row["kind"] for row in found["trials"] if row["loss"] is not None].count("as given") == 3
