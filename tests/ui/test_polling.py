"""News on the page: neither Gradio has a timer, so a script presses a hidden button. Nobody may notice but by the news."""

import re
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from hotlora.ui.compat import listen

ROOT = Path(__file__).resolve().parents[2]
IS_NEWEST = int(gr.__version__.partition(".")[0]) > 4
PERIOD_MS = 300
ANSWER_SECONDS = 0.15  # longer than a page needs to start fading what it waits for

# Collects, picture by picture, how the place that changes looks.
WATCH = """() => {
    window.looks = new Set();
    const place = document.querySelector("#place");
    const look = () => {
        const shown = [place, ...place.querySelectorAll("*")].filter((part) => part.textContent.includes("news"));
        window.looks.add(JSON.stringify([place.offsetHeight, ...shown.map((part) => getComputedStyle(part).opacity)]));
        requestAnimationFrame(look);
    };
    look();
}"""


def wait_for_news(page, count):
    shown = "((document.querySelector('#place') || {}).textContent || '').match(/news ([0-9]+)/)"
    page.wait_for_function(f"count => Number(({shown} || [0, 0])[1]) >= count", arg=count)


@pytest.fixture
def asked():
    """The times of the answers that pages got."""
    return []


@pytest.fixture
def build(asked):
    """``build()`` makes a page with one place for news, and one where nothing ever changes; ``before``: with so much more above it."""
    script = (ROOT / "javascript/hotlora.js").read_text(encoding="utf-8")
    for name, milliseconds in (("PERIOD_MS", PERIOD_MS), ("GIVE_UP_MS", 1000), ("TRUST_MS", 900), ("LONGEST_WAIT_MS", 800)):
        script, shortened = re.subn(rf"\b{name} = \d+", f"{name} = {milliseconds}", script)
        assert shortened == 1

    def answer():
        time.sleep(ANSWER_SECONDS)
        asked.append(time.monotonic())
        return f"<i>{len(asked)}</i>", f"<p>news {len(asked)}</p>", gr.update()

    def build(before=0):
        gr.context.Context.id = 0  # as in a new process
        with gr.Blocks(analytics_enabled=False, css=(ROOT / "style.css").read_text(encoding="utf-8")) as blocks:
            for number in range(before):
                gr.Textbox(label=f"more {number}")
            with gr.Column(elem_id="hotlora_page"):
                gr.HTML("<p>another one now</p>", elem_id="hotlora_outdated", elem_classes=["hotlora-hidden"])
                gr.Textbox(label="name", elem_id="name")
                place = gr.HTML("<p>news</p>", elem_id="place", elem_classes=["hotlora-live"])
                still = gr.HTML("<details><summary>more</summary>text</details>", elem_id="still", elem_classes=["hotlora-live"])
                tick = gr.Button("tick", elem_id="hotlora_tick", elem_classes=["hotlora-hidden"])
                beat = gr.HTML(elem_id="hotlora_beat", elem_classes=["hotlora-hidden"])
            listen(tick.click, answer, [], [beat, place, still])
            listen(blocks.load, None, js=f"() => {{ {script} }}")
        return blocks

    return build


@pytest.fixture
def page(build, asked, serve, open_page):
    """The opened page; and the times of the answers it got."""
    opened = open_page(serve(build()))
    wait_for_news(opened, 1)
    return opened, asked


def test_news_come_without_flicker(page):
    page, asked = page
    page.evaluate(WATCH)
    wait_for_news(page, len(asked) + 3)
    looks = page.evaluate("[...window.looks]")
    assert len(looks) == 1, looks  # same height, nothing faded
    assert page.locator("#hotlora_tick").first.is_hidden()


def test_news_leave_alone_what_has_not_changed_and_what_is_being_typed(page):
    page, asked = page
    page.click("#still summary")
    page.locator("#name textarea, #name input").press_sequentially("my lo", delay=PERIOD_MS / 3)
    wait_for_news(page, len(asked) + 2)
    page.keyboard.type("ra")
    assert page.locator("#name textarea, #name input").input_value() == "my lora"
    assert page.locator("#still details").evaluate("details => details.open")


