"""The place where adapters are put on the program's model, in a real browser over a toy shelf; and texts as they are shown."""

import gradio as gr
from hotlora.engine.errors import UserError
from hotlora.engine.examples import DataView, Example
from hotlora.ui.page import build_standalone_page
from hotlora.ui.samples import _show_markdown
from hotlora.ui.shelf_section import ShelfSection
from hotlora.ui.views import show_data
from toy_studio import toy_studio


class ToyShelf:
    """Remembers what was put on it."""

    def __init__(self):
        self.on = {}

    def names(self):
        return ["formal", "legal"]

    def applied(self):
        return dict(self.on)

    def apply(self, weights):
        if weights.get("formal", 0) > 1.5:
            raise UserError("cannot apply 'formal': it is too much.")
        self.on = dict(weights)
        return ""


class ToyLive:
    wanted = False


def choose(page, place, name):
    box = page.locator(f"#hotlora_adapter_{place} input").first
    box.click()
    page.locator(f"#hotlora_adapter_{place} ul li", has_text=name).first.click()


def wait_for_looks(page, count):
    looks = "Number(document.querySelector('#hotlora_beat i')?.textContent || 0)"  # it is being drawn anew where it is not there
    page.wait_for_function(f"{looks} >= {page.evaluate(looks) + count}")


def test_what_a_page_has_applied_is_not_sent_back_to_it(tmp_path):
    with gr.Blocks():
        shelf = ToyShelf()
        section = ShelfSection(shelf, None, gr.HTML())
        section.build()
    said, mine = section._apply({}, "legal", "formal", "none", 1, 0.5, 1)
    assert "legal 1, formal 0.5" in said and shelf.on == {"legal": 1, "formal": 0.5}
    assert not any("value" in update for update in section.list_changes(mine))
    assert [update["value"] for update in section.list_changes({})] == ["legal", "formal", "none", 1, 0.5, 1]  # another page is told
    shelf.on = {"formal": 1.0}
    assert section.list_changes(mine)[0]["value"] == "formal"


def test_several_adapters_with_their_weights(serve, open_page, tmp_path):
    shelf, live = ToyShelf(), ToyLive()
    studio = toy_studio(tmp_path, shelf=shelf, live=live, data_word="texts")
    address = serve(build_standalone_page(studio))
    page = open_page(address)
    choose(page, 1, "legal")
    choose(page, 2, "formal")
    weight = page.locator("#hotlora_weight_2 input[type=number]")
    weight.fill("0.5")
    weight.blur()
    page.locator("#hotlora_apply").click()
    page.locator("#hotlora_message .hotlora-message", has_text="legal 1, formal 0.5").wait_for()
    assert shelf.on == {"legal": 1.0, "formal": 0.5}
    again = open_page(address)  # a reloaded page shows what is on
    again.wait_for_function("document.querySelector('#hotlora_adapter_2 input')?.value === 'formal'")
    assert again.locator("#hotlora_weight_2 input[type=number]").input_value() == "0.5"
    wait_for_looks(page, 2)  # a look that was on its way when it was applied may send it once more
    weight.fill("2")
    wait_for_looks(page, 2)
    assert weight.input_value() == "2"
    weight.blur()
    page.locator("#hotlora_apply").click()
    page.locator("#hotlora_message .hotlora-bad", has_text="too much").wait_for()
    assert shelf.on["formal"] == 0.5
    page.locator("#hotlora_clear").click()
    page.locator("#hotlora_message .hotlora-message", has_text="model alone").wait_for()
    assert shelf.on == {}
    page.locator("#hotlora_live input").check()
    page.locator("#hotlora_message .hotlora-message", has_text="run in training").wait_for()
    assert live.wanted
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_a_finished_run_is_used_at_once(serve, open_page, tmp_path):
    shelf = ToyShelf()
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path, shelf=shelf))))
    page.locator("#hotlora_output_name").locator("textarea, input").first.fill("cat")
    page.locator("[data-length=max_steps]").click()
    page.locator("#hotlora_max_steps").locator("textarea, input").first.fill("2")
    page.locator("#hotlora_train").click()
    page.locator("#hotlora_status [data-status=done]").wait_for(timeout=30_000)
    page.locator("#hotlora_use:not([disabled])").click()
    page.locator("#hotlora_message .hotlora-message", has_text="Answers come with cat").wait_for()
    assert list(shelf.on.values()) == [1.0]


def test_learned_words_are_marked_and_nothing_of_a_text_is_taken_for_html():
    spans = [("<b>Who?</b> ", False), ("<i>He & she.</i>", True)]
    shown = show_data(DataView(1, [Example("a.txt", "Who? He & she.", spans=spans)]))
    assert "&lt;b&gt;Who?&lt;/b&gt; <mark>&lt;i&gt;He &amp; she.&lt;/i&gt;</mark>" in shown and "hotlora-texts" in shown


def test_the_comparison_page_is_drawn_and_escaped():
    text = "# With\n## Why <i>?\n\n**without it**\n\n````\n```\n<b>code</b>\n```\n````\n"
    assert _show_markdown(text) == ("<h5>With</h5><h5>Why &lt;i&gt;?</h5><b>without it</b><pre>```\n&lt;b&gt;code&lt;/b&gt;\n```\n</pre>")
