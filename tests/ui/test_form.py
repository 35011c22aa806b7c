"""The form, as somebody fills it in: what is shown of it, that it is found, marked, taken back, and still there after a reload."""

import time

import pytest
from hotlora.engine.jobs import Jobs
from hotlora.engine.options import options_of
from hotlora.llm.config import TextConfig
from hotlora.sd.config import ImageConfig
from hotlora.tasks import TEXTS
from hotlora.ui.form import KeptForm
from hotlora.ui.labels import FITS, LABELS, NEEDS, label_of
from hotlora.ui.page import build_standalone_page
from hotlora.ui.studio import open_studio
from toy import ToyHost
from toy_studio import toy_studio


@pytest.fixture
def studio(tmp_path):
    return toy_studio(tmp_path)


@pytest.fixture
def address(serve, studio):
    return serve(build_standalone_page(studio))


def box(page, option):
    return page.locator(f"#hotlora_{option}").locator("textarea, input").first


def open_advanced(page):
    page.locator("#hotlora_lora_rank[data-key=lora_rank]").wait_for()  # the script has begun
    page.locator("#hotlora_advanced > button, #hotlora_advanced > .label-wrap").first.click()
    page.locator("#hotlora_search").wait_for()


def open_group(page, name):
    page.locator(".hotlora-heading", has=page.get_by_text(name, exact=True)).click()


def wait_for_value(page, option, value):
    shown = f"document.querySelector('#hotlora_{option} textarea, #hotlora_{option} input')?.value"
    page.wait_for_function(f"value => {shown} === value", arg=value)


def test_a_form_survives_a_reload_and_another_browser_shows_the_same(address, open_page, studio):
    page = open_page(address)
    box(page, "output_name").fill("my cat ü")
    box(page, "train_data_dir").fill("/somewhere/cats")
    page.wait_for_timeout(1000)
    box(page, "lora_rank").fill("12")
    for _ in range(100):
        if KeptForm(studio.presets.parent).read()[1].get("lora_rank") == 12:
            break
        page.wait_for_timeout(200)
    page.reload()
    second = open_page(address, size="phone")
    for shown in (page, second):
        wait_for_value(shown, "output_name", "my cat ü")
        wait_for_value(shown, "train_data_dir", "/somewhere/cats")
        wait_for_value(shown, "lora_rank", "12")


def test_what_is_typed_before_the_kept_form_has_come_stays(address, open_page, studio, monkeypatch):
    form, read = KeptForm(studio.presets.parent), KeptForm.read
    form.write("Style", {"output_name": "old", "train_data_dir": "/old", "lora_rank": 12, "trigger_word": "kept"})
    monkeypatch.setattr(KeptForm, "read", lambda self: time.sleep(1.5) or read(self))  # a busy program
    page = open_page(address)
    box(page, "output_name").fill("new")
    box(page, "lora_rank").fill("7")
    wait_for_value(page, "trigger_word", "kept")
    wait_for_value(page, "train_data_dir", "/old")
    wait_for_value(page, "output_name", "new")
    wait_for_value(page, "lora_rank", "7")
    open_advanced(page)
    page.locator("#hotlora_export").click()
    page.locator("#hotlora_exported a[download='new.yaml']").wait_for()  # the program was told too


def test_a_button_pressed_before_the_kept_form_has_come_sends_what_is_then_seen(address, open_page, studio, monkeypatch):
    form, read = KeptForm(studio.presets.parent), KeptForm.read
    form.write("Style", {"output_name": "old", "trigger_word": "kept", "max_steps": 3})
    monkeypatch.setattr(KeptForm, "read", lambda self: time.sleep(1.5) or read(self))
    page = open_page(address)
    box(page, "output_name").fill("new")
    page.locator("#hotlora_train").click()
    page.locator("#hotlora_status", has_text="new").first.wait_for()
    assert studio.jobs.values("new")["trigger_word"] == "kept" and len(studio.jobs.list_all()) == 1


def test_a_damaged_form_is_an_empty_one(tmp_path):
    form = KeptForm(tmp_path)
    assert form.read() == ("", {})
    form.write("Style", {"lora_rank": 8, "seed": None})
    assert form.read() == ("Style", {"lora_rank": 8, "seed": None})
    for damaged in ("{", "[]", '{"preset": "x"}', '{"preset": "x", "shown": [1]}'):
        (tmp_path / "form.json").write_text(damaged, encoding="utf-8")
        assert form.read() == ("", {})
    (tmp_path / "form.json").write_text('{"preset": "x", "shown": {"a": [1], "b": "2"}}', encoding="utf-8")
    assert form.read() == ("x", {"b": "2"})


