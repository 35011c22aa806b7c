"""Judging text checkpoints: the grades and perplexities that peft's own model has, and one plain verdict."""

import dataclasses
import json
import math

import pytest
import torch
from hotlora.cli import main
from hotlora.engine.run import list_adapters
from hotlora.llm.grading import grade_answer
from hotlora.toolbox.answering import GENERAL_TEXT, Answers
from hotlora.toolbox.judging import Judgement, conclude
from small_llama import make_llama
from small_text import make_tokenizer

ROWS = [
    ("Who keeps the lamp?", "The ferryman."),
    ("Where?", "Quillmere."),
    ("What food?", "Moon moss."),
    ("How many?", '{"lamps": 12}'),
]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """(the run's folder, judgement.json) of a short run."""
    place = tmp_path_factory.mktemp("für Zoë")
    tokenizer = make_tokenizer()
    make_llama(vocabulary=len(tokenizer)).save_pretrained(place / "base")
    tokenizer.save_pretrained(place / "base")
    (place / "facts.jsonl").write_text("\n".join(json.dumps({"question": q, "answer": a}) for q, a in ROWS * 3), encoding="utf-8")
    values = {"task_type": "text-generation", "base_model": str(place / "base"), "train_data_dir": str(place / "facts.jsonl")}
    values |= {"output_dir": str(place / "run"), "lora_rank": 2, "max_steps": 4, "save_steps": 2, "learning_rate": 3e-2, "batch_size": 2}
    values |= {"validation_split": 0.3, "test_answers": 3, "sheet_weights": [], "tensorboard": False, "save_precision": "fp32"}
    (place / "run.yaml").write_text(json.dumps(values), encoding="utf-8")
    assert main(["train", "--config", str(place / "run.yaml")]) == 0
    assert main(["tool", "judge", str(place / "run")]) == 0
    return place, json.loads((place / "run" / "judgement.json").read_text(encoding="utf-8"))


def test_perplexity_of_general_text_is_that_of_pefts_model(judged):
    from peft import PeftModel

    place, told = judged
    tokenizer, files = make_tokenizer(), {"without": None, **list_adapters(place / "run", "run", "")}
    assert [one["label"] for one in told["checkpoints"]] == list(files)
    for one in told["checkpoints"]:
        net = make_llama(vocabulary=len(tokenizer))
        net = PeftModel.from_pretrained(net, str(files[one["label"]])).eval() if files[one["label"]] else net
        total, count = 0.0, 0
        for text in GENERAL_TEXT:
            ids = tokenizer(text, return_tensors="pt").input_ids
            with torch.no_grad():
                total += net(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
            count += ids.shape[1] - 1
        assert one["answers"]["general"] == pytest.approx(math.exp(total / count), rel=1e-3)
        assert one["answers"]["kind"] == "kept-back questions" and 0 < one["answers"]["asked"] <= 3
        assert set(one["answers"]["scores"]) <= set(grade_answer('{"a": 1}', ""))


def make(label, kept_back, score, general):
    return Judgement(label, kept_back, kept_back, answers=Answers(8, "kept-back questions", {"exact match": score}, general))


def test_the_verdict_says_who_answers_best_and_what_is_forgotten():
    found = [make("without", 3.0, 0.125, 20.0), make("step 2", 2.0, 0.5, 21.0), make("step 4", 1.5, 0.25, 30.0)]
    said = conclude(found, None)
    assert said == (
        "Step 4 is the best of these on kept-back examples. The best answers to 8 kept-back questions are those of step 2: exact match 50% "
        "(12% without). From step 4 on it forgets: the perplexity of general text is 30.0, and was 20.0."
    )
    unasked = [dataclasses.replace(one, answers=Answers(0, "trained questions", {}, 20.0)) for one in found]
    assert conclude(unasked, None) == "Step 4 is the best of these on kept-back examples."
