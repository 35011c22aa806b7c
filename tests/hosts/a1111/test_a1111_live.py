"""The live LoRA: written when a prompt asks for it, taken by the WebUI in place of what it has, gone with its run. That a picture
with it equals one with the same state saved is proved in the real WebUI."""

import contextlib
import dataclasses
import sys
from types import SimpleNamespace

import pytest
from hotlora.engine.control import Newest
from hotlora.hosts.a1111.live import remove_live, update_live
from hotlora.hosts.webui import live as webui_live
from hotlora.hosts.webui.live import remove_leftover_lives

ASKED = ["red apple <lora:cat v1.5-live:0.8>"]


@pytest.fixture
def run(webui, monkeypatch, tmp_path):
    """A run in training; ``step`` is where it is."""
    monkeypatch.setattr(webui_live, "_written", {})
    monkeypatch.setitem(sys.modules, "network", SimpleNamespace(NetworkOnDisk=lambda name, filename: (name, filename)))
    run = SimpleNamespace(step=3, written=[], web=webui, path=tmp_path / "Lora" / "hotlora" / "live" / "cat v1.5-live.safetensors")

    def write(path):
        assert not webui.networks.loaded_networks and not webui.layer.network_current_names, "the WebUI still has the old one"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"step {run.step}", encoding="utf-8")
        path.with_suffix(".json").write_text("{}", encoding="utf-8")
        run.written.append(run.step)
        return path

    newest = Newest(lambda: run.step, write, contextlib.nullcontext)
    run.job = SimpleNamespace(run=SimpleNamespace(adapter_name="cat v1.5"), control=SimpleNamespace(newest=newest))
    run.jobs = SimpleNamespace(current=run.job)
    return run


def draw_with_it(web, path):
    """What the WebUI holds after a picture with the live LoRA."""
    web.networks.loaded_networks.append(path.stem)
    web.layer.network_current_names = ((path.stem, 0.8, 0.8, None),)
    web.networks.networks_in_memory[path.stem] = "read from the file"
    web.processing.StableDiffusionProcessingTxt2Img.cached_c[:] = ["prompt", "encoded with it"]


def holds_it(web, path):
    listed = path.stem in web.networks.available_networks or path.stem in web.networks.available_network_aliases
    encoded = web.processing.StableDiffusionProcessingTxt2Img.cached_c != [None, None]
    return listed, path.stem in web.networks.networks_in_memory, bool(web.layer.network_current_names), encoded


def test_it_is_written_only_when_asked_for_and_only_when_there_is_news(run):
    for prompts in (
        [],
        ["red apple"],
        ["<lora:cat v1.5:0.8>"],
        ["<lora:black cat v1.5-live:0.8>"],
        ["cat v1.5-live"],
        ["<lora:cat v1x5-live:1>"],
    ):
        update_live(run.jobs, prompts)
    assert not run.path.exists()
    for step in (3, 3, 4, 4, 9):
        run.step = step
        update_live(run.jobs, ["red apple", *ASKED])
        assert run.path.read_text(encoding="utf-8") == f"step {step}"
        draw_with_it(run.web, run.path)
    assert run.written == [3, 4, 9]


@pytest.mark.parametrize("prompt", ["<lora:cat v1.5-live>", "<lyco:cat v1.5-live:1:0.5>", "a<lora:x:1><lora:cat v1.5-live:0>"])
def test_every_kind_of_tag_counts(run, prompt):
    update_live(run.jobs, [prompt])
    assert run.written == [3]


def test_a_lora_that_the_settings_add_to_every_prompt_counts(run):
    run.web.shared.opts.sd_lora = "cat v1.5-live"
    update_live(run.jobs, ["red apple"])
    assert run.written == [3]


def test_the_webui_has_nothing_of_the_state_before(run):
    update_live(run.jobs, ASKED)
    entry = (run.path.stem, str(run.path))
    assert run.web.networks.available_networks[run.path.stem] == run.web.networks.available_network_aliases[run.path.stem] == entry
    under_way = run.web.processing.StableDiffusionProcessingTxt2Img.cached_c  # a picture takes the list over when it is queued
    draw_with_it(run.web, run.path)
    run.step += 1
    update_live(run.jobs, ASKED)
    assert holds_it(run.web, run.path) == (True, False, False, False)
    assert under_way == [None, None]


def test_another_session_at_the_same_step_is_news(run):
    update_live(run.jobs, ASKED)
    run.job.control.newest = dataclasses.replace(run.job.control.newest)
    update_live(run.jobs, ASKED)
    assert run.written == [3, 3]


def test_without_a_run_in_training_nothing_happens(run):
    run.job.control.newest = None
    update_live(run.jobs, ASKED)
    update_live(SimpleNamespace(current=None), ASKED)
    assert not run.path.exists()


def test_it_is_gone_with_its_run(run):
    remove_live(run.job)  # never asked for
    update_live(run.jobs, ASKED)
    draw_with_it(run.web, run.path)
    other = run.path.with_name("cat v1.5-live-2-live.safetensors")
    other.write_text("another run's", encoding="utf-8")
    remove_live(run.job)
    assert list(run.path.parent.iterdir()) == [other]
    assert holds_it(run.web, run.path) == (False, False, False, False)
    assert not run.web.networks.loaded_networks
    assert not run.web.call_queue.queue_lock._lock.locked()


def test_it_is_gone_also_when_the_model_is(run):
    update_live(run.jobs, ASKED)
    run.web.sd_models.model_data.sd_model = None
    remove_live(run.job)
    assert not run.path.exists()


def test_what_a_killed_webui_left_is_removed_but_not_what_this_one_wrote(run):
    remove_leftover_lives()  # no folder yet
    update_live(run.jobs, ASKED)
    mine = run.path.parent.parent / "mine-live.safetensors"
    mine.write_text("a LoRA that happens to be called so", encoding="utf-8")
    for name in ("dog-live.safetensors", "dog-live.json", ".dog-live.safetensors.77.tmp"):
        run.path.with_name(name).write_text("left", encoding="utf-8")
    remove_leftover_lives()
    assert sorted(file.name for file in run.path.parent.iterdir()) == ["cat v1.5-live.json", "cat v1.5-live.safetensors"]
    assert mine.exists()
