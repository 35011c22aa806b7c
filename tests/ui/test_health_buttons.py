"""The health report's buttons, in a real browser and by HTTP: each says what it is about to change, does that, and is undone."""

import os
import threading

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hotlora.engine.access import Access
from hotlora.engine.jobs import Jobs
from hotlora.engine.options import build
from hotlora.pictures import health
from hotlora.sd.config import ImageConfig
from hotlora.tasks import IMAGES
from hotlora.ui import data_section
from hotlora.ui.api import build_router
from hotlora.ui.page import build_standalone_page
from pictures import make_pictures
from PIL import Image, ImageFilter
from toy import ToyHost
from toy_studio import toy_studio


@pytest.fixture
def folder(tmp_path):
    """Eight pictures, of which four have something wrong with them."""
    folder = make_pictures(tmp_path / "data" / "my cats ü", 8, (96, 96))
    (folder / "picture 1.png").write_bytes((folder / "picture 0.png").read_bytes())
    (folder / "picture 2.png").write_bytes((folder / "picture 2.png").read_bytes()[:3000])
    (folder / "picture 3.txt").write_text("ein schÃ¶nes Bild", encoding="utf-8")
    with Image.open(folder / "picture 4.png") as picture:
        picture.resize((12, 12)).resize((96, 96)).filter(ImageFilter.GaussianBlur(6)).save(folder / "picture 4.png")
    (folder / "picture 5.txt").write_text("white square, number 5, white square", encoding="utf-8")
    return folder


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))


@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_each_button_names_what_it_changes_does_it_and_is_undone(serve, open_page, tmp_path, folder, size, theme):
    studio = toy_studio(tmp_path, editor=IMAGES.make_editor(), report=IMAGES.report)
    page = open_page(serve(build_standalone_page(studio)), size=size, theme=theme)
    page.locator("#hotlora_beat i").first.wait_for(state="attached")  # it answers
    for option, value in (("train_data_dir", folder), ("resolution", 64)):
        page.locator(f"#hotlora_{option}").locator("textarea, input").first.fill(str(value))
    page.locator("#hotlora_look").click()
    page.locator("#hotlora_album figure").nth(7).wait_for()
    page.locator("#hotlora_examine").click()
    remedies = page.locator("#hotlora_health [data-remedy]")
    remedies.nth(3).wait_for()
    if SHOTS := os.environ.get("HOTLORA_SHOTS"):
        page.screenshot(path=f"{SHOTS}/health-{size}-{theme}.png", full_page=True)
    asked, before = [], names(folder)

    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    remedies.filter(has_text="Keep one of each").click()
    assert "Keep one of each" in asked[0] and "1: picture 1.png" in asked[0] and "can be brought back" in asked[0]
    assert names(folder) == before, "it was not wanted"

    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    remedies.filter(has_text="Keep one of each").click()
    page.locator("#hotlora_message", has_text="Left out 1 picture").first.wait_for()
    page.wait_for_function("document.querySelectorAll('#hotlora_album figure').length === 7")
    assert (folder / "left out" / "picture 1.png").is_file() and (folder / "left out" / "picture 1.txt").is_file()
    remedies.filter(has_text="Mend the letters").click()
    page.locator("#hotlora_message", has_text="changed 1 caption").first.wait_for()
    page.locator("#hotlora_album figcaption", has_text="ein schönes Bild").first.wait_for()
    assert "picture 3.png" in asked[-1] and "can be undone" in asked[-1]
    page.wait_for_function("!document.querySelector('#hotlora_health').innerText.includes('garbled')")
    for step in ("2", "1"):
        undo = page.locator("#hotlora_health [data-undo]:not([disabled])", has_text=step)
        undo.click()
        page.locator("#hotlora_message", has_text="Undone").first.wait_for()
        page.locator("#hotlora_health [data-undo]", has_text=step).wait_for(state="detached")
    assert names(folder) == before
    assert (folder / "picture 3.txt").read_text(encoding="utf-8") == "ein schÃ¶nes Bild"
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]


