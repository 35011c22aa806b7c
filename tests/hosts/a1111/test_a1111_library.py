"""Names of LoRAs that are taken, and copies that go with their run."""

from types import SimpleNamespace

import pytest
from hotlora.engine.errors import UserError
from hotlora.hosts.a1111.host import check_on_loaded
from hotlora.hosts.webui.library import LoraLibrary
from hotlora.sd.config import ImageConfig


@pytest.fixture
def folder(webui, tmp_path):
    (tmp_path / "Lora" / "hotlora").mkdir(parents=True)
    (tmp_path / "Lora" / "styles").mkdir()
    return tmp_path / "Lora"


@pytest.mark.parametrize("place", ["cat.safetensors", "styles/cat.pt", "styles/cat.CKPT"])
def test_a_users_lora_of_that_name_is_said_wherever_it_is(folder, place):
    LoraLibrary().check_name("cat")
    (folder / place).write_bytes(b"")
    with pytest.raises(UserError, match="<lora:cat> is .* already, and would be this run's"):
        LoraLibrary().check_name("cat")
    LoraLibrary().check_name("cat 2")


def test_so_is_one_that_calls_itself_so_and_one_that_a_deleted_run_has_left(folder, webui):
    (folder / "other.safetensors").write_bytes(b"")
    known = SimpleNamespace(name="other", alias="cat", filename=str(folder / "other.safetensors"))
    webui.networks.available_networks["other"] = known
    with pytest.raises(UserError, match="other.safetensors already"):
        LoraLibrary().check_name("cat")
    (folder / "other.safetensors").unlink()
    LoraLibrary().check_name("cat")  # the WebUI has not looked again
    (folder / "hotlora" / "cat.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="which an earlier run has left"):
        LoraLibrary().check_name("cat")


def test_other_files_and_no_folder_take_no_name(folder, webui, tmp_path):
    for name in ("cat.txt", "cat.png", "cat.json", "cats.safetensors"):
        (folder / name).write_bytes(b"")
    LoraLibrary().check_name("cat")
    webui.shared.cmd_opts.lora_dir = str(tmp_path / "nowhere")
    LoraLibrary().check_name("cat")


def test_copies_of_the_run_go_and_nothing_else(folder, webui):
    own = folder / "hotlora"
    gone = ["cat.safetensors", "cat.json", "cat.preview.png", "cat-step00000010.safetensors", "cat-step00000010.json"]
    kept = ["cat.v2.safetensors", "cat-2.safetensors", "cat-step1.safetensors", "cats.json", "big cat.safetensors"]
    for name in (*gone, *kept):
        (own / name).write_bytes(b"")
    (folder / "cat.safetensors").write_bytes(b"the user's")
    LoraLibrary().remove_copies("cat")
    assert {path.name for path in own.iterdir()} == set(kept) and (folder / "cat.safetensors").exists()
    assert webui.networks.listed == 1


def test_a_sampler_or_a_checkpoint_that_cannot_work_is_said_at_the_click(webui):
    check_on_loaded(ImageConfig())
    with pytest.raises(UserError, match="Set sample_sampler: DPM"):
        check_on_loaded(ImageConfig(sample_sampler="Eulr"))
    webui.devices.fp8 = True
    with pytest.raises(UserError, match="fp8"):
        check_on_loaded(ImageConfig())
    check_on_loaded(ImageConfig(base_model="another"))  # waits for it
    webui.sd_models.model_data.sd_model = None
    check_on_loaded(ImageConfig())
