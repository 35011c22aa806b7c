"""The words of the command line: what people see first comes at once, whatever door they take."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hotlora import cli
from hotlora.cli import COMMANDS, main
from hotlora.cli import train as train_command

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "numpy", "PIL", "gradio", "transformers", "diffusers", "peft", "hotlora.hosts", "hotlora.ui")
CALLS = [["-m", "hotlora"], *(["-m", "hotlora", name] for name in COMMANDS)]
CALLS += [[str(ROOT / "train.py")], [str(ROOT / "tools" / "auto_label.py")], [str(ROOT / "tools" / "merge_adapter.py")]]
MOST_SECONDS = 0.5  # of the processor
CALLS += [[str(ROOT / "tools" / "lora_tool.py")], [str(ROOT / "tools" / "search.py")], ["-m", "hotlora", "tool", "resize"]]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: " ".join(Path(word).name for word in call))
def test_help_comes_without_any_heavy_library(call):
    """Python's own list of what was imported is the witness, and the time that it took (which Windows does not count)."""
    command, began = [sys.executable, "-X", "importtime", *call, "--help"], os.times()
    done = subprocess.run(command, cwd=ROOT / "extension", capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0 and done.stdout.startswith("usage: "), done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "hotlora.cli" in imported and not imported.intersection(HEAVY)
    ended = os.times()
    assert ended.children_user + ended.children_system - began.children_user - began.children_system < MOST_SECONDS


def test_the_first_word_is_one_of_the_commands(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"    {name}" in shown and command.about.split(".")[0] in shown for name, command in COMMANDS.items())


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["train"], ["check"], ["ui", "--task", "music"], ["label"]])
def test_what_is_mistyped_ends_with_code_2_and_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2 and capsys.readouterr().err.startswith("usage: hotlora")


def test_check_is_train_with_its_switch(monkeypatch):
    asked = []
    monkeypatch.setattr(train_command, "run", lambda options: asked.append(vars(options)) or 0)
    for words in (["check"], ["train", "--check"]):
        assert main([*words, "--config", "a.yaml", "--set", "epochs=2"]) == 0
    first, second = ({key: value for key, value in options.items() if key != "command"} for options in asked)
    assert first == second and first["check"]


def test_a_missing_package_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert main(["ui"]) == 2
    assert capsys.readouterr().err == "error: cannot open the training page: the package gradio is missing. Install it.\n"
    assert main(["search", "--config", "a.yaml"]) == 2
    assert capsys.readouterr().err.endswith(": the package optuna is missing. Install it.\n")


@pytest.mark.parametrize("code", [None, 0, 1, "gone"])
def test_a_library_that_ends_the_program_does_not_end_a_command_as_a_success(monkeypatch, capsys, code):
    def leave(options):
        raise SystemExit(code)

    monkeypatch.setattr(train_command, "run", leave)
    assert main(["check", "--config", "a.yaml"]) == 1
    shown = capsys.readouterr().err
    assert f"error: This failed because of a bug (SystemExit: {code})" in shown and "in leave" in shown


def test_only_training_is_done_in_several_processes(monkeypatch, capsys):
    for key, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "here"}.items():
        monkeypatch.setenv(key, value)
    assert main(["options"]) == 2
    assert capsys.readouterr().err.startswith("error: cannot do this in 2 processes: ")
