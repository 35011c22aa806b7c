"""A Gradio page in a real browser: ``serve`` shows one, ``open_page`` looks at it in headless Chromium, without any network."""

import contextlib
import os
import shutil

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
FIRST_PORT = 20_000 + os.getpid() % 1000 * 10  # every test's, below those that systems give to anybody
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
def kept(tmp_path_factory):
    """Headless Chromium, or what else of its family is installed, with a profile: so it compiles Gradio's script once, not for every
    test. Without a browser the tests are skipped, but fail in CI. NO_BROWSER says that there is to be none."""
    if os.environ.get("NO_BROWSER"):
        pytest.skip("NOT TESTED: the page in a browser, because NO_BROWSER is set")
    named = os.environ.get("CHROME_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    choices = [{"executable_path": named}] if named else [{"channel": "chrome"}, {"channel": "msedge"}]
    with sync_playwright() as playwright:
        profile = tmp_path_factory.mktemp("profile")
        started = next(filter(None, (_start(playwright, profile, choice) for choice in choices)), None)
        if started is None:
            told = "no Chromium or Chrome that runs: install one, or name it in CHROME_PATH"
            pytest.fail(told) if os.environ.get("CI") == "true" else pytest.skip(told)
        yield started
        started.close()


def _start(playwright, profile, choice):
    try:
        return playwright.chromium.launch_persistent_context(profile, args=[NO_NETWORK], **choice)
    except BrowserError:
        return None


@pytest.fixture
def open_page(kept):
    """``open_page(address, size="phone", theme="dark")`` gives a Playwright page: a test's first in the kept browser, which remembers
    nothing but what it has compiled, any other in a browser of its own. The test fails where a page's script does; ``open_page.errors``
    lists what went wrong so far, and a test that provokes an error clears it."""
    pages, errors = [], []

    def note(said):
        if said.type == "error" and not any(part in said.text for part in ELSEWHERE):
            errors.append(f"{said.text} {said.location.get('url', '')}")

    def open_page(address, size="desktop", theme="light"):
        page = kept.browser.new_page() if pages else kept.new_page()
        pages.append(page)
        page.set_viewport_size(SIZES[size])
        page.emulate_media(color_scheme=theme)
        page.set_default_timeout(30_000)  # a machine may be busy
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", note)
        page.goto(f"{address}?__theme={theme}")
        page.wait_for_selector(".gradio-container .contain")
        return page

    open_page.errors = errors
    yield open_page
    if pages and not pages[0].is_closed():
        pages[0].evaluate("localStorage.clear()")
    for page in pages:
        page.close()
    kept.clear_cookies()
    kept.clear_permissions()
    assert not [error for error in errors if not any(bug in error for bug in GRADIO_BUGS)]


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """``serve(blocks)`` shows a Gradio page until the test ends, and gives its address. What is uploaded goes to tmp_path."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    served = []

    def serve(blocks, **options):
        served.append(blocks)
        for port in range(FIRST_PORT + len(served), FIRST_PORT + 50):
            with contextlib.suppress(OSError):  # it is taken
                blocks.launch(prevent_thread_lock=True, share=False, quiet=True, server_name="127.0.0.1", server_port=port, **options)
                blocks.app.middleware_stack = _Lasting(blocks.app.middleware_stack)
                return f"http://127.0.0.1:{port}/"
        raise AssertionError("no port is free")

    yield serve
    for blocks in served:
        blocks.close(verbose=False)


class _Lasting:
    """Has the browser keep Gradio's script and style; otherwise it may ask for them anew, and then compiles them anew."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def send_lasting(message):
            if message["type"] == "http.response.start" and scope["path"].startswith("/assets/"):
                message["headers"] = [*message["headers"], (b"cache-control", b"max-age=86400, immutable")]
            await send(message)

        await self.app(scope, receive, send_lasting)


@pytest.fixture
def client(tmp_path):
    """The HTTP API on pictures, of which only those in tmp_path/data may be reached."""
    studio = toy_studio(tmp_path, editor=IMAGES.make_editor())
    studio.jobs = Jobs(ToyHost, tmp_path / "runs", ImageConfig, check_access=Access([tmp_path / "data"]).check)
    app = FastAPI()
    app.include_router(build_router(studio, None))
    return TestClient(app)
