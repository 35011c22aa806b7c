"""Drawing a mask in the album: in a real browser, with mouse and finger, and by HTTP; what is drawn is what training reads."""

import base64
import io
import os

import numpy as np
import pytest
from hotlora.pictures.reading import read_mask
from hotlora.shipped import find_shipped
from hotlora.tasks import IMAGES
from hotlora.ui.labels import LABELS
from hotlora.ui.page import build_standalone_page
from pictures import make_pictures
from PIL import Image
from toy_studio import toy_studio

SHOTS = os.environ.get("HOTLORA_SHOTS")
UNUSED = f"Masks are not used until '{LABELS['masked_loss']}' is switched on, in Advanced."


def open_album(serve, open_page, tmp_path, folder, **how):
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path, editor=IMAGES.make_editor()))), **how)
    page.on("dialog", lambda dialog: dialog.accept())
    for option, value in (("train_data_dir", folder), ("resolution", 64)):
        page.locator(f"#hotlora_{option}").locator("textarea, input").first.fill(str(value))
    page.locator("#hotlora_look").click()
    page.locator("#hotlora_filter").wait_for()
    return page


def open_mask(page, name):
    page.locator(f"#hotlora_album [data-name='{name}']").click()
    page.locator(f"#hotlora_editor_place [data-name='{name}']").first.wait_for()
    page.locator("#hotlora_mask").first.click()
    dialog = page.locator("dialog.hotlora-mask[open]")
    dialog.locator("canvas").wait_for()
    return dialog


def press(dialog, words):
    dialog.get_by_role("button", name=words, exact=True).click()


def drag(page, dialog, *points):
    """A stroke through these parts of the picture."""
    box = dialog.locator("canvas").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()


def wait_for_learned(page, dialog, least, most):
    page.wait_for_function(
        "([least, most]) => { const told = document.querySelector('dialog.hotlora-mask [role=status]').textContent.match(/(\\d+) %/);"
        "return told && told[1] >= least && told[1] <= most; }",
        arg=[least, most],
    )


def save(page, dialog, said="Saved the mask"):
    press(dialog, "Save")
    page.locator("#hotlora_message", has_text=said).first.wait_for()
    dialog.wait_for(state="hidden")


@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_a_mask_is_painted_saved_seen_and_undone(serve, open_page, tmp_path, size, theme):
    folder = make_pictures(tmp_path / "my cats ü", 3)
    Image.effect_noise((2400, 1600), 90).convert("RGB").save(folder / "large.jpg")
    (folder / "large.txt").write_text("a wide one", encoding="utf-8")
    page = open_album(serve, open_page, tmp_path, folder, size=size, theme=theme)
    dialog = open_mask(page, "large.jpg")
    assert dialog.get_by_text(UNUSED).is_visible() and dialog.get_by_text("What is striped in red is not learned").is_visible()
    wait_for_learned(page, dialog, 100, 100)
    assert "2400 × 1600" in dialog.get_by_role("status").inner_text()
    press(dialog, "Learn none of it")
    wait_for_learned(page, dialog, 0, 0)
    press(dialog, "Brush: learned")
    dialog.locator("input[type=range]").fill("20")
    drag(page, dialog, (0.1, 0.5), (0.9, 0.5))
    wait_for_learned(page, dialog, 20, 35)
    press(dialog, "Brush: not learned")
    drag(page, dialog, (0.5, 0.5))
    drag(page, dialog, (0.1, 0.1), (0.9, 0.9))
    press(dialog, "Undo")
    page.keyboard.press("Control+z")
    wait_for_learned(page, dialog, 20, 35)
    drag(page, dialog, (0.5, 0.5))
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/mask-{size}-{theme}.png")
    box = dialog.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= {"desktop": 1280, "phone": 390}[size]
    assert dialog.evaluate("one => one.scrollWidth <= one.clientWidth")
    save(page, dialog)
    mask = np.asarray(read_mask(folder / ".masks" / "large.png"))
    assert mask.shape == (1600, 2400)
    for x, y, learned in ((0.2, 0.5, True), (0.8, 0.5, True), (0.5, 0.5, False), (0.5, 0.1, False), (0.02, 0.02, False)):
        assert (mask[int(y * 1600), int(x * 2400)] > 250) == learned, (x, y)
    page.locator("#hotlora_album [data-name='large.jpg'] .hotlora-has-mask", has_text="mask").wait_for()
    assert page.locator("#hotlora_album .hotlora-has-mask").count() == 1
    page.locator("#hotlora_album .hotlora-notes", has_text="1 mask (.masks/large.png) is not used").wait_for()
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/mask-album-{size}-{theme}.png", full_page=True)

    dialog = open_mask(page, "large.jpg")
    wait_for_learned(page, dialog, 15, 30)
    press(dialog, "Learn all of it")
    press(dialog, "Cancel")
    dialog.wait_for(state="hidden")
    dialog = open_mask(page, "large.jpg")
    wait_for_learned(page, dialog, 15, 30)
    press(dialog, "Remove the mask")
    page.locator("#hotlora_message", has_text="Removed the mask").first.wait_for()
    page.locator("#hotlora_album .hotlora-has-mask").wait_for(state="detached")
    assert not list((folder / ".masks").iterdir())
    for steps, said in ((2, "Undone: mask of large.jpg removed"), (1, "Undone: mask of large.jpg")):
        page.locator("#hotlora_tools [data-do=undo] b", has_text=str(steps)).first.wait_for()
        page.locator("#hotlora_tools [data-do=undo]").first.click()
        page.locator("#hotlora_message").get_by_text(said, exact=True).first.wait_for()
        assert len(list((folder / ".masks").iterdir())) == steps - 1
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]


