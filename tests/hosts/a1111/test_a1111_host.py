"""Turns, hand-over and publishing in A1111, against a stand-in for the few of its ``modules`` that are looked at.

What the WebUI itself does with them is proved in the real one; here it is that each is called, undone and said.
"""

import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from hotlora.engine.control import Control
from hotlora.engine.errors import ModelAway, UserError
from hotlora.engine.freeing import Freeing
from hotlora.engine.options import build
from hotlora.hosts.a1111.checkpoint import check_usable
from hotlora.hosts.a1111.host import A1111Host
from hotlora.hosts.webui.checkpoints import is_wanted
from hotlora.sd.config import ImageConfig
from webui import Loaded


@pytest.fixture
def host(webui):
    """After ``borrow``; that itself needs a real model."""
    host = A1111Host()
    host.lend(build(ImageConfig, {"output_name": "cat", "base_model": webui.loaded.sd_checkpoint_info.name}), webui.loaded)
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


def keep_hooked(layer):
    """As sd-webui-additional-networks leaves the last picture's LoRA in a layer."""
    plain = layer.forward
    layer.forward = lambda *inputs: plain(*inputs) * 2
    return layer.forward


def test_what_another_extension_keeps_hooked_in_is_off_for_the_turn(host, webui):
    layer, x = webui.layer, torch.randn(1, 4, 8, 8)
    plain = layer(x)
    hooked = keep_hooked(layer)
    with host.turn():
        assert torch.equal(layer(x), plain)
    assert layer.forward is hooked and torch.equal(layer(x), 2 * plain)


def test_weights_that_another_extension_has_changed_are_waited_for(host, webui):
    webui.layer._lora_org_weights = {}
    assert not host.has_model(host._config)
    refuse_turn(host, "the extension sd-webui-additional-networks has changed the weights of the loaded model. Switch it off and make")
    del webui.layer._lora_org_weights
    with host.turn():
        assert host.has_model(host._config)


def test_a_model_that_changes_while_it_is_looked_at_is_looked_at_again_in_the_turn(host, webui, monkeypatch):
    def changing():
        raise RuntimeError("OrderedDict mutated during iteration")
        yield

    monkeypatch.setattr(webui.loaded.model, "modules", changing)
    assert host.has_model(host._config)


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


def test_training_has_its_share_among_people_who_draw_without_a_pause(host, webui):
    """And no picture waits for it longer than that share and a step."""
    control, step, picture, turns = Control(host, None, 60.0, 0.1), 0.01, 0.12, []
    end = time.monotonic() + 3.0

    def draw():
        while time.monotonic() < end:
            with webui.call_queue.queue_lock:
                time.sleep(picture)
            time.sleep(0.005)  # from one request to the next; else the lock is taken again before whoever came first is awake

    people = [threading.Thread(target=draw) for _ in range(2)]
    for person in people:
        person.start()
    while time.monotonic() < end:
        asked = time.monotonic()
        with control.turn():
            began = time.monotonic()
            time.sleep(step)
            while time.monotonic() < end and not control.turn_over():
                time.sleep(step)
            turns.append((time.monotonic() - began, (began - asked) / 9))
    for person in people:
        person.join()
    assert 0.05 < control.share_of_time() < 0.25 and len(turns) >= 5
    late = [(had, share) for had, share in turns[1:] if had > share + step + 0.04]
    assert len(late) <= 1, turns  # the machine has other work


def refuse_turn(host, match):
    with pytest.raises(ModelAway, match=match), host.turn():
        pytest.fail("no turn")


def test_another_checkpoint_is_never_trained_on_but_waited_for(host, webui, tmp_path):
    data, config = webui.sd_models.model_data, host._config
    assert host.has_model(config)
    data.sd_model = Loaded(tmp_path / "other.safetensors")
    assert not host.has_model(config)
    refuse_turn(host, "cannot train 'cat' now: the WebUI has 'other.safetensors' loaded. Load 'base.safetensors' and it goes on by itself")
    data.sd_model = None
    assert not host.has_model(config)
    refuse_turn(host, "no checkpoint loaded. Load 'base.safetensors'")
    data.sd_model = webui.loaded
    with data.lock:
        assert not host.has_model(config)
        refuse_turn(host, "still loading")
    assert not webui.call_queue.queue_lock._lock.locked()
    with host.turn():
        assert host.has_model(config)


