"""The page in a real browser, over a toy host, in whichever Gradio is installed."""

import dataclasses

from hotlora.engine.interfaces import PreviewRequest
from hotlora.engine.jobs import Jobs
from hotlora.sd.config import ImageConfig
from hotlora.tasks import IMAGES
from hotlora.ui.page import build_standalone_page
from pictures import make_pictures
from toy import ToyHost
from toy_studio import Preparer, SlowToy, toy_studio


def fill(page, option, value):
    if option == "max_steps":
        page.locator("[data-length=max_steps]").click()
    page.locator(f"#hotlora_{option}").locator("textarea, input").first.fill(str(value))


def test_a_stranger_trains(serve, open_page, tmp_path):
    studio = toy_studio(tmp_path)
    address = serve(build_standalone_page(studio))
    page = open_page(address)
    page.locator("#hotlora_tick").first.wait_for(state="hidden")  # the page's own style is there
    upload = tmp_path / "cat.png"
    upload.write_bytes(b"not looked at here")
    page.locator("#hotlora_upload input[type=file]").set_input_files([str(upload)])
    page.locator("#hotlora_album figure").wait_for()
    assert "<script>boom()</script> a cat" in page.locator("#hotlora_album figure").inner_text()
    assert (tmp_path / "data" / "my pictures" / "cat.png").exists()

    page.locator("#hotlora_train").click()
    page.locator("#hotlora_answer .hotlora-bad", has_text="Give the LoRA a name").wait_for()
    fill(page, "output_name", "cat")
    fill(page, "trigger_word", "ohwx")
    fill(page, "max_steps", 5000)
    page.locator("#hotlora_look_ahead").click()
    page.locator("#hotlora_outlook dd", has_text="5,000").wait_for()
    page.locator("#hotlora_train").click()
    page.locator("#hotlora_status [data-status=training]").wait_for()
    page.locator("#hotlora_chart polyline").first.wait_for(state="attached")

    second = open_page(address, size="phone", theme="dark")
    second.locator("#hotlora_status [data-status=training]").wait_for()
    assert second.evaluate("document.documentElement.scrollWidth") <= 390
    second.locator("#hotlora_chart polyline").first.wait_for(state="attached")
    assert second.evaluate("getComputedStyle(document.querySelector('#hotlora_chart svg svg')).overflow") == "hidden"  # curves stay in it
    second.locator("#hotlora_sample:not([disabled])").click()
    page.locator("#hotlora_samples .hotlora-prompt", has_text="ohwx").first.wait_for()
    page.locator("#hotlora_pause").click()
    second.locator("#hotlora_status [data-status=paused]").wait_for()
    page.locator("#hotlora_pause", has_text="Go on").click()
    second.locator("#hotlora_status [data-status=training]").wait_for()
    page.locator("#hotlora_free:not([disabled])").first.click()
    second.locator("#hotlora_status [data-status=paused]", has_text="to free its memory").wait_for()
    assert page.locator("#hotlora_free[disabled]").first.inner_text() == "Pause and free the GPU"
    page.locator("#hotlora_pause", has_text="Go on").click()
    second.locator("#hotlora_status [data-status=training]").wait_for()
    page.locator("#hotlora_stop").click()
    page.locator("#hotlora_status [data-status=stopped]").wait_for()
    page.reload()
    page.locator("#hotlora_resume:not([disabled])").click()
    page.locator("#hotlora_status [data-status=training]").wait_for()
    studio.jobs.stop("cat")


class Captioned(SlowToy):
    """Where no prompts are given it samples its first caption, as image runs do."""

    def preview_requests(self):
        return [PreviewRequest("a cat", 1)]


def test_two_fields_and_one_press_bring_the_first_sample(serve, open_page, tmp_path):
    """The count that docs/a1111.md gives."""
    studio = dataclasses.replace(toy_studio(tmp_path), jobs=Jobs(lambda: ToyHost(Captioned), tmp_path / "runs", ImageConfig))
    page = open_page(serve(build_standalone_page(studio)))
    fill(page, "train_data_dir", make_pictures(tmp_path / "cats"))
    fill(page, "output_name", "cat")
    page.locator("#hotlora_train").click()
    page.locator("#hotlora_samples .hotlora-prompt", has_text="a cat").first.wait_for()
    page.locator("#hotlora_sample:not([disabled])").click()
    page.locator("#hotlora_message", has_text="Sampling after this step.").first.wait_for()
    studio.jobs.stop("cat")


def test_a_look_ahead_is_cancelled_by_whoever_sees_it(serve, open_page, tmp_path):
    jobs = Jobs(lambda: ToyHost(Preparer), tmp_path / "runs", ImageConfig)
    address = serve(build_standalone_page(dataclasses.replace(toy_studio(tmp_path), jobs=jobs)))
    page, second = open_page(address), open_page(address)
    cancel = page.locator("#hotlora_cancel_look").first
    assert cancel.count() == 0 or cancel.is_hidden()
    for canceller in (page, second):
        page.locator("#hotlora_look_ahead").click()
        page.locator("#hotlora_outlook", has_text="looking").first.wait_for()
        canceller.locator("#hotlora_cancel_look").click()
        for shown in (page, second):
            shown.locator("#hotlora_outlook", has_text="Cancelled.").first.wait_for()
            shown.locator("#hotlora_cancel_look").first.wait_for(state="hidden")
        assert not jobs.outlook.busy and jobs.outlook.cancelled


