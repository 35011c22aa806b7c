"""The whole story in a running AUTOMATIC1111 or Forge with the extension in it: over its page, in a browser, and over HTTP.

A stranger makes a data set, presses Train, goes on drawing, reloads the page, looks at samples, stops, resumes, and uses the
LoRA; afterwards the WebUI draws what it drew before, bit for bit, and its packages are what they were.
"""

import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from real_webui import ask, draw, in_each_webui, lora_dir, webui_now
from safetensors import safe_open
from waiting import wait_until

pytestmark = in_each_webui
DEMO = Path(__file__).resolve().parents[2] / "demo"
NAME, API = "story", "/hotlora/v1"
PROMPT = "a rocket"
LIST_PACKAGES = "import importlib.metadata as m; print(sorted((d.metadata['Name'], d.version) for d in m.distributions()))"


def run_of_that_name():
    return next((run for run in ask(f"{API}/runs") if run["name"] == NAME), None)


def status_is(*wanted):
    return lambda: (run_of_that_name() or {}).get("status") in wanted


def wait_while_it_gets_on():
    """Until the run has ended; however slow the machine makes its steps."""
    while not status_is("done", "failed", "stopped")():
        step = run_of_that_name()["step"]
        wait_until(lambda at=step: run_of_that_name()["step"] > at or status_is("done", "failed", "stopped")(), 120)
        time.sleep(1)


def list_packages():
    python = webui_now().python
    return subprocess.run([python, "-c", LIST_PACKAGES], capture_output=True, text=True, check=True).stdout if python else ""


def memory_of_webui():
    """Bytes resident in the process that listens at the address."""
    port = int(webui_now().url.rpartition(":")[2])
    process = next(c.pid for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port)
    return psutil.Process(process).memory_info().rss


@pytest.fixture
def clean():
    """No run of that name, before and after."""

    def remove():
        run = run_of_that_name()
        if run and run["status"] in ("training", "preparing", "paused", "waiting"):
            ask(f"{API}/runs/{NAME}/stop", {}, "POST")
            wait_until(lambda: run_of_that_name()["status"] not in ("training", "preparing", "paused", "waiting", "stopping"), 120)
        if run:
            ask(f"{API}/runs/{NAME}", method="DELETE")
        for file in lora_dir().glob(f"hotlora/{NAME}*"):
            file.unlink()

    remove()
    yield
    remove()


@pytest.fixture
def tab(open_page):
    """The WebUI's page on our tab."""

    def open_tab():
        page = open_page(f"{webui_now().url}/")
        page.locator("#tabs > .tab-nav button", has_text="Train LoRA").click(timeout=60_000)  # a large page on a busy machine
        page.locator("#hotlora_train").wait_for(state="visible")
        return page

    return open_tab


def fill(page, option, value):
    if option == "max_steps":
        page.locator("[data-length=max_steps]").click()
    page.locator(f"#hotlora_{option}").locator("textarea, input").first.fill(str(value))


