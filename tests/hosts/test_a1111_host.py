"""Turns, hand-over and publishing in A1111, against a stand-in for the few of its ``modules`` that are looked at.

What the WebUI itself does with them is proved in the real one; here it is that each is called, undone and said.
"""

import sys
import threading
import time
from collections import deque
from types import ModuleType, SimpleNamespace

import pytest
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.hosts.a1111 import A1111Host, check_usable, check_wanted
from hotlora.sd.config import ImageConfig
from torch import nn


class FairLock:
    """The WebUI's FIFOLock: wakes whoever came first, but may be taken again before they are awake."""

    def __init__(self):
        self._lock, self._guard, self._pending_threads = threading.Lock(), threading.Lock(), deque()

    def __enter__(self):
        with self._guard:
            if self._lock.acquire(blocking=False):
                return
            woken = threading.Event()
            self._pending_threads.append(woken)
        woken.wait()
        self._lock.acquire()

    def __exit__(self, *error):
        with self._guard:
            if self._pending_threads:
                self._pending_threads.popleft().set()
            self._lock.release()


class Loaded(nn.Module):
    is_sdxl = is_sd2 = is_sd3 = lowvram = False

    def __init__(self, path):
        super().__init__()
        self.model = nn.Module()
        self.model.diffusion_model = nn.Conv2d(4, 4, 1)  # has in_channels, as a U-Net has
        self.model.conditioning_key = "crossattn"
        self.cond_stage_model = SimpleNamespace(id_end=1, wrapped=None)
        self.sd_checkpoint_info = SimpleNamespace(filename=str(path), name=path.name, ids=[path.stem])
        self.network_layer_mapping = {"layer": self.model.diffusion_model}
        self.applied_token_merged_ratio = 0.5


@pytest.fixture
def webui(monkeypatch, tmp_path):
    """The WebUI with a checkpoint loaded, after a picture with a LoRA, tiling, token merging, Hypertile and a hypernetwork."""
    loaded = Loaded(tmp_path / "base.safetensors")
    layer = loaded.model.diffusion_model
    layer.network_current_names = (("style", 1, 1, None),)
    setattr(layer, "__webui_hypertile_params", SimpleNamespace(enabled=True))
    web = SimpleNamespace(
        sd_models=SimpleNamespace(model_data=SimpleNamespace(sd_model=loaded)),
        devices=SimpleNamespace(device=torch.device("cpu"), fp8=False),
        call_queue=SimpleNamespace(queue_lock=FairLock()),
        shared=SimpleNamespace(cmd_opts=SimpleNamespace(lowvram=False, lora_dir=str(tmp_path / "Lora")), loaded_hypernetworks=["network"]),
        sd_unet=SimpleNamespace(current_unet=None, current_unet_option=None),
        sd_hijack=SimpleNamespace(model_hijack=SimpleNamespace(circular_enabled=True)),
        processing=SimpleNamespace(),
    )
    web.sd_models.apply_token_merging = lambda model, ratio: setattr(model, "applied_token_merged_ratio", ratio)
    hijack = web.sd_hijack.model_hijack
    hijack.apply_circular = lambda on: setattr(hijack, "circular_enabled", on)
    for kind in ("StableDiffusionProcessing", "StableDiffusionProcessingTxt2Img", "StableDiffusionProcessingImg2Img"):
        setattr(web.processing, kind, type(kind, (), {"cached_c": ["old", "old"]}))
    package = ModuleType("modules")
    for name, module in vars(web).items():
        setattr(package, name, module)
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)
    monkeypatch.setitem(sys.modules, "modules", package)
    networks = SimpleNamespace(loaded_networks=["style"], networks_in_memory={"style": 1}, listed=0)
    networks.load_networks = lambda names: networks.loaded_networks.clear()
    networks.network_apply_weights = lambda module: setattr(module, "network_current_names", ())
    networks.list_available_networks = lambda: setattr(networks, "listed", networks.listed + 1)
    monkeypatch.setitem(sys.modules, "networks", networks)
    web.loaded, web.networks, web.layer = loaded, networks, layer
    return web


@pytest.fixture
def host(webui):
    host = A1111Host()
    host._loaded, host._checkpoint = webui.loaded, webui.loaded.sd_checkpoint_info
    return host


def shaping(web):
    """Whatever shapes pictures and is put back."""
    hook = getattr(web.layer, "__webui_hypertile_params")
    merging = web.loaded.applied_token_merged_ratio
    return hook.enabled, merging, web.sd_hijack.model_hijack.circular_enabled, web.shared.loaded_hypernetworks


def test_a_turn_has_the_plain_model_and_gives_back_what_it_found(host, webui):
    before = shaping(webui)
    assert before == (True, 0.5, True, ["network"])
    with pytest.raises(ZeroDivisionError), host.turn():
        assert shaping(webui) == (False, 0, False, [])
        assert webui.layer.network_current_names == () and not webui.networks.loaded_networks
        1 / 0  # noqa: B018
    assert shaping(webui) == before
    assert not webui.call_queue.queue_lock._lock.locked()


def test_a_replaced_unet_is_put_aside_for_the_turn(host, webui):
    calls = []
    webui.sd_unet.current_unet_option = SimpleNamespace(label="[TRT] base")
    webui.sd_unet.apply_unet = calls.append
    with host.turn():
        assert calls == ["None"]
    assert calls == ["None", "[TRT] base"]


def test_without_the_lora_extension_there_is_nothing_to_take_out(host, webui, monkeypatch):
    monkeypatch.delitem(sys.modules, "networks")
    del webui.loaded.network_layer_mapping
    with host.turn():
        pass


