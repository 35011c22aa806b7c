"""The crop on the page: a rectangle over the picture in the editor by mouse, finger and keys, clearing, undo; borders cut off by the health
report's button; and the same by HTTP."""

import os

import pytest
from hotlora.engine.options import build
from hotlora.pictures.dataset import read_dataset
from hotlora.sd.config import ImageConfig
from hotlora.tasks import IMAGES
from pictures import make_pictures
from PIL import Image, ImageOps
from test_accessibility import find_violations
from test_focus_page import FRAMES, SIZE, make_portraits, open_editor, points

SHOTS = os.environ.get("HOTLORA_SHOTS")
MARK = "() => [...document.querySelectorAll('#hotlora_cut .hotlora-%s')].map((mark) => mark.style.cssText)"


def wait_for_crop(page, folder, crop, name="picture 0.png"):
    """Until the file has it, and the page shows what is kept of it."""
    said = None
    for _ in range(300):
        said = points(folder).get(name, {"crop": None})["crop"]
        if said == crop:
            break
        page.wait_for_timeout(100)
    assert said == crop
    page.wait_for_function("document.querySelectorAll('#hotlora_cut .hotlora-kept').length === 1")


def around(*shares):
    return pytest.approx(shares, abs=0.012)


def find_resting_place(page):
    box, picture = None, page.locator("#hotlora_cut .hotlora-cut-picture")
    while (now := picture.bounding_box()) != box:
        box = now
        page.wait_for_timeout(700)
        picture.evaluate("it => it.scrollIntoView({ block: 'center' })")
    return box


def drag(page, start, end, steps=5):
    """From one share of the picture to another, once the page has come to rest: what stands above is drawn later than it says."""
    box = find_resting_place(page)
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=steps)
    page.mouse.up()


def take_shot(page, name):
    if SHOTS:
        page.wait_for_timeout(700)
        page.locator("#hotlora_editor").first.screenshot(path=f"{SHOTS}/crop-{name}.png")


@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark"), ("desktop", "dark"), ("phone", "light")])
def test_a_rectangle_is_dragged_changed_moved_and_taken_away(serve, open_page, tmp_path, size, theme):
    folder = make_portraits(tmp_path / "people ü")
    page = open_editor(serve, open_page, tmp_path, folder, size=size, theme=theme)
    page.locator("#hotlora_cut summary").click()
    page.wait_for_function("document.querySelector('#hotlora_cut img').naturalHeight === 640")
    take_shot(page, f"before-{size}-{theme}")
    page.locator("#hotlora_cut [data-way=crop]").click()
    clear, picture = page.locator("#hotlora_cut [data-clear=crop]"), page.locator("#hotlora_cut .hotlora-cut-picture")
    picture.scroll_into_view_if_needed()
    assert clear.is_disabled() and page.evaluate(MARK % "crop") == ["left: 0%; top: 0%; width: 100%; height: 100%;"]
    take_shot(page, f"chosen-{size}-{theme}")

    drag(page, (0.2, 0.05), (0.8, 0.45))
    wait_for_crop(page, folder, around(0.2, 0.05, 0.8, 0.45))
    page.locator("#hotlora_message", has_text="Crop saved.").first.wait_for()
    (example,) = read_dataset(build(ImageConfig, {"train_data_dir": str(folder), "resolution": 64})).train[:1]
    assert page.locator("#hotlora_cut [data-when=crop] b").inner_text() == "{}x{} px".format(*example.size)
    (frame,) = page.evaluate(FRAMES)
    assert frame[0] >= 0.18 and frame[1] >= 0.04 and frame[0] + frame[2] <= 0.82 and frame[1] + frame[3] <= 0.47, "within the crop"
    assert find_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]
    take_shot(page, f"set-{size}-{theme}")
    if SHOTS:
        page.locator("#hotlora_album").first.screenshot(path=f"{SHOTS}/crop-album-{size}-{theme}.png")
    if (size, theme) in (("desktop", "dark"), ("phone", "light")):
        return

    drag(page, (0.8, 0.45), (0.9, 0.5))  # a corner
    wait_for_crop(page, folder, around(0.2, 0.05, 0.9, 0.5))
    drag(page, (0.5, 0.05), (0.5, 0.1))  # a side
    wait_for_crop(page, folder, around(0.2, 0.1, 0.9, 0.5))
    drag(page, (0.5, 0.3), (0.3, 0.35))  # all of it, to the edge
    wait_for_crop(page, folder, around(0, 0.15, 0.7, 0.55))
    before = points(folder)["picture 0.png"]["crop"]
    picture.focus()
    for key in ("ArrowDown", "ArrowRight", "Shift+ArrowLeft", "Shift+ArrowUp"):
        page.keyboard.press(key)
    wait_for_crop(page, folder, around(before[0] + 0.01, before[1] + 0.01, before[2], before[3]))
    page.locator("#hotlora_tools [data-do=undo] b", has_text="5").wait_for()  # all keys at once
    place = find_resting_place(page)
    page.mouse.click(place["x"] + 3, place["y"] + 3)  # a click is no crop, and in this way no point either
    page.wait_for_timeout(700)
    assert page.locator("#hotlora_tools [data-do=undo] b").inner_text() == "5"

    page.locator("#hotlora_cut [data-way=focus]").click()
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] * 0.3, "y": box["height"] * 0.5})
    page.locator("#hotlora_album [data-name='picture 0.png'][data-focus][data-crop]").wait_for()
    assert points(folder)["picture 0.png"]["focus"] == around(0.3, 0.5)
    page.locator("#hotlora_cut [data-way=crop]").click()
    clear.click()
    page.wait_for_function("document.querySelector('#hotlora_cut [data-clear=crop]').disabled")
    page.locator("#hotlora_message", has_text="Crop removed").first.wait_for()
    assert points(folder)["picture 0.png"] == around(0.3, 0.5)
    page.locator("#hotlora_tools [data-do=undo]").click()
    page.wait_for_function("!document.querySelector('#hotlora_cut [data-clear=crop]').disabled")
    data = read_dataset(build(ImageConfig, {"train_data_dir": str(folder), "resolution": 64}))
    assert data.train[0].crop and data.train[0].size != SIZE


