"""A Gradio page in a real browser: ``serve`` shows one, ``open_page`` looks at it in headless Chromium, without any network."""

import contextlib
import os
import shutil
import socket

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

import hotlora.ui  # noqa: F401 (before Gradio: see there)
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hotlora.engine.access import Access
from hotlora.engine.errors import UserError
from hotlora.engine.jobs import Jobs
from hotlora.sd.config import ImageConfig
from hotlora.tasks import IMAGES
from hotlora.ui.api import build_router
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import sync_playwright
from toy import ToyHost
from toy_studio import toy_studio

SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Chromium draws its own search field anew for each new window, which takes longer than our page. The last list of features counts: after
# the first two, what Playwright's own has that could matter.
LEFT_OUT = "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,HttpsUpgrades,MediaRouter,OptimizationHints,PaintHolding"
NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"
ELSEWHERE = ("ERR_NAME_NOT_RESOLVED", "Unable to preload CSS for https://")  # Gradio asks for fonts and a script there
GRADIO_BUGS = (
    "setting 'abort_controller'",  # 4.37 throws it after each upload, and has uploaded all the same
    "/app_id",  # 6 asks for it, and does not have it
)


def pytest_collection_modifyitems(items):
    """On a busy machine a browser is late for once: such a test gets a second try, and the summary names it (R)."""
    for item in items:
        if "open_page" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(autouse=True)
def _no_run_left(monkeypatch):
    """A test that fails leaves its run training: it would take time from all later ones, and Python cannot end beside it."""
    made, make = [], Jobs.__init__
    monkeypatch.setattr(Jobs, "__init__", lambda jobs, *args, **options: (made.append(jobs), make(jobs, *args, **options))[1])
    yield
    for jobs in made:
        for name in reversed(jobs.list_line()):
            with contextlib.suppress(UserError):  # it has ended meanwhile
                jobs.stop(name)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, or what else of its family is installed. Without one the tests are skipped, but fail in CI. NO_BROWSER says
    that there is to be none."""
    if os.environ.get("NO_BROWSER"):
        pytest.skip("NOT TESTED: the page in a browser, because NO_BROWSER is set")
    named = os.environ.get("CHROME_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    choices = [{"executable_path": named}] if named else [{"channel": "chrome"}, {"channel": "msedge"}]
    with sync_playwright() as playwright:
        started = next(filter(None, (_start(playwright, choice) for choice in choices)), None)
        if started is None:
            told = "no Chromium or Chrome that runs: install one, or name it in CHROME_PATH"
            pytest.fail(told) if os.environ.get("CI") == "true" else pytest.skip(told)
        yield started
        started.close()


def _start(playwright, choice):
    try:
        return playwright.chromium.launch(args=[LEFT_OUT, NO_NETWORK], **choice)
    except BrowserError:
        return None


@pytest.fixture
def open_page(browser):
    """``open_page(address, size="phone", theme="dark")`` gives a Playwright page. The test fails where a page's script does;
    ``open_page.errors`` lists what went wrong so far, and a test that provokes an error clears it."""
    contexts, errors = [], []

    def note(said):
        if said.type == "error" and not any(part in said.text for part in ELSEWHERE):
            errors.append(f"{said.text} {said.location.get('url', '')}")

    def open_page(address, size="desktop", theme="light"):
        context = browser.new_context(viewport=SIZES[size], color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)  # a machine may be busy
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", note)
        page.goto(f"{address}?__theme={theme}")
        page.wait_for_selector(".gradio-container .contain")
        return page

    open_page.errors = errors
    yield open_page
    for context in contexts:
        context.close()
    assert not [error for error in errors if not any(bug in error for bug in GRADIO_BUGS)]


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """``serve(blocks)`` shows a Gradio page until the test ends, and gives its address. What is uploaded goes to tmp_path."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    served = []

    def serve(blocks, **options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        served.append(blocks)
        blocks.launch(prevent_thread_lock=True, share=False, quiet=True, server_name="127.0.0.1", server_port=port, **options)
        return f"http://127.0.0.1:{port}/"

    yield serve
    for blocks in served:
        blocks.close(verbose=False)


@pytest.fixture
def client(tmp_path):
    """The HTTP API on pictures, of which only those in tmp_path/data may be reached."""
    studio = toy_studio(tmp_path, editor=IMAGES.make_editor())
    studio.jobs = Jobs(ToyHost, tmp_path / "runs", ImageConfig, check_access=Access([tmp_path / "data"]).check)
    app = FastAPI()
    app.include_router(build_router(studio, None))
    return TestClient(app)
