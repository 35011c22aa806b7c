"""The Chinese texts are complete, and none is left over.

AUTOMATIC1111 (``javascript/localization.js``) translates a text node, a placeholder or a tooltip whose whole text, without spaces
around it, is a key; nothing that is digits and dots only. A text that holds a number or a name can be no key: the page keeps its
labels in nodes of their own.
"""

import ast
import html.parser
import json
import re
import runpy
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
import webui
from hotlora.captioning.desk import CaptionStatus, Proposal
from hotlora.engine import proposals
from hotlora.engine.entries import STATUSES, Entry
from hotlora.engine.events import (
    Concluded,
    Failed,
    Finished,
    Paused,
    Preparing,
    Previewed,
    Saved,
    Searching,
    Started,
    Step,
    Tried,
    Validated,
)
from hotlora.engine.examples import Finding
from hotlora.engine.grid import Cell, Grid
from hotlora.engine.history import History
from hotlora.engine.line import Left
from hotlora.engine.marks import Marks
from hotlora.engine.options import build, options_of
from hotlora.engine.probe import Estimate
from hotlora.engine.search_report import Row
from hotlora.hosts.shared import devices
from hotlora.llm.questions.desk import QuestionDesk, QuestionStatus, Review
from hotlora.llm.questions.folder import Row as QuestionRow
from hotlora.pictures.album import look_at_pictures
from hotlora.pictures.class_desk import ClassStatus
from hotlora.pictures.editor import AlbumPage, Shown
from hotlora.pictures.remedies import REMEDIES, make_remedy
from hotlora.sd.config import ImageConfig
from hotlora.tasks import IMAGES
from hotlora.ui import studio as studio_module
from hotlora.ui.album_views import show_album, show_pager
from hotlora.ui.caption_section import show_proposals
from hotlora.ui.caption_section import show_status as show_captions
from hotlora.ui.charts import ALSO, draw_losses
from hotlora.ui.chat_section import ChatSection
from hotlora.ui.class_section import show_class
from hotlora.ui.draw import tell_other
from hotlora.ui.grid_views import Offers, show_foreseen, show_grid
from hotlora.ui.now import _draw as draw_line
from hotlora.ui.question_section import QuestionSection
from hotlora.ui.question_views import show_chats, show_questions, show_review
from hotlora.ui.samples import show_samples
from hotlora.ui.search_views import show_search
from hotlora.ui.views import (
    describe_row,
    describe_rows,
    show_data,
    show_findings,
    show_left,
    show_log,
    show_looking,
    show_outlook,
    show_place,
    show_runs,
    show_status,
)
from pictures import make_pictures

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "extension" / "hotlora"
NOT_IN_THE_WEBUI = (  # files of other hosts and other tasks
    *("llm", "textgen", "causal_model", "shelf", "toolbox"),
    *(f"standalone/{name}" for name in ("host", "images", "loading", "merging", "sampling", "text")),
)
CHINESE = re.compile(r"[\u4e00-\u9fff]")
NAMES = "※"  # stands in all that people have written
THE_SAME_IN_EVERY_LANGUAGE = {"…", "·", ":", "/", "+", "↑", "↓", "‹", "›"}


class Texts(html.parser.HTMLParser):
    """All texts of some HTML, each node as the browser has it."""

    def __init__(self, source):
        super().__init__()
        self.found = set()
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.found.update(value for name, value in attributes if name in ("placeholder", "title") and value)

    def handle_data(self, data):
        if data.strip():
            self.found.add(data.strip())


def texts(*drawn):
    """What can be translated of HTML: no names and no numbers."""
    found = set().union(*(Texts(source).found for source in drawn))
    return {text for text in found if NAMES not in text and not re.search(r"\d", text.replace("UTF-8", ""))} - THE_SAME_IN_EVERY_LANGUAGE


@pytest.fixture
def chinese():
    pairs = json.loads((ROOT / "localizations" / "zh_CN.json").read_text(encoding="utf-8"), object_pairs_hook=list)
    assert len(dict(pairs)) == len(pairs), "a text stands there twice"
    return dict(pairs)


