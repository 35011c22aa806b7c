"""Regularisation pictures from the page, in a real browser and by HTTP: drawn in line, stopped, gone on with, and made a row."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hotlora.engine.access import Access
from hotlora.engine.jobs import Jobs
from hotlora.pictures.class_desk import ClassDesk
from hotlora.sd.config import ImageConfig
from hotlora.tasks import IMAGES
from hotlora.ui.api import build_router
from hotlora.ui.page import build_standalone_page
from pictures import make_pictures
from PIL import Image
from playwright.sync_api import expect
from toy import ToyHost, ToyTrainee
from toy_studio import toy_studio


@dataclass
class Drawn:
    request: object
    lora: str = "<lora:x:1>"

    def save(self, stem: Path) -> Path:
        path = stem.with_name(f"{stem.name}.png")
        Image.new("RGB", (64, 64), (self.request.seed * 37 % 256, 120, 200)).save(path)
        return path


class Drawer(ToyTrainee):
    """Draws as slowly as to be watched."""

    seconds = 0.3

    def preview(self, request):
        time.sleep(self.seconds)
        return Drawn(request)


def make_studio(tmp_path):
    jobs = Jobs(lambda: ToyHost(Drawer), tmp_path / "runs", ImageConfig, check_access=Access([tmp_path / "data"]).check)
    studio = toy_studio(tmp_path, editor=IMAGES.make_editor(), class_pictures=ClassDesk(jobs, tmp_path / "data"))
    studio.jobs = jobs
    return studio


def assert_arrow_is_inside(accordion):
    """Also where the heading takes two lines, as on a phone."""
    box, arrow = accordion.bounding_box(), accordion.locator(".label-wrap .icon").first.bounding_box()
    assert arrow["x"] + arrow["width"] <= box["x"] + box["width"]


@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_they_are_drawn_stopped_gone_on_with_and_made_a_row(serve, open_page, tmp_path, monkeypatch, size, theme):
    monkeypatch.setattr(Drawer, "seconds", 3)
    cats = make_pictures(tmp_path / "data" / "cats", 6)
    page = open_page(serve(build_standalone_page(make_studio(tmp_path))), size=size, theme=theme)
    page.locator("#hotlora_beat i").first.wait_for(state="attached")  # it answers
    page.locator("#hotlora_train_data_dir").locator("textarea, input").first.fill(str(cats))
    assert_arrow_is_inside(page.locator("#hotlora_class").first)
    page.locator("#hotlora_class").get_by_text("Regularisation pictures").first.click()
    page.locator("#hotlora_draw_class").click()
    page.locator("#hotlora_message", has_text="there are no class words").first.wait_for()
    page.locator("#hotlora_class_prompts textarea").first.fill("photo of a cat")
    page.locator("#hotlora_draw_class").click()
    page.locator("#hotlora_class_status b", has_text="2 / 6").wait_for()
    page.locator("#hotlora_now", has_text="photo of a cat class").first.wait_for(state="attached")
    expect(page.locator("#hotlora_draw_class").first).to_be_disabled()
    page.locator("#hotlora_stop_class").click()
    page.locator("#hotlora_class_status", has_text="Stopping after the picture that is drawn now.").first.wait_for()
    expect(page.locator("#hotlora_draw_class").first).to_be_disabled()
    monkeypatch.setattr(Drawer, "seconds", 0.1)
    page.locator("#hotlora_class_status", has_text="Stopped. Draw goes on").first.wait_for()
    expect(page.locator("#hotlora_stop_class").first).to_be_disabled()
    assert "Stopping" not in page.locator("#hotlora_page").inner_text(), "it is said no longer than it is true"
    folder = tmp_path / "data" / "photo of a cat class"
    assert 2 <= len(list(folder.glob("*.png"))) < 6
    page.locator("#hotlora_draw_class").click()
    page.locator("#hotlora_class_status b", has_text="6 / 6").wait_for()
    take = page.locator("#hotlora_class_status [data-class-folder]")
    take.wait_for()
    if SHOTS := os.environ.get("HOTLORA_SHOTS"):
        page.screenshot(path=f"{SHOTS}/class-{size}-{theme}.png", full_page=True)
    take.click()
    row = page.locator("#hotlora_folders .hotlora-folder")
    row.wait_for()
    assert row.locator("[data-cell=folder]").input_value() == str(folder)
    assert row.locator("[data-cell=regularisation]").is_checked()
    entries = page.locator("#hotlora_datasets textarea").first.input_value().splitlines()
    assert [json.loads(entry) for entry in entries] == [{"folder": str(folder), "regularisation": True}]
    take.wait_for(state="hidden")
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]
    if SHOTS := os.environ.get("HOTLORA_SHOTS"):
        page.screenshot(path=f"{SHOTS}/class-row-{size}-{theme}.png", full_page=True)
    page.reload()
    page.locator("#hotlora_class").get_by_text("Regularisation pictures").first.click()
    page.locator("#hotlora_class_status b", has_text="6 / 6").wait_for()


def test_the_same_is_done_by_http_and_in_allowed_folders_only(tmp_path):
    cats = make_pictures(tmp_path / "data" / "cats", 3)
    app = FastAPI()
    app.include_router(build_router(make_studio(tmp_path), None))
    client = TestClient(app)
    assert client.get("/hotlora/v1/class").json()["number"] == 0
    begun = client.post("/hotlora/v1/class", json={"words": ["cat"], "options": {"train_data_dir": str(cats)}})
    assert begun.status_code == 202 and begun.json()["total"] == 3 and begun.json()["busy"]
    again = client.post("/hotlora/v1/class", json={"words": ["dog"], "count": 2})
    assert again.status_code == 400 and "some are being drawn" in again.json()["detail"]
    assert client.get("/hotlora/v1/queue").json()["line"] == ["cat class"]
    stopped = client.delete("/hotlora/v1/class", headers={"content-type": "application/json"})
    assert stopped.status_code == 200
    for _ in range(200):
        status = client.get("/hotlora/v1/class").json()
        if not status["busy"]:
            break
        time.sleep(0.05)
    assert status["message"].startswith("Stopped.") and status["folder"] == str(tmp_path / "data" / "cat class")
    for body, said in (({"words": []}, "no class words"), ({"words": ["x"], "name": "../x"}, "cannot be used in names")):
        refused = client.post("/hotlora/v1/class", json={"count": 2, **body})
        assert refused.status_code == 400 and said in refused.json()["detail"]
    elsewhere = client.post("/hotlora/v1/class", json={"words": ["x"], "options": {"train_data_dir": str(tmp_path / "secret")}})
    assert elsewhere.status_code == 400 and "only these folders may be used" in elsewhere.json()["detail"]
    stranger = client.post("/hotlora/v1/class", json={"words": ["x"]}, headers={"origin": "http://evil.example"})
    assert stranger.status_code == 403
