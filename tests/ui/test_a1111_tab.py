"""The one file that AUTOMATIC1111 executes, among stand-ins for what it finds there."""

import os
import runpy
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import webui
from hotlora.engine.errors import UserError
from hotlora.ui import studio as studio_module

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "hotlora_tab.py"


@pytest.fixture
def web(monkeypatch, tmp_path):
    monkeypatch.setattr(studio_module, "_kept", {})
    web = webui.make_webui(monkeypatch, tmp_path)
    web.folder = tmp_path / "webui" / "hotlora"
    for name in ("webui", "named", "secret"):
        (tmp_path / name).mkdir()
    return web


def execute(**switches):
    """As at the start of the WebUI, and at every reload of its page; the studio."""
    from modules import script_callbacks, shared

    vars(shared.cmd_opts).update(switches)
    studio = runpy.run_path(str(SCRIPT))["studio"]
    script_callbacks.called["ui_settings"]()
    return studio


def ask_for(studio, folder):
    studio.jobs.build_config({"output_name": "cat", "train_data_dir": str(folder)})


PUBLIC = [{"listen": True}, {"share": True}, {"ngrok": "token"}, {"server_name": "192.168.1.2"}, {"server_name": "0.0.0.0"}]


@pytest.mark.parametrize("switches", PUBLIC)
def test_who_reaches_the_settings_cannot_widen_what_is_read(web, tmp_path, switches):
    web.shared.opts.data["hotlora_data_folders"] = f"\n {tmp_path / 'named'} \n"
    studio = execute(**switches)
    web.shared.opts.data.update(hotlora_data_folders=str(tmp_path), hotlora_folder=str(tmp_path / "secret"))
    assert execute(**switches) is studio  # Reload UI, which anybody can press
    for allowed in (web.folder / "data" / "cats", tmp_path / "named" / "cats", tmp_path / "Lora"):
        ask_for(studio, allowed)
    for folder in (tmp_path / "secret", tmp_path, Path.home()):
        with pytest.raises(UserError, match="only these folders may be used"):
            ask_for(studio, folder)
    assert studio.jobs.folder == web.folder / "runs" and studio.datasets == web.folder / "data"


def test_after_a_restart_the_settings_count_and_the_owner_is_told(web, tmp_path, capsys):
    web.shared.opts.data.update(hotlora_data_folders=str(tmp_path / "named"), hotlora_folder=str(tmp_path / "mine"))
    studio = execute(listen=True)
    ask_for(studio, tmp_path / "named")
    assert studio.jobs.folder == tmp_path / "mine" / "runs"
    told = capsys.readouterr().out
    assert str(tmp_path / "named") in told and str(tmp_path / "mine") in told


@pytest.mark.parametrize("switches", [{}, {"server_name": "127.0.0.1"}, {"server_name": "localhost"}])
def test_who_sits_at_the_computer_may_use_every_folder(web, switches, capsys):
    ask_for(execute(**switches), os.path.abspath(os.sep))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("visible", [True, False])
def test_folders_are_set_neither_by_the_api_nor_where_the_webui_hides_its_own(web, visible):
    web.shared.hide_dirs = {"visible": visible}
    execute()
    for name in ("hotlora_folder", "hotlora_data_folders"):
        option = web.shared.opts.data_labels[name]
        assert option.rules["restrict_api"] and option.component_args["visible"] is visible
        assert "needs a restart of the server" in option.label
    others = web.shared.opts.data_labels.keys() - {"hotlora_folder", "hotlora_data_folders"}
    assert others == {"hotlora_slice_seconds", "hotlora_training_share", "hotlora_tensorboard", "hotlora_optuna"}


def test_a_run_keeps_the_checkpoint_that_was_loaded_when_train_was_pressed(web):
    """It may stand in line, and another checkpoint be loaded meanwhile."""
    studio = execute()
    vars(web.shared.opts).update(hotlora_slice_seconds=1.5, hotlora_training_share=0.2, hotlora_tensorboard=False)
    assert studio.settings() == {"base_model": "base.safetensors", "slice_seconds": 1.5, "training_share": 0.2, "tensorboard": False}
    web.sd_models.model_data.sd_model = None
    assert studio.settings()["base_model"] == ""  # the one that will be loaded first


def pretend(monkeypatch, *names):
    """Packages that can be imported."""
    for name in names:
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)


def test_forge_is_known_by_what_is_there(web, monkeypatch):
    pretend(monkeypatch, "modules_forge", "backend")
    data = SimpleNamespace(sd_model=object(), forge_loading_parameters={"checkpoint_info": SimpleNamespace(name="chosen.safetensors")})
    web.sd_models.model_data = data
    assert execute().settings()["base_model"] == "chosen.safetensors"
    assert list(studio_module._kept) == ["forge"]


def test_what_is_neither_gets_one_sentence(web, monkeypatch, capsys):
    """reForge and the like."""
    pretend(monkeypatch, "modules_forge", "ldm_patched")
    assert execute() is None
    assert capsys.readouterr().out.count("HotLoRA cannot train here yet") == 1
    called = web.script_callbacks.called
    ((page, title, _),) = called["ui_tabs"]()
    assert title == "Train LoRA" and "HotLoRA cannot train here yet" in str(page.get_config_file())
    called["app_started"](None, None)


def test_the_prompts_widgets_are_taken_as_they_are_made(web):
    execute()
    executed = runpy.run_path(str(SCRIPT))
    keep = web.script_callbacks.called["after_component"]
    for name in executed["_PROMPT_WIDGETS"]:
        keep(f"the {name}", elem_id=f"txt2img_{name}", label=name)
        keep("another", elem_id=f"img2img_{name}")
    keep("another", elem_id=None)
    keep("another", label="no id")
    assert executed["_txt2img"] == {name: f"the {name}" for name in executed["_PROMPT_WIDGETS"]}