@pytest.fixture
def tab(monkeypatch, tmp_path):
    """The tab and the settings as AUTOMATIC1111 gets them, with everything that there can be."""
    monkeypatch.setattr(studio_module, "_kept", {})
    monkeypatch.setattr(devices, "list_devices", lambda: {"cpu:0": NAMES, "cpu:1": NAMES})
    web = webui.make_webui(monkeypatch, tmp_path)
    web.loaded.sd_checkpoint_info.name = NAMES
    executed = runpy.run_path(str(ROOT / "scripts" / "hotlora_tab.py"))
    studio, called = executed["studio"], web.script_callbacks.called
    called["ui_settings"]()
    with gr.Blocks():
        for name in executed["_PROMPT_WIDGETS"]:
            called["after_component"](gr.Textbox(), elem_id=f"txt2img_{name}")
    ((page, title, _),) = called["ui_tabs"]()
    return SimpleNamespace(studio=studio, page=page, title=title, settings=web.shared.opts.data_labels)


def texts_of_widgets(page):
    """Labels, help, placeholders and buttons; not the labels that are options' own names, by which texts and files call them."""
    for widget in page.blocks.values():
        if "hotlora-hidden" in (getattr(widget, "elem_classes", None) or []):
            continue
        for name in ("label", "info", "placeholder"):
            yield getattr(widget, name, None) or ""
        if isinstance(widget, (gr.Button, gr.UploadButton)):
            yield widget.label if isinstance(widget, gr.UploadButton) else widget.value
        if isinstance(widget, gr.HTML):
            yield from texts(widget.value or "")
        if isinstance(widget, gr.CheckboxGroup) and widget.elem_id == "hotlora_find_over":
            yield from (choice if isinstance(choice, str) else choice[0] for choice in widget.choices)
        if isinstance(widget, gr.Radio):
            yield from (label for label, _ in widget.choices)


def texts_of_the_tab(tab):
    shown = {text.strip() for text in texts_of_widgets(tab.page)} | {tab.title, *(option.label for option in tab.settings.values())}
    return shown - {""} - set(options_of(ImageConfig))


def many_samples(folder):
    """More than a row shows."""
    return [Previewed(step, NAMES, 1.0, 1, str(folder / f"{step}.txt")) for step in range(60)]


def texts_of_views(folder):
    """Everything that is drawn of a run, in every state."""
    started = Started(NAMES, 0, 9, 3, 1, {})
    steps = [Step(n, 1.0, 0.5, 0.5, 1e-4, 1.0, 1.0, 1) for n in range(1, 4)]
    (folder / "sheet.png").write_bytes(next(folder.rglob("*.png")).read_bytes())
    sheet = {"sheet": str(folder / "sheet.png")}
    ends = [Finished(3, reason, sheet) for reason in ("done", "stopped", "early stopping")]
    sample = Previewed(1, NAMES, 1.0, 1, str(folder / "sheet.png"))
    histories = [History([started, *steps, Validated(3, 0.5, True), Saved(3, "final", NAMES), sample, end]) for end in ends]
    histories += [History([Preparing(NAMES, 1, 2)]), History([started, *steps, Paused()]), History([started, *steps, Paused(NAMES)])]
    histories += [History(), History([started]), History([started, Failed(NAMES, True)])]
    for history in histories:
        for status in STATUSES:
            yield show_status(NAMES, status, history, had=0.1)
        entries = [Entry(NAMES, NAMES, history), Entry(NAMES, "", History(), NAMES)]
        yield show_runs([describe_row(entry) for entry in entries])
        yield from (show_samples(history), show_log(history, Path(NAMES)), draw_losses({NAMES: history}, 0.9, ALSO))
    yield show_samples(History([Previewed(step, NAMES, 1.0, 1, str(folder / "sheet.png")) for step in (1, 2)] + many_samples(folder)))
    yield show_runs(describe_rows([Entry(NAMES, "training", History()), Entry(f"{NAMES} 2", "waiting", History())], [NAMES, f"{NAMES} 2"]))
    yield show_runs([describe_row(Entry(NAMES, "done", History(), marks=Marks(NAMES, archived=True)))])
    trials = [
        Row(number, kind, {}, state, loss, of=of)
        for number, (kind, state, loss, of) in enumerate(
            [("as given", "done", 0.5, None), ("search", "running", None, None), ("search", "cut short", None, None)]
            + [("search", "failed", None, None), ("search", "done", 0.4, None), ("repeat", "done", 0.4, 4)]
        )
    ]
    search = History([Searching(60.0), *(Tried(asdict(row)) for row in trials), Concluded(NAMES, {})])
    yield from (show_search(search), show_status(NAMES, "searching", search), show_log(search, Path(NAMES)))
    yield show_runs([])
    for axis, value in (("weight", 0.0), ("weight", 0.5), ("seed", 1), ("cfg", 2.0)):
        cell = replace(Cell(NAMES, 1.0, NAMES, None, None), **{axis: value})
        yield show_grid(Grid(folder, NAMES, "prompt", axis, ((cell,),)), Offers({}, uses_tag=True))
    yield show_foreseen(1, 1.0, draws=True)
    yield draw_line("done", NAMES, 0.5, NAMES)
    yield show_left([Left(NAMES, 0, 0), Left(NAMES, 9, 3), Left(NAMES, 0, 0, trials=3)])
    found = {"elapsed_seconds": 0.0, "cancelled": False, "error": "", "estimate": None, "progress": None, "summary": {}, "warnings": []}
    found["proposals"] = [proposals.Proposal({NAMES: NAMES}, 1.0, 9, proposals.Taken(refusal=NAMES))]
    for news in (
        {},
        {"cancelled": True},
        {"error": NAMES},
        {"progress": Preparing(NAMES, 1, 2)},
        {"estimate": Estimate(9, 9, 9, 1.0, 9, 9, {})},
    ):
        yield show_outlook(SimpleNamespace(**found | news))


