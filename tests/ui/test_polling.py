"""News on the page: neither Gradio has a timer, so a script presses a hidden button. Nobody may notice but by the news."""

import re
import time
from pathlib import Path

import gradio as gr
import pytest
from hotlora.ui.compat import listen

ROOT = Path(__file__).resolve().parents[2]
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
def page(serve, open_page):
    """A page with one place for news, and one where nothing ever changes; and the times of the answers it got."""
    script, shortened = re.subn(
        r"PERIOD_MS = \d+", f"PERIOD_MS = {PERIOD_MS}", (ROOT / "javascript/hotlora.js").read_text(encoding="utf-8")
    )
    assert shortened == 1
    asked = []

    def answer():
        time.sleep(ANSWER_SECONDS)
        asked.append(time.monotonic())
        return f"<i>{len(asked)}</i>", f"<p>news {len(asked)}</p>", gr.update()

    with gr.Blocks(analytics_enabled=False, css=(ROOT / "style.css").read_text(encoding="utf-8")) as blocks:
        with gr.Column(elem_id="hotlora_page"):
            gr.Textbox(label="name", elem_id="name")
            place = gr.HTML("<p>news</p>", elem_id="place", elem_classes=["hotlora-live"])
            still = gr.HTML("<details><summary>more</summary>text</details>", elem_id="still", elem_classes=["hotlora-live"])
            tick = gr.Button("tick", elem_id="hotlora_tick", elem_classes=["hotlora-hidden"])
            beat = gr.HTML(elem_id="hotlora_beat", elem_classes=["hotlora-hidden"])
        listen(tick.click, answer, [], [beat, place, still])
        listen(blocks.load, None, js=f"() => {{ {script} }}")
    opened = open_page(serve(blocks))
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
