"""The tools that write or compare whole models on the page: in a thread, told how far they are, what they cost and where they write."""

import dataclasses
import shutil
import sys
import threading
from pathlib import Path

import pytest
import torch
from bench_runs import append, make_runs
from hotlora.engine.access import Access
from hotlora.engine.errors import UserError
from hotlora.engine.events import Finished, Saved
from hotlora.engine.jobs import Jobs
from hotlora.sd.config import ImageConfig
from hotlora.toolbox import workbench
from hotlora.toolbox.baking import bake
from hotlora.toolbox.errands import Errands
from hotlora.toolbox.opening import read_adapter
from hotlora.ui.page import build_page, build_standalone_page
from safetensors.torch import load_file
from tiny import tiny_sd1_file
from toy import ToyHost
from toy_studio import toy_studio
from waiting import wait_until

sys.path.append(str(Path(__file__).resolve().parents[1] / "toolbox"))
from lora_files import BUILDERS, make_layers, write

BAKE, EXTRACT = "Put into a model", "Take out of a model"


@pytest.fixture
def studio(tmp_path):
    """A run with a LoRA for the model that the program lists as 'tiny'."""
    make_runs(tmp_path / "runs", 1, steps=3)
    folder = next((tmp_path / "runs").iterdir())
    file = write(folder / "cat.safetensors", make_layers("sd1", BUILDERS["sd1"]()))
    append(folder / "events.jsonl", [Saved(3, "final", str(file)), Finished(3, "done", {})])
    (tmp_path / "models").mkdir()
    base = tiny_sd1_file(tmp_path / "models" / "tiny für Zoë.safetensors")
    return dataclasses.replace(toy_studio(tmp_path), models=lambda: {"tiny": base})


@pytest.fixture
def tools(studio):
    return build_page(studio).hotlora.watch._keeping.tools


def do(tools, tool, *, weights="", rank=4, name="new", model="tiny", tuned=""):
    told = tools._do(tool, ["run 0000/cat.safetensors"], rank, weights, next(iter(["for diffusers"])), name, model, tuned)
    wait_until(lambda: not tools._errands.status.busy)
    return told, tools._errands.status


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_a_lora_is_put_into_a_model_and_taken_out_again(serve, open_page, studio, tmp_path, size):
    page = open_page(serve(build_standalone_page(studio)), size=size)
    page.locator('#hotlora_runs tr[data-name="run 0000"]').wait_for()
    page.locator("#hotlora_toolbox").get_by_text("Tools", exact=True).click()
    page.locator("#hotlora_tool_files input").click()
    page.locator("#hotlora_tool_files li", has_text="run 0000/cat.safetensors").click()
    page.locator("#hotlora_tool").get_by_text(BAKE).click()
    page.locator("#hotlora_tool_model input").first.click()
    page.locator("#hotlora_tool_model li", has_text="tiny").first.click()
    page.locator("#hotlora_tool_weights").locator("textarea, input").first.fill("0.5")
    page.locator("#hotlora_tool_name").locator("textarea, input").first.fill("baked")
    page.locator("#hotlora_tool_do").first.click()
    page.locator("#hotlora_tool_work", has_text="baked.safetensors: written").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]
    base, baked = studio.models()["tiny"], tmp_path / "models" / "baked.safetensors"
    bake(base, [next((tmp_path / "runs").rglob("cat.safetensors"))], [0.5], tmp_path / "wanted.safetensors")
    wanted, made = load_file(tmp_path / "wanted.safetensors"), load_file(baked)
    assert wanted.keys() == made.keys() and all(torch.equal(made[key], wanted[key]) for key in wanted)

    page.locator("#hotlora_tool").get_by_text(EXTRACT).click()
    page.locator("#hotlora_tool_files").first.wait_for(state="hidden")
    page.locator("#hotlora_tool_tuned input").first.fill(str(baked))
    page.locator("#hotlora_tool_tuned input").first.press("Enter")
    page.locator("#hotlora_tool_rank input").first.fill("4")
    page.locator("#hotlora_tool_name").locator("textarea, input").first.fill("taken out")
    page.locator("#hotlora_tool_do").first.click()
    page.locator("#hotlora_tool_work", has_text="what differs in").first.wait_for()
    found = read_adapter(next(tmp_path.rglob("taken out.safetensors")))
    assert 0 < max(layer.rank for layer in found.layers.values()) <= 4


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"tool": BAKE, "model": ""}, "none is chosen"),
        ({"tool": BAKE, "model": "/no/such/model.safetensors"}, "no such file"),
        ({"tool": BAKE, "name": "../evil"}, "cannot be used in names"),
        ({"tool": BAKE, "name": "tiny für Zoë"}, "something already"),
        ({"tool": BAKE, "weights": "much"}, "no number"),
        ({"tool": EXTRACT, "rank": 0, "tuned": "tiny"}, "rank 0"),
    ],
)
def test_what_cannot_be_begun_is_a_sentence(tools, tmp_path, how, said):
    with pytest.raises(UserError, match=said):
        do(tools, **how)
    assert len(list((tmp_path / "models").iterdir())) == 1


def test_what_fails_on_the_way_leaves_nothing(tools, tmp_path):
    _, status = do(tools, BAKE, weights="1, 1")
    assert status.bad and "1 LoRAs at 2 weights" in status.lines[0]
    _, status = do(tools, EXTRACT, tuned="tiny")
    assert status.bad and "no layer of it differs" in status.lines[0]
    assert len(list((tmp_path / "models").iterdir())) == 1


def test_a_full_disk_is_said_before_it_is_begun(tools, tmp_path, monkeypatch):
    monkeypatch.setattr(workbench.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(UserError, match=r"it takes 0\.\d GB, and 0\.0 GB are free"):
        do(tools, BAKE)


def test_others_reach_no_model_and_write_none_beside_the_programs(studio, tmp_path):
    access = Access([tmp_path / "runs"])
    jobs = Jobs(ToyHost, tmp_path / "runs", ImageConfig, check_access=access.check)
    tools = build_page(dataclasses.replace(studio, jobs=jobs)).hotlora.watch._keeping.tools
    assert tools.list_files(jobs.list_all(), "")
    for how in ({"model": str(studio.models()["tiny"])}, {"model": "tiny"}):
        with pytest.raises(UserError, match="other computers can ask"):
            do(tools, BAKE, **how)


def test_one_at_a_time_and_stopped_between_two_pieces():
    errands, going = Errands(), threading.Event()

    def work(tell):
        for place in range(1000):
            tell(place, 1000)
            going.wait(0.01)
        return ["done"]

    errands.start(["It takes long."], work)
    wait_until(lambda: errands.status.done > 2)
    assert errands.status.lines == ("It takes long.",) and errands.status.total == 1000
    with pytest.raises(UserError, match="something else is being written"):
        errands.start([], work)
    errands.stop()
    wait_until(lambda: not errands.status.busy)
    assert errands.status.lines == ("Stopped; nothing was written.",) and errands.status.done < 999
    with pytest.raises(UserError, match="nothing is being written"):
        errands.stop()
