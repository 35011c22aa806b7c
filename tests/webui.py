"""A stand-in for those of the WebUI's ``modules`` that the host looks at. What the WebUI does with them is proved in the real one."""

import sys
import threading
from collections import deque
from types import ModuleType, SimpleNamespace

import torch
from torch import nn


class FairLock:
    """The WebUI's FIFOLock: wakes whoever came first, but may be taken again before they are awake."""

    def __init__(self):
        self._lock, self._guard, self._pending_threads = threading.Lock(), threading.Lock(), deque()

    def acquire(self, blocking=True):
        with self._guard:
            if self._lock.acquire(blocking=False):
                return True
            if not blocking:
                return False
            woken = threading.Event()
            self._pending_threads.append(woken)
        woken.wait()
        return self._lock.acquire()

    def release(self):
        with self._guard:
            if self._pending_threads:
                self._pending_threads.popleft().set()
            self._lock.release()

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *error):
        self.release()


class State:
    """The WebUI's shared.state, as far as a sample changes it."""

    skipped = interrupted = stopping_generation = False
    job, job_count = "", 0

    def begin(self, job="(unknown)"):
        self.job, self.job_count, self.started = job, -1, True
        self.skipped = self.interrupted = self.stopping_generation = False


class Loaded(nn.Module):
    is_sdxl = is_sd2 = is_sd3 = lowvram = False

    def __init__(self, path):
        super().__init__()
        self.model = nn.Module()
        self.model.diffusion_model = nn.Conv2d(4, 4, 1)  # has in_channels, as a U-Net has
        self.model.conditioning_key = "crossattn"
        self.cond_stage_model = SimpleNamespace(id_end=1, wrapped=None)
        self.sd_checkpoint_info = SimpleNamespace(filename=str(path), name=path.name, ids=[path.stem, path.name], sha256="")
        self.network_layer_mapping = {"layer": self.model.diffusion_model}
        self.applied_token_merged_ratio = 0.5


_SWITCHES = ("listen", "share", "ngrok", "server_name", "api", "api_auth")


class OptionInfo:
    """A setting, with what it was made of."""

    def __init__(self, default, label, component, component_args, **rules):
        self.default, self.label, self.component_args, self.rules = default, label, component_args or {}, rules


class Settings:
    """What config.json holds, and the settings that are in no file yet."""

    def __init__(self):
        self.data = {"sd_lora": "None", "sd_noise_schedule": "Default"}
        self.data_labels = {}

    def __getattr__(self, name):
        if name == "data" or name not in self.data:
            raise AttributeError(name)
        return self.data[name]

    def add_option(self, name, info):
        self.data_labels[name] = info
        self.data.setdefault(name, info.default)


class Callbacks:
    """``on_app_started(f)`` keeps ``f`` as ``called["app_started"]``."""

    def __init__(self):
        self.called = {}

    def __getattr__(self, name):
        return lambda function: self.called.update({name.removeprefix("on_"): function})


def make_webui(monkeypatch, tmp_path):
    """The WebUI with a checkpoint loaded, after a picture with a LoRA, tiling, token merging, Hypertile and a hypernetwork."""
    loaded = Loaded(tmp_path / "base.safetensors")
    layer = loaded.model.diffusion_model
    layer.network_current_names = (("style", 1, 1, None),)
    setattr(layer, "__webui_hypertile_params", SimpleNamespace(enabled=True))
    web = SimpleNamespace(
        sd_models=SimpleNamespace(model_data=SimpleNamespace(sd_model=loaded, lock=threading.Lock()), checkpoint_aliases={}),
        devices=SimpleNamespace(device=torch.device("cpu"), fp8=False),
        call_queue=SimpleNamespace(queue_lock=FairLock()),
        shared=SimpleNamespace(
            cmd_opts=SimpleNamespace(lowvram=False, lora_dir=str(tmp_path / "Lora"), **dict.fromkeys(_SWITCHES)),
            opts=Settings(),
            OptionInfo=OptionInfo,
            hide_dirs={"visible": True},
            loaded_hypernetworks=["network"],
            parallel_processing_allowed=True,
        ),
        paths_internal=SimpleNamespace(data_path=str(tmp_path / "webui")),
        script_callbacks=Callbacks(),
        scripts=SimpleNamespace(Script=object, AlwaysVisible=object()),
        sd_unet=SimpleNamespace(current_unet=None, current_unet_option=None),
        sd_hijack=SimpleNamespace(model_hijack=SimpleNamespace(circular_enabled=True)),
        processing=SimpleNamespace(),
        sd_samplers=SimpleNamespace(all_samplers_map={"DPM++ 2M": SimpleNamespace(options={})}, visible_sampler_names=lambda: ["DPM++ 2M"]),
        sd_schedulers=SimpleNamespace(schedulers=[SimpleNamespace(name="automatic", label="Automatic", aliases=None)]),
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
    networks = SimpleNamespace(
        loaded_networks=["style"], networks_in_memory={"style": 1}, listed=0, available_networks={}, available_network_aliases={}
    )
    networks.load_networks = lambda names: networks.loaded_networks.clear()
    networks.network_apply_weights = lambda module: setattr(module, "network_current_names", ())
    networks.list_available_networks = lambda: _list_again(networks)
    monkeypatch.setitem(sys.modules, "networks", networks)
    web.loaded, web.networks, web.layer = loaded, networks, layer
    return web


def _list_again(networks):
    networks.listed += 1
    networks.available_networks.clear()
    networks.available_network_aliases.clear()