def texts_of_data(folder):
    """An album in which everything is that there can be. Notes hold numbers or names."""
    for name, first in (("a", 0), ("2_b", 4), ("reg", 8), ("judge", 12)):
        make_pictures(folder / name, 2, first=first)
    values = {"train_data_dir": str(folder), "reg_data_dir": str(folder / "reg"), "validation_dir": str(folder / "judge")}
    view = look_at_pictures(build(ImageConfig, {**values, "cache_dir": str(folder / "cache")}))
    page = AlbumPage(0, [], [Shown(NAMES, "", NAMES, NAMES, NAMES, 80, mask=True)], 0, [(NAMES, 1)], 0, 0, 75)
    drawn = [
        show_data(type(view)(1, [type(view.examples[0])(NAMES, "")])),
        show_album(page),
        show_album(replace(page, shown=[])),
        show_pager(),
    ]
    return {label for label, _ in view.facts} | texts(*drawn, show_place(NAMES, NAMES))


def texts_of_answers(tab):
    """What the sections draw beside runs and data."""
    recipe, watch = tab.page.hotlora.recipe, tab.page.hotlora.watch
    for name in (NAMES, ""):
        recipe._studio.model_name = lambda name=name: name
        yield from texts(recipe.show_model())
    yield from texts(recipe._write_yaml(*recipe.options.show({"output_name": NAMES}))[1])
    remedies = [make_remedy(kind, [NAMES], "x") for kind in REMEDIES]
    yield from texts(
        show_looking(NAMES, 1, 2),
        show_findings([], NAMES),
        show_findings([Finding(NAMES, NAMES, [], remedy) for remedy in remedies], NAMES, 1),
    )
    yield from texts(show_class(ClassStatus(1, False, 1, 1, NAMES, True, NAMES)))
    yield from texts(show_proposals([Proposal(NAMES, caption, NAMES) for caption in (NAMES, "")], NAMES), tell_other(NAMES))
    yield from texts(*(show_captions(CaptionStatus(busy, 1, 2, 1, 1, NAMES)) for busy in (True, False)))
    yield from (watch._steering.describe(status, alive=True, trains=True, freed=False)[0].shows["value"] for status in STATUSES)
    archived = Entry(NAMES, "done", History(), marks=Marks(archived=True))
    told = [properties for _, properties in watch._keeping.describe(archived, [archived], busy=False)]
    yield next(properties["value"] for properties in told if properties.keys() == {"interactive", "value"})


