"""Documents in passages, what of a model's sayings can be used, and the folder in which rows are reviewed."""

import json

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.llm.formats import read_texts
from hotlora.llm.questions.asking import ask_pair, clean_answer, clean_question, goes_round, plain
from hotlora.llm.questions.folder import KEPT, OPEN, REFUSED, QuestionFolder, name_key, tally
from hotlora.llm.questions.passages import Passage, cut, read_passages
from hotlora.llm.questions.settings import QuestionSettings
from small_text import finish, text_config

PASSAGE = Passage(
    "handbook.md", 3, "The lamp of Quillmere is lit at dusk. The ferryman's youngest daughter keeps it, and nobody else may touch it."
)
SETTINGS = QuestionSettings()


# -- passages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("longest", [200, 333, 1500])
def test_passages_hold_all_of_a_text_once_and_end_where_sentences_do(longest):
    sentences = [f"Sentence number {number} tells of the lamp {number * 7}." for number in range(120)]
    text = "\n\n".join(" ".join(sentences[start : start + 10]) for start in range(0, 120, 10))
    pieces = list(cut(text, longest))
    assert plain("".join(pieces)) == plain(text)
    assert all(len(piece) <= longest and piece.endswith(".") for piece in pieces)


def test_a_heading_begins_a_passage_and_chinese_is_cut_at_its_full_stops():
    text = "# Lamps\n\nThey are lit at dusk.\n\n## Ferries\nThey go at dawn.\n\nThey come back at noon."
    assert list(cut(text, 500)) == ["# Lamps\n\nThey are lit at dusk.", "## Ferries\nThey go at dawn.\n\nThey come back at noon."]
    chinese = "灯在黄昏时点亮。" * 60
    pieces = list(cut(chinese, 200))
    assert "".join(pieces) == chinese and all(len(piece) <= 200 and piece.endswith("。") for piece in pieces)
    assert [len(piece) for piece in cut("x" * 1000, 300)] == [300, 300, 300, 100]


def test_documents_with_a_line_for_each_paragraph_are_cut_between_lines_and_wrapped_ones_between_sentences():
    lines = [f"Line {number} tells of the lamp and of nothing else." for number in range(12)]
    assert all(piece.startswith("Line") and piece.endswith("else.") for piece in cut("\n".join(lines), 200))
    wrapped = "\n".join("the lamp is lit at dusk. It is put out at dawn, and nobody else may touch" for _ in range(12))
    assert all(piece.endswith((".", "touch")) for piece in cut(wrapped, 300)) and len(list(cut(wrapped, 300))) > 2


def test_what_of_a_folder_is_not_asked_about_is_said(tmp_path):
    long = "The lamp of Quillmere is lit at dusk, and the ferryman's daughter keeps it."
    for name, text in {
        "a/b.md": f"{long}\n\n# Two\n\n{long} Not always.",
        "c.txt": long,
        "d.txt": "Hm.",
        "e.txt": " \n",
        "f.jpg": "x",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    passages, problems = read_passages(tmp_path, 1500)
    assert [(passage.source, passage.number) for passage in passages] == [("a/b.md", 1), ("a/b.md", 2)]
    told = " ".join(problems)
    assert "No documents, and left out: f.jpg." in told and "cannot use 'e.txt': there is no text in it." in told
    assert "more than once, and asked about once: 1." in told and "less than 40 characters, of which nothing can be asked: 1." in told
    with pytest.raises(UserError, match=r"there is nothing. Give a folder"):
        read_passages(tmp_path / "nowhere", 1500)
    with pytest.raises(UserError, match=r"there is no text in it"):
        read_passages(tmp_path / "d.txt", 1500)


# -- what a model says -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "question"),
    [
        ("Who keeps the lamp?", "Who keeps the lamp?"),
        ("Question: Who keeps the lamp?\nAnswer: She does.", "Who keeps the lamp?"),
        ("**Question 1:** Who keeps the lamp?", "Who keeps the lamp?"),
        ('Here is a question about the passage:\n\n1. "Who keeps the lamp?"', "Who keeps the lamp?"),
        ("Sure! Here is your question: Who keeps the lamp? It is easy.", "Who keeps the lamp?"),
        ("- *Who keeps the lamp?*", "Who keeps the lamp?"),
        ("<think>\nWhich one? A hard one?\n</think>\n\nWho keeps the lamp?", "Who keeps the lamp?"),
        ("以下是问题：\n谁看管这盏灯？", "谁看管这盏灯？"),
        ("问题：谁看管这盏灯？", "谁看管这盏灯？"),
        ("According to the passage, who keeps the lamp?", "Who keeps the lamp?"),
        ("Explain who keeps the lamp.", "Explain who keeps the lamp."),
        ("What is said of 3.5 mm plugs: do they fit?", "What is said of 3.5 mm plugs: do they fit?"),
        ('Who said "touch it"?', 'Who said "touch it"?'),
        (" \n", ""),
    ],
)
def test_a_question_is_found_in_what_small_models_say_around_it(said, question):
    assert clean_question(said) == question