def test_whoever_waits_comes_first(host, webui):
    """Pictures begin at the next end of a turn, however eagerly training asks for another one."""
    turns, waited = 0, []

    def draw():
        for _ in range(10):
            began = turns
            with webui.call_queue.queue_lock:
                waited.append(turns - began)
            time.sleep(0.02)

    people = [threading.Thread(target=draw) for _ in range(2)]
    for person in people:
        person.start()
    while any(person.is_alive() for person in people):
        with host.turn():
            until = time.monotonic() + 0.2
            while time.monotonic() < until and not host.wanted():
                time.sleep(0.001)
            turns += 1
    assert len(waited) == 20
    assert max(waited) <= 2, waited  # the turn that was going on, and one for a thread that was slow to wake
    assert sum(waited) <= 25, waited


def test_another_checkpoint_is_never_trained_on(host, webui, tmp_path):
    webui.sd_models.model_data.sd_model = Loaded(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"on 'other.safetensors'.*Load 'base.safetensors' and resume"), host.turn():
        pytest.fail("no turn")
    webui.sd_models.model_data.sd_model = Loaded(tmp_path / "base.safetensors")
    with pytest.raises(UserError, match="loaded 'base.safetensors' anew"), host.turn():
        pytest.fail("no turn")
    webui.sd_models.model_data.sd_model = None
    with pytest.raises(UserError, match="Load 'base.safetensors'"), host.turn():
        pytest.fail("no turn")
    assert not webui.call_queue.queue_lock._lock.locked()


def test_an_unloaded_checkpoint_is_not_trained_on(host, webui):
    webui.loaded.to("meta")
    with pytest.raises(UserError, match="'base.safetensors' was unloaded"), host.turn():
        pytest.fail("no turn")


SPOILED = {
    "no checkpoint loaded": lambda web: setattr(web.sd_models.model_data, "sd_model", None),
    "Stable Diffusion 3": lambda web: setattr(web.loaded, "is_sd3", True),
    "inpainting": lambda web: setattr(web.loaded.model.diffusion_model, "in_channels", 9),
    "unCLIP": lambda web: setattr(web.loaded.model, "conditioning_key", "crossattn-adm"),
    "refiner": lambda web: (setattr(web.loaded, "is_sdxl", True), setattr(web.loaded, "conditioner", SimpleNamespace(embedders=[]))),
    "not CLIP": lambda web: setattr(web.loaded, "cond_stage_model", object()),
    "--lowvram": lambda web: setattr(web.shared.cmd_opts, "lowvram", True),
    "replaced by": lambda web: setattr(web.sd_unet, "current_unet", SimpleNamespace(option=SimpleNamespace(label="[TRT]"))),
    "fp8": lambda web: setattr(web.devices, "fp8", True),
}


@pytest.mark.parametrize("reason", SPOILED)
def test_what_cannot_be_trained_is_refused_with_a_reason(webui, reason):
    check_usable(webui.loaded)
    SPOILED[reason](webui)
    with pytest.raises(UserError, match=reason):
        check_usable(webui.sd_models.model_data.sd_model)


def test_the_loaded_checkpoint_must_be_the_one_that_is_asked_for(webui):
    info = webui.loaded.sd_checkpoint_info
    for wanted in ("", "base", "C:/elsewhere/base.safetensors", info.filename):
        check_wanted(info, build(ImageConfig, {"base_model": wanted}))
    with pytest.raises(UserError, match="its base_model is 'other.safetensors'"):
        check_wanted(info, build(ImageConfig, {"base_model": "other.safetensors"}))


def save(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_published_file_is_in_the_list_and_nothing_of_an_older_one_is_kept(host, webui, tmp_path):
    path = save(tmp_path / "run" / "cat.safetensors", "new")
    save(path.with_suffix(".json"), "{}")
    with host.turn():
        host.publish(path)
    folder = tmp_path / "Lora" / "hotlora"
    assert {p.name: p.read_text(encoding="utf-8") for p in folder.iterdir()} == {"cat.safetensors": "new", "cat.json": "{}"}
    assert webui.networks.listed == 1 and not webui.networks.networks_in_memory
    assert webui.processing.StableDiffusionProcessingTxt2Img.cached_c == [None, None]


def test_a_file_in_the_webuis_folder_is_not_copied(host, tmp_path):
    path = save(tmp_path / "Lora" / "mine" / "cat.safetensors", "new")
    with host.turn():
        host.publish(path)
    assert [p for p in (tmp_path / "Lora").rglob("*") if p.is_file()] == [path]


def test_checkpoints_that_the_run_forgot_go_from_the_webui_too(host, tmp_path):
    folder, names = tmp_path / "run" / "checkpoints", ("cat-step00000010", "cat-step00000020", "cat-step00000030")
    save(tmp_path / "Lora" / "hotlora" / "dog-step00000010.safetensors", "another run's")
    for name in names:
        save(folder / f"{name}.json", "{}")
        path = save(folder / f"{name}.safetensors", name)
        with host.turn():
            host.publish(path)
        for old in sorted(folder.glob("*.safetensors"))[:-1]:
            old.unlink()
    with host.turn():
        host.publish(save(tmp_path / "run" / "cat.safetensors", "final"))
    kept = sorted(p.name for p in (tmp_path / "Lora" / "hotlora").glob("*"))
    assert kept == [f"{names[2]}.json", f"{names[2]}.safetensors", "cat.safetensors", "dog-step00000010.safetensors"]


def test_publishing_between_turns_is_a_bug(host, tmp_path):
    with pytest.raises(RuntimeError):
        host.publish(tmp_path / "cat.safetensors")
