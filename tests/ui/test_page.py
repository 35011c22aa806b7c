"""The page in a real browser, over a toy host, in whichever Gradio is installed."""

from hotlora.ui.page import build_standalone_page
from toy_studio import toy_studio


def fill(page, option, value):
    page.locator(f"#hotlora_{option}").locator("textarea, input").first.fill(str(value))


def test_a_stranger_trains(serve, open_page, tmp_path):
    studio = toy_studio(tmp_path)
    address = serve(build_standalone_page(studio))
    page = open_page(address)
    upload = tmp_path / "cat.png"
    upload.write_bytes(b"not looked at here")
    page.locator("#hotlora_upload input[type=file]").set_input_files([str(upload)])
    page.locator("#hotlora_album figure").wait_for()
    assert "<script>boom()</script> a cat" in page.locator("#hotlora_album figure").inner_text()
    assert (tmp_path / "data" / "my pictures" / "cat.png").exists()

    page.locator("#hotlora_train").click()
    page.locator("#hotlora_message .hotlora-bad", has_text="Give the LoRA a name").wait_for()
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
    second.locator("#hotlora_sample:not([disabled])").click()
    page.locator("#hotlora_samples figcaption", has_text="ohwx").first.wait_for()
    page.locator("#hotlora_pause").click()
    second.locator("#hotlora_status [data-status=paused]").wait_for()
    page.locator("#hotlora_pause", has_text="Go on").click()
    second.locator("#hotlora_status [data-status=training]").wait_for()
    page.locator("#hotlora_stop").click()
    page.locator("#hotlora_status [data-status=stopped]").wait_for()
    page.reload()
    page.locator("#hotlora_resume:not([disabled])").click()
    page.locator("#hotlora_status [data-status=training]").wait_for()
    studio.jobs.stop("cat")


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
