"""A sample in A1111 leaves the WebUI's settings and globals alone, against a stand-in for its txt2img."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from hotlora.hosts.a1111_sampling import sample_picture
from hotlora.sd.model import SampleRequest

REQUEST = SampleRequest("red apple <lora:other:1>", "", 64, 64, 12, 4.0, "Euler", 1, clip_skip=2)
DEFAULTS = {"CLIP_stop_at_last_layers": 1, "sd_unet": "Automatic", "sd_model_checkpoint": None}


class Options:
    """The WebUI's: ``data`` holds what its config file has, everything else is at its default."""

    def __init__(self, data):
        self.data = data

    def __getattr__(self, name):
        return self.data.get(name, DEFAULTS[name])


class State:
    def __init__(self):
        self.job, self.interrupted, self.skipped, self.stopping_generation = "a person's", True, False, False

    def begin(self, job):
        self.job, self.interrupted, self.skipped, self.new = job, False, False, 1


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