@pytest.mark.parametrize(
    ("said", "is_whole", "answer"),
    [
        ("The daughter keeps it.", True, "The daughter keeps it."),
        ("Answer: The daughter keeps it.", True, "The daughter keeps it."),
        ("The daughter keeps it.\n\nQuestion: Who else?\nAnswer: Nobody.", True, "The daughter keeps it."),
        ("The daughter keeps it. Nobody else may touch", False, "The daughter keeps it."),
        ("The daughter keeps it, and", False, ""),
        ("At 3.5 p.m. she comes. Then she", False, "At 3.5 p.m. she comes."),
        ("女儿看管它。没有其他人", False, "女儿看管它。"),
        ("<think>Hm.</think>\nThe daughter.", True, "The daughter."),
        ("Based on the given text, the daughter does.", True, "The daughter does."),
        ("It is lit:\n- at dusk\n- by hand", True, "It is lit:\n- at dusk\n- by hand"),
    ],
)
def test_an_answer_is_without_what_small_models_say_around_it(said, is_whole, answer):
    assert clean_answer(said, is_whole) == answer


def ask_with(*sayings, known=(), earlier=(), settings=SETTINGS, passage=PASSAGE):
    """The pair, and what was asked for it."""
    asked, answers = [], iter(sayings)

    def ask(prompt, most, temperature, seed):
        asked.append((prompt, most, temperature, seed))
        said = next(answers)
        return said if isinstance(said, tuple) else (said, True)

    pair, _ = finish(ask_pair(ask, passage, known, earlier, settings, seed=5))
    return pair, asked


def test_the_answer_is_asked_for_with_the_passage_and_the_question_alone():
    pair, asked = ask_with("Who keeps the {question} lamp?", "The daughter.", earlier=["When is it lit?"])
    assert (pair.question, pair.answer, pair.dropped) == ("Who keeps the {question} lamp?", "The daughter.", "")
    (first, _, temperature, seed), (second, most, cold, _) = asked
    assert PASSAGE.text in first and "- When is it lit?" in first and temperature == 0.7 and seed == 5
    assert PASSAGE.text in second and second.endswith("Who keeps the {question} lamp?") and "When is it lit" not in second
    assert (most, cold) == (256, 0.0)


@pytest.mark.parametrize(
    ("sayings", "reason"),
    [
        ([" "], "the question is empty"),
        ([("Who keeps the lamp, and", False)], "the question does not come to an end"),
        (["Write the question and nothing else."], "the question repeats what the model was told"),
        (["The lamp of Quillmere is lit at dusk."], "the question repeats the passage"),
        (["the lamp " * 40], "the question goes round in circles"),
        (["WHO keeps it"], "the question is there already"),
        (["Good. Write about the lamp and the daughter"], "the question is none"),
        (["What is the passage about?"], "the question is about the passage itself"),
        (["这段文字讲了什么？"], "the question is about the passage itself"),
        (["Who keeps it now?", ""], "the answer is empty"),
        (["Who keeps it now?", ("The daughter who", False)], "the answer does not come to an end"),
        (["Who keeps it now?", "who keeps it now"], "the answer repeats the question"),
        (["Who keeps it now?", "Do not mention the passage."], "the answer repeats what the model was told"),
        (["Who keeps it now?", PASSAGE.text], "the answer repeats the whole passage"),
        (["Who keeps it now?", PASSAGE.text.partition("dusk. ")[2] + " The lamp of"], ""),
        (["Who keeps it now?", PASSAGE.text[4:-2]], "the answer repeats the whole passage"),
        (["Who keeps it now?", "The text says that the daughter does."], "the answer is about the passage itself"),
        (["Who keeps it now?", "She does, she does, " * 20], "the answer goes round in circles"),
    ],
)
def test_what_cannot_be_used_is_dropped_with_its_reason(sayings, reason):
    pair, asked = ask_with(*sayings, known={plain("Who keeps it?")})
    assert pair.dropped == reason
    assert len(asked) == len(sayings), "no answer is asked for to a question that cannot be used"


def test_short_answers_and_ordinary_long_ones_are_used():
    for answer in (
        "No.",
        "Dusk.",
        "42",
        "The daughter",
        " ".join(f"Sentence {number} is about another thing, {number**3}." for number in range(40)),
    ):
        assert not ask_with("Who keeps it now?", answer)[0].dropped
    assert not goes_round("哈" * 30) and goes_round("哈哈" * 60)


def test_instructions_must_show_what_is_asked_about():
    for name, text in (("question_instruction", "Ask."), ("answer_instruction", "{passage} Answer.")):
        with pytest.raises(UserError, match="is missing in it"):
            build(QuestionSettings, {name: text})


# -- the folder --------------------------------------------------------------------------------------------------------


def fill_folder(folder, count=4):
    store = QuestionFolder(folder)
    store.settle({"model": "m", "seed": 1})
    for number in range(1, count + 1):
        pair, _ = ask_with(f"Question number {number}?", f"Answer number {number}.")
        store.add(PASSAGE, number, pair, "small")
    return store


