"""A grid of a text run's checkpoints: the answers that peft's own model gives, graded, and none of them written twice."""

import dataclasses
import json

import pytest
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.events import Drawn, Finished, Warned
from hotlora.engine.grid import GridPlan, hash_adapter, read_grid, read_plan
from hotlora.engine.grid_job import GridJob
from hotlora.engine.options import build
from hotlora.engine.run import Run
from hotlora.llm.adopting import open_peft_folder
from hotlora.llm.config import TextConfig
from hotlora.llm.grading import grade_answer
from hotlora.llm.grid_page import score_column
from small_llama import make_llama
from small_text import make_tokenizer
from test_text_trainee import PAIRS, run_text, text_trainee
from toy import ToyHost

PLAN = GridPlan(prompts=("Who keeps the lamp?",), questions=2)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(json.dumps({"question": q, "answer": a}) for q, a in PAIRS), encoding="utf-8")
    values = {"train_data_dir": str(path), "output_dir": str(tmp_path / "run"), "output_name": "it", "lora_rank": 3, "batch_size": 2}
    values |= {"max_steps": 6, "save_steps": 3, "learning_rate": 3e-3, "validation_split": 0.3, "sample_max_tokens": 6, "test_answers": 0}
    config = build(TextConfig, {**values, "sheet_weights": [], "tensorboard": False, "save_precision": "fp32", "use_rslora": True})
    run_text(config)
    return config


def write_grid(config, plan=PLAN):
    run = Run.reopen(config)
    job, events = GridJob(ToyHost(text_trainee), config, run, plan), []
    job.subscribe(events.append)
    outcome = job.work()
    return outcome, [event for event in events if isinstance(event, Drawn)], [e.message for e in events if isinstance(e, Warned)]


def count_different(config):
    """Checkpoints: the best one may be, byte for byte, that of a step."""
    return len({hash_adapter(path) for path in Run.reopen(config).list_adapters().values()})


def answer_with_peft(path, prompt, longest):
    from peft import PeftModel

    tokenizer = make_tokenizer()
    net = PeftModel.from_pretrained(make_llama(vocabulary=len(tokenizer)), str(path)).eval()
    rows = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False)
    rows = tokenizer(rows, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        for _ in range(longest):
            rows = torch.cat([rows, net(input_ids=rows).logits[:, -1:].argmax(-1)], 1)
    return tokenizer.decode(rows[0, -longest:], skip_special_tokens=True).strip()


def test_each_answer_is_what_peft_gives_with_that_checkpoint(config):
    outcome, written, _ = write_grid(config)
    grid = read_grid(Run.reopen(config).folder)
    adapters = Run.reopen(config).list_adapters()
    assert isinstance(outcome, Finished) and len(written) == grid.count()[0] == grid.count()[1] == 3 * count_different(config)
    assert [cell.checkpoint for cell in grid.cells[0]] == ["step 3", "step 6", "best", "finished"]
    given = set()
    for row in grid.cells:
        for cell in row:
            answer = grid.paths()[cell.name].read_text(encoding="utf-8")
            assert answer == answer_with_peft(adapters[cell.checkpoint], cell.prompt, 6)
            given.add(answer)
    assert len(given) > 3


def test_questions_of_the_data_come_with_their_right_answers_and_are_graded(config):
    write_grid(config)
    grid = read_grid(Run.reopen(config).folder)
    assert grid.cells[0][0].wanted == "" and [(row[0].prompt, row[0].wanted) in PAIRS for row in grid.cells] == [False, True, True]
    answers = {name: path.read_text(encoding="utf-8") for name, path in grid.paths().items()}
    asked = [row[1] for row in grid.cells[1:]]
    answers |= {asked[0].name: asked[0].wanted, asked[1].name: "something else"}
    assert score_column(grid, 1, answers) == {"exact match": 0.5}
    page, text = ((grid.folder / name).read_text(encoding="utf-8") for name in ("grid.html", "grid.md"))
    for words in (grid.cells[1][0].wanted, "exact match", "step 3"):
        assert words.replace("'", "&#x27;") in page and words in text
    assert grade_answer(asked[0].wanted, asked[0].wanted) == {"exact match": 1.0}


def test_no_answer_is_written_twice_and_a_seed_counts_only_where_chance_does(config):
    write_grid(config)
    assert write_grid(config)[1] == []
    assert len(write_grid(config, dataclasses.replace(PLAN, prompts=("Who?", *PLAN.prompts)))[1]) == count_different(config)
    seeds = GridPlan(rows="seed", seeds=(1, 2), prompts=PLAN.prompts)
    assert write_grid(config, seeds)[1] == []
    assert len(write_grid(dataclasses.replace(config, sample_temperature=1.0), seeds)[1]) == 2 * count_different(config)
    weights = GridPlan(rows="weight", weights=(0.0, 0.5, 1.0), prompts=PLAN.prompts)
    assert len(write_grid(config, weights)[1]) == 1 + count_different(config)  # at weight 1 all are there, and at 0 all are the model alone


def test_what_cannot_be_asked_is_a_sentence(config, tmp_path):
    assert "no such thing" in write_grid(config, GridPlan(prompts=("a",), cfgs=(7.0,)))[2][0]
    with pytest.raises(UserError, match="0 to 100"):
        read_plan({"questions": 101})
    with pytest.raises(UserError, match="with questions '2'"):
        read_plan({"questions": "2"})
    with pytest.raises(UserError, match="cannot use"):
        open_peft_folder(tmp_path / "nothing", make_llama())
