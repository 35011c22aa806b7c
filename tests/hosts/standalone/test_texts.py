"""The stand-alone host for text: what it loads and refuses, its own generation, and a run from the command line."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hotlora.cli import main as command
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.engine.run import list_adapters
from hotlora.hosts.shared.causal_model import CausalModel, fingerprint_model
from hotlora.hosts.standalone.texts import TransformersHost, load_model
from hotlora.llm.config import TextConfig
from small_llama import make_llama
from small_text import make_tokenizer

ROOT = Path(__file__).resolve().parents[3]
main = runpy.run_path(str(ROOT / "train.py"))["main"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model's folder, in a place that Windows users have."""
    path = tmp_path_factory.mktemp("models") / "für Zoë"
    tokenizer = make_tokenizer()
    make_llama(vocabulary=len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def config_for(folder, **options):
    return build(TextConfig, {"base_model": str(folder), "output_name": "x", **options})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda place: place / "nowhere", "cannot find the model"),
        (lambda place: place / "model.Q4_K_M.gguf", "GGUF files only answer"),
        (lambda place: place, "no model folder"),
    ],
)
def test_what_is_no_model_is_said(tmp_path, make, said):
    with pytest.raises(UserError, match=said):
        TransformersHost().borrow(config_for(make(tmp_path)))


def test_other_mistakes_are_said(tmp_path, folder):
    with pytest.raises(UserError, match="Set base_model"):
        TransformersHost().borrow(build(TextConfig, {"output_name": "x"}))
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(UserError, match="Stable Diffusion"):
        TransformersHost().borrow(config_for(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "no such model"}')
    with pytest.raises(UserError, match="as a language model"):
        TransformersHost().borrow(config_for(tmp_path))


@pytest.fixture
def model(folder):
    return load_model(folder, config_for(folder), torch.device("cpu"))


def test_generation_is_greedy_and_leaves_no_trace(model):
    tokens = [4, 5, 6, 7]
    net = model.net.train()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    answer = model.generate(tokens, max_tokens=6, temperature=0.0, seed=0, stop=[3])
    assert net.training and torch.equal(torch.get_rng_state(), state)
    by_hand, net = list(tokens), net.eval()
    for _ in answer:
        by_hand.append(net(input_ids=torch.tensor([by_hand])).logits[0, -1].argmax().item())
    assert by_hand[4:] == answer and len(answer) == 6
    stopped = model.generate(tokens, max_tokens=6, temperature=0.0, seed=0, stop=[answer[2]])
    assert stopped == answer[: answer.index(answer[2])]


def test_sampled_answers_follow_the_seed(model):
    drawn = [model.generate([4, 5, 6], max_tokens=8, temperature=2.0, seed=seed, stop=[3]) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_fingerprint_is_of_the_weights_whatever_their_precision():
    first = fingerprint_model(make_llama(1).bfloat16().float())
    assert first == fingerprint_model(make_llama(1).bfloat16()) != fingerprint_model(make_llama(2))


def test_checkpointing_is_of_the_kind_that_frozen_models_need(model):
    switched = CausalModel(model.net, None, name="x", path=None, compute_dtype=torch.float32)
    layer = model.net.model.layers[0]
    with switched.training(gradient_checkpointing=True):
        assert layer.gradient_checkpointing and layer._gradient_checkpointing_func.keywords == {"use_reentrant": False}
        assert not model.net.get_input_embeddings()._forward_hooks
    assert not layer.gradient_checkpointing and not model.net.training
    with pytest.raises(UserError, match="cannot use gradient_checkpointing"):
        plain = CausalModel.__new__(CausalModel)
        plain.net = torch.nn.Linear(2, 2)
        with plain.training(gradient_checkpointing=True):
            pass


def write_run(tmp_path, folder, **options):
    data = tmp_path / "facts.csv"
    data.write_text("question;answer\nWho keeps the lamp?;The ferryman\nWhere?;Quillmere\nWhat is eaten?;Moon moss\n", encoding="utf-8")
    values = {"task_type": "text-generation", "base_model": str(folder), "train_data_dir": str(data), "output_dir": str(tmp_path / "run")}
    values |= {"lora_rank": 2, "max_steps": 3, "batch_size": 2, "sample_max_tokens": 4, "test_answers": 2, "tensorboard": False, **options}
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    return path


def test_a_run_from_the_command_line(tmp_path, folder, capfd):
    path = write_run(tmp_path, folder)
    assert main(["--config", str(path), "--check"]) == 0
    shown = capfd.readouterr().out
    for words in ("The ferryman", "⟦", "examples: 3", "steps: 3", "Nothing was trained"):
        assert words in shown
    assert main(["--config", str(path)]) == 0
    made = {file.name for file in (tmp_path / "run" / "run").iterdir()}
    assert made == {"adapter_config.json", "adapter_model.safetensors", "README.md", "chat_template.jinja", "hotlora.yaml"}
    page = (tmp_path / "run" / "comparison.md").read_text(encoding="utf-8")
    assert "Who keeps the lamp?" in page and "without it" in page and "weight 1" in page
    assert main(["--resume", str(tmp_path / "run"), "--set", "max_steps=4"]) == 0
    assert main(["--config", str(path)]) == 2 and "there is one already" in capfd.readouterr().err


def test_image_only_libraries_are_not_needed_for_text(folder, tmp_path):
    """text-generation-webui's users may have no diffusers."""
    path = write_run(tmp_path, folder)
    code = "import sys, runpy; sys.modules['diffusers'] = None; main = runpy.run_path(sys.argv[1])['main']; sys.exit(main(sys.argv[2:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "train.py"), "--config", str(path)], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr


def test_the_command_answers_with_each_checkpoint(tmp_path, folder, capsys):
    run = write_run(tmp_path, folder, save_steps=2, sample_prompts=[])
    assert command(["train", "--config", str(run)]) == 0
    made = tmp_path / "run"
    capsys.readouterr()
    assert command(["grid", "--run", str(made), "--count", "--questions", "1"]) == 0
    steps = len(list_adapters(tmp_path / "run", "run", ""))
    assert f"{steps} answers at most" in capsys.readouterr().out
    assert command(["grid", "--run", str(made)]) == 0
    assert "answers: " in capsys.readouterr().out and "exact match" in (made / "grid" / "grid.md").read_text(encoding="utf-8")
