"""Turns, borrowing and publishing in Forge, against a stand-in for what is looked at of its ``modules`` and ``backend``."""

import contextlib
import gc
import sys
import weakref
from types import SimpleNamespace

import forge
import pytest
import tiny
import torch
from hotlora.engine.control import Newest
from hotlora.engine.errors import ModelAway, UserError
from hotlora.engine.options import build
from hotlora.hosts.forge import memory
from hotlora.hosts.forge.checkpoint import check_usable, name_chosen
from hotlora.hosts.forge.host import ForgeHost, check_on_loaded
from hotlora.hosts.forge.live import update_live
from hotlora.hosts.forge.sampling import _nothing_loaded
from hotlora.hosts.webui import live as webui_live
from hotlora.sd.config import ImageConfig


@pytest.fixture(scope="module")
def parts():
    return tiny.build_sd1()


@pytest.fixture
def web(monkeypatch, tmp_path, parts):
    checkpoint = tiny.tiny_sd1_file(tmp_path / "one.safetensors")
    return forge.make_forge(monkeypatch, tmp_path, lambda: forge.StableDiffusion(parts, checkpoint))


def cat(**options):
    return build(ImageConfig, {"output_name": "cat", **options})


def choose(web, name):
    """As at the top of the page, which loads nothing."""
    info = SimpleNamespace(filename=f"elsewhere/{name}", name=name, ids=[name])
    web.sd_models.model_data.forge_loading_parameters = {"checkpoint_info": info}
    return info


def draw_with_another(web, name):
    """A picture with another checkpoint."""
    info = choose(web, name)
    web.load().sd_checkpoint_info = info


def test_a_forge_that_has_loaded_nothing_loads_what_is_chosen_when_a_run_borrows_it(web):
    host, config = ForgeHost(), cat()
    assert name_chosen() == "one.safetensors" and host.has_model(config) and web.loads == 0
    host.borrow(config)
    assert web.loads == 1 and config.base_model == "one.safetensors"
    ForgeHost().borrow(cat())
    assert web.loads == 1
    with host.turn():
        pass


def test_a_chosen_checkpoint_is_not_a_loaded_one(web):
    """The old one is trained on until a picture has the new one loaded; only then the run waits, and goes on when it is chosen again."""
    host, config = ForgeHost(), cat()
    host.borrow(config)
    chosen = web.sd_models.model_data.forge_loading_parameters
    choose(web, "two.safetensors")
    assert name_chosen() == "two.safetensors" and host.has_model(config)
    with host.turn():
        assert web.loads == 1
    draw_with_another(web, "two.safetensors")
    assert not host.has_model(config)
    with pytest.raises(ModelAway, match=r"has 'two.safetensors' loaded. Choose 'one.safetensors' at the top of the page"), host.turn():
        pytest.fail("no turn")
    web.sd_models.model_data.forge_loading_parameters = chosen
    assert host.has_model(config)
    with pytest.raises(ModelAway, match="loaded its checkpoint anew. It goes on by itself"), host.turn():
        pytest.fail("no turn")
    host.borrow(config)
    with host.turn():
        assert web.loads == 3


def test_while_it_loads_and_where_there_is_nothing_to_load(web):
    web.sd_models.model_data.sd_model = None
    assert ForgeHost().has_model(cat())  # borrowing waits for the lock, under which it is loaded
    web.sd_models.model_data.forge_loading_parameters = {"checkpoint_info": None}
    assert name_chosen() == ""
    with pytest.raises(ModelAway, match="the WebUI has no checkpoint. Choose one at the top of the page"):
        ForgeHost().borrow(cat())


def test_a_checkpoint_that_cannot_be_loaded_is_a_sentence(web):
    def fail():
        raise ValueError("Failed to recognize model type!\n")

    web.sd_models.forge_model_reload = fail
    with pytest.raises(UserError, match=r"cannot train on 'one.safetensors': the WebUI cannot load it \(Failed to recognize model type!\)"):
        ForgeHost().borrow(cat())
    assert not web.call_queue.queue_lock._lock.locked()


def test_what_forge_has_let_go_of_is_kept_by_nobody(web):
    """Neither by a run that waits for it, nor by one that has ended."""
    host, config = ForgeHost(), cat()
    trainee = host.borrow(config)
    net = weakref.ref(trainee.model.unet)
    draw_with_another(web, "two.safetensors")
    with pytest.raises(ModelAway), host.turn():
        pytest.fail("no turn")
    web.memory.current_loaded_models.clear()
    del trainee
    gc.collect()
    assert net() is None