def test_nothing_is_learned_that_nobody_has_accepted_and_that_is_said(tmp_path):
    store = fill_folder(tmp_path / "set")
    rows = [json.loads(line) for line in (tmp_path / "set" / "proposed.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[0]["accepted"] is False and rows[0]["generated"] == {
        "model": "small",
        "source": "handbook.md",
        "passage": 3,
        "key": name_key(PASSAGE, 1),
        "text": PASSAGE.text,
        "review": "not reviewed",
    }
    with pytest.raises(UserError, match=r"(?s)nothing in it can be used.*4 examples not learned, as accepted: false says"):
        read_texts(tmp_path / "set", text_config())
    store.edit({name_key(PASSAGE, 2): ("Who?", "She.")})
    assert store.decide([name_key(PASSAGE, 2), name_key(PASSAGE, 3), "unknown"], "accept") == 2
    assert store.decide([name_key(PASSAGE, 1)], "refuse") == 1
    texts = read_texts(tmp_path / "set", text_config())
    said = [[message.content for message in example.messages] for example in texts.examples]
    assert said == [["Who?", "She."], ["Question number 3?", "Answer number 3."]]
    assert any("2 examples not learned, as accepted: false says" in note for note in texts.notes())
    (elsewhere := tmp_path / "copy").mkdir()
    (elsewhere / "mine.jsonl").write_bytes((tmp_path / "set" / "proposed.jsonl").read_bytes())
    with pytest.raises(UserError, match="2 examples not learned, as accepted: false says"):
        read_texts(elsewhere, text_config())
    assert store.count() == {"accepted": 2, OPEN: 1, REFUSED: 1}


def test_refused_rows_come_back_and_rows_of_people_stay_as_they_are(tmp_path):
    store = fill_folder(tmp_path)
    mine = '{"question": "Mine?",  "answer": "Yes, ünd spaced  oddly."}\n'
    (tmp_path / "questions.jsonl").write_bytes(mine.encode())
    with (tmp_path / "proposed.jsonl").open("ab") as file:
        file.write(b'{"note": "not a row"}\nno json\n')
    keys = [row.key for row in store.list_rows()]
    store.decide(keys[:2], "refuse")
    assert [row.key for row in store.list_rows(REFUSED)] == keys[:2] and len(store.list_rows()) == 2
    store.decide(keys[:1], "reopen")
    store.decide(keys[:1], "accept")
    store.decide(keys[:1], "accept")  # pressed twice
    accepted = (tmp_path / "questions.jsonl").read_text(encoding="utf-8")
    assert accepted.startswith(mine) and accepted.count("\n") == 2
    assert (tmp_path / "proposed.jsonl").read_text(encoding="utf-8").endswith('{"note": "not a row"}\nno json\n')
    with pytest.raises(UserError, match="its answer is empty. Write one, or refuse it"):
        store.edit({keys[2]: ("Who?", " ")})
        store.decide(keys[2:3], "accept")
    assert [row.answer for row in store.list_rows()] == [" ", "Answer number 4."]


def test_a_row_that_is_accepted_by_hand_is_learned_and_not_asked_about_again(tmp_path):
    store = fill_folder(tmp_path, 2)
    path = tmp_path / "proposed.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"accepted": false', '"accepted": true', 1), encoding="utf-8")
    assert [row.number for row in store.list_rows()] == [3] and store.count()["accepted"] == 1
    assert len(read_texts(tmp_path, text_config()).examples) == 1


def test_half_a_line_that_a_kill_has_left_is_asked_again_and_a_row_in_both_files_is_accepted(tmp_path):
    store = fill_folder(tmp_path, 3)
    asked, proposed = tmp_path / ".hotlora-asked.jsonl", tmp_path / "proposed.jsonl"
    asked.write_bytes(asked.read_bytes().rpartition(b"{")[0])
    proposed.write_bytes(proposed.read_bytes()[:-30])
    store.settle({"model": "m", "seed": 1})
    assert set(store.count_asked()) == {name_key(PASSAGE, 1), name_key(PASSAGE, 2)}
    assert proposed.read_bytes().endswith(b"}\n") and len(store.list_rows()) == 2
    before = proposed.read_bytes()
    store.decide([name_key(PASSAGE, 1)], "accept")
    proposed.write_bytes(before)
    assert [row.key for row in store.list_rows()] == [name_key(PASSAGE, 2)]


def test_a_folder_of_another_model_or_of_nobody_is_refused(tmp_path):
    store = fill_folder(tmp_path / "set")
    with pytest.raises(UserError, match="written with another model. Choose another name"):
        store.settle({"model": "other", "seed": 1})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "questions.jsonl").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="nothing says how its questions were written"):
        QuestionFolder(tmp_path / "mine").settle({"model": "m"})


def test_what_was_dropped_is_counted_by_its_reason(tmp_path):
    store = fill_folder(tmp_path, 1)
    for number, said in ((2, ""), (3, ""), (4, "the lamp " * 40)):
        store.add(PASSAGE, number, ask_with(said)[0], "small")
    outcomes = store.count_asked()
    assert outcomes[name_key(PASSAGE, 1)] == KEPT
    assert tally(outcomes) == {"the question is empty": 2, "the question goes round in circles": 1}
    assert len(store.list_rows()) == 1
