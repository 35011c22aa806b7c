"""A search finds what is planted, says so where nothing helps, cuts hopeless trials short, and goes on after a kill."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from hotlora.cli import main
from hotlora.engine.errors import UserError
from hotlora.engine.interfaces import Loss
from hotlora.engine.options import build
from hotlora.engine.search_report import Row, conclude
from hotlora.engine.search_space import Range, make_space, next_guess
from hotlora.engine.searching import Search
from hotlora.engine.trials import Limits
from hotlora.hosts.standalone import images
from hotlora.sd.config import ImageConfig
from pictures import make_pictures
from tiny import tiny_sd1_file
from toy import SearchedToy, ToyConfig, ToyHost

ROOT = Path(__file__).resolve().parents[2]


class DeafToy(SearchedToy):
    """Judged by its seed alone, whatever is set; the search's own seed is the luckiest."""

    def validation_loss(self, batch):
        return Loss(torch.tensor(1.0 + 0.01 * (self.config.seed % 3)), 1.0)


class DeadlyToy(SearchedToy):
    """Takes the whole process with it in the fifth trial."""

    def prepare(self):
        if Path(self.config.output_dir).name == "0004":
            os._exit(9)
        return super().prepare()


def search(folder, make=SearchedToy, space=None, trials=4, **options):
    values = {"output_dir": str(folder / "run"), "epochs": 3, "lora_rank": 8, "seed": 42, "validation_split": 0.1, **options}
    found = Search(build(ToyConfig, values), folder / "search", space or {"lora_rank": (2, 4)})
    found.prepare(ToyHost(make))
    found.work(Limits(trials=trials))
    return found


def test_a_planted_better_rate_is_found_and_written(tmp_path):
    found = search(tmp_path, space={"learning_rate": Range(1e-3, 1e-1)}, learning_rate=1e-7, epochs=6)
    lines = found.report()
    verdict = conclude(found.rows())
    assert verdict.proposal and verdict.gain > verdict.margin and "beats it beyond that" in lines[-1]
    best = yaml.safe_load((tmp_path / "search" / "best.yaml").read_text())
    assert best["learning_rate"] == pytest.approx(verdict.proposal.chosen["learning_rate"]) and best["output_dir"] == str(tmp_path / "run")
    assert best["sheet_weights"] == ToyConfig().sheet_weights  # a trial's own lightness is not proposed
    assert (tmp_path / "search" / "search.png").stat().st_size > 1000
    trials = tmp_path / "search" / "trials"
    assert [path.name for path in trials.glob("*/*.safetensors")] == [f"{verdict.proposal.number:04d}.safetensors"]
    assert not list(trials.glob("*/state")) and len(list(trials.glob("*/events.jsonl"))) == len(found.rows())


def test_where_nothing_helps_it_says_so_and_proposes_the_cheapest(tmp_path):
    found = search(tmp_path, DeafToy, {"lora_rank": (2, 4)}, trials=6)
    lines = found.report()
    cheapest = min(row.parameters for row in found.rows())
    verdict = conclude(found.rows())
    assert "Nothing is better beyond the noise" in lines[-1] and "take the cheapest" in lines[-1]
    assert verdict.proposal and verdict.proposal.parameters == cheapest and verdict.noise == pytest.approx(0.01, rel=1e-4)
    assert sum(row.of is not None for row in found.rows()) == 3  # the lucky one was put to the proof


def test_a_gain_that_is_sure_but_tiny_counts_as_none():
    given = [Row(n, "as given", {}, "done", 1.0 + n * 1e-7, parameters=100) for n in range(3)]
    rows = [*given, Row(3, "search", {"lora_rank": 64}, "done", 0.999, parameters=800)]
    rows += [Row(4 + n, "repeat", {"lora_rank": 64}, "done", 0.999 + n * 1e-7, parameters=800, of=3) for n in range(3)]
    verdict = conclude(rows)
    assert verdict.proposal is None and "stay with the config as given" in verdict.words
    cheaper = Row(9, "search", {"lora_rank": 4}, "done", 1.004, parameters=10)
    assert conclude([*rows, cheaper]).proposal == cheaper
    large = [row if row.kind == "as given" else replace(row, loss=row.loss - 0.1) for row in rows]
    assert conclude(large).proposal == large[3]


def test_hopeless_trials_are_cut_short(tmp_path):
    found = search(tmp_path, space={"learning_rate": Range(1e-9, 1e-8)}, trials=3, learning_rate=0.03, epochs=6)
    cut = [row for row in found.rows() if row.state == "cut short"]
    assert cut
    for row in cut:
        last = [json.loads(line) for line in (found.folder / "trials" / f"{row.number:04d}" / "events.jsonl").read_text().splitlines()][-1]
        assert last["type"] == "Finished" and last["reason"] == "stopped"