def test_a_turn_has_the_weights_of_the_checkpoint_and_pictures_what_they_ask_for(web):
    host = ForgeHost()
    host.borrow(cat())
    loaded = web.sd_models.model_data.sd_model
    plain, held = loaded.digest(), loaded.forge_objects_original
    path = next(name for name, _ in held.unet.model.named_parameters() if name.endswith("attn1.to_q.weight"))
    with_lora = held.unet.clone((path, 1.0))
    web.memory.load_models_gpu([with_lora])
    loaded.forge_objects = loaded.forge_objects_after_applying_lora = SimpleNamespace(unet=with_lora)
    loaded.current_lora_hash = "[['a.safetensors', 1.0, 1.0, False]]"
    web.networks.loaded_networks.append("a")
    assert not torch.equal(held.unet.model.get_parameter(path), plain[f"0 {path}"])
    with host.turn():
        assert all(torch.equal(now, plain[name]) for name, now in loaded.digest().items())
        assert loaded.current_lora_hash == "[]" and not web.networks.loaded_networks
        assert loaded.forge_objects.unet is loaded.forge_objects_after_applying_lora.unet is held.unet
        assert not any(parameter.is_inference() for tree in loaded.trees()[:2] for parameter in tree.parameters())


def test_publishing_forgets_what_forge_has_read_of_files(web, tmp_path):
    host, file = ForgeHost(), tmp_path / "Lora" / "cat.safetensors"
    host.borrow(cat())
    file.parent.mkdir()
    file.write_bytes(b"new")
    encoded = web.processing.StableDiffusionProcessingTxt2Img.cached_c
    with host.turn():
        host.publish(file)
    assert web.networks.read == ["cleared"] and web.networks.listed == 1 and encoded == [None, None]
    del web.networks.networks_in_memory, web.networks.load_lora_state_dict  # Neo has neither
    with host.turn():
        host.publish(file)
    with pytest.raises(RuntimeError, match="only for the length of a turn"):
        host.publish(file)


def test_a_file_from_beside_needs_no_turn_and_the_model_is_fetched_only_where_a_lora_is_in_it(web, tmp_path):
    host, file = ForgeHost(), tmp_path / "Lora" / "cat.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"new")
    host.publish_beside(file)
    assert web.networks.listed == 1 and web.loads == 0
    loaded = web.load()
    host.publish_beside(file)
    assert not web.memory.current_loaded_models
    loaded.current_lora_hash = "[['cat.safetensors', 1.0, 1.0, False]]"
    host.publish_beside(file)
    assert loaded.current_lora_hash == "[]" and web.memory.current_loaded_models and web.networks.read == ["cleared"] * 3
    with pytest.raises(UserError, match="cannot train LoKr with convolutions in Forge"):
        host.find_base(cat(network_type="lokr", conv_rank=4))


def test_the_live_lora_takes_the_last_ones_out(web, monkeypatch, tmp_path):
    web.load()
    web.sd_models.model_data.sd_model.current_lora_hash = "old"
    monkeypatch.setattr(webui_live, "_written", {})
    monkeypatch.setitem(sys.modules, "network", SimpleNamespace(NetworkOnDisk=lambda name, filename: (name, filename)))
    newest = Newest(lambda: 3, lambda path: path, contextlib.nullcontext)
    job = SimpleNamespace(run=SimpleNamespace(adapter_name="cat"), control=SimpleNamespace(newest=newest))
    with torch.inference_mode():  # in which Forge draws
        update_live(SimpleNamespace(current=job), ["<lora:cat-live:1>"])
    assert web.sd_models.model_data.sd_model.current_lora_hash == "[]" and "cat-live" in web.networks.available_networks


def test_an_unload_in_the_middle_of_a_turn_is_waited_out(web):
    host = ForgeHost()
    host.borrow(cat())
    with pytest.raises(ModelAway, match="was unloaded. Training goes on by itself"), host.turn():
        web.sd_models.model_data.sd_model.forge_objects_original.unet.model.to("meta")  # the API does so without standing in the queue
        raise RuntimeError("tensors on two devices")
    assert host.has_model(cat())


