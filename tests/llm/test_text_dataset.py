"""What is trained on, what is kept back, and what is said about it."""

import hashlib
import json
import random
from pathlib import Path

import pytest
from hotlora.engine.errors import UserError
from hotlora.llm.conversation import Conversation
from hotlora.llm.dataset import build_dataset, judge_text, split_validation
from hotlora.llm.rendering import Renderer
from small_text import CHATML, QWEN3, finish, make_tokenizer, talk, text_config


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "meine Texte ü"
    folder.mkdir()
    return folder


def write_pairs(path: Path, pairs) -> Path:
    rows = [{"question": question, "answer": answer} for question, answer in pairs]
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def numbered(count: int) -> list[tuple[str, str]]:
    return [(f"What is number {number}?", f"It is {number}.") for number in range(count)]


def build(place: Path, template: str = CHATML, **values):
    """The data set, and the progress on the way to it."""
    config = text_config(train_data_dir=str(place), **values)
    return finish(build_dataset(config, Renderer(make_tokenizer(template), config)))


def complaint(place: Path, **values) -> str:
    with pytest.raises(UserError) as caught:
        build(place, **values)
    return str(caught.value)


def test_examples_come_in_the_order_of_the_file_with_facts_that_add_up(data):
    dataset, progress = build(write_pairs(data / "faq.json", numbered(7)))
    assert [example.answer for example in dataset.train] == [answer for _, answer in numbered(7)]
    assert [example.source for example in dataset.train] == [f"faq.json, row {number}" for number in range(1, 8)]
    assert dataset.validation == [] and dataset.problems == [] and [(p.done, p.total) for p in progress] == [(7, 7)]
    facts, lengths = dict(dataset.facts), [len(example.tokens) for example in dataset.train]
    assert facts["examples"] == "7" and facts["format"] == "question/answer (7)" and facts["chat template"] == "the model's own"
    assert facts["tokens"] == f"{sum(lengths)} ({sum(lengths) / 7:.0f} each, nine of ten up to {max(lengths)}, {max(lengths)} at most)"
    learned = sum(trained for example in dataset.train for trained in example.trained)
    assert facts["learned tokens"] == f"{learned} ({learned / sum(lengths):.0%})"


def test_the_same_files_give_the_same_data_set(data):
    place = write_pairs(data / "faq.json", numbered(30))
    assert build(place, validation_split=0.2) == build(place, validation_split=0.2)


def test_progress_is_shown_now_and_then(data):
    _, progress = build(write_pairs(data / "faq.json", numbered(450)))
    assert [p.done for p in progress] == [200, 400, 450]


# -- too long ------------------------------------------------------------------------------------------------------------


def test_what_is_too_long_is_left_out_and_said(data):
    dataset, _ = build(write_pairs(data / "faq.json", [*numbered(3), ("Long?", "moss " * 200)]), max_tokens=60)
    assert len(dataset.train) == 3 and dict(dataset.facts)["too long"] == "1"
    assert "1 example is longer than 60 tokens and left out" in dataset.problems[0]


def test_or_cut_where_that_is_wanted_and_something_of_an_answer_is_left(data):
    pairs = [("Short?", "It is."), ("Long answer?", "moss " * 200), ("Long question? " * 50, "Moss.")]
    dataset, _ = build(write_pairs(data / "faq.json", pairs), max_tokens=60, too_long="truncate")
    (short, long), end = dataset.train, make_tokenizer().eos_token_id
    assert short.trained[short.tokens.index(end, len(short.question))], "its end is inside, and learned"
    assert len(long.tokens) == len(long.trained) == 60 and long.tokens[-1] != end and long.trained[-1]
    assert long.answer == "" and not long.question, "nobody can be asked for an answer that was never seen to its end"
    assert "1 example is longer" in dataset.problems[0] and "1 example is cut at 60 tokens" in dataset.problems[1]


def test_a_data_set_of_nothing_but_long_examples_says_how_long(data):
    place = write_pairs(data / "faq.json", [("Long?", "moss " * 200)])
    text = complaint(place, max_tokens=60)
    assert "all of its examples are longer than 60 tokens" in text and "too_long: truncate" in text


# -- nothing to learn ----------------------------------------------------------------------------------------------------


