"""What stands in a caption of what a captioner has said."""

import pytest
from hotlora.captioning.captioner import CaptionSettings
from hotlora.captioning.wording import word
from hotlora.engine.options import build


@pytest.mark.parametrize(
    ("values", "said", "written"),
    [
        ({}, "1girl, long_hair, ^_^, o_o", "1girl, long hair, ^_^, o_o"),
        ({"underscores_to_spaces": False}, "long_hair", "long_hair"),
        ({"leave_out": "Long Hair, *eyes"}, "1girl, long_hair, red_eyes, eyes_closed", "1girl, eyes closed"),
        ({"sort_tags": True}, "b, a, B, c, a", "a, b, B, c"),
        ({"caption_trigger": "sks", "text_before": "art of", "text_after": "outside"}, "a, b", "sks, art of a, b outside"),
        ({"leave_out": "*", "caption_trigger": "sks"}, "a, b", ""),
        ({"caption_trigger": "sks"}, "", ""),
    ],
)
def test_tags(values, said, written):
    assert word(said, build(CaptionSettings, values), is_tags=True) == written


def test_a_sentence_is_no_list_of_tags():
    settings = build(CaptionSettings, {"leave_out": "a cat", "sort_tags": True, "caption_trigger": "sks"})
    assert word(" the snake_case sign,\n a cat ", settings, is_tags=False) == "sks, the snake_case sign, a cat"