def test_weights_that_are_streamed_are_refused_with_the_name_of_the_setting(web, monkeypatch):
    web.load()
    monkeypatch.setattr(memory, "is_on_device", lambda patcher: False)
    with pytest.raises(UserError, match="Raise GPU Weights at the top of the page") as refused:
        ForgeHost().borrow(cat())
    assert not isinstance(refused.value, ModelAway)


def test_what_cannot_be_trained_any_more_ends_the_run_with_its_state_saved(web, monkeypatch):
    host = ForgeHost()
    host.borrow(cat())
    monkeypatch.setattr(memory, "is_on_device", lambda patcher: False)
    with pytest.raises(ModelAway, match="Raise GPU Weights"), host.turn():
        pytest.fail("no turn")


class Flux(SimpleNamespace):
    """Forge's engine of another family."""


def spoil_unet(web, **values):
    vars(web.sd_models.model_data.sd_model.forge_objects_original.unet.model.diffusion_model).update(values)


def spoil_net(web, **values):
    vars(web.sd_models.model_data.sd_model.forge_objects_original.unet.model).update(values)


def be_of_another_family(web):
    info = web.sd_models.model_data.sd_model.sd_checkpoint_info
    web.sd_models.model_data.sd_model = Flux(is_sd1=False, is_sdxl=False, forge_objects_original=None, sd_checkpoint_info=info)


SPOILED = {
    "it is a Flux model, which is not trained here yet": be_of_another_family,
    "inpainting": lambda web: spoil_unet(web, in_channels=9),
    "unCLIP": lambda web: spoil_unet(web, num_classes="sequential"),
    "refiner": lambda web: setattr(web.sd_models.model_data.sd_model, "is_sdxl", True),
    "neither noise nor velocity": lambda web: setattr(
        web.sd_models.model_data.sd_model.forge_objects_original.unet.model.predictor, "prediction_type", "const"
    ),
    "stored in float8_e4m3fn. Set Diffusion in Low Bits": lambda web: spoil_net(web, storage_dtype=torch.float8_e4m3fn),
    "stored in nf4": lambda web: spoil_net(web, storage_dtype="nf4"),
    "stored in gguf": lambda web: spoil_net(web, storage_dtype="gguf"),
}


@pytest.mark.parametrize("reason", SPOILED)
def test_what_cannot_be_trained_is_refused_with_a_reason(web, reason):
    check_usable(web.load())
    SPOILED[reason](web)
    with pytest.raises(UserError, match=reason):
        check_on_loaded(cat())


def test_at_the_click_no_other_checkpoint_than_the_runs_is_judged(web):
    web.load()
    be_of_another_family(web)
    check_on_loaded(cat(base_model="two.safetensors"))
    with pytest.raises(UserError, match="cannot train LoKr with convolutions in Forge"):
        check_on_loaded(cat(base_model="two.safetensors", network_type="lokr", conv_rank=4))


def test_a_sample_orders_nothing_and_leaves_orders_alone(web):
    web.load()
    choose(web, "two.safetensors")
    web.processing.need_global_unload = True
    with _nothing_loaded():
        assert web.load() and web.loads == 1 and not web.processing.need_global_unload
        choose(web, "three.safetensors")  # by somebody else, meanwhile
    assert web.processing.need_global_unload
    web.load()
    assert web.loads == 2


def test_room_is_asked_for_only_where_something_is_to_do(web, monkeypatch):
    loaded = web.load()
    held, asked = loaded.forge_objects_original, []
    load = web.memory.load_models_gpu
    monkeypatch.setattr(web.memory, "load_models_gpu", lambda *all, **named: (asked.append(all), load(*all, **named)))
    for _ in range(3):
        memory.load([held.unet, held.clip.patcher])
    assert len(asked) == 1
    load([held.unet.clone()])
    memory.load([held.unet, held.clip.patcher])
    assert len(asked) == 2


def test_the_card_is_handed_back_by_forges_own_means_and_the_next_turn_fetches_it(web):
    host, did = ForgeHost(), []
    host.borrow(cat())
    web.memory.unload_all_models = lambda: did.append(web.memory.current_loaded_models.clear())
    host.unload(cat())
    assert did and not web.memory.current_loaded_models and host.has_model(cat())
    host.load_again(cat())
    assert not web.memory.current_loaded_models
    with host.turn():
        assert web.memory.current_loaded_models
    draw_with_another(web, "two.safetensors")
    host.unload(cat(base_model="one.safetensors"))
    assert len(did) == 1 and not web.call_queue.queue_lock._lock.locked()