@pytest.mark.parametrize(("size", "theme"), [("desktop", "dark"), ("phone", "light")])
def test_a_report_of_many_pictures_tells_how_far_it_is_stops_and_goes_on(serve, open_page, tmp_path, monkeypatch, size, theme):
    monkeypatch.setattr(data_section, "_EXAMINE_SECONDS", 0.0)
    folder, may, begun = make_pictures(tmp_path / "data", 70, (128, 128)), threading.Event(), threading.Event()
    plain = health.measure_picture

    def measure(path, framing):
        if path.name == "picture 42.png":  # not among the first 32 by name
            begun.set()
            may.wait(120)
        return plain(path, framing)

    monkeypatch.setattr(health, "measure_picture", measure)
    page = open_page(
        serve(build_standalone_page(toy_studio(tmp_path, editor=IMAGES.make_editor(), report=IMAGES.report))), size=size, theme=theme
    )
    page.locator("#hotlora_beat i").first.wait_for(state="attached")
    for option, value in (("train_data_dir", folder), ("resolution", 64)):
        page.locator(f"#hotlora_{option}").locator("textarea, input").first.fill(str(value))
    page.locator("#hotlora_examine").click()
    page.locator("#hotlora_health b", has_text="32 / 70").wait_for(timeout=100_000)
    if SHOTS := os.environ.get("HOTLORA_SHOTS"):
        page.screenshot(path=f"{SHOTS}/looking-{size}-{theme}.png")
    assert begun.wait(60), "it goes on by itself"
    page.locator("#hotlora_health [data-stop]").click()
    may.set()
    page.locator("#hotlora_health b", has_text="64 / 70").wait_for(timeout=100_000)
    page.wait_for_timeout(1500)
    assert "64 / 70" in page.locator("#hotlora_health").first.inner_text(), "it was stopped"
    assert "Stopped. Health report goes on" in page.locator("#hotlora_health").first.inner_text()
    page.locator("#hotlora_examine").click()
    page.locator("#hotlora_health", has_text="Nothing was found").first.wait_for(timeout=100_000)


def test_each_look_is_further_on_however_slow_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(data_section, "_EXAMINE_SECONDS", 0.0)
    folder = make_pictures(tmp_path / "data", 70)
    section = data_section.DataSection(toy_studio(tmp_path, editor=IMAGES.make_editor(), report=IMAGES.report), None)
    config = build(ImageConfig, {"train_data_dir": str(folder), "output_dir": str(tmp_path / "run"), "resolution": 64})
    for done in ("32 / 70", "64 / 70", "Nothing was found", "32 / 70"):
        assert done in section._report(config, "")[1]


def test_the_same_is_done_by_http_in_allowed_folders_only(tmp_path, folder):
    studio = toy_studio(tmp_path, editor=IMAGES.make_editor(), report=IMAGES.report)
    studio.jobs = Jobs(ToyHost, tmp_path / "runs", ImageConfig, check_access=Access([tmp_path / "data"]).check)
    app = FastAPI()
    app.include_router(build_router(studio, None))
    client = TestClient(app)
    values = {"train_data_dir": str(folder), "resolution": 64}
    findings = {found["kind"]: found for found in client.post("/hotlora/v1/data/report", json=values).json()}
    remedy = findings["broken"]["remedy"]
    assert remedy == {"label": "Leave out", "operation": "leave_out", "names": ["picture 2.png"], "text": "", "state": ""}
    done = client.post("/hotlora/v1/album/mend", json={"options": values, "remedy": remedy})
    assert done.json()["message"].startswith("Left out 1 picture")
    assert "broken" not in {found["kind"] for found in client.post("/hotlora/v1/data/report", json=values).json()}
    assert client.post("/hotlora/v1/album/undo", json={"options": values}).status_code == 200 and (folder / "picture 2.png").is_file()
    make_pictures(tmp_path / "secret", 2)
    elsewhere = {"options": {"train_data_dir": str(tmp_path / "secret")}, "remedy": {**remedy, "names": ["picture 0.png"]}}
    refused = client.post("/hotlora/v1/album/mend", json=elsewhere)
    assert refused.status_code == 400 and "only these folders may be used" in refused.json()["detail"]
    assert len(names(tmp_path / "secret")) == 2
