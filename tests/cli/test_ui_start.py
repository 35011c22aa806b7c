"""What the page's command is told and cannot do is a sentence, before anything is loaded."""

import argparse
from pathlib import Path

import pytest
from hotlora.engine.errors import UserError

ui = pytest.importorskip("hotlora.cli.ui")


def start(tmp_path: Path, **said) -> None:
    options = {
        "host": "127.0.0.1",
        "port": 1 + 65_000,
        "auth": None,
        "allow_anyone": False,
        "folder": tmp_path / "ui",
        "data": [],
        "allow_host": [],
    }
    ui.run(argparse.Namespace(**{"task": "images", **options, **said}))


def test_folders_that_are_none_are_said(tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="cannot keep runs in .* Choose another --folder"):
        start(tmp_path, folder=tmp_path / "file")
    with pytest.raises(UserError, match="there is no such folder. Correct --data"):
        start(tmp_path, data=[tmp_path / "nowhere"])


@pytest.mark.parametrize("auth", ["", ":", "name", "name:", ":word"])
def test_half_a_password_is_none(tmp_path, monkeypatch, auth):
    monkeypatch.setattr(ui, "build_standalone_page", lambda studio: pytest.fail("the page was opened"))
    with pytest.raises(UserError, match="one of them is empty. Write --auth USER:PASSWORD"):
        start(tmp_path, auth=auth)
