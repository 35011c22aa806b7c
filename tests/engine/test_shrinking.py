"""Ranks by themselves: what is written is the nearest of the ranks it names, and training is none the wiser."""

import json

import pytest
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.events import Saved, Warned
from hotlora.engine.options import build
from hotlora.llm.config import TextConfig
from hotlora.sd.config import ImageConfig
from safetensors.torch import load_file
from toy import ToyHost, ToyTrainee, run_toy, toy_config


def dense(tensors, layer, scale):
    return scale * tensors[f"{layer}.lora_B"] @ tensors[f"{layer}.lora_A"]


@pytest.mark.parametrize("use_rslora", [False, True])
def test_what_is_written_is_the_nearest_of_its_ranks(tmp_path, use_rslora):
    options = {"lora_rank": 4, "lora_alpha": 2, "use_rslora": use_rslora, "epochs": 20, "learning_rate": 0.03, "sheet_weights": []}
    config = toy_config(tmp_path / "a", auto_rank=True, validation_split=0.1, **options)
    events, _, run = run_toy(config)
    saved = [event for event in events if isinstance(event, Saved) and event.kind == "small"]
    assert [event.path for event in saved] == [str(run.small_path)]
    curve = json.loads(run.ranks_path.read_text())
    whole, small = load_file(run.final_path), load_file(run.small_path)
    ranks = {layer: small[f"{layer}.lora_A"].shape[0] for layer in ("layer_0", "layer_2")}
    assert ranks in [cut["ranks"] for cut in curve["curve"]] and sum(ranks.values()) < 8
    for layer, rank in ranks.items():
        left, values, right = torch.linalg.svd(dense(whole, layer, 2 / (2 if use_rslora else 4)).double(), full_matrices=False)
        wanted = (left[:, :rank] * values[:rank] @ right[:rank]).float()
        torch.testing.assert_close(dense(small, layer, 2 / (rank**0.5 if use_rslora else rank)), wanted, atol=1e-6, rtol=1e-4)
    chosen = next(cut for cut in curve["curve"] if cut["ranks"] == ranks)
    assert chosen["loss"] <= curve["loss of all"] + 0.01 * (curve["loss without"] - curve["loss of all"])
    plain, _, other = run_toy(toy_config(tmp_path / "b", validation_split=0.1, **options))
    assert all(torch.equal(tensor, load_file(other.final_path)[key]) for key, tensor in whole.items())


def test_the_losses_are_those_of_the_cut_layers(tmp_path):
    """By putting each cut into the net itself."""
    host = ToyHost()
    config = toy_config(tmp_path / "a", auto_rank=True, validation_split=0.1, lora_rank=4, epochs=8, sheet_weights=[])
    _, _, run = run_toy(config, host=host)
    curve, whole, trainee = json.loads(run.ranks_path.read_text()), load_file(run.final_path), host.trainee
    for cut in [{"ranks": {"layer_0": 4, "layer_2": 4}, "loss": curve["loss of all"]}, *curve["curve"]]:
        trainee = ToyTrainee(config)
        with torch.no_grad():
            for number in (0, 2):
                left, values, right = torch.linalg.svd(dense(whole, f"layer_{number}", 1.0), full_matrices=False)
                rank = cut["ranks"][f"layer_{number}"]
                trainee.net[number].weight += left[:, :rank] * values[:rank] @ right[:rank]
            loss = trainee.validation_loss(trainee.validation_batches()[0])
        assert loss.total.item() / loss.count == pytest.approx(cut["loss"], rel=1e-4)


def test_where_nothing_is_gained_nothing_is_written(tmp_path):
    config = toy_config(tmp_path / "a", auto_rank=True, validation_split=0.1, learning_rate=0, sheet_weights=[])
    events, _, run = run_toy(config)
    told = [event.message for event in events if isinstance(event, Warned)]
    assert any("gained nothing" in message for message in told) and not run.small_path.exists()


def test_auto_is_a_rank_and_needs_what_it_judges_by():
    for config_class in (ImageConfig, TextConfig):
        config = build(config_class, {"lora_rank": " Auto"})
        assert (config.lora_rank, config.auto_rank, config.validation_split) == (32, True, 0.1)
        assert any("kept back" in note for note in config.notes)
        assert not build(config_class, {"lora_rank": 16}).auto_rank
        with pytest.raises(UserError, match="without validation"):
            build(config_class, {"lora_rank": "auto", "validation_split": 0})
        with pytest.raises(UserError, match="with DoRA"):
            build(config_class, {"lora_rank": "auto", "use_dora": True})
    with pytest.raises(UserError, match="for loha"):
        build(ImageConfig, {"auto_rank": True, "network_type": "loha"})
    with pytest.raises(UserError, match="pissa"):
        build(TextConfig, {"auto_rank": True, "lora_start": "pissa"})
