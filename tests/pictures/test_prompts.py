"""Sample prompts with options as people write them; whatever cannot be meant is a sentence before training, not a failed sample in it."""

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.pictures.prompts import read_prompt
from hotlora.sd.config import ImageConfig

CONFIG = build(ImageConfig, {})


@pytest.mark.parametrize(
    ("line", "prompt", "expected"),
    [
        ("a cat --n bad, worse --w 64 --d 5", "a cat", {"negative_prompt": "bad, worse", "width": 64, "seed": 5}),
        ("a cat --w=128 --l=3.5", "a cat", {"width": 128, "cfg": 3.5}),
        ("--w 64", "", {"width": 64}),
        ("a cat\n--w 64", "a cat", {"width": 64}),
        ("a cat \u2014w 64 \u2013s 5", "a cat", {"width": 64, "steps": 5}),
        ("a cat --n --w 64", "a cat", {"negative_prompt": "", "width": 64}),
        ("black -- white, well--known", "black -- white, well--known", {}),
    ],
)
def test_options_are_read_however_they_are_written(line, prompt, expected):
    request = read_prompt(line, CONFIG, 1)
    assert request.prompt == prompt
    assert {key: getattr(request, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a --w", "--w takes a number"),
        ("a --s 2.5", "--s takes a number"),
        ("a --s 0", "--s must be 1 to 1,000"),
        ("a --w 100000", "--w must be 64 to 8,192"),
        ("a --h 0", "--h must be 64 to 8,192"),
        ("a --l nan", "--l must be 0 to"),
        ("a --d -1", "--d must be 0 to"),
        ("a cat --ar 3:2", "there is no --ar"),
        ("a cat --ctrl_img x.png", "there is no --ctrl_img"),
    ],
)
def test_what_no_sampler_can_do_is_said(line, said):
    with pytest.raises(UserError, match="cannot read the sample prompt") as caught:
        read_prompt(line, CONFIG, 1)
    assert said in str(caught.value)