def test_an_example_without_a_learned_token_is_refused_by_name():
    """Trap: it would be a loss of 0 / 0."""
    config = text_config()
    opening = Conversation(talk("x", "Ahoy!").messages[1:], "faq.jsonl, row 5")
    judged = judge_text(opening, config, Renderer(make_tokenizer(), config))
    assert not judged.used and "faq.jsonl, row 5" in judged.problem and "the model's own" in judged.problem


def test_every_bad_example_is_named_before_training_or_skipped_where_that_is_wanted(data):
    rows = [{"messages": [{"role": "assistant", "content": "Ahoy!"}]}, {"question": "What?", "answer": "Moss."}]
    rows.append({"messages": [{"role": "assistant", "content": "Hm."}, {"role": "user", "content": "Who?"}]})
    (data / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    text = complaint(data)
    assert "2 of 3" in text and "a.json, row 1" in text and "a.json, row 3" in text and "on_bad_data: skip" in text
    dataset, _ = build(data, on_bad_data="skip")
    left_out = [problem for problem in dataset.problems if "a.json, row" in problem and "nobody answers" not in problem]
    assert len(dataset.train) == 1 and len(left_out) == 2
    (data / "a.json").write_text(json.dumps(rows[:1]), encoding="utf-8")
    assert "none of its examples can be used" in complaint(data, on_bad_data="skip")


def test_no_data_is_said():
    with pytest.raises(UserError, match="Set train_data_dir"):
        build("")


# -- validation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.25, 5), (0.9, 18)])
def test_a_share_is_kept_back_at_least_one_of_each_side(data, share, count):
    place = write_pairs(data / "faq.json", numbered(20))
    everything, _ = build(place)
    dataset, _ = build(place, validation_split=share)
    assert len(dataset.validation) == count and dict(dataset.facts)["kept back for validation"] == str(count)
    sources = [example.source for example in everything.train]
    assert [e.source for e in dataset.train] == [s for s in sources if s not in {e.source for e in dataset.validation}]
    smallest, _ = build(write_pairs(data / "faq.json", numbered(2)), validation_split=share)
    assert len(smallest.train) == len(smallest.validation) == 1


def test_one_text_alone_cannot_be_parted(data):
    assert "a single question" in complaint(write_pairs(data / "faq.json", numbered(1) * 5), validation_split=0.5)


def test_what_is_kept_back_depends_on_seed_and_content_alone(data):
    pairs = numbered(40)
    place = write_pairs(data / "faq.json", pairs)
    kept = {e.answer for e in build(place, validation_split=0.25)[0].validation}
    assert kept != {e.answer for e in build(place, validation_split=0.25, seed=1)[0].validation}
    random.Random(0).shuffle(pairs)
    assert kept == {e.answer for e in build(write_pairs(place, pairs), validation_split=0.25)[0].validation}
    more = {e.answer for e in build(write_pairs(place, [*pairs, ("Who?", "She.")]), validation_split=0.25)[0].validation}
    assert len(kept - more) <= 1


def test_doubles_are_counted_and_land_on_the_same_side(data):
    pairs = [pair for pair in numbered(12) for _ in range(3)]
    dataset, _ = build(write_pairs(data / "faq.json", pairs), validation_split=0.3)
    kept = [example.answer for example in dataset.validation]
    assert len(kept) == 12 and all(kept.count(answer) == 3 for answer in kept)
    assert not {e.tokens for e in dataset.train} & {e.tokens for e in dataset.validation}
    assert dict(dataset.facts)["doubles"] == "16" and any("16 examples are the same" in problem for problem in dataset.problems)


def test_two_answers_to_one_question_stay_together(data):
    pairs = [(f"What is number {number}?", f"It is {number}{end}") for number in range(10) for end in ".!"]
    dataset, _ = build(write_pairs(data / "faq.json", pairs), validation_split=0.3, several_answers=True)
    assert len(dataset.validation) == 6
    assert not {e.prompt for e in dataset.train} & {e.prompt for e in dataset.validation}


def test_the_answers_of_one_conversation_stay_together(data):
    """Where a template parts it into several examples, the later ones hold the earlier answers."""
    turns = [[f"What is {n}?", f"<think>hm</think>\n\nIt is {n}.", f"And {n} more?", f"{2 * n}."] for n in range(10)]
    rows = [{"messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(row)]} for row in turns]
    (data / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    dataset, _ = build(data, QWEN3, validation_split=0.3)
    assert len(dataset.validation) == 6 and len(dataset.train) == 14
    assert not {e.source for e in dataset.train} & {e.source for e in dataset.validation}


def test_a_single_document_is_kept_back_by_its_pieces(data):
    (data / "book.txt").write_text(" ".join(str(number) for number in range(400)), encoding="utf-8")
    dataset, _ = build(data, max_tokens=32, validation_split=0.25)
    assert len(dataset.validation) >= 2 and {e.source for e in [*dataset.train, *dataset.validation]} == {"book.txt"}
    assert "chat template" not in dict(dataset.facts)


def test_groups_are_parted_whole():
    config = text_config()
    renderer = Renderer(make_tokenizer(), config)
    groups = [renderer.encode(talk(f"{number}?", "Moss.")) for number in range(9)]
    train, kept_back = split_validation(groups, 0.3, 0)
    assert len(kept_back) == 3 and sorted(map(id, train + kept_back)) == sorted(map(id, groups))


def test_a_validation_folder_is_used_whole_and_leaks_are_said(data, tmp_path):
    place = write_pairs(data / "faq.json", numbered(6))
    judge = write_pairs(tmp_path / "judge.json", [*numbered(2), ("Who?", "She.")])
    dataset, _ = build(place, validation_dir=str(judge))
    assert len(dataset.train) == 6 and [e.answer for e in dataset.validation] == ["It is 0.", "It is 1.", "She."]
    assert any("2 examples are both in validation and in training" in problem for problem in dataset.problems)


# -- split by where rows come from ----------------------------------------------------------------------------------------


def write_sources(path: Path) -> Path:
    """Rows of 12 documents, five of each, and a question that the first two share."""
    rows = [
        {"question": f"What says page {n} of {d}?", "answer": f"It says {n * d}.", "Dokument": f"d{d}"} for d in range(12) for n in range(5)
    ]
    rows[0]["question"] = rows[5]["question"] = "What is on the cover?"
    rows[5]["answer"] = rows[0]["answer"]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def documents_of(examples) -> set[int]:
    return {(int(example.source.rpartition(" ")[2]) - 1) // 5 for example in examples}


@pytest.mark.parametrize("seed", range(6))
def test_rows_of_one_source_are_never_on_both_sides_nor_are_sources_that_share_a_question(data, seed):
    path = write_sources(data / "a.json")
    apart, _ = build(path, validation_split=0.25, seed=seed)
    assert documents_of(apart.train) & documents_of(apart.validation), "by question alone they are, or this shows nothing"
    dataset, _ = build(path, validation_split=0.25, seed=seed, columns={"source": "Dokument"})
    train, kept_back = documents_of(dataset.train), documents_of(dataset.validation)
    assert not train & kept_back and len(train | kept_back) == 12 and len(kept_back & {0, 1}) != 1
    assert len(dataset.validation) == 15 and len(dataset.train) == 45


def test_split_by_file_keeps_files_and_the_pieces_of_a_text_together(data):
    for number in range(6):
        (data / f"{number}.txt").write_text(" ".join(f"Word {word} of {number}." for word in range(60)), encoding="utf-8")
    dataset, _ = build(data, validation_split=0.3, max_tokens=64, split_by="file")
    files = [{example.source.partition(".txt")[0] for example in side} for side in (dataset.train, dataset.validation)]
    assert not files[0] & files[1] and len(dataset.validation) > len(files[1]) and len(files[0] | files[1]) == 6


def test_what_comes_of_one_source_alone_cannot_be_divided(data):
    assert "split_by" in complaint(write_pairs(data / "faq.json", numbered(5)), validation_split=0.5, split_by="file")


def test_without_a_source_the_split_is_what_it_always_was(data):
    """Runs that were begun before there was `split_by` go on with the same examples."""
    dataset, _ = build(write_pairs(data / "faq.json", numbered(20)), validation_split=0.2, seed=7)
    keys = {example.question: example.source for example in (*dataset.train, *dataset.validation)}
    first = sorted(keys, key=lambda key: hashlib.sha256(f"7 {key}".encode()).digest())[:4]
    assert {example.source for example in dataset.validation} == {keys[key] for key in first}