def test_a_checkpoint_that_was_loaded_anew_is_borrowed_anew(host, webui, tmp_path):
    webui.sd_models.model_data.sd_model = Loaded(tmp_path / "base.safetensors")
    refuse_turn(host, "loaded its checkpoint anew")
    assert host.has_model(host._config)
    webui.sd_models.model_data.sd_model = webui.loaded
    webui.loaded.sd_checkpoint_info.filename = str(tmp_path / "elsewhere" / "base.safetensors")
    refuse_turn(host, "loaded its checkpoint anew")


def test_an_unloaded_checkpoint_is_waited_for(host, webui):
    webui.loaded.to("meta")
    assert not host.has_model(host._config)
    refuse_turn(host, "'base.safetensors' was unloaded. Load it again")


def test_a_checkpoint_may_be_unloaded_in_the_middle_of_a_turn(host, webui):
    with pytest.raises(ModelAway, match="was unloaded"), host.turn():
        webui.loaded.to("meta")  # the API does so without standing in the queue
        raise RuntimeError("tensors on two devices")
    webui.loaded.to_empty(device="cpu")
    with pytest.raises(RuntimeError, match="another reason"), host.turn():
        raise RuntimeError("another reason")


def test_what_cannot_be_trained_any_more_ends_the_run_with_its_state_saved(host, webui):
    """The loop saves at ModelAway, and the host has the model: so the run borrows it again, which fails."""
    webui.devices.fp8 = True
    refuse_turn(host, "stored in fp8")
    assert host.has_model(host._config)
    with pytest.raises(UserError, match="stored in fp8") as error:
        host.borrow(host._config)
    assert not isinstance(error.value, ModelAway)


def test_borrowing_waits_for_a_checkpoint(webui):
    webui.sd_models.model_data.sd_model = None
    with pytest.raises(ModelAway, match="no checkpoint loaded. Choose one at the top of the page"):
        A1111Host().borrow(build(ImageConfig, {"output_name": "cat"}))
    webui.sd_models.model_data.sd_model = webui.loaded
    with pytest.raises(ModelAway, match="Load 'other.safetensors'"):
        A1111Host().borrow(build(ImageConfig, {"output_name": "cat", "base_model": "other.safetensors"}))


SPOILED = {
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


def test_the_checkpoint_that_is_asked_for_is_told_by_any_name_of_it(webui):
    info = webui.loaded.sd_checkpoint_info
    for wanted in ("", "base", "base.safetensors", "C:/elsewhere/base.safetensors", info.filename):
        assert is_wanted(info, wanted), wanted
    assert not is_wanted(info, "other.safetensors")
    webui.sd_models.checkpoint_aliases["anime/base.safetensors"] = SimpleNamespace(filename="models/anime/base.safetensors")
    assert not is_wanted(info, "anime/base.safetensors"), "the WebUI has another file under that name"


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


def test_the_card_is_handed_back_by_the_webuis_own_means(host, webui, tmp_path):
    did = []
    webui.sd_models.unload_model_weights = lambda loaded: did.append(("unload", loaded.to("meta")))
    webui.sd_models.send_model_to_device = lambda loaded: did.append(("load", loaded.to_empty(device="cpu")))
    assert isinstance(host, Freeing)
    host.unload(host._config)
    assert did == [("unload", webui.loaded)] and not host.has_model(host._config)
    host.unload(host._config)  # somebody has done so already
    assert len(did) == 1
    host.load_again(host._config)
    host.load_again(host._config)
    assert did[1:] == [("load", webui.loaded)] and host.has_model(host._config)
    webui.sd_models.model_data.sd_model = Loaded(tmp_path / "other.safetensors").to("meta")
    host.unload(host._config)
    host.load_again(host._config)
    assert len(did) == 2 and not webui.call_queue.queue_lock._lock.locked()