def test_presets_change_the_recipe(serve, open_page, tmp_path):
    studio = toy_studio(tmp_path)
    page = open_page(serve(build_standalone_page(studio)))
    fill(page, "output_name", "cat")
    rank = page.locator("#hotlora_lora_rank input").first
    assert rank.input_value() == "32"
    page.locator("#hotlora_preset input").click()
    page.locator("#hotlora_preset [role=option], #hotlora_preset li", has_text="Small data").first.click()
    page.wait_for_function("document.querySelector('#hotlora_lora_rank input').value == '8'")
    assert page.locator("#hotlora_output_name").locator("textarea, input").first.input_value() == "cat"


def open_album(serve, open_page, tmp_path, folder):
    """The stand-alone page with this folder's pictures in the album."""
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path, editor=IMAGES.make_editor()))))
    fill(page, "train_data_dir", folder)
    fill(page, "resolution", 256)
    page.locator("#hotlora_look").click()
    page.locator("#hotlora_album figure").first.wait_for()
    return page


def test_the_editor_goes_from_picture_to_picture_and_each_keeps_its_place(serve, open_page, tmp_path):
    folder = tmp_path / "cats"
    make_pictures(folder, 5, (256, 256))
    names = sorted(path.name for path in folder.glob("*.png"))
    for name in names[1:3]:
        (folder / name).with_suffix(".txt").unlink()
    page = open_album(serve, open_page, tmp_path, folder)
    order = [names[1], names[2], names[0], *names[3:]]
    listed = "() => [...document.querySelectorAll('#hotlora_album [data-name]')].map((card) => card.dataset.name)"
    assert page.evaluate(listed) == order, "those without a caption come first"
    card = page.locator(f"#hotlora_album figure[data-name='{names[1]}']")
    assert "hotlora-odd" in card.get_attribute("class") and "no caption yet" in card.inner_text()

    card.click()
    value = "document.querySelector('#hotlora_caption textarea')?.value"
    chosen = "document.querySelector('#hotlora_album .hotlora-picked')?.dataset.name"
    page.wait_for_function("(place) => document.querySelector('.hotlora-place')?.innerText.includes(place)", arg="1 / 5")
    assert page.evaluate(chosen) == names[1] and page.evaluate(value) == ""
    page.locator("#hotlora_caption textarea").fill("written here")
    page.locator("#hotlora_caption textarea").press("Control+Enter")
    page.wait_for_function(f"name => {chosen} == name && {value} == ''", arg=names[2])
    assert (folder / names[1]).with_suffix(".txt").read_text(encoding="utf-8") == "written here\n"
    assert page.evaluate(listed) == order, "a picture that was mended stays where it was"
    page.locator("#hotlora_next").click()
    page.wait_for_function(f"name => {chosen} == name && {value} != ''", arg=names[0])
    page.locator("#hotlora_caption textarea").fill("changed, not saved")
    page.locator("#hotlora_previous").click()
    page.wait_for_function(f"name => {chosen} == name && {value} == ''", arg=names[2])
    assert (folder / names[0]).with_suffix(".txt").read_text(encoding="utf-8") == "changed, not saved\n", "nothing written is lost"


def test_numbers_and_warnings_follow_the_options(serve, open_page, tmp_path):
    folder = tmp_path / "cats"
    make_pictures(folder, 2, (256, 256))
    next(folder.glob("*.txt")).unlink()
    page = open_album(serve, open_page, tmp_path, folder)
    warning = page.locator("#hotlora_album .hotlora-warning", has_text="no caption yet")
    warning.wait_for()
    assert "trained at" in page.locator("#hotlora_album").first.inner_text()
    fill(page, "trigger_word", "zwx")
    page.locator("#hotlora_album figcaption", has_text="zwx").nth(1).wait_for()
    assert warning.count() == 0
    fill(page, "resolution", 512)
    page.locator("#hotlora_album .hotlora-warning", has_text="will be enlarged").first.wait_for()
    assert page.locator("#hotlora_album .hotlora-bad").count() == 0


def test_a_caption_is_corrected_where_it_is_seen(serve, open_page, tmp_path):
    """In the folder that was looked at, whatever stands in the box by then; the rest of the page stays as it is."""
    folder = tmp_path / "my cats ü"
    make_pictures(folder, 40)
    name = sorted(path.name for path in folder.glob("*.png"))[33]
    text = (folder / name).with_suffix(".txt")
    text.write_text("a dgo & <i>its</i> ball", encoding="utf-8")
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path, editor=IMAGES.make_editor()))))
    fill(page, "train_data_dir", folder)
    page.locator("#hotlora_look").click()
    card = page.locator(f"#hotlora_album figure[data-name='{name}']")
    card.locator("figcaption", has_text="a dgo & <i>its</i> ball").wait_for()
    box = page.locator("#hotlora_caption textarea")
    assert box.is_hidden()
    card.click()
    page.wait_for_function("document.querySelector('#hotlora_caption textarea')?.value == 'a dgo & <i>its</i> ball'")
    scrolled = page.locator(".hotlora-album").evaluate("album => album.scrollTop")
    assert scrolled > 100
    assert name in page.locator("#hotlora_caption").inner_text()

    fill(page, "train_data_dir", tmp_path / "another")
    box.fill("一只狗 & its ball")
    page.locator("#hotlora_save_caption").click()
    card.locator("figcaption", has_text="一只狗 & its ball").wait_for()
    assert text.read_text(encoding="utf-8") == "一只狗 & its ball\n"
    page.wait_for_function("top => document.querySelector('.hotlora-album').scrollTop == top", arg=scrolled)
    fill(page, "train_data_dir", folder)
    card.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#hotlora_caption textarea')?.value == '一只狗 & its ball'")

    (folder / "metadata.csv").write_text(f"filename,prompt\n{name},from the table\n", encoding="utf-8")
    page.locator("#hotlora_look").click()
    box.wait_for(state="hidden")
    card.click()
    page.wait_for_function("document.querySelector('#hotlora_caption textarea')?.value == 'from the table'")