def test_a_finger_draws_it_and_does_not_scroll(serve, open_page, tmp_path):
    folder = make_portraits(tmp_path / "people")
    page = open_editor(serve, open_page, tmp_path, folder, size="phone")
    session = page.context.new_cdp_session(page)
    session.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    page.locator("#hotlora_cut summary").click()
    page.locator("#hotlora_cut [data-way=crop]").click()
    picture = page.locator("#hotlora_cut .hotlora-cut-picture")
    picture.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    scrolled, box = page.evaluate("scrollY"), picture.bounding_box()
    for kind, share in (("Start", 0.2), ("Move", 0.4), ("Move", 0.8), ("End", None)):
        touch = [{"x": box["x"] + 0.5 * box["width"] * (1 + share / 2), "y": box["y"] + share * box["height"]}] if share else []
        assert page.evaluate("scrollY") == scrolled
        session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": touch})
    wait_for_crop(page, folder, around(0.55, 0.2, 0.7, 0.8))


def test_the_reports_button_cuts_borders_off_and_is_undone(serve, open_page, tmp_path):
    folder = make_pictures(tmp_path / "data" / "films", 0)
    for number in range(3):
        inside = Image.effect_noise((512, 288 if number else 512), 60 + 20 * number).convert("RGB")
        (ImageOps.expand(inside, (0, 112, 0, 112), "black") if number else inside).save(folder / f"picture {number}.png")
        (folder / f"picture {number}.txt").write_text(f"thing {number}", encoding="utf-8")
    page = open_editor(serve, open_page, tmp_path, folder, report=IMAGES.report)
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    page.locator("#hotlora_examine").click()
    button = page.locator("#hotlora_health [data-remedy]", has_text="Cut the borders off")
    button.wait_for()
    button.click()
    page.locator("#hotlora_message", has_text="Cut the borders off: 2 pictures.").first.wait_for()
    button.wait_for(state="detached")
    assert "picture 1.png, picture 2.png" in asked[0] and "can be undone" in asked[0]
    crops = points(folder)
    assert list(crops) == ["picture 1.png", "picture 2.png"] and crops["picture 1.png"]["crop"] == pytest.approx(
        [0, 0.22, 1, 0.78], abs=0.01
    )
    page.locator("#hotlora_album [data-name='picture 1.png'][data-crop]").wait_for()
    if SHOTS:
        page.wait_for_timeout(1500)
        page.screenshot(path=f"{SHOTS}/crop-borders.png", full_page=True)
    page.locator("#hotlora_health [data-undo]").click()
    button.wait_for()
    assert points(folder) == {}


def test_the_same_by_http_in_allowed_folders_only(client, tmp_path):
    folder = make_portraits(tmp_path / "data" / "people")
    make_pictures(tmp_path / "secret", 1)

    def post(way, where=folder, **body):
        return client.post(f"/hotlora/v1/album{way}", json={"options": {"train_data_dir": str(where), "resolution": 64}, **body})

    assert post("/crop", name="picture 1.png", crop=[0, 0, 1, 0.5]).json() == {"message": "Crop saved."}
    seen = {picture["name"]: picture for picture in post("").json()["pictures"]}
    assert seen["picture 1.png"]["crop"] == [0, 0, 1, 0.5] and seen["picture 0.png"]["crop"] is None
    (cut,) = seen["picture 1.png"]["cuts"]
    assert cut["top"] + cut["height"] <= 0.5 and seen["picture 1.png"]["size"] == [*SIZE]
    assert post("/crop", name="picture 1.png").json()["message"].startswith("Crop removed") and points(folder) == {}
    assert post("/undo").json() == {"message": "Undone: crop of picture 1.png"}
    for name, crop in (("gone.png", [0, 0, 1, 0.5]), ("picture 0.png", [0.5, 0, 0.5, 1]), ("picture 0.png", [0.5])):
        refused = post("/crop", name=name, crop=crop)
        assert refused.status_code == 400 and "crop" in refused.json()["detail"]
    assert post("/mend", remedy={"operation": "cut_borders", "names": ["picture 0.png"]}).json() == {
        "message": "Cut the borders off: 0 pictures."
    }
    for way, body in (
        ("/crop", {"name": "picture 0.png"}),
        ("/mend", {"remedy": {"operation": "cut_borders", "names": ["picture 0.png"]}}),
    ):
        assert post(way, tmp_path / "secret", **body).status_code == 400
    assert not (tmp_path / "secret" / "hotlora_focus.json").exists()
