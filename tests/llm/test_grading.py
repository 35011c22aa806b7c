"""Answers are graded as the docstring says."""

import json

import pytest
from hotlora.llm.grading import grade_answer

BOOK = {"name": "Quillmere", "lamps": 12, "open": True, "keepers": ["Orla", "Tobin"], "place": {"river": "Lannet"}}


@pytest.mark.parametrize(
    ("wanted", "given", "score"),
    [
        ("Moon moss.", "Moon moss.", 1),
        ("Moon moss.", " Moon\n moss. ", 1),
        ("Moon moss.", "moon moss.", 0),
        ("Moon moss.", "", 0),
        ("Moon moss.", "<think>\n\n</think>\n\nMoon moss.", 1),
        ("<think>It glows.</think>Moon moss.", "<think>Hm.</think> Moon moss.", 1),
    ],
)
def test_text_is_right_or_wrong(wanted, given, score):
    assert grade_answer(wanted, given) == {"exact match": score}


@pytest.mark.parametrize(
    ("given", "valid", "right"),
    [
        (json.dumps(BOOK), 1, 1),
        (json.dumps(BOOK, indent=2), 1, 1),
        (json.dumps(BOOK | {"lamps": 13}), 1, 5 / 6),
        (json.dumps(BOOK | {"more": 1}), 1, 1),
        (json.dumps({"keepers": ["Tobin", "Orla"]}), 1, 0),
        (json.dumps(BOOK)[:-1], 0, 0),
        ("12", 0, 0),
        ("[]", 1, 0),
        ("[" * 100_000, 0, 0),
    ],
)
def test_json_is_graded_value_by_value(given, valid, right):
    scores = grade_answer(json.dumps(BOOK), given)
    assert scores["valid JSON"] == valid and scores["right values"] == pytest.approx(right)


def test_an_empty_object_is_right_only_as_such():
    assert grade_answer("{}", "{}")["right values"] == 1
    assert grade_answer("{}", '{"a": 1}')["right values"] == 0
