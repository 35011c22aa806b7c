import random
from collections import Counter

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.pictures.captions import render_caption, tag_frequency
from hotlora.sd.config import ImageConfig


def config(**values) -> ImageConfig:
    return build(ImageConfig, values)


def render(caption: str, seed: int = 0, **values) -> str:
    return render_caption(caption, config(**values), random.Random(seed))


def renders(caption: str, count: int = 200, **values) -> list[str]:
    options = config(**values)
    rng = random.Random(1)
    return [render_caption(caption, options, rng) for _ in range(count)]


@pytest.mark.parametrize("caption", ["a cat,  sitting ,on a mat", "1girl, solo, {red|blue}", "one sentence with no tags."])
def test_without_options_a_caption_is_what_was_written(caption):
    assert render(caption) == caption


def test_prefix_and_suffix_are_joined_by_a_space():
    assert render("a cat", caption_prefix="photo of", caption_suffix="at night") == "photo of a cat at night"


@pytest.mark.parametrize(
    "caption, expected",
    [
        ("a cat", "sks, a cat"),
        ("sks, a cat", "sks, a cat"),
        ("Sks dog in a park", "Sks dog in a park"),
        ("skset, a cat", "sks, skset, a cat"),
        ("sks_style, a cat", "sks, sks_style, a cat"),
        ("sks", "sks"),
        ("a cat, sks", "sks, a cat, sks"),
    ],
)
def test_trigger_word_leads_once(caption, expected):
    assert render(caption, trigger_word="sks") == expected


def test_trigger_word_leads_even_before_the_prefix():
    assert render("a cat", trigger_word="sks", caption_prefix="photo of") == "sks, photo of a cat"


def test_regularisation_pictures_get_no_trigger_word():
    text = render_caption("a cat", config(trigger_word="sks"), random.Random(0), with_trigger=False)
    assert text == "a cat"


def test_shuffling_keeps_the_tags_and_their_number():
    texts = renders("a, b, c, d, e", shuffle_caption=True)
    assert {tuple(sorted(text.split(", "))) for text in texts} == {("a", "b", "c", "d", "e")}
    assert len(set(texts)) > 50


def test_shuffling_reaches_every_order_about_equally():
    counts = Counter(renders("a, b, c", count=6000, shuffle_caption=True))
    assert len(counts) == 6
    assert all(800 < count < 1200 for count in counts.values())


def test_keep_tokens_stay_in_place_when_shuffling_and_dropping():
    for text in renders("a, b, c, d", shuffle_caption=True, keep_tokens=2, caption_tag_dropout_rate=0.5):
        assert text.startswith("a, b")


def test_trigger_word_is_never_shuffled_or_dropped():
    for caption in ("a, b, c", "my sks, a, b, c"):
        for text in renders(caption, trigger_word="my sks", shuffle_caption=True, caption_tag_dropout_rate=0.9):
            assert text == "my sks" or text.startswith("my sks, ")


def test_trigger_word_of_several_tags_stays_whole():
    for text in renders("a, b, c", trigger_word="sks, man", shuffle_caption=True):
        assert text.startswith("sks, man, ")


def test_trigger_word_counts_as_the_first_kept_token():
    texts = renders("a, b, c", trigger_word="sks", keep_tokens=2, shuffle_caption=True)
    assert set(texts) == {"sks, a, b, c", "sks, a, c, b"}


def test_keep_tokens_separator_marks_a_head_and_a_second_one_a_tail():
    texts = renders("h1, h2 ||| a, b, c ||| t1, t2", shuffle_caption=True, keep_tokens_separator="|||")
    assert {tuple(sorted(t.split(", ")[2:5])) for t in texts} == {("a", "b", "c")}
    assert all(t.startswith("h1, h2, ") and t.endswith(", t1, t2") for t in texts)
    assert len(set(texts)) == 6


def test_tail_is_not_dropped():
    texts = renders("h ||| a, b, c ||| t", caption_tag_dropout_rate=1.0, keep_tokens_separator="|||")
    assert set(texts) == {"h, t"}


def test_separator_never_reaches_the_text_encoder():
    assert render("a, b ||| c", keep_tokens_separator="|||") == "a, b, c"