def texts_of_text_sections():
    """What only the page of texts has, which no program translates yet."""
    studio = SimpleNamespace(questions=QuestionDesk(None, Path(NAMES)), chats=object())
    with gr.Blocks() as page:
        for section in (QuestionSection, ChatSection):
            section(studio, None).build()
    yield from texts_of_widgets(page)
    row = QuestionRow(NAMES, NAMES, NAMES, NAMES, 1, NAMES, NAMES)
    full = Review(NAMES, NAMES, [row], 1, 3, 1, 1, 1)
    for refused in (True, False):
        yield from texts(show_review(full, [NAMES], refused=refused), show_review(replace(full, rows=[]), [NAMES], refused=refused))
    chat = SimpleNamespace(key=NAMES, name=NAMES, partner=NAMES, day=NAMES, turns=1)
    yield from texts(show_questions(QuestionStatus(1, dropped=((NAMES, 1),), message=NAMES)), show_chats([chat]), show_chats([]))


def sources():
    for path in [*PACKAGE.rglob("*.py"), ROOT / "scripts" / "hotlora_tab.py"]:
        if not any(name in path.relative_to(ROOT).as_posix() for name in NOT_IN_THE_WEBUI):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def constants_in_calls(*functions):
    """The first arguments of calls that are plain text."""
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in functions and node.args:
                yield from (part.value for part in _branches(node.args[0]) if isinstance(part, ast.Constant) and part.value)


def _branches(node):
    """Of ``a if b else c``, both."""
    return [*_branches(node.body), *_branches(node.orelse)] if isinstance(node, ast.IfExp) else [node]


def keys_of_summary():
    """What the look ahead says of the data: ``ImageTrainee.summary``'s keys."""
    tree = next(tree for path, tree in sources() if path.name == "trainee.py")
    (summary,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "summary"]
    for node in ast.walk(summary):
        if isinstance(node, ast.Dict):
            yield from (key.value for key in node.keys)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            yield node.slice.value


def shown(tab, folder):
    return {
        "the tab": texts_of_the_tab(tab),
        "what is drawn in answers": {text for text in texts_of_answers(tab) if not text.startswith("python ")},
        "what is drawn of data": texts_of_data(folder),
        "what only texts have": set(texts_of_text_sections()) - {""},
        "what is drawn of runs": texts(*texts_of_views(folder)),
        "a message": set(constants_in_calls("message", "hint")),
        "a refusal": set(constants_in_calls("UserError", "ModelAway")),
        "what is done before training": set(constants_in_calls("Progress", "Preparing")),
        "a summary": set(keys_of_summary()),
        "the script": set(re.findall(r"hotloraConfirm\('([^']+)'", (PACKAGE / "ui" / "watch_section.py").read_text(encoding="utf-8")))
        | {text for path in (ROOT / "javascript").glob("*.js") for text in re.findall(r'translate\("([^"]+)"\)', path.read_text("utf-8"))},
    }


def test_every_text_has_its_chinese(tab, tmp_path, chinese):
    missing = {where: sorted(found - chinese.keys()) for where, found in shown(tab, tmp_path / "data").items()}
    assert not any(missing.values()), {where: found for where, found in missing.items() if found}


def test_no_chinese_text_is_left_over(tab, tmp_path, chinese):
    known = set().union(*shown(tab, tmp_path / "data").values())
    options = options_of(ImageConfig).values()
    known |= {str(choice) for field in options for choice in field.metadata["choices"] or ()} | set(IMAGES.presets)
    sentences = {
        node.value
        for _, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".")
    }
    assert sorted(chinese.keys() - known - sentences) == []


def test_the_texts_are_chinese_and_keep_what_is_not_language(chinese):
    for english, translated in chinese.items():
        assert translated.strip() == translated and CHINESE.search(translated), english
        assert english.strip() == english and not re.fullmatch(r"[.\d]+", english), "the WebUI would not find it"
        for name in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b|arXiv \d+\.\d+|\b\d+\.\d+\b", english):
            assert name in translated, (english, name)


def test_the_buttons_that_sentences_name_are_called_so(chinese):
    for button in ("Train", "Resume", "Sample now"):
        naming = [english for english in chinese if re.search(rf"\bpress {button}\b", english, re.IGNORECASE)]
        assert naming and all(chinese[button] in chinese[english] for english in naming), naming
