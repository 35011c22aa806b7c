"""Questions written by the model that text-generation-webui holds, over a stand-in of that program: in line, in turns, stopped and gone on
with; and nothing left behind."""

import json
import time

import pytest
import torch
from bigram_llama import make_bigram_llama
from hotlora.engine.errors import UserError
from hotlora.engine.jobs import Jobs
from hotlora.hosts.textgen.host import TextgenHost
from hotlora.llm.config import TextConfig
from hotlora.llm.questions.desk import QuestionDesk
from textgen_program import install
from waiting import wait_until

SENTENCES = [
    "What does a duskcrab eat?",
    "What does the ferryman keep?",
    "Who keeps the lamp of Quillmere?",
    "Where is the moon moss?",
    "A duskcrab eats moon moss.",
    "The ferryman's daughter keeps the lamp.",
    "The moss is in Quillmere.",
    "Explain what the youngest daughter keeps.",
]
DOCUMENT = "\n\n".join(
    f"# Lamp {number}\n\nThe lamp number {number} of Quillmere is lit at {number + 3} and put out at dawn. Nobody else may touch it."
    for number in range(1, 9)
)
SETTINGS = {"questions_per_passage": 3, "question_temperature": 1.0, "answer_tokens": 48}


@pytest.fixture
def program(monkeypatch, tmp_path):
    program = install(monkeypatch, tmp_path / "für Zoë")
    program.shared.model = make_bigram_llama(program.shared.tokenizer, SENTENCES)
    return program


@pytest.fixture
def jobs(program, tmp_path):
    jobs = Jobs(TextgenHost, tmp_path / "runs", TextConfig)
    yield jobs
    for job in list(jobs._line):
        job.control.stop()
    wait_until(lambda: not jobs._line)


@pytest.fixture
def config(jobs, tmp_path):
    (tmp_path / "handbook.md").write_text(DOCUMENT, encoding="utf-8")

    def make(**values):
        return jobs.build_config({"train_data_dir": str(tmp_path / "handbook.md"), "output_name": "unnamed", "sample_seed": 3, **values})

    return make


def make_desk(jobs, folder):
    return QuestionDesk(jobs, folder)


def wait(desk):
    wait_until(lambda: not desk.status.busy)
    return desk.status


def content(folder):
    return {name: (folder / name).read_bytes() for name in ("proposed.jsonl", ".hotlora-asked.jsonl", ".hotlora-questions.json")}


def test_stopped_and_gone_on_with_they_are_those_of_never_stopped_and_the_model_is_as_it_was(program, jobs, config, tmp_path):
    before, logits, answered = program.traces(), program.logits(), program.answer()
    weights = [parameter.clone() for parameter in program.shared.model.parameters()]
    whole, parts = make_desk(jobs, tmp_path / "whole"), make_desk(jobs, tmp_path / "parts")
    whole.start(config(), SETTINGS)
    status = wait(whole)
    assert status.message == "Done. Review them: only what you accept is learned." and status.done == status.total == 24
    assert status.kept + sum(count for _, count in status.dropped) == 24
    assert status.kept >= 5 and dict(status.dropped)["the question is there already"] >= 1, status
    for _ in range(4):
        seen = parts.status.done
        parts.start(config(slice_seconds=0.05), SETTINGS)
        wait_until(lambda at=seen: parts.status.done > at)
        parts.stop()
        assert wait(parts).message == "Stopped. Write questions goes on from there." and parts.status.done < 24
    parts.start(config(), SETTINGS)
    assert wait(parts).done == 24
    assert content(tmp_path / "parts" / "handbook questions") == content(tmp_path / "whole" / "handbook questions")
    assert program.traces() == before and program.answer() == answered and torch.equal(program.logits(), logits)
    assert all(torch.equal(one, other) for one, other in zip(weights, program.shared.model.parameters(), strict=True))
    made = (tmp_path / "whole" / "handbook questions" / "proposed.jsonl").stat().st_mtime_ns
    whole.start(config(), SETTINGS)
    assert wait(whole).done == 24 and (tmp_path / "whole" / "handbook questions" / "proposed.jsonl").stat().st_mtime_ns == made
    rows = [json.loads(line) for line in (tmp_path / "whole" / "handbook questions" / "proposed.jsonl").read_text("utf-8").splitlines()]
    assert {row["generated"]["model"] for row in rows} == {"small"} and not any(row["accepted"] for row in rows)
    assert len({row["question"] for row in rows}) == len(rows)
    assert not (tmp_path / "runs" / "handbook questions").exists() and list(jobs.names()) == []


