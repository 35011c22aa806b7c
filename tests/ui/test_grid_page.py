"""A run's checkpoints side by side on the page: drawn, looked through, chosen, tidied."""

import dataclasses
from pathlib import Path

import pytest
from bench_runs import append
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hotlora.engine.events import Drawn
from hotlora.engine.jobs import Jobs
from hotlora.sd.config import ImageConfig
from hotlora.ui.api import build_router
from hotlora.ui.page import build_page, build_standalone_page
from PIL import Image
from test_accessibility import find_violations
from toy import ToyHost, ToyTrainee
from toy_studio import SlowToy, toy_studio
from waiting import wait_until

GIVEN = "a hat, <lora:cat-step00000002:1>, <lora:other:1>"


class Picture:
    def __init__(self, colour):
        self.colour = colour

    def save(self, stem: Path) -> Path:
        path = stem.with_name(stem.name + ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), self.colour).save(path)
        return path


class Painter(ToyTrainee):
    """Paints what the network says, so that each checkpoint paints another colour."""

    def preview(self, request):
        return Picture(tuple(int(abs(value) * 400) % 256 for value in self.net(self.inputs[:1])[0, :3].tolist()))


class SlowPainter(Painter, SlowToy):
    pass


@pytest.fixture
def studio(tmp_path):
    jobs = Jobs(lambda: ToyHost(Painter), tmp_path / "runs", ImageConfig)
    options = {"max_steps": 6, "save_steps": 2, "sample_prompts": ["a cat", "a dog"], "sheet_weights": [], "sample_every_epochs": 0}
    jobs.start({"output_name": "cat", "base_model": "x", "train_data_dir": str(tmp_path), **options})
    wait_until(lambda: jobs.find_job("cat") is None)
    return dataclasses.replace(toy_studio(tmp_path), jobs=jobs, uses_tag=True)


def open_comparing(page):
    page.locator("#hotlora_comparing").get_by_text("Compare checkpoints", exact=True).first.click()
    page.locator("#hotlora_grid_draw:not([disabled])").first.wait_for()


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_the_best_is_found_taken_and_the_others_go(serve, open_page, tmp_path, studio, size):
    page = open_page(serve(build_standalone_page(studio)), size=size)
    page.locator('#hotlora_runs tr[data-name="cat"]').wait_for()
    open_comparing(page)
    page.locator("#hotlora_grid_foreseen", has_text="8 pictures at most").first.wait_for()  # before the press
    page.locator("#hotlora_grid_draw").first.click()
    page.locator("#hotlora_grid_answer", has_text="8 pictures at most").first.wait_for()
    page.locator("#hotlora_grid p", has_text="8 / 8 drawn").first.wait_for()
    page.locator("#hotlora_grid_foreseen", has_text="about").first.wait_for()  # by what one has taken
    table = page.locator("#hotlora_grid table").first
    assert table.locator("thead th").all_inner_texts() == ["step 2", "step 4", "step 6", "finished"]
    assert table.locator("tbody th").all_inner_texts() == ["a cat", "a dog"]
    assert find_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]

    table.locator("tbody tr").nth(1).locator("img").first.click()
    large = page.locator(".hotlora-large")
    large.get_by_text("step 2, 1: a dog").wait_for()
    page.keyboard.press("ArrowRight")
    large.get_by_text("step 4, 1: a dog").wait_for()
    page.keyboard.press("ArrowUp")
    large.get_by_text("step 4, 1: a cat").wait_for()
    page.keyboard.press("ArrowUp")
    large.get_by_text("step 4, 1: a cat").wait_for()
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p id=txt2img_prompt><textarea>')")
    prompt = page.locator("#txt2img_prompt textarea")
    prompt.evaluate("(box, text) => { box.value = text; }", GIVEN)
    large.get_by_text("Use this one").click()
    assert prompt.input_value() == "a hat, <lora:other:1>, <lora:cat-step00000004:1>"
    page.wait_for_function("document.querySelector('#txt2img_prompt').getBoundingClientRect().bottom <= innerHeight")

    table.locator("tbody tr").first.locator("img").nth(1).click()
    asked = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    large.get_by_text("Keep only this one").click()
    page.locator("#hotlora_grid_answer", has_text="Removed 2 checkpoints").first.wait_for()
    assert "cat-step00000002.safetensors" in asked[0] and "cat-step00000004" not in asked[0]
    page.wait_for_function(
        "document.querySelectorAll('#hotlora_grid figure[data-tag]').length === 4"
    )  # of the others only pictures are left
    assert {path.name for path in (tmp_path / "runs").rglob("*.safetensors")} == {"cat.safetensors", "cat-step00000004.safetensors"}


def test_a_run_that_trains_draws_between_its_steps(serve, open_page, tmp_path):
    jobs = Jobs(lambda: ToyHost(SlowPainter), tmp_path / "runs", ImageConfig)
    page = open_page(serve(build_standalone_page(dataclasses.replace(toy_studio(tmp_path), jobs=jobs))))
    jobs.start({"output_name": "cat", "base_model": "x", "train_data_dir": str(tmp_path), "max_steps": 5000, "save_steps": 5})
    open_comparing(page)
    page.locator("#hotlora_grid_prompts textarea").fill("a bird\na fish")
    page.locator("#hotlora_grid_weights").locator("textarea, input").first.fill("1, x")
    page.locator("#hotlora_grid_draw").first.click()
    page.locator("#hotlora_grid_answer .hotlora-bad", has_text="cannot read '1, x' under Weights").first.wait_for()
    page.locator("#hotlora_grid_weights").locator("textarea, input").first.fill("")
    page.locator("#hotlora_grid_draw").first.click()
    page.locator("#hotlora_grid tbody th", has_text="a fish").first.wait_for()
    page.locator("#hotlora_grid tbody img").first.wait_for()
    assert jobs.status("cat") == "training" and jobs.find_job("cat")
    jobs.stop("cat")
    wait_until(lambda: jobs.find_job("cat") is None)


def test_what_a_grid_will_cost_follows_what_is_chosen(studio):
    grid = build_page(studio).hotlora.watch._grid

    def foresee(rows="Prompt", columns="Checkpoint", checkpoints=(), prompts="", questions=0, **numbers):
        asked = [rows, columns, checkpoints, prompts, questions, *(numbers.get(field, "") for field in grid.numbers)]
        _, foreseen, *_ = grid.describe("cat", asked)
        return foreseen.shows

    assert "<b>8</b> <span>pictures at most" in foresee() and "<b>3</b>" in foresee(checkpoints=["step 2"], prompts="a\nb\nc")
    assert "one of them is no number" in foresee(weights="x")
    folder = studio.jobs.find_folder("cat")
    append(folder / "events.jsonl", [Drawn(str(folder / "a.png"), 1, 8, 45.0)])
    assert "<b>6 min" in foresee()


def test_by_http_the_others_go_too(studio, tmp_path):
    app = FastAPI()
    app.include_router(build_router(studio, None))
    client = TestClient(app)
    refused = client.post("/hotlora/v1/runs/cat/keep", json={"checkpoint": "step 3"})
    assert refused.status_code == 400 and "cannot keep 'step 3'" in refused.json()["detail"]
    answer = client.post("/hotlora/v1/runs/cat/keep", json={"checkpoint": "finished"})
    assert answer.status_code == 200 and len(answer.json()["removed"]) == 3
    assert client.post("/hotlora/v1/runs/dog/keep", json={"checkpoint": "best"}).status_code == 404
