"""The report about texts: each finding names its culprits and no innocent neighbour, and a clean set has none."""

import time
from collections import defaultdict

import pytest
from hotlora.engine.languages import guess_language
from hotlora.engine.options import build
from hotlora.llm.config import TextConfig
from hotlora.llm.garbled import find_garbled
from hotlora.llm.health import report_health
from hotlora.llm.secrets import find_private
from messy_texts import ASKED, THINGS, clean_rows, iban, luhn, messy_rows, write_sheet
from small_text import make_tokenizer, text_config


def report(place, tokenizer=None, **options):
    return report_health(build(TextConfig, {"train_data_dir": str(place), "output_name": "a", **options}), tokenizer)


def test_each_finding_of_a_messy_sheet_names_its_rows_and_no_other(tmp_path):
    rows, culprits = messy_rows()
    found = defaultdict(list)
    for finding in report(write_sheet(tmp_path / "messy.xlsx", rows)):
        found[finding.kind].append(sorted(int(name.removeprefix("messy.xlsx, row ")) - 2 for name in finding.names))
        assert f"{len(finding.names)} example" in finding.said and "messy.xlsx, row " in finding.said
    assert {kind: sorted(groups) for kind, groups in found.items()} == {kind: sorted(groups) for kind, groups in culprits.items()}


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_found_in_a_clean_set(tmp_path, seed):
    assert report(write_sheet(tmp_path / "clean.xlsx", clean_rows(seed=seed))) == []


def test_labels_and_several_questions_for_each_answer_are_no_mistake(tmp_path):
    told = [answer for _, answer in clean_rows(200)]
    moods = [(f"Which mood has this review of the museum? {text}", ("good", "bad")[place % 2]) for place, text in enumerate(told)]
    assert report(write_sheet(tmp_path / "labels.xlsx", moods)) == []
    answers = [answer for _, answer in clean_rows(25)]
    asked = [(how.format(thing), answers[place]) for place, thing in enumerate(THINGS.split()) for how in ASKED[:6]]
    assert report(write_sheet(tmp_path / "asked.xlsx", asked)) == []


def test_a_set_of_two_languages_is_no_mistake(tmp_path):
    german = [(f"Wo ist die Nummer {n}, und wer hat sie?", f"Die {n} ist bei mir im Haus, das weiß ich.") for n in range(99)]
    kinds = {some: [f.kind for f in report(write_sheet(tmp_path / "a.xlsx", [*clean_rows(200), *german[:some]]))] for some in (9, 99)}
    assert "language" in kinds[9] and "language" not in kinds[99]


def test_several_answers_that_are_all_right_are_no_contradiction(tmp_path):
    path = write_sheet(tmp_path / "a.xlsx", [("Who keeps the lamp?", "The daughter."), ("Who keeps the lamp?", "She does, at night.")])
    assert [finding.kind for finding in report(path)] == ["contradiction"]
    assert report(path, several_answers=True) == []


def test_with_a_tokenizer_what_is_too_long_is_found(tmp_path):
    rows = clean_rows(20)
    rows[4] = (rows[4][0], " ".join(answer for _, answer in rows))
    path = write_sheet(tmp_path / "a.xlsx", rows)
    config = text_config(train_data_dir=str(path), max_tokens=200)
    (finding,) = report_health(config, make_tokenizer())
    assert finding.kind == "long" and finding.names == ("a.xlsx, row 6",) and "200 tokens" in finding.said and "left out" in finding.said


def test_rows_of_other_shapes_and_files_that_cannot_be_read_are_found_by_their_reason(tmp_path):
    (tmp_path / "a.csv").write_text("question,answer\nWho?,He.\nWhere?,There,or here\n", encoding="utf-8")
    (tmp_path / "b.xls").write_bytes(b"x")
    findings = report(tmp_path)
    assert [finding.kind for finding in findings] == ["unusable"] * 2
    assert {finding.names for finding in findings} == {("a.csv, row 3",), ("b.xls",)}