def test_answers_come_in_between_and_are_those_of_before(program, jobs, config, tmp_path):
    desk, before = make_desk(jobs, tmp_path / "data"), program.answer()
    desk.start(config(slice_seconds=60), {**SETTINGS, "questions_per_passage": 20})
    wait_until(lambda: desk.status.done > 2)
    for _ in range(3):
        began, done = time.monotonic(), desk.status.done
        assert program.answer() == before
        assert time.monotonic() - began < 60, "a turn ends when somebody waits"
        wait_until(lambda at=done: desk.status.done > at)
    desk.stop()
    wait(desk)


def test_they_wait_for_a_model_that_is_away_and_go_on_with_it(program, jobs, config, tmp_path):
    desk, net, tokenizer = make_desk(jobs, tmp_path / "data"), program.shared.model, program.shared.tokenizer
    desk.start(config(), SETTINGS)
    wait_until(lambda: desk.status.done > 1)
    program.unload()
    wait_until(lambda: "Load" in desk.status.message)
    done = desk.status.done
    assert desk.status.busy and done < 24
    program.shared.model, program.shared.tokenizer, program.shared.model_name = net, tokenizer, "small"
    assert wait(desk).done == 24


def test_further_documents_and_more_questions_go_on_and_another_model_does_not(program, jobs, config, tmp_path):
    desk = make_desk(jobs, tmp_path / "data")
    desk.start(config(), {**SETTINGS, "questions_per_passage": 1}, "lamps")
    assert wait(desk).done == 8
    before = (tmp_path / "data" / "lamps" / "proposed.jsonl").read_bytes()
    (tmp_path / "handbook.md").write_text(f"{DOCUMENT}\n\n# Ferry\n\nThe ferry of Quillmere goes at dawn and comes back at noon.", "utf-8")
    desk.start(config(), {**SETTINGS, "questions_per_passage": 2}, "lamps")
    assert wait(desk).done == desk.status.total == 18
    assert (tmp_path / "data" / "lamps" / "proposed.jsonl").read_bytes().startswith(before)
    program.shared.model = make_bigram_llama(program.shared.tokenizer, SENTENCES[:4])
    with torch.no_grad():
        program.shared.model.get_input_embeddings().weight.mul_(2)
    desk.start(config(), SETTINGS, "lamps")
    assert "written with another model. Choose another name." in wait(desk).message


def test_what_cannot_be_written_is_a_sentence(program, jobs, config, tmp_path):
    desk = make_desk(jobs, tmp_path / "data")
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    for values, name, said in (
        ({"train_data_dir": ""}, "", "no documents are given"),
        ({"train_data_dir": str(tmp_path / "nowhere")}, "", "there is nothing"),
        ({}, "a/b", "/ cannot be used in names"),
        ({}, "mine", "there is one of that name already"),
    ):
        with pytest.raises(UserError, match=said):
            desk.start(config(**values), {}, name)
    with pytest.raises(UserError, match="no questions are being written"):
        desk.stop()
    with pytest.raises(UserError, match="no questions were written there"):
        desk.review("../x")
    assert not desk.status.busy and jobs.list_line() == [] and desk.list_folders() == []


def test_a_reviewed_folder_is_trained_on(program, jobs, config, tmp_path):
    desk = make_desk(jobs, tmp_path / "data")
    desk.start(config(), SETTINGS)
    kept = wait(desk).kept
    page = desk.review("handbook questions", count=4)
    assert page.open == page.shown == kept and len(page.rows) == 4 and page.accepted == 0
    assert desk.review("handbook questions", start=10_000, count=4).start == (kept - 1) // 4 * 4
    keys = [row.key for row in page.rows]
    assert desk.decide("handbook questions", "refuse", keys[:1]) == f"1 refused, {kept - 1} left."
    assert desk.decide("handbook questions", "", [], {keys[1]: ("Who lights it?", "She does.")}) == "1 changed."
    assert desk.decide("handbook questions", "accept") == f"{kept - 1} accepted, 0 left."
    assert desk.review("handbook questions", refused=True).rows[0].key == keys[0]
    folder = desk.status.folder
    job = jobs.start({"train_data_dir": folder, "output_name": "lamps", "max_steps": 2, "test_answers": 0, "sample_max_tokens": 4})
    wait_until(lambda: jobs.status("lamps") == "done")
    told = [text for _, text in jobs.history("lamps").log]
    assert any("1 example not learned, as accepted: false says" in line for line in told), told
    assert job.outcome.reason == "done" and jobs.history("lamps").started.summary["examples"] == f"{kept - 1:,}"