def test_what_was_changed_is_marked_and_goes_back_with_one_click(address, open_page):
    page = open_page(address)
    box(page, "lora_rank").fill("12")
    back = page.locator("#hotlora_lora_rank.hotlora-changed .hotlora-back")
    back.wait_for()
    assert page.locator(".hotlora-changed").count() == 1
    back.click()
    wait_for_value(page, "lora_rank", "32")
    page.locator(".hotlora-changed").wait_for(state="detached")


def test_advanced_has_groups_that_open_and_a_search(address, open_page):
    page = open_page(address)
    open_advanced(page)
    assert page.locator("#hotlora_huber_c").is_hidden() and page.locator("#hotlora_weight_decay").is_hidden()
    open_group(page, "Learning")
    page.locator("#hotlora_weight_decay").wait_for()
    assert page.locator("#hotlora_noise_offset").is_hidden()
    page.locator("#hotlora_search").fill("noise off")
    page.locator("#hotlora_noise_offset").wait_for()
    page.locator("#hotlora_weight_decay").wait_for(state="hidden")
    page.locator("#hotlora_search").fill("huber_c")  # by its key
    page.locator("#hotlora_huber_c").wait_for()
    page.locator("#hotlora_search").fill("")
    page.locator("#hotlora_noise_offset").wait_for(state="hidden")


def test_only_what_has_a_say_is_shown(address, open_page):
    page = open_page(address)
    open_advanced(page)
    open_group(page, "Network")
    page.locator("#hotlora_text_encoder_lr").wait_for(state="hidden")
    page.locator("#hotlora_train_text_encoder input").click()
    page.locator("#hotlora_text_encoder_lr").wait_for()
    page.locator("#hotlora_conv_alpha").wait_for(state="hidden")
    box(page, "conv_rank").fill("8")
    page.locator("#hotlora_conv_alpha").wait_for()
    assert box(page, "conv_alpha").get_attribute("placeholder") == "8", "it follows the rank until it is set"


def test_epochs_and_steps_are_one_choice(address, open_page):
    page = open_page(address)
    page.locator("[data-length=epochs][aria-pressed=true]").wait_for()
    assert page.locator("#hotlora_max_steps").is_hidden()
    page.locator("[data-length=max_steps]").click()
    box(page, "max_steps").fill("150")
    assert page.locator("#hotlora_epochs").is_hidden()
    page.locator("[data-length=epochs]").click()
    page.locator("#hotlora_epochs").wait_for()
    wait_for_value(page, "max_steps", "")


def test_a_refusal_leads_to_the_option_that_it_names(address, open_page):
    page = open_page(address)
    box(page, "output_name").fill("cat")
    open_advanced(page)
    open_group(page, "Validation")
    box(page, "validation_split").fill("0.2")
    box(page, "validation_dir").fill("/x")
    open_group(page, "Validation")
    page.locator("#hotlora_train").click()
    page.locator("#hotlora_answer .hotlora-bad", has_text="validation_dir").wait_for()
    page.locator("#hotlora_answer .hotlora-ways button", has_text="Validation data").click()
    page.locator("#hotlora_validation_dir.hotlora-sought").wait_for()


@pytest.mark.parametrize("config_class", [ImageConfig, TextConfig])
def test_no_two_options_are_called_the_same(config_class):
    names = [label_of(name) for name in options_of(config_class)]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_labels_and_conditions_name_options_that_there_are():
    known = {**options_of(ImageConfig), **options_of(TextConfig)}
    assert set(LABELS) | set(FITS) | set(NEEDS) <= set(known)
    for conditions in FITS.values():
        for other, values in conditions:
            choices = known[other].metadata["choices"]
            assert set(values) <= (set(choices) if choices else {True, False})
    assert {other for others in NEEDS.values() for other in others} <= set(known)


def test_a_text_run_chooses_its_template_and_layers_from_lists(serve, open_page, tmp_path):
    studio = open_studio(TEXTS, Jobs(ToyHost, tmp_path / "runs", TextConfig), tmp_path, look_at=lambda config: None)
    page = open_page(serve(build_standalone_page(studio)))
    assert page.locator("#hotlora_trigger_word").count() == 0 and page.locator("#hotlora_resolution").count() == 0
    open_advanced(page)
    page.locator("#hotlora_search").fill("chat_template")
    page.locator("#hotlora_chat_template input").click()
    page.locator("#hotlora_chat_template [role=option], #hotlora_chat_template li", has_text="vicuna").first.click()
    page.locator("#hotlora_chat_template.hotlora-changed").wait_for()
