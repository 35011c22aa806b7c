"""``hotlora questions``: questions about documents by a model's folder, alone; stopped, gone on with, and trained on by hand."""

import json

import pytest
import yaml
from bigram_llama import make_bigram_llama
from hotlora.cli import main
from hotlora.llm.questions import job as jobs
from small_text import make_tokenizer

SENTENCES = [
    "What does a duskcrab eat?",
    "Who keeps the lamp of Quillmere?",
    "A duskcrab eats moon moss.",
    "The ferryman's daughter keeps it.",
]
DOCUMENT = "\n\n".join(
    f"# Lamp {number}\n\nThe lamp number {number} of Quillmere is lit at dusk, and put out at dawn." for number in range(6)
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("models") / "für Zoë", make_tokenizer()
    make_bigram_llama(tokenizer, SENTENCES).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def words(model, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "lamps.md").write_text(DOCUMENT, encoding="utf-8")
    (tmp_path / "docs" / "picture.png").write_bytes(b"x")
    values = {"task_type": "text-generation", "base_model": str(model), "train_data_dir": "data", "output_dir": str(tmp_path / "run")}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    places = ["--documents", str(tmp_path / "docs"), "--folder", str(tmp_path / "rows")]
    return ["questions", "--config", str(tmp_path / "run.yaml"), *places, "--ask", "question_temperature=1", "--ask", "answer_tokens=40"]


def test_they_are_written_stopped_gone_on_with_and_learned_once_accepted(words, tmp_path, capsys, monkeypatch):
    take, stopped = jobs.QuestionJob._take, []

    def stop_at_three(self, event):
        take(self, event)
        if getattr(event, "done", 0) == 3 and not stopped:
            stopped.append(self.control.stop())

    monkeypatch.setattr(jobs.QuestionJob, "_take", stop_at_three)
    assert main(words) == 0
    said = capsys.readouterr()
    assert "3 of 12: " in said.out and "4 of 12: " not in said.out and "stopped; the same command goes on" in said.out
    assert "note: No documents, and left out: picture.png." in said.out
    assert main(words) == 0
    said = capsys.readouterr()
    rows = [json.loads(line) for line in (tmp_path / "rows" / "proposed.jsonl").read_text(encoding="utf-8").splitlines()]
    assert "3 of 12: " not in said.out and "12 of 12: " in said.out
    assert f"{len(rows)} wait for review in" in said.out and "dropped: the question is there already: " in said.err
    assert {row["generated"]["model"] for row in rows} == {"für Zoë"} and len(rows) >= 2
    train = ["train", "--config", str(tmp_path / "run.yaml"), *("--set", f"train_data_dir={tmp_path / 'rows'}"), *("--set", "max_steps=1")]
    assert main(train) == 2
    assert f"{len(rows)} examples not learned, as accepted: false says" in capsys.readouterr().err
    rows[0]["accepted"] = True
    (tmp_path / "rows" / "proposed.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    assert main([*train, "--set", "test_answers=0", "--set", "sample_max_tokens=4"]) == 0


def test_what_is_wrong_is_said_before_the_model_is_loaded(words, tmp_path, capsys):
    for extra, said in (
        (["--ask", "questions_per_passage=0"], "questions_per_passage"),
        (["--ask", "answer_instruction=Answer."], "{passage} is missing in it"),
        (["--documents", str(tmp_path / "nowhere")], "there is nothing"),
        (["--folder", str(tmp_path / "docs")], "the documents are there"),
        (["--folder", str(tmp_path / "run.yaml")], "it is a file"),
    ):
        assert main([*words, *extra]) == 2
        assert said in capsys.readouterr().err