def test_tag_dropout_drops_about_its_share():
    kept = sum(len(text.split(", ")) - 1 for text in renders("k, a, b, c, d", count=2000, keep_tokens=1, caption_tag_dropout_rate=0.25))
    assert kept / 8000 == pytest.approx(0.75, abs=0.02)


def test_caption_dropout_empties_the_whole_caption():
    texts = renders("a, b", count=4000, trigger_word="sks", caption_prefix="p", caption_dropout_rate=0.1)
    assert set(texts) == {"", "sks, p a, b"}
    assert texts.count("") / 4000 == pytest.approx(0.1, abs=0.02)


def test_wildcards_choose_each_alternative():
    texts = renders("a {red|green|blue} {cat|dog}", enable_wildcard=True)
    assert set(texts) == {f"a {c} {x}" for c in ("red", "green", "blue") for x in ("cat", "dog")}


def test_doubled_braces_are_braces():
    assert render("a {{cat}} {x}", enable_wildcard=True) == "a {cat} x"


def test_several_lines_are_alternatives_only_with_wildcards():
    caption = "first line\nsecond line\n"
    assert set(renders(caption)) == {"first line, second line"}, "nothing that was written is lost"
    assert set(renders(caption, enable_wildcard=True)) == {"first line", "second line"}
    assert render(caption, caption_prefix="p", caption_suffix="s") == "p first line, second line s"


@pytest.mark.parametrize(
    ("lines", "joined"),
    [
        ("1girl\nblue hair\nsolo\n", "1girl, blue hair, solo"),
        ("1girl,\n\nblue hair,\r\nsolo", "1girl, blue hair, solo"),
        ("A cat sits on a wall.\n\nBehind it is a garden.", "A cat sits on a wall. Behind it is a garden."),
        (
            "A cat that sits on a wall and\nlooks at the birds in the garden",
            "A cat that sits on a wall and looks at the birds in the garden",
        ),
    ],
)
def test_lines_become_one_as_tags_or_as_sentences(lines, joined):
    assert render(lines) == joined


def test_other_separators():
    texts = renders("a; b, still b; c", shuffle_caption=True, caption_separator=";", trigger_word="sks")
    assert {tuple(sorted(t[len("sks, ") :].split(", "))) for t in texts} == {("a", "b", "c", "still b")}
    assert all("b, still b" in text for text in texts)


def test_an_empty_separator_is_refused():
    with pytest.raises(UserError, match="caption_separator"):
        config(caption_separator="")


def test_same_seed_same_caption():
    options = {"shuffle_caption": True, "caption_tag_dropout_rate": 0.3, "enable_wildcard": True}
    first, second = ([render("a, {b|c}, d, e", seed, **options) for seed in range(20)] for _ in range(2))
    assert first == second and len(set(first)) > 5


@pytest.mark.parametrize(
    "values, fixed",
    [
        ({}, True),
        ({"trigger_word": "sks", "caption_prefix": "p", "keep_tokens": 2}, True),
        ({"shuffle_caption": True}, False),
        ({"caption_dropout_rate": 0.1}, False),
        ({"caption_tag_dropout_rate": 0.1}, False),
        ({"enable_wildcard": True}, False),
    ],
)
def test_a_caption_is_the_same_every_time_unless_chance_was_asked_for(values, fixed):
    texts = renders("a, {b|c}, d, e, f\nx", **values)
    assert (len(set(texts)) == 1) is fixed


def test_tag_frequency_counts_as_kohya_does():
    captions = [("10_a", "Red circle, flat shape"), ("10_a", "blue circle , flat shape,"), ("b", "1girl")]
    assert tag_frequency(captions, config()) == {
        "10_a": {"red circle": 1, "flat shape": 2, "blue circle": 1},
        "b": {"1girl": 1},
    }


def test_tag_frequency_counts_the_trigger_word_once_per_caption():
    counts = tag_frequency([("a", "SKS, cat"), ("a", "dog")], config(trigger_word="sks"))
    assert counts == {"a": {"sks": 2, "cat": 1, "dog": 1}}
