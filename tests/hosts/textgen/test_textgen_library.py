"""Names of LoRAs that are taken, and copies that go with their run."""

import pytest
from hotlora.engine.errors import UserError
from hotlora.hosts.textgen.library import LoraLibrary
from safetensors.torch import save_file
from textgen_program import install
from torch import zeros


@pytest.fixture
def loras(monkeypatch, tmp_path):
    return install(monkeypatch, tmp_path / "textgen").folder / "loras"


def put(folder, ours=True):
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    save_file({"a": zeros(1)}, str(folder / "adapter_model.safetensors"), {"hotlora_base_fingerprint": "f"} if ours else {})


def test_the_name_of_a_lora_that_is_there_is_said(loras):
    LoraLibrary().check_name("cat")
    put(loras / "cat", ours=False)
    with pytest.raises(UserError, match="is a LoRA of that name already"):
        LoraLibrary().check_name("cat")
    LoraLibrary().check_name("cats")


def test_copies_of_the_run_go_and_nothing_else(loras):
    for name in ("cat", "cat-step00000010", "cat-2", "cats", "cat-step1"):
        put(loras / name)
    put(loras / "cat-step00000020", ours=False)
    LoraLibrary().remove_copies("cat")
    assert {path.name for path in loras.iterdir()} == {"cat-2", "cats", "cat-step1", "cat-step00000020"}
    LoraLibrary().remove_copies("never there")
