"""A sample in A1111 leaves the WebUI's settings and globals alone, against a stand-in for its txt2img."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from hotlora.engine.errors import UserError
from hotlora.hosts.a1111.sampling import sample_picture
from hotlora.hosts.webui.sampling import check_sampler, list_samplers
from hotlora.sd.model import SdSampleRequest
from webui import State

REQUEST = SdSampleRequest("red apple <lora:other:1>", "", 64, 64, 12, 4.0, "Euler", 1, clip_skip=2)
DEFAULTS = {"CLIP_stop_at_last_layers": 1, "sd_unet": "Automatic", "sd_model_checkpoint": None}


class Options:
    """The WebUI's: ``data`` holds what its config file has, everything else is at its default."""

    def __init__(self, data):
        self.data = data

    def __getattr__(self, name):
        return self.data.get(name, DEFAULTS[name])


class Job(SimpleNamespace):
    def close(self):
        self.closed = True


@pytest.fixture
def web(monkeypatch):
    """``meanwhile`` is what people do while a picture is drawn."""
    web = SimpleNamespace(jobs=[], seen=[], meanwhile=lambda attempt: None)
    shared = SimpleNamespace(
        opts=Options({"sd_model_checkpoint": "base [1234]"}),
        state=State(),
        cmd_opts=SimpleNamespace(no_prompt_history=False),
        total_tqdm=SimpleNamespace(clear=lambda: None),
    )

    def process_images(job):
        web.jobs.append(job)
        shared.opts.data.update(job.override_settings)
        web.seen.append((dict(shared.opts.data), shared.cmd_opts.no_prompt_history))
        torch.manual_seed(job.seed)
        web.meanwhile(len(web.jobs))
        return SimpleNamespace(images=[f"picture {len(web.jobs)}"])

    processing = SimpleNamespace(StableDiffusionProcessingTxt2Img=Job, process_images=process_images)
    package = ModuleType("modules")
    known = {"base [1234]": 1}
    for name, module in {"shared": shared, "processing": processing, "sd_models": SimpleNamespace(checkpoint_aliases=known)}.items():
        setattr(package, name, module)
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)
    monkeypatch.setitem(sys.modules, "modules", package)
    shared.state.job, shared.state.interrupted = "a person's", True
    web.shared = shared
    web.loaded = SimpleNamespace(sd_checkpoint_info=SimpleNamespace(title="base [1234]", register=lambda: known.update({"base [1234]": 1})))
    return web


def test_a_sample_leaves_everything_as_it_was(web):
    shared = web.shared
    settings, state, random = dict(shared.opts.data), dict(vars(shared.state)), torch.get_rng_state()
    assert sample_picture(web.loaded, REQUEST) == "picture 1"
    wanted = {"sd_model_checkpoint": "base [1234]", "CLIP_stop_at_last_layers": 2, "sd_unet": "None"}
    assert web.seen == [(wanted, True)]
    assert shared.opts.data == settings, "also what the config file did not have"
    assert vars(shared.state) == state
    assert torch.equal(torch.get_rng_state(), random)
    assert shared.cmd_opts.no_prompt_history is False
    (job,) = web.jobs
    assert job.closed and job.disable_extra_networks and job.do_not_save_samples
    assert job.cached_c == job.cached_uc == [None, None]


def test_settings_that_are_right_already_are_not_touched(web):
    web.shared.opts.data.update({"CLIP_stop_at_last_layers": 2, "sd_unet": "None"})
    sample_picture(web.loaded, REQUEST)
    assert web.jobs[0].override_settings == {"sd_model_checkpoint": "base [1234]"}


def test_a_checkpoint_chosen_meanwhile_stays_chosen(web):
    web.meanwhile = lambda attempt: web.shared.opts.data.update({"sd_model_checkpoint": "another"})
    sample_picture(web.loaded, REQUEST)
    assert web.shared.opts.data == {"sd_model_checkpoint": "another"}


def test_a_checkpoint_chosen_just_before_is_not_loaded_by_the_sample_and_stays_chosen(web):
    web.shared.opts.data["sd_model_checkpoint"] = "another"
    sample_picture(web.loaded, REQUEST)
    assert web.seen[0][0]["sd_model_checkpoint"] == "base [1234]"
    assert web.shared.opts.data == {"sd_model_checkpoint": "another"}


def test_settings_are_put_back_when_a_sample_fails(web):
    def fail(attempt):
        raise RuntimeError("NaN")

    web.meanwhile, settings = fail, dict(web.shared.opts.data)
    with pytest.raises(RuntimeError, match="NaN"):
        sample_picture(web.loaded, REQUEST)
    assert web.shared.opts.data == settings
    assert web.shared.state.job == "a person's"


def test_interrupt_is_meant_for_peoples_own_pictures(web):
    web.meanwhile = lambda attempt: setattr(web.shared.state, "interrupted", attempt == 1)
    assert sample_picture(web.loaded, REQUEST) == "picture 2"


@pytest.fixture
def samplers(web, monkeypatch):
    """The WebUI's lists, cut short."""
    names = {"DPM++ 2M": {}, "Euler": {}, "Euler a": {}, "PLMS": {"no_sdxl": True}}
    schedulers = [("automatic", "Automatic", None), ("karras", "Karras", None), ("sgm_uniform", "SGM Uniform", ["SGMUniform"])]
    modules = {
        "sd_samplers": SimpleNamespace(
            all_samplers_map={name: SimpleNamespace(options=options) for name, options in names.items()},
            visible_sampler_names=lambda: ["DPM++ 2M", "Euler", "Euler a"],
        ),
        "sd_schedulers": SimpleNamespace(
            schedulers=[SimpleNamespace(name=name, label=label, aliases=aliases) for name, label, aliases in schedulers]
        ),
    }
    for name, module in modules.items():
        monkeypatch.setattr(sys.modules["modules"], name, module, raising=False)
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)


def test_every_sampler_of_the_webui_can_be_asked_for(samplers):
    names = list_samplers()
    assert names[:3] == ["DPM++ 2M", "Euler", "Euler a"]
    assert "Euler a SGM Uniform" in names and len(names) == 3 * 3
    for name in (*names, "PLMS", "Euler karras", "Euler Automatic", "Euler SGMUniform"):
        check_sampler(name, is_sdxl=False)


def test_a_sampler_that_the_webui_lacks_is_refused_with_near_ones(samplers):
    for name in ("Euler Karas", "euler", "Karras", "Euler a b"):
        with pytest.raises(UserError, match=f"'{name}'.*Set sample_sampler: "):
            check_sampler(name, is_sdxl=False)
    with pytest.raises(UserError, match="sample_sampler: Euler Karras or"):
        check_sampler("Euler Karas", is_sdxl=False)
    with pytest.raises(UserError, match="'PLMS' on an SDXL model"):
        check_sampler("PLMS", is_sdxl=True)