def test_nobody_is_asked_again_before_the_answer_or_after_the_page_is_closed(page):
    page, asked = page
    wait_for_news(page, len(asked) + 3)
    page.close()
    time.sleep(ANSWER_SECONDS + 0.1)
    gaps = [later - earlier for earlier, later in zip(asked, asked[1:], strict=False)]
    assert min(gaps) > PERIOD_MS / 1000 * 0.9, gaps
    count = len(asked)
    time.sleep(3 * PERIOD_MS / 1000)
    assert len(asked) == count


# -- a server that is started again --------------------------------------------------------------------------------------


@pytest.fixture
def killed(build, asked, serve, open_page):
    """An open page whose server is gone, and what it asks for since then."""
    blocks = build()
    address = serve(blocks)
    page = open_page(address)
    wait_for_news(page, 2)
    requests = []
    page.on("request", lambda request: requests.append((request.method, request.url.removeprefix(address).partition("?")[0])))
    blocks.close(verbose=False)
    yield SimpleNamespace(page=page, requests=requests, port=int(address.strip("/").rpartition(":")[2]))
    page.close()
    open_page.errors.clear()  # the browser says each time that nobody answers


def restart(blocks, port):
    until = time.monotonic() + 10
    while True:
        try:
            blocks.launch(prevent_thread_lock=True, share=False, quiet=True, server_name="127.0.0.1", server_port=port)
            return
        except OSError:  # the port is not free yet
            assert time.monotonic() < until
            time.sleep(0.1)


def presses(requests):
    return [path for method, path in requests if method == "POST"]


def test_a_page_whose_server_is_gone_asks_only_whether_it_is_there_and_ever_less_often(killed):
    killed.page.wait_for_timeout(4000)
    assert len(presses(killed.requests)) <= 1  # the one that nobody has answered
    probes = [path for method, path in killed.requests if method == "GET" and path.endswith("app_id")]
    assert 2 <= len(probes) <= 8, probes
    assert IS_NEWEST or {path for method, path in killed.requests if method == "GET"} == {"app_id"}  # it asks for a heartbeat itself


def test_it_goes_on_by_itself_when_the_same_page_is_served_again(killed, build, asked):
    killed.page.wait_for_timeout(1500)
    count, again = len(asked), build()
    restart(again, killed.port)
    try:
        wait_for_news(killed.page, count + 3)
        assert killed.page.locator("#hotlora_outdated").first.is_hidden()
    finally:
        again.close(verbose=False)


def test_it_presses_nothing_on_another_page_and_says_so(killed, build, asked):
    killed.page.wait_for_timeout(1500)
    count, another = len(asked), build(before=2)
    restart(another, killed.port)
    try:
        if IS_NEWEST:  # loads such a page anew by itself
            killed.page.get_by_label("more 1").wait_for()
            return
        killed.page.locator("#hotlora_outdated", has_text="another one now").first.wait_for()
        before = len(presses(killed.requests))
        killed.page.wait_for_timeout(2000)
        assert len(asked) == count and len(presses(killed.requests)) == before
    finally:
        another.close(verbose=False)


def test_a_page_that_is_looked_at_again_asks_first_whether_its_server_is_there(page, open_page):
    opened, asked = page
    opened.route("**/app_id", lambda route: route.fulfill(status=503, body="starting"))
    opened.evaluate("() => { Object.defineProperty(document, 'hidden', { value: true, configurable: true }); }")
    opened.wait_for_timeout(1500)
    count = len(asked)
    opened.evaluate("() => { Object.defineProperty(document, 'hidden', { value: false, configurable: true }); }")
    opened.wait_for_timeout(1500)
    assert len(asked) == count
    opened.unroute("**/app_id")
    wait_for_news(opened, count + 1)
    open_page.errors.clear()  # the browser says that it was refused