def test_the_whole_story(clean, tab, open_page, tmp_path):
    packages, before = list_packages(), draw(PROMPT)
    page = tab()

    pictures = sorted((DEMO / "pictures").rglob("*.png"))[:12]
    captions = [path.with_suffix(".txt") for path in pictures if path.with_suffix(".txt").exists()]
    page.locator("#hotlora_data_set input").fill("story pictures")
    page.locator("#hotlora_data_set input").press("Enter")
    page.locator("#hotlora_upload input[type=file]").set_input_files([*pictures, *captions])
    page.locator("#hotlora_album figure").nth(len(pictures) - 1).wait_for()

    page.locator("#hotlora_advanced > .label-wrap").click()
    page.evaluate("document.querySelectorAll('.hotlora-heading').forEach((heading) => heading.click())")
    for option, value in {
        "output_name": NAME,
        "trigger_word": "housestyle",
        "max_steps": 400,
        "learning_rate": 0.002,
        "resolution": 64,
        "sample_prompts": "housestyle, a cat",
    }.items():
        fill(page, option, value)
    page.locator("#hotlora_look_ahead").click()
    page.locator("#hotlora_outlook dd").first.wait_for(timeout=60_000)
    resident = memory_of_webui()
    page.locator("#hotlora_train").click()
    page.locator("#hotlora_status [data-status=training]").wait_for(timeout=60_000)

    waited = []
    for _ in range(3):
        began = time.monotonic()
        assert np.array_equal(draw(PROMPT), before), "a picture drawn while training differs"
        waited.append(time.monotonic() - began)
    print(f"txt2img while training: {', '.join(f'{seconds:.2f}' for seconds in waited)} s")
    assert not np.array_equal(draw(f"{PROMPT} <lora:{NAME}-live:1>"), before), "the live LoRA does nothing"
    grown = memory_of_webui() - resident
    parameters = ask(f"{API}/runs/{NAME}")["trainable_parameters"]
    parts = parameters * 4 * 4  # adapter, gradient, and the optimizer's two averages, in fp32
    print(f"memory grown by {grown / 2**20:.0f} MiB; adapter, gradients and optimizer: {parts / 2**20:.0f} MiB, activations beside them")
    assert grown < parts + 400 * 2**20

    page.reload()
    page.locator("#tabs > .tab-nav button", has_text="Train LoRA").click(timeout=60_000)
    page.locator("#hotlora_status [data-status=training]").wait_for(timeout=60_000)
    page.locator("#hotlora_sample:not([disabled])").click()
    page.locator("#hotlora_samples img").first.wait_for(timeout=60_000)
    page.locator("#hotlora_stop").click()
    page.locator("#hotlora_status [data-status=stopped]").wait_for(timeout=60_000)
    stopped_at = run_of_that_name()["step"]
    assert 0 < stopped_at < 400
    page.locator("#hotlora_resume:not([disabled])").click()
    page.locator("#hotlora_status [data-status=training]").wait_for(timeout=60_000)
    wait_while_it_gets_on()
    page.locator("#hotlora_status [data-status=done]").wait_for(timeout=60_000)
    assert run_of_that_name()["step"] == 400

    page.locator("#hotlora_use:not([disabled])").click()
    page.locator("#txt2img_prompt textarea").wait_for(state="visible")
    assert f"<lora:{NAME}:0.8>" in page.locator("#txt2img_prompt textarea").input_value()
    assert not np.array_equal(draw(f"{PROMPT} <lora:{NAME}:0.8>"), before)
    assert np.array_equal(draw(f"{PROMPT} <lora:{NAME}-live:1>"), before), "the live LoRA outlives its run"
    assert np.array_equal(draw(PROMPT), before), "the WebUI is not what it was"
    assert list_packages() == packages


@pytest.fixture
def endless_turns():
    """A run never gives the model back by itself: who gets it during a turn has it because somebody waited."""
    before = ask("/sdapi/v1/options").get("hotlora_slice_seconds", 60)  # Forge takes extensions' settings, and lists none
    ask("/sdapi/v1/options", {"hotlora_slice_seconds": 1000}, "POST")
    yield
    ask("/sdapi/v1/options", {"hotlora_slice_seconds": before}, "POST")


def step_of_live_lora():
    """The live LoRA is brought up to date by a picture that asks for it, once that has the model."""
    with safe_open(str(lora_dir() / "hotlora" / "live" / f"{NAME}-live.safetensors"), "pt") as file:
        return int(file.metadata()["ss_steps"])


def test_a_picture_asked_for_in_training_comes_within_a_step(clean, endless_turns):
    """Counted in steps, which a busy machine slows down as much as everything else. They are made long, so that beside one of them the
    request's own way is short. While somebody draws without a pause, training goes on as well."""
    pictures = {"train_data_dir": str(DEMO / "pictures" / "train"), "trigger_word": "housestyle", "resolution": 64, "min_bucket_reso": 64}
    long_steps = {"batch_size": 4, "gradient_accumulation_steps": 8, "max_steps": 100_000}
    ask(f"{API}/runs", {"output_name": NAME, **long_steps, **pictures}, "POST")
    wait_until(lambda: run_of_that_name()["step"] > 0, 300)
    for _ in range(3):
        asked = run_of_that_name()["step"]
        draw(f"{PROMPT} <lora:{NAME}-live:1>")
        waited = step_of_live_lora() - asked
        assert waited <= 2, waited  # the step that was under way, and the one that began while the request was on its way
        wait_until(lambda asked=asked: run_of_that_name()["step"] > asked + 2, 300)
    first = run_of_that_name()["step"]
    drawing = [threading.Thread(target=draw, args=(PROMPT,)) for _ in range(4)]
    for thread in drawing:
        thread.start()
    for thread in drawing:
        thread.join()
    wait_until(lambda: run_of_that_name()["step"] > first, 300)
