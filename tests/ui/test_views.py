"""What the page says of data and runs. Whatever people have written, in captions, names or prompts, is shown as text."""

import html.parser
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from hotlora.engine.entries import STATUSES, Entry
from hotlora.engine.events import Failed, Finished, Paused, Preparing, Previewed, Saved, Started, Step, Validated, Warned
from hotlora.engine.examples import DataView, Example
from hotlora.engine.history import History
from hotlora.engine.probe import Estimate
from hotlora.engine.proposals import Proposal, Taken
from hotlora.ui.album_views import show_album
from hotlora.ui.charts import draw_losses
from hotlora.ui.compat import message
from hotlora.ui.draw import duration
from hotlora.ui.page import build_page
from hotlora.ui.samples import show_samples
from hotlora.ui.views import describe_row, show_data, show_log, show_outlook, show_runs, show_status
from PIL import Image
from toy_studio import toy_studio

JPEG = "data:image/jpeg;base64,"
EVIL = "\"'><script>boom()</script><img src=x onerror=boom()>&lt;"


class Reader(html.parser.HTMLParser):
    """Takes HTML apart as a browser would: elements with attributes, and texts."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(source)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).split())


def read(source):
    """Nothing in it runs by itself, or comes from elsewhere."""
    found = Reader(source)
    for tag, attributes in found.elements:
        assert tag not in ("script", "iframe", "object", "style", "link"), source
        assert not any(name.startswith("on") for name in attributes), source
        assert attributes.get("src", JPEG).startswith(JPEG)
    return found


def started(total=100):
    return Started(EVIL, 0, total, 10, 1000, {EVIL: EVIL}, time=1000.0)


def steps(count, first=1):
    return [Step(n, n / 10, 0.5, 0.25, 1e-4, 1.0, 0.5, 2 * 2**30, time=1000.0 + n) for n in range(first, first + count)]


@pytest.fixture
def evil_run(tmp_path):
    """A run whose every text was written by somebody who means harm."""
    (tmp_path / "sample.txt").write_text(EVIL, encoding="utf-8")
    Image.new("RGB", (2000, 1000)).save(tmp_path / "sample.png")
    sheet = tmp_path / "comparison.txt"
    sheet.write_text(EVIL, encoding="utf-8")
    samples = [Previewed(1, EVIL, 0.8, 1, str(tmp_path / name)) for name in ("sample.txt", "sample.png", "deleted.png")]
    events = [Preparing(EVIL, 1, 2), started(), *steps(2), Validated(2, 0.5, True), *samples]
    return History([*events, Saved(2, "final", f"{EVIL}.safetensors"), Warned(EVIL), Finished(2, "done", {"sheet": str(sheet)})])


def test_captions_and_names_of_data_are_text():
    view = DataView(9, [Example(EVIL, EVIL, b"JPEG", EVIL), Example("b.png", "")], [(EVIL, EVIL)], [EVIL])
    found = read(show_data(view))
    assert found.text.count(EVIL) == 5 and found.text.endswith("no caption+ 7")
    assert next(attributes for tag, attributes in found.elements if tag == "figure")["title"] == EVIL


def test_an_album_that_is_edited_is_text():
    shown = SimpleNamespace(name=EVIL, text=EVIL, thumbnail=EVIL, problem=EVIL, warning=EVIL, tokens=80, mask=False, size=None)
    about = {"count": 1, "names": [EVIL], "start": 0, "tags": [(EVIL, 1)], "left_out": 0, "steps": 0, "most_tokens": 75}
    found = read(show_album(SimpleNamespace(shown=[shown], facts=[(EVIL, EVIL)], notes=[EVIL], **about), EVIL))
    assert found.text.count(EVIL) == 6
    album = next(attributes for tag, attributes in found.elements if attributes.get("data-query"))
    assert album["data-query"] == EVIL and json.loads(album["data-tags"]) == [[EVIL, 1]]


def test_everything_about_a_run_is_text(evil_run, tmp_path):
    found = [
        read(show_status(EVIL, "done", evil_run)),
        read(show_samples(evil_run)),
        read(show_log(evil_run, Path(EVIL))),
        read(show_runs([describe_row(Entry(EVIL, "done", evil_run)), describe_row(Entry(EVIL, "", History(), EVIL))])),
        read(draw_losses({EVIL: evil_run, "another": evil_run})),
        read(message(EVIL, bad=True)),
    ]
    assert [EVIL in one.text for one in found] == [True] * len(found)
    assert found[1].text.count(EVIL) == 3  # the sheet, the row's prompt, a text; one that is gone is left out
    assert next(attributes["alt"] for tag, attributes in found[1].elements if tag == "img") == f"1: {EVIL}"


def test_a_failure_a_pause_and_work_before_training_say_what_they_say():
    for status, event in (("failed", Failed(EVIL, False)), ("paused", Paused(EVIL)), ("preparing", Preparing(EVIL, 3, 4))):
        found = read(show_status("cat", status, History([event])))
        assert EVIL in found.text
    assert "3 / 4" in found.text and ("i", {"style": "width:75.0%"}) in found.elements


def test_a_look_ahead_is_text():
    before = Taken(0.4, 11 * 2**30, largest_batch=2)
    proposals = [Proposal({"gradient_checkpointing": EVIL}, 0.52, 7 * 2**30, before), Proposal({"batch_size": 2}, 0.4, 2**30, before)]
    looks = [
        SimpleNamespace(elapsed_seconds=0.0, cancelled=False, error=EVIL, estimate=None, progress=None, proposals=()),
        SimpleNamespace(elapsed_seconds=0.0, cancelled=False, error="", estimate=None, progress=Preparing(EVIL, 1, 2)),
        SimpleNamespace(
            cancelled=False,
            error="",
            estimate=Estimate(1500, 10, 1_234_567, 0.5, 2**30, 2**30, {}),
            progress=None,
            summary={EVIL: EVIL},
            warnings=[EVIL],
            proposals=proposals,
        ),
    ]
    assert [read(show_outlook(look)).text.count(EVIL) for look in looks] == [1, 1, 4]
    shown = read(show_outlook(looks[-1]))
    assert "11.0 GB → 7.0 GB" in shown.text and "2.50 it/s → 1.92 it/s" in shown.text
    wishes = [json.loads(attributes["data-proposal"]) for tag, attributes in shown.elements if "data-proposal" in attributes]
    assert wishes == [dict(made.changes) for made in proposals]
    assert show_outlook(None) == ""
    nothing_yet = SimpleNamespace(elapsed_seconds=0.0, cancelled=False, error="", estimate=None, progress=None)
    assert "looking at the model" in read(show_outlook(nothing_yet)).text
    assert "Cancelled." in read(show_outlook(SimpleNamespace(cancelled=True))).texts


def test_the_tag_for_the_prompt_box_is_an_attribute(tmp_path):
    watch = build_page(toy_studio(tmp_path)).hotlora.watch
    watch._jobs = SimpleNamespace(values=lambda name: {"trigger_word": EVIL})
    (span,) = [attributes for tag, attributes in read(watch._show_use(EVIL, "done", History())).elements if tag == "span"]
    assert span["data-tag"] == f"<lora:{EVIL}:0.8>" and span["data-trigger"] == EVIL


@pytest.mark.parametrize(
    ("status", "kinds", "called"),
    [
        ("done", ["checkpoint", "final"], "cat"),
        ("done", ["final", "checkpoint"], "cat"),  # resumed since
        ("failed", ["checkpoint"], "cat-step00000002"),  # no other is there
        ("training", ["checkpoint"], "cat-live"),
        ("preparing", ["final"], "cat"),
    ],
)
def test_what_the_tag_calls_is_there(tmp_path, status, kinds, called):
    watch = build_page(toy_studio(tmp_path, has_live=True)).hotlora.watch
    watch._jobs = SimpleNamespace(values=lambda name: {})
    names = {"final": "cat.safetensors", "checkpoint": "checkpoints/cat-step00000002.safetensors"}
    history = History([Saved(2, kind, names[kind]) for kind in kinds])
    (span,) = [attributes for tag, attributes in read(watch._show_use("cat", status, history)).elements if tag == "span"]
    assert span["data-tag"] == f"<lora:{called}:0.8>"


def test_the_link_to_a_recipe_is_one(tmp_path):
    recipe = build_page(toy_studio(tmp_path)).hotlora.recipe
    _, link = recipe._write_yaml(*recipe.options.show({"output_name": "it's & (it)"}))
    (attributes,) = [attributes for tag, attributes in read(link).elements if tag == "a"]
    assert attributes["download"] == "it's & (it).yaml" and attributes["href"].startswith("data:text/yaml;charset=utf-8;base64,")


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("events", [[], [started()], [started(), *steps(3)], [started(), *steps(3), Failed("no", False)]])
def test_every_status_is_shown_whatever_has_happened(status, events, tmp_path):
    history = History(events)
    found = read(show_status("cat", status, history))
    assert "cat" in found.texts and status in found.texts
    assert status in read(show_runs([describe_row(Entry("cat", status, history))])).texts
    for drawn in (show_samples(history), show_log(history, tmp_path)):
        read(drawn)


def test_numbers_of_a_run_are_those_of_its_last_step():
    found = read(show_status("cat", "training", History([started(1500), *steps(30)])))
    for shown in ("30 / 1,500", "3.0", "2.00 it/s", "0.5000", "2.0 GB", "24 min"):  # 1470 steps left, a second each by the clock
        assert shown in found.texts
    assert ("i", {"style": "width:2.0%"}) in found.elements


def test_a_run_that_shares_the_model_says_how_much_it_has():
    history = History([started(1500), *steps(30)])
    assert "10% of the last minute" in read(show_status("cat", "training", history, had=0.1)).texts
    for status, had in (("training", 0.99), ("training", None), ("paused", 0.1)):
        assert "time with the model" not in read(show_status("cat", status, history, had=had)).texts


def previews(folder, prompts, steps):
    for step in steps:
        for number, prompt in enumerate(prompts):
            path = folder / f"{step}-{number}.txt"
            path.write_text(f"{prompt} at {step}")
            yield Previewed(step, prompt, 1.0, 1, str(path))


def test_samples_stand_in_a_row_for_each_prompt_with_other_runs_below(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    history = History(previews(tmp_path, ["a cat", "a dog"], [20, 10]))
    other = History(previews(folder, ["a dog", "a fox"], [10]))
    found = read(show_samples(history, {"the other": other}))
    sections = [attributes for tag, attributes in found.elements if tag == "section"]
    assert len(sections) == 2 and found.texts.count("the other") == 1 and "a fox" not in found.texts
    assert found.texts.index("a cat at 10") < found.texts.index("a cat at 20") < found.texts.index("a dog at 10")


def test_of_many_steps_the_first_and_the_last_are_shown_and_what_is_left_out_is_said(tmp_path):
    found = read(show_samples(History(previews(tmp_path, ["a cat"], range(100)))))
    assert "a cat at 0" in found.texts and "a cat at 99" in found.texts
    shown = sum(text.startswith("a cat at") for text in found.texts)
    assert shown == 48 and "steps left out: 52" in found.text


def test_only_the_newest_lines_of_the_log_are_shown(tmp_path):
    log = read(show_log(History([Warned(f"line {n}.") for n in range(1000)]), tmp_path))
    assert log.texts.index("line 999.") < log.texts.index("line 998.") and "line 5." not in log.texts


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, ""), (0, "0 s"), (59.6, "1 min 00 s"), (61, "1 min 01 s"), (300, "5 min"), (3599, "59 min"), (3900, "1 h 05 min")],
)
def test_durations_are_said_as_people_say_them(seconds, said):
    assert duration(seconds) == said


def test_a_loss_that_is_no_number_is_shown(tmp_path):
    broken = History([started(), Step(1, 0.1, math.nan, math.nan, 1e-4, math.nan, 0.5, 0)])
    read(show_status("cat", "training", broken))