def test_a_finger_draws_keys_reach_everything_and_a_refusal_stands_in_the_window(serve, open_page, tmp_path):
    folder = make_pictures(tmp_path / "cats", 2)
    page = open_album(serve, open_page, tmp_path, folder)
    page.get_by_text("Advanced", exact=True).first.click()  # the newest Gradio has what it hides nowhere
    page.locator("#hotlora_masked_loss input").first.evaluate("box => box.click()")
    dialog = open_mask(page, "picture 1.png")
    assert not dialog.get_by_text(UNUSED).is_visible() and not dialog.get_by_role("button", name="Remove the mask").is_visible()
    reached = [page.evaluate("document.activeElement.textContent || document.activeElement.type")]
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent || document.activeElement.type"))
    wanted = ["Brush: not learned", "Brush: learned", "range", "Learn all of it", "Learn none of it", "Save", "Cancel"]
    assert reached[:7] == wanted, reached
    dialog.locator("canvas").evaluate(
        """canvas => {
            const { left, top, width, height } = canvas.getBoundingClientRect();
            const send = (kind, x, y, more) => canvas.dispatchEvent(new PointerEvent(kind, { pointerId: 7, pointerType: "touch",
                isPrimary: true, button: kind === "pointermove" ? -1 : 0, clientX: left + x * width, clientY: top + y * height, ...more }));
            canvas.setPointerCapture = () => {};
            send("pointerdown", 0.25, 0.1); send("pointermove", 0.25, 0.9);
            send("pointerdown", 0.75, 0.5, { isPrimary: false, pointerId: 8 }); // a second finger draws nothing
            send("pointerup", 0.25, 0.9);
        }"""
    )
    wait_for_learned(page, dialog, 85, 97)
    (folder / "picture 1.png").rename(tmp_path / "gone.png")
    press(dialog, "Save")
    dialog.get_by_role("status").get_by_text("there is no such picture any more. Look at them again.").wait_for()
    (tmp_path / "gone.png").rename(folder / "picture 1.png")
    save(page, dialog)
    mask = np.asarray(read_mask(folder / ".masks" / "picture 1.png"))
    assert mask[32, 16] == 0 and mask[32, 48] == 255 and mask[2, 2] == 255


def test_the_label_that_the_script_names_is_the_option_s():
    assert UNUSED in find_shipped("javascript/hotlora_mask.js").read_text(encoding="utf-8")


# -- HTTP ----------------------------------------------------------------------------------------------------------------


def sent(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def ask(client, folder, name="picture 0.png", status=200, **body):
    options = {"train_data_dir": str(folder), "resolution": 64}
    answer = client.post("/hotlora/v1/album/mask", json={"options": options, "name": name, **body})
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_mask_is_read_written_and_removed_by_http(client, tmp_path):
    folder = make_pictures(tmp_path / "data", 2)
    first = ask(client, folder)
    assert (first["mask"], first["has_file"], first["is_used"], first["size"]) == ("", False, False, [64, 64])
    assert first["picture"].startswith("data:image/jpeg;base64,")
    half = Image.new("L", (64, 64))
    half.paste(255, (0, 0, 32, 64))
    written = ask(client, folder, mask=f"data:image/png;base64,{sent(half)}")
    assert written["message"] == "Saved the mask of 'picture 0.png'." and written["has_file"]
    assert Image.open(io.BytesIO(base64.b64decode(written["mask"].partition(",")[2]))).tobytes() == half.tobytes()
    assert read_mask(folder / ".masks" / "picture 0.png").tobytes() == half.tobytes()
    options = {"train_data_dir": str(folder), "resolution": 64}
    shown = client.post("/hotlora/v1/album", json={"options": options}).json()["pictures"]
    assert [picture["mask"] for picture in shown] == [True, False]
    assert ask(client, folder, mask="")["message"] == "Removed the mask of 'picture 0.png'."
    assert not (folder / ".masks" / "picture 0.png").exists()


def test_by_http_what_is_no_mask_or_lies_elsewhere_is_refused(client, tmp_path):
    folder, other = make_pictures(tmp_path / "data", 1), make_pictures(tmp_path / "other", 1)
    for mask, said in (
        ("not base64!", "it is not written in base64"),
        ("data:text/html;base64,AAAA", "it is not written in base64"),
        ("AAAA", "it is no PNG picture"),
        (sent(Image.new("L", (640, 640))), "640x640 pixels, and its picture 64x64"),
        ("A" * 22_000_001, "Send a smaller PNG"),
    ):
        assert said in ask(client, folder, status=400, mask=mask)["detail"]
    assert "only these folders may be used" in ask(client, other, status=400, mask=sent(Image.new("L", (64, 64))))["detail"]
    for name in ("../other/picture 0.png", str(other / "picture 0.png")):
        assert "there is no such picture" in ask(client, folder, name, status=400, mask=sent(Image.new("L", (64, 64))))["detail"]
    (folder / ".masks").symlink_to(other, target_is_directory=True)
    assert "leads elsewhere" in ask(client, folder, status=400, mask=sent(Image.new("L", (64, 64))))["detail"]
    assert not (folder.parent / "other" / ".masks").exists() and len(list(other.iterdir())) == 2
