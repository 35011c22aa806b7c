"""The tools for finished LoRAs on the page: what each does to a file that sd-scripts wrote, and what cannot be done."""

import shutil
from pathlib import Path

import pytest
from bench_runs import append, make_runs
from hotlora.engine.errors import UserError
from hotlora.engine.events import Finished, Saved
from hotlora.engine.jobs import Jobs
from hotlora.sd.config import ImageConfig
from hotlora.toolbox.opening import read_adapter
from hotlora.ui.page import build_page, build_standalone_page
from toy import ToyHost
from toy_studio import toy_studio

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "sdscripts-sd15-r2.safetensors"


@pytest.fixture
def runs(tmp_path):
    """Two finished runs, each with a real LoRA of rank 2."""
    make_runs(tmp_path / "runs", 2, steps=3)
    for folder in (tmp_path / "runs").iterdir():
        file = shutil.copy2(FIXTURE, folder / "cat.safetensors")
        append(folder / "events.jsonl", [Saved(3, "final", str(file)), Finished(3, "done", {})])
    return tmp_path / "runs"


class Library:
    """A program's folder of LoRAs, which has one called 'taken'."""

    def __init__(self, folder):
        self._folder = folder

    def folder(self):
        self._folder.mkdir(exist_ok=True)
        return self._folder

    def check_name(self, name):
        if name == "taken":
            raise UserError("taken")


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_two_runs_are_merged_and_the_new_lora_is_looked_into(serve, open_page, tmp_path, runs, size):
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path))), size=size)
    page.locator('#hotlora_runs tr[data-name="run 0000"]').wait_for()
    page.locator("#hotlora_toolbox").get_by_text("Tools", exact=True).click()
    for name in ("run 0000", "run 0001"):
        page.locator("#hotlora_tool_files input").click()
        page.locator("#hotlora_tool_files li", has_text=f"{name}/cat.safetensors").click()
    page.locator("#hotlora_tool").get_by_text("Merge into one").click()
    page.locator("#hotlora_tool_weights").wait_for()
    page.locator("#hotlora_tool_weights").locator("textarea, input").first.fill("1, 0.5")
    page.locator("#hotlora_tool_rank input").fill("0")
    page.locator("#hotlora_tool_name").locator("textarea, input").first.fill("both")
    page.locator("#hotlora_tool_do").click()
    page.locator("#hotlora_tool_told", has_text="the exact sum, rank 4").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]
    written = next(runs.rglob("both.safetensors"))
    assert {layer.rank for layer in read_adapter(written).layers.values()} == {4}
    page.locator("#hotlora_tool").get_by_text("Look into it").click()  # what the last one has told is no answer of this one
    page.locator("#hotlora_tool_told pre").first.wait_for(state="detached")


@pytest.fixture
def do(tmp_path, runs):
    """``do(tool, files, rank, weights, form, name)`` as the button does; what is said, and the new folder of LoRAs."""
    jobs = Jobs(lambda: ToyHost(), runs, ImageConfig, library=Library(tmp_path / "Lora"))
    studio = toy_studio(tmp_path)
    studio.jobs = jobs
    tools = build_page(studio).hotlora.watch._keeping.tools
    files = ["run 0000/cat.safetensors", "run 0001/cat.safetensors"]
    assert set(files) < set(tools.list_files(jobs.list_all(), ""))
    return lambda tool, count=1, rank=1, weights="", form="", name="new": tools._do(tool, files[:count], rank, weights, form, name)


def test_each_tool_does_its_work_where_the_program_finds_it(do, tmp_path):
    assert "rank" in do("Look into it")[1] and "AUTOMATIC1111" in do("Will it load?", 2)[1]
    assert "rank 1, was rank 2" in do("Make it smaller")[1]
    assert {layer.rank for layer in read_adapter(tmp_path / "Lora" / "new.safetensors").layers.values()} == {1}
    do("Write another form", form="for peft, a folder", name="as peft")
    assert (tmp_path / "Lora" / "as peft" / "unet" / "adapter_config.json").exists()
    told = do("Write another form", form="for diffusers", name="as diffusers")[1]
    assert "AUTOMATIC1111: does not load it" in told and "diffusers: loads all" in told


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"tool": "Look into it", "count": 0}, "no LoRA is chosen"),
        ({"tool": "Make it smaller", "count": 2}, "2 LoRAs at once"),
        ({"tool": "Make it smaller", "rank": 0}, "New rank"),
        ({"tool": "Make it smaller", "name": "../../evil"}, "cannot be used in names"),
        ({"tool": "Make it smaller", "name": " "}, "that is no name"),
        ({"tool": "Make it smaller", "name": "taken"}, "taken"),
        ({"tool": "Merge into one", "count": 2, "weights": "1, much"}, "no number"),
        ({"tool": "Merge into one", "count": 2, "weights": "1"}, "2 LoRAs at 1 weights"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_leaves_nothing(do, tmp_path, how, said):
    with pytest.raises(UserError, match=said):
        do(**how)
    assert not list(tmp_path.glob("Lora/*"))


def test_only_files_that_runs_have_written_can_be_named(tmp_path, runs, do):
    tools = build_page(toy_studio(tmp_path)).hotlora.watch._keeping.tools
    (runs / "run 0000" / "secret.safetensors").write_bytes(FIXTURE.read_bytes())
    for name in ("run 0000/secret.safetensors", "../data/cat.safetensors", "cat.safetensors", "/etc/passwd"):
        with pytest.raises(UserError, match="cannot"):
            tools._do("Look into it", [name], 1, "", "", "")
