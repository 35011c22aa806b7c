"""The recipe's widgets are the config class's options: each once, and nothing is lost on the way there and back."""

import dataclasses

import gradio as gr
import pytest
import yaml
from hotlora.engine.errors import UserError
from hotlora.engine.options import as_plain, build, options_of
from hotlora.sd.config import ImageConfig
from hotlora.tasks import IMAGES
from hotlora.ui.page import build_page
from hotlora.ui.widgets import OptionWidgets
from toy_studio import toy_studio

NEVER_SHOWN = {"task_type", "output_dir"}  # the page sets them

OTHER_THAN_DEFAULT = {
    "max_steps": 7,
    "learning_rate": 3e-5,
    "lora_alpha": 0.5,
    "clip_skip": 2,
    "min_snr_gamma": 5.0,
    "zero_terminal_snr": False,
    "optimizer_args": {"betas": [0.9, 0.99], "d_coef": 1.0},
    "block_ranks": {f"down_blocks_{number}": number for number in range(12)},  # longer than a line of YAML
    "sample_prompts": ["a cat: [red], 'blue' & \"green\"", "# no comment", "- no list", "12", "true", "<script>boom()</script> 猫"],
    "sheet_weights": [0, 0.25, 1.5],
    "keep_tokens_separator": "|||",
    "caption_prefix": "<b>null",
    "max_token_length": 150,
    "scheduler": "linear",
    "enable_bucket": False,
    "flip_aug": True,
    "trigger_word": "123",
    "include": r"attn\d+: .*",
    "training_comment": "true",
    "seed": 2**53 - 1,
}


@pytest.fixture
def page(tmp_path):
    return build_page(toy_studio(tmp_path))


@pytest.fixture
def widgets():
    made = OptionWidgets(ImageConfig, {}, {}, {})
    with gr.Blocks():
        for name in made.fields:
            made.make(name)
    return made


def sent(widgets, values):
    """What the widgets send after they were given these values: through Gradio, both ways."""
    answers = []
    for widget, value in zip(widgets.widgets, widgets.show(values), strict=True):
        told = widget.postprocess(value)
        answers.append(widget.preprocess(told))
    return answers


@pytest.mark.parametrize("hidden", [(), ("base_model",), ("base_model", "vae", "slice_seconds", "tensorboard")])
def test_every_visible_option_is_on_the_page_once(tmp_path, hidden):
    page = build_page(dataclasses.replace(toy_studio(tmp_path), hides=hidden))
    ids = [getattr(widget, "elem_id", None) for widget in page.blocks.values()]
    for name in options_of(ImageConfig):
        wanted = 0 if name in NEVER_SHOWN or name in hidden else 1
        assert ids.count(f"hotlora_{name}") == wanted, name
    taken = [elem_id for elem_id in ids if elem_id]
    assert len(taken) == len(set(taken))


def test_every_widget_says_what_its_option_does(page):
    options = page.hotlora.recipe.options
    told_otherwise = {"output_name"}
    for name, widget in options.made.items():
        doc = options_of(ImageConfig)[name].metadata["doc"].replace("`", "")
        assert widget.info == doc or name in told_otherwise
        assert widget.interactive and widget.label


def test_untouched_widgets_choose_nothing(widgets):
    assert widgets.values(sent(widgets, {})) == {}


def test_values_come_back_as_they_went(widgets):
    config = build(ImageConfig, {"output_name": "cat", "masked_loss": True, "mask_dir": "masks", **OTHER_THAN_DEFAULT})
    values = widgets.values(sent(widgets, as_plain(config)))
    back = build(ImageConfig, values)
    assert as_plain(back) == as_plain(config)
    assert widgets.show(values) == widgets.show(as_plain(config))


@pytest.mark.parametrize("preset", IMAGES.presets.values(), ids=IMAGES.presets)
def test_shipped_run_files_come_back_as_they_went(widgets, preset):
    config = build(ImageConfig, yaml.safe_load(preset.read_text(encoding="utf-8")))
    assert as_plain(build(ImageConfig, widgets.values(sent(widgets, as_plain(config))))) == as_plain(config)


def test_what_is_emptied_is_empty(widgets):
    boxes = [isinstance(widget, gr.Textbox) for widget in widgets.widgets]
    emptied = ["" if is_box else value for is_box, value in zip(boxes, sent(widgets, {}), strict=True)]
    assert widgets.values(emptied)["sheet_weights"] == []
    with pytest.raises(UserError, match="empty caption_separator"):
        build(ImageConfig, widgets.values(emptied))
    assert widgets.values([None] * len(widgets.widgets)) == {}  # numbers and menus that were cleared


def test_a_prompt_of_several_lines_stays_one(widgets):
    values = widgets.values(sent(widgets, {"sample_prompts": ["a cat,\r\nBREAK\nsitting", "a dog"]}))
    assert values["sample_prompts"] == ["a cat, BREAK sitting", "a dog"]


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("max_steps", "many"),
        ("max_steps", "1.5"),
        ("max_steps", "[1"),
        ("max_steps", ".inf"),
        ("lora_alpha", ".nan"),
        ("zero_terminal_snr", "perhaps"),
        ("optimizer_args", "betas: 0.9: 3"),
        ("optimizer_args", "0.9"),
        ("block_ranks", "[1, 2]"),
        ("sheet_weights", "0.4; 0.8"),
        ("sheet_weights", "{a: 1}"),
    ],
)
def test_what_cannot_be_read_is_said_by_name(widgets, name, typed):
    shown = dict(zip(widgets.names, sent(widgets, {}), strict=True)) | {name: typed}
    with pytest.raises(UserError, match=name):
        build(ImageConfig, widgets.values(list(shown.values())))


def test_what_the_host_offers_can_be_chosen_and_typed():
    made = OptionWidgets(ImageConfig, {"sample_sampler": lambda: ["Euler", "Heun"]}, {"lora_rank": 8}, {"lora_rank": 32})
    with gr.Blocks():
        sampler, rank = made.make("sample_sampler"), made.make("lora_rank")
    assert sampler.allow_custom_value and "Heun" in str(sampler.choices) and rank.value == 32
    assert made.show({}) == ["DPM++ 2M", 8]
    assert made.values(["DPM++ 2M", 8]) == {"lora_rank": 8}