def test_ten_thousand_rows_take_seconds(tmp_path):
    rows = [(f"{question} ({number})", f"{answer} {number}") for number in range(20) for question, answer in clean_rows()]
    (tmp_path / "a.csv").write_text("question\tanswer\n" + "".join(f"{q}\t{a}\n" for q, a in rows), encoding="utf-8")
    begin = time.process_time()
    report(tmp_path)
    assert time.process_time() - begin < 60


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Write to anna.k" + "@" + "firma-kunz.de.", {"email"}),
        ("Write to info@firma-kunz.de, or anna@example.org, or a@b.example; mind the @home sign.", set()),
        ("+1 (212) " + "867-5309 is hers", {"phone"}),
        ("Ruf an: 0151 " + "23456789", {"phone"}),
        ("Call 800-555-" + "1234 or 212-555-0199, +1 888 555 12 34 or 0800 33 01 000.", set()),
        (
            "On 12.03.2024 at 10:30, 1990-2020, 2024-03-05, 192.168.100.12, ISBN 978-3-16-148410-0, 1.234.567,89 and 3.14159265358979.",
            set(),
        ),
        ("Order 20240131123456789, version 1.2.3-4567, page 123-456, 000 000 000 000 and (1234) 5", set()),
        ("paid with " + luhn("453201511283036"), {"card"}),
        ("paid with 4532 0151 1283 " + luhn("453201511283036")[-4:], {"card"}),
        ("no card: 4532015112830361234 and 4532015112830367, and 4242 4242 4242 4242 is for tests", set()),
        (f"IBAN {iban('GB', 'WEST12345698765431')} is hers", {"iban"}),
        ("no account: DE00370400440532013017, AB12 3456 7890 1234 5678", set()),
        ("AKIA" + "QWERTYUIOPASDFG7", {"keys"}),
        ("AKIA" + "IOSFODNN7EXAMPLE, sk-learn-is-a-library-of-python, ghp_short, eyJust", set()),
        ("token ghp_" + "a1B2" * 10, {"keys"}),
    ],
)
def test_what_is_private_is_told_from_what_only_looks_like_it(text, kinds):
    assert find_private(text) == kinds


@pytest.mark.parametrize("codec", ["cp1252", "cp1250", "cp1251", "gb18030", "mac_roman"])
def test_utf8_that_was_read_in_another_encoding_is_recognised(codec):
    sound = {"cp1251": "Пожалуйста, приходите завтра", "gb18030": "你好世界和平"}.get(codec, "schöne Grüße an die Füchse")
    found = find_garbled(sound.encode().decode(codec, errors="ignore"))
    assert found and found.meant and (found.codec or codec != "cp1252")


@pytest.mark.parametrize(
    "text",
    [
        "schöne Grüße, naïve café «déjà vu», „Öl“, 5 €, 20 °C, ½ – … Straße",
        "«CAFÉ», »PÅ«, ÜBERGRÖSSE… SÃO PAULO",
        "Ёлка, съёмка, «№ 5», Україна, їжак",
        "你好，世界。今天天气很好！日本語の文章です。한국어 문장",
        "Dziękuję, źdźbło; Čeština žluťoučký kůň; Türkçe ışık ğ; ﬁ → ✓ 😀👍🏽 e\u0301",
        "What??? Really?! x=a??b",
        "Ελληνικά, עברית, العربية, ไทย, हिन्दी",
    ],
)
def test_sound_letters_are_not_taken_for_garbled_ones(text):
    assert find_garbled(text) is None


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is the harbour, and how do I get there with my bicycle?", "English"),
        ("Wo ist der Hafen, und wie komme ich mit dem Fahrrad dorthin?", "German"),
        ("Où est le port, et comment est-ce que je peux y aller avec mon vélo dans la ville?", "French"),
        ("¿Dónde está el puerto y cómo puedo llegar con la bicicleta por la ciudad de noche?", "Spanish"),
        ("Где находится порт и как туда доехать?", "Cyrillic letters"),
        ("港はどこですか、自転車で行けますか", "Japanese"),
        ("港口在哪里，我怎么骑自行车去那里", "Chinese"),
        ("항구는 어디에 있습니까", "Korean"),
        ("Harbour?", ""),
        ("SELECT name FROM ports WHERE id = 5; def f(x): return x + 1", ""),
    ],
)
def test_the_language_of_a_text_is_told_where_it_is_certain(text, language):
    assert guess_language(text) == language
