"""The focus point on the page: frames of what is kept over the picture in the editor, a click, arrow keys, clearing, undo; and by HTTP."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hotlora.engine.options import build
from hotlora.pictures.buckets import choose_bucket
from hotlora.pictures.dataset import read_dataset
from hotlora.sd.config import ImageConfig
from hotlora.tasks import IMAGES
from hotlora.ui.datasets import add_to_data_set
from hotlora.ui.page import build_standalone_page
from pictures import make_pictures
from PIL import Image, ImageDraw
from test_accessibility import find_violations
from toy_studio import toy_studio

SIZE = (300, 640)
FRAMES = """() => [...document.querySelectorAll('#hotlora_cut .hotlora-kept')].map((frame) => {
    const [outer, inner] = [frame.parentElement.getBoundingClientRect(), frame.getBoundingClientRect()];
    const [left, top] = [inner.left - outer.left, inner.top - outer.top];
    return [left / outer.width, top / outer.height, inner.width / outer.width, inner.height / outer.height];
})"""
AT_TOP = "() => { const [frame] = (%s)(); return frame && Math.abs(frame[1] - %f) < 0.01; }"


def make_portraits(folder):
    """A head at the top of each."""
    make_pictures(folder, 3)
    for number in range(3):
        picture = Image.new("RGB", SIZE, (200, 180 - 40 * number, 150))
        draw = ImageDraw.Draw(picture)
        draw.rectangle((60, 260, 240, 640), fill=(60, 80, 60 + 60 * number))
        draw.ellipse((90, 60, 210, 220), fill=(240, 200, 170))
        picture.save(folder / f"picture {number}.png")
    return folder


def points(folder):
    file = folder / "hotlora_focus.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def open_editor(serve, open_page, tmp_path, folder, *, report=None, **how):
    editor = IMAGES.make_editor()
    editor.look(build(ImageConfig, {"resolution": 64, "train_data_dir": str(folder)}))  # the first one loads what counts tokens
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path, editor=editor, report=report))), **how)
    for option, value in (("train_data_dir", folder), ("resolution", 64)):
        page.locator(f"#hotlora_{option}").locator("textarea, input").first.fill(str(value))
    page.locator("#hotlora_look").click()
    page.locator("#hotlora_album [data-name='picture 0.png']").click()
    page.locator("#hotlora_cut summary").wait_for()
    page.wait_for_function("document.querySelector('.hotlora-place')?.dataset.name === 'picture 0.png'")
    return page


def wait_for_top(page, share):
    page.wait_for_function(AT_TOP % (FRAMES, share))


def wait_for_points(page, folder, expected):
    for _ in range(300):
        if points(folder) == expected:
            return
        page.wait_for_timeout(100)
    assert points(folder) == expected


@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_a_click_and_the_arrow_keys_move_what_is_kept(serve, open_page, tmp_path, size, theme):
    folder = make_portraits(tmp_path / "people ü")
    page = open_editor(serve, open_page, tmp_path, folder, size=size, theme=theme)
    fit = choose_bucket(*SIZE, build(ImageConfig, {"resolution": 64, "train_data_dir": str(folder)}))
    height = fit.bucket[1] / fit.scaled[1]
    told = page.locator("#hotlora_cut summary b")
    assert told.inner_text() == f"{fit.bucket[0]}x{fit.bucket[1]}: {round(100 * fit.bucket[0] * height / fit.scaled[0])} %"
    page.locator("#hotlora_cut summary").click()
    wait_for_top(page, (fit.scaled[1] - fit.bucket[1]) // 2 / fit.scaled[1])
    (frame,) = page.evaluate(FRAMES)
    assert frame[0] == pytest.approx(0, abs=0.01) and frame[2] == pytest.approx(1, abs=0.01) and frame[3] == pytest.approx(height, abs=0.01)
    clear, picture = page.locator("#hotlora_cut [data-clear=focus]"), page.locator("#hotlora_cut .hotlora-cut-picture")
    assert clear.is_disabled()
    page.wait_for_function("document.querySelector('#hotlora_cut img').naturalHeight === 640")  # more than the small one of the album
    box = picture.bounding_box()
    assert box["height"] / box["width"] == pytest.approx(SIZE[1] / SIZE[0], rel=0.02)

    picture.click(position={"x": box["width"] / 2, "y": box["height"] * 0.2})
    wait_for_top(page, 0)
    wait_for_points(page, folder, {"picture 0.png": [pytest.approx(0.5, abs=0.01), pytest.approx(0.2, abs=0.01)]})
    page.locator("#hotlora_album [data-name='picture 0.png'][data-focus]").wait_for()
    page.locator("#hotlora_message", has_text="Focus point saved.").first.wait_for()
    if SHOTS := os.environ.get("HOTLORA_SHOTS"):
        page.wait_for_timeout(500)
        page.screenshot(path=f"{SHOTS}/focus-{size}-{theme}.png", full_page=True)
        page.locator("#hotlora_editor").first.screenshot(path=f"{SHOTS}/focus-editor-{size}-{theme}.png")

    assert find_violations(page) == []
    before = points(folder)["picture 0.png"]
    picture.focus()
    for key in ("ArrowDown", "Shift+ArrowDown", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
    moved = [round(before[0] - 0.02, 4), round(before[1] + 0.1, 4)]
    wait_for_points(page, folder, {"picture 0.png": moved})
    page.locator("#hotlora_tools [data-do=undo] b", has_text="2").wait_for()  # all keys at once
    page.wait_for_timeout(600)
    assert page.evaluate("document.activeElement.className") == "hotlora-cut-picture", "the keys go on where they were"
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]

    page.locator("#hotlora_tools [data-do=undo]").click()
    wait_for_points(page, folder, {"picture 0.png": before})
    wait_for_top(page, 0)
    clear.click()
    wait_for_points(page, folder, {})
    wait_for_top(page, (fit.scaled[1] - fit.bucket[1]) // 2 / fit.scaled[1])
    page.wait_for_function("document.querySelector('#hotlora_cut [data-clear=focus]').disabled")


def test_what_is_moved_is_saved_when_the_next_picture_is_opened_and_follows_the_resolution(serve, open_page, tmp_path):
    folder = make_portraits(tmp_path / "people")
    page = open_editor(serve, open_page, tmp_path, folder)
    page.locator("#hotlora_cut summary").click()
    picture = page.locator("#hotlora_cut .hotlora-cut-picture")
    picture.focus()
    page.keyboard.press("Shift+ArrowUp")
    page.locator("#hotlora_next").click()
    wait_for_points(page, folder, {"picture 0.png": [0.5, 0.4]})
    page.wait_for_function("document.querySelector('.hotlora-place')?.dataset.name === 'picture 1.png'")
    page.wait_for_function("document.querySelectorAll('#hotlora_cut .hotlora-point').length === 0")
    assert page.locator("#hotlora_cut details[open]").count() == 1, "it stays open from picture to picture"
    page.keyboard.press("Tab")
    first = page.locator("#hotlora_cut summary b").inner_text()
    page.locator("#hotlora_resolution").locator("textarea, input").first.fill("256")
    page.wait_for_function("told => document.querySelector('#hotlora_cut summary b').textContent !== told", arg=first)
    page.get_by_text("Advanced", exact=True).first.click()  # the newest Gradio has what it hides nowhere
    page.locator("#hotlora_resolutions textarea").first.wait_for(state="attached")
    page.evaluate(
        """() => {
            const box = document.querySelector('#hotlora_resolutions textarea');
            box.value = '256\\n64';
            box.dispatchEvent(new Event('input', { bubbles: true }));
        }"""
    )
    page.wait_for_function("document.querySelectorAll('#hotlora_cut .hotlora-kept').length === 2")
    sizes = [part.split(":")[0] for part in page.locator("#hotlora_cut summary b").inner_text().split(" · ")]
    assert sizes[1] == "64x64" and sizes[0] != "64x64", "the largest first"
    if SHOTS := os.environ.get("HOTLORA_SHOTS"):
        page.wait_for_timeout(500)
        page.locator("#hotlora_editor").first.screenshot(path=f"{SHOTS}/focus-two-sizes.png")
        page.locator("#hotlora_album").first.screenshot(path=f"{SHOTS}/focus-album.png")
    page.locator("#hotlora_aside").check()
    page.wait_for_function("document.querySelector('#hotlora_cut .hotlora-cut').classList.contains('hotlora-hidden')")


def test_it_comes_with_the_pictures_in_a_zip_file(tmp_path):
    folder = make_portraits(tmp_path / "people")
    (folder / "hotlora_focus.json").write_text('{"picture 1.png": [0.5, 0.2]}', encoding="utf-8")
    packed = shutil.make_archive(str(tmp_path / "people"), "zip", folder)
    made, _ = add_to_data_set(tmp_path / "sets", "people", [Path(packed)], IMAGES.list_suffixes())
    data = read_dataset(build(ImageConfig, {"train_data_dir": str(made), "resolution": 64}))
    assert [example.focus for example in data.train] == [None, (0.5, 0.2), None]


def test_the_same_by_http_in_allowed_folders_only(client, tmp_path):
    folder = make_portraits(tmp_path / "data" / "people")
    make_pictures(tmp_path / "secret", 1)

    def post(way, where=folder, **body):
        return client.post(f"/hotlora/v1/album{way}", json={"options": {"train_data_dir": str(where), "resolution": 64}, **body})

    assert post("/focus", name="picture 1.png", point=[0.5, 0.2]).json() == {"message": "Focus point saved."}
    seen = {picture["name"]: picture for picture in post("").json()["pictures"]}
    assert seen["picture 1.png"]["focus"] == [0.5, 0.2] and seen["picture 0.png"]["focus"] is None
    (cut,), (plain,) = seen["picture 1.png"]["cuts"], seen["picture 0.png"]["cuts"]
    assert cut["top"] == 0 < plain["top"] and cut["height"] == plain["height"] < 1 and seen["picture 0.png"]["size"] == [*SIZE]
    assert post("/focus", name="picture 1.png").json()["message"].startswith("Focus point removed")
    assert points(folder) == {}
    assert post("/undo").json() == {"message": "Undone: focus point of picture 1.png"} and points(folder) == {"picture 1.png": [0.5, 0.2]}
    for name, point in (("gone.png", [0.5, 0.5]), ("picture 0.png", [0.5, 3]), ("picture 0.png", [0.5])):
        refused = post("/focus", name=name, point=point)
        assert refused.status_code == 400 and "focus point" in refused.json()["detail"]
    assert post("/focus", tmp_path / "secret", name="picture 0.png", point=[0, 0]).status_code == 400
    stranger = {"headers": {"origin": "http://evil.example"}, "json": {"name": "picture 0.png"}}
    assert client.post("/hotlora/v1/album/focus", **stranger).status_code == 403
    assert not (tmp_path / "secret" / "hotlora_focus.json").exists()