def test_a_killed_search_goes_on_and_repeats_only_what_was_killed(tmp_path):
    code = f"""import sys; sys.path[:0] = {sys.path!r}
from pathlib import Path
from test_searching import DeadlyToy, search
search(Path({str(tmp_path)!r}), DeadlyToy, trials=3)"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert killed.returncode == 9, killed.stderr
    found = search(tmp_path, trials=3)
    rows = {row.number: row for row in found.rows()}
    assert rows[4].state == "failed" and rows[5].chosen == rows[4].chosen and rows[5].state in ("done", "cut short")
    assert [row.kind for row in rows.values()].count("as given") == 3
    assert sum(row.kind == "search" and row.state != "failed" for row in rows.values()) == 3
    before = len(rows)
    assert len(search(tmp_path, trials=3).rows()) == before  # nothing is left to do


def test_a_search_for_other_options_is_refused(tmp_path):
    search(tmp_path, trials=0)
    with pytest.raises(UserError, match="it was for other options"):
        search(tmp_path, trials=0, epochs=4)


def test_what_time_is_over_for_is_not_begun(tmp_path):
    found = search(tmp_path, trials=0)
    number = len(found.rows())
    found.work(Limits(until=0.0))
    assert len(found.rows()) == number


def test_the_usual_space_and_what_people_say_of_it(tmp_path):
    config = build(ImageConfig, {"learning_rate": 1e-4})
    space = make_space(config, ["lora_dropout=0,0.1", "weight_decay=1e-4..1e-1", "lora_alpha=4,8"], ["scheduler"])
    assert space["learning_rate"] == Range(pytest.approx(1e-5), pytest.approx(1e-3)) and space["weight_decay"] == Range(1e-4, 1e-1)
    assert (
        space["lora_dropout"] == (0, 0.1) and space["lora_alpha"] == (4, 8) and "alpha per rank" not in space and "scheduler" not in space
    )
    for over in (["resolution=64,128"], ["lora_rank=4"], ["learning_rate=3..1"], ["nonsense=1,2"]):
        with pytest.raises(UserError, match="cannot search"):
            make_space(config, over)


def test_what_often_helps_is_tried_first_each_once():
    config = build(ImageConfig, {"learning_rate": 3e-3, "include": "attn1"})
    space, tried = make_space(config, keep=["network_type"]), []
    while guess := next_guess(config, space, tried):
        tried.append(guess)
    rates = [guess["learning_rate"] for guess in tried]
    assert rates == pytest.approx([3e-3, 1e-3, 1e-3, 9e-3]) and [guess["include"] for guess in tried] == ["", "", "attn1", "attn1"]
    assert [guess["conv_rank"] for guess in tried] == [8, 8, 0, 0]
    assert all(guess["lora_rank"] == config.lora_rank and guess["alpha per rank"] == 1 for guess in tried)
    assert next_guess(config, {"lora_rank": (2, 4)}, []) is None  # nothing of it is searched
    kept = make_space(config, ["learning_rate=2e-3..4e-3"], ["include"])
    assert next_guess(config, kept, []) is None  # nothing of it is allowed


def test_the_command_on_real_layers_loads_the_model_once(tmp_path, monkeypatch, capsys):
    loaded = []
    load = images.load_parts
    monkeypatch.setattr(images, "load_parts", lambda *args, **options: loaded.append(1) or load(*args, **options))
    values = {"base_model": str(tiny_sd1_file(tmp_path / "base.safetensors")), "train_data_dir": str(make_pictures(tmp_path / "data", 5))}
    values |= {"output_dir": str(tmp_path / "run"), "resolution": 64, "min_bucket_reso": 64, "max_steps": 2, "cache_latents": "memory"}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values))
    arguments = ["search", "--config", str(tmp_path / "a.yaml"), "--budget", "5m", "--trials", "1", "--over", "lora_rank=2,4"]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert loaded == [1] and "validation_split 0.2" in shown.err and "from seed to seed it differs" in shown.out
    best = yaml.safe_load((tmp_path / "run-search" / "best.yaml").read_text())
    assert build(ImageConfig, best).validation_split == 0.2
    assert main([*arguments[:4], "soon"]) == 2


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ("lora_rank=a,b", "it takes a whole number"),
        ("lora_rank=8,0", "it must be at least 1"),
        ("scheduler=cosine,steep", "it takes one of constant"),
        ("scheduler=1..2", "it takes one of constant"),
        ("use_dora=1..2", "it takes no numbers"),
        ("lora_dropout=0.1..2", "it must be between 0 and 0.95"),
    ],
)
def test_values_that_no_run_takes_are_said_before_the_search(over, said):
    with pytest.raises(UserError) as caught:
        make_space(build(ToyConfig, {}), [over])
    assert said in str(caught.value)
