"""Captions are opened and changed only where this program may write."""

import dataclasses
import os

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hotlora.captioning.captioner import CaptionerKind
from hotlora.captioning.desk import CaptionDesk
from hotlora.captioning.kinds import ALONE
from hotlora.engine.access import Access
from hotlora.engine.errors import UserError
from hotlora.engine.jobs import Jobs
from hotlora.sd.config import ImageConfig
from hotlora.tasks import IMAGES
from hotlora.ui.api import build_router
from hotlora.ui.page import build_page, build_standalone_page
from pictures import make_pictures
from toy import ToyHost
from toy_studio import toy_studio


@pytest.fixture
def page(tmp_path):
    jobs = Jobs(ToyHost, tmp_path / "runs", ImageConfig, check_access=Access([tmp_path / "data"]).check)
    make_pictures(tmp_path / "data" / "cats", 2)
    make_pictures(tmp_path / "secret", 2)
    return build_page(dataclasses.replace(toy_studio(tmp_path, editor=IMAGES.make_editor()), jobs=jobs)).hotlora


def shown(page, folder):
    return page.recipe.options.show({"train_data_dir": str(folder)})


def test_captions_of_a_kept_data_set_are_opened_and_saved(page, tmp_path):
    folder = tmp_path / "data" / "cats"
    _, edited, _, place, caption = page.data._open_caption("picture 1.png", None, *shown(page, folder))
    assert edited == (str(folder), "picture 1.png") and caption["value"] == "green square, number 1"
    assert "green square" in place
    _, album, _, _ = page.data._keep_caption(edited, None, "<b>new</b>", *shown(page, tmp_path / "elsewhere"))
    assert (folder / "picture 1.txt").read_text(encoding="utf-8") == "<b>new</b>\n"
    assert "&lt;b&gt;new&lt;/b&gt;" in album and "<b>new" not in album


def test_captions_elsewhere_are_neither_shown_nor_changed(page, tmp_path):
    before = (tmp_path / "secret" / "picture 0.txt").read_bytes()
    with pytest.raises(UserError, match="only these folders may be used"):
        page.data._open_caption("picture 0.png", None, *shown(page, tmp_path / "secret"))
    edited = (str(tmp_path / "secret"), "picture 0.png")
    with pytest.raises(UserError, match="only these folders may be used"):
        page.data._keep_caption(edited, None, "stolen", *shown(page, tmp_path / "data" / "cats"))
    assert (tmp_path / "secret" / "picture 0.txt").read_bytes() == before


def test_captions_of_further_folders_alone_are_opened_and_saved(page, tmp_path):
    make_pictures(tmp_path / "data" / "dogs", 1, first=2)
    entries = [str(tmp_path / "data" / "cats"), {"folder": str(tmp_path / "data" / "dogs")}]
    widgets = page.recipe.options.show({"datasets": entries})
    _, _, looked, _ = page.data._look_at(*widgets)
    _, edited, _, _, caption = page.data._open_caption("dogs/picture 2.png", looked, *widgets)
    assert caption["value"] == "blue square, number 2"
    page.data._keep_caption(edited, looked, "a dog", *widgets)
    assert (tmp_path / "data" / "dogs" / "picture 2.txt").read_text(encoding="utf-8") == "a dog\n"
    with pytest.raises(UserError, match="only these folders may be used"):
        page.data._look_at(*page.recipe.options.show({"datasets": [*entries, str(tmp_path / "secret")]}))


@pytest.fixture
def desk(tmp_path):
    def describe(pictures, images):
        return [f"seen {path.stem}" for path in pictures]

    return CaptionDesk([CaptionerKind("fake", "Fake", lambda settings: describe)], Access([tmp_path / "data"]))


def with_desk(tmp_path, desk, **values):
    jobs = Jobs(ToyHost, tmp_path / "runs", ImageConfig, check_access=Access([tmp_path / "data"]).check)
    make_pictures(tmp_path / "data" / "cats", 3, (256, 256))
    (tmp_path / "data" / "cats" / "picture 0.txt").unlink()
    return dataclasses.replace(toy_studio(tmp_path, editor=IMAGES.make_editor()), jobs=jobs, captions=desk)


def test_captions_are_written_by_http_in_allowed_folders_only(desk, tmp_path):
    app = FastAPI()
    app.include_router(build_router(with_desk(tmp_path, desk), None))
    client, folder = TestClient(app), tmp_path / "data" / "cats"
    options = {"train_data_dir": str(folder)}
    assert client.get("/hotlora/v1/captions").json()["captioners"] == [{"captioner": "fake", "label": "Fake"}]
    assert client.post("/hotlora/v1/captions", json={"options": options, "settings": {}}).status_code == 202
    desk.wait(20)
    state = client.get("/hotlora/v1/captions").json()
    assert (state["busy"], state["written"], state["message"]) == (False, 1, "Done.")
    assert (folder / "picture 0.txt").read_text(encoding="utf-8") == "seen picture 0\n"
    client.post("/hotlora/v1/captions", json={"options": options, "settings": {"as_proposals": True}})
    desk.wait(20)
    proposed = client.post("/hotlora/v1/captions/proposals", json={"options": options}).json()
    assert [one["name"] for one in proposed] == ["picture 1.png", "picture 2.png"] and proposed[0]["caption"].startswith("green square")
    decision = {"options": options, "accept": True, "names": ["picture 1.png"]}
    assert client.post("/hotlora/v1/captions/decisions", json=decision).json() == {"message": "1 accepted, 1 left."}
    idle = client.delete("/hotlora/v1/captions", headers={"content-type": "application/json"})
    assert idle.status_code == 400 and "no captions are being written" in idle.json()["detail"]

    make_pictures(tmp_path / "secret", 1)
    elsewhere = {"train_data_dir": str(tmp_path / "secret")}
    for path, body in (("", {"settings": {}}), ("/proposals", {}), ("/decisions", {"accept": True})):
        refused = client.post(f"/hotlora/v1/captions{path}", json={"options": elsewhere, **body})
        assert refused.status_code == 400 and "only these folders may be used" in refused.json()["detail"], path


def test_what_a_captioner_needs_stands_below_the_choice_of_it(serve, open_page, tmp_path):
    page = open_page(serve(build_standalone_page(with_desk(tmp_path, CaptionDesk(ALONE, Access([tmp_path]))))))
    page.locator("#hotlora_captions").get_by_text("Write captions").first.click()
    page.locator("#hotlora_blip_model").first.wait_for(state="visible")
    for captioner, field in (("ONNX tagger", "tagger_folder"), ("Endpoint", "endpoint_url"), ("File names", "")):
        page.locator("#hotlora_captioner input").first.click()
        page.locator("#hotlora_captioner li, ul[role=listbox] li", has_text=captioner).first.click()
        page.wait_for_function(
            """wanted => ["blip_model", "tagger_folder", "endpoint_url"].every((key) => {
                const block = document.querySelector(`#hotlora_${key}`);
                return Boolean(block && block.offsetParent) === (key === wanted);
            })""",
            arg=field,
        )


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_captions_are_written_and_proposed_on_the_page(serve, open_page, desk, tmp_path, monkeypatch, size):
    if size == "phone":  # done before the page looks for the first time
        start = desk.start
        monkeypatch.setattr(desk, "start", lambda *given: (start(*given), desk.wait(), desk.status)[-1])
    page, folder = open_page(serve(build_standalone_page(with_desk(tmp_path, desk))), size=size), tmp_path / "data" / "cats"
    for option, value in (("train_data_dir", folder), ("resolution", 256)):
        page.locator(f"#hotlora_{option}").locator("textarea, input").first.fill(str(value))
    page.locator("#hotlora_look").click()
    page.locator("#hotlora_album .hotlora-odd").wait_for()
    page.locator("#hotlora_captions").get_by_text("Write captions").first.click()
    page.locator("#hotlora_write_captions").click()
    page.locator("#hotlora_album figcaption", has_text="seen picture 0").wait_for()
    assert page.locator("#hotlora_album .hotlora-odd").count() == 0

    page.locator("#hotlora_as_proposals input").check()
    page.locator("#hotlora_write_captions").click()
    first = page.locator("[data-proposal='picture 1.png']")
    first.wait_for()
    assert "green square" in first.inner_text() and "seen picture 1" in first.inner_text()
    first.locator("img[src^=data]").wait_for()
    if SHOTS := os.environ.get("HOTLORA_SHOTS"):
        page.screenshot(path=f"{SHOTS}/captions-{size}.png", full_page=True)
    first.locator("button", has_text="Accept").click()
    page.locator("#hotlora_album figcaption", has_text="seen picture 1").wait_for()
    assert (folder / "picture 1.txt").read_text(encoding="utf-8") == "seen picture 1\n"
    page.locator("#hotlora_refuse_all").click()
    page.locator("#hotlora_proposals li").first.wait_for(state="detached")
    assert (folder / "picture 2.txt").read_text(encoding="utf-8") == "blue square, number 2"


def test_the_health_report_is_told_on_the_page_and_by_http_in_allowed_folders_only(desk, tmp_path):
    studio = dataclasses.replace(with_desk(tmp_path, desk), report=IMAGES.report)
    page, folder = build_page(studio).hotlora, tmp_path / "data" / "cats"
    (folder / "picture 1.txt").write_text("ein schÃ¶nes Bild", encoding="utf-8")
    values = {"train_data_dir": str(folder), "resolution": 256}
    _, told = page.data._examine(*page.recipe.options.show(values))
    assert "1 picture (picture 1.png): with garbled letters in its caption" in told
    app = FastAPI()
    app.include_router(build_router(studio, None))
    client = TestClient(app)
    (finding,) = (one for one in client.post("/hotlora/v1/data/report", json=values).json() if one["kind"] == "encoding")
    assert finding["names"] == ["picture 1.png"] and finding["said"] in told.replace("&#x27;", "'")
    make_pictures(tmp_path / "secret", 1)
    assert client.post("/hotlora/v1/data/report", json={"train_data_dir": str(tmp_path / "secret")}).status_code == 400
    with pytest.raises(UserError, match="only these folders may be used"):
        page.data._examine(*page.recipe.options.show({"train_data_dir": str(tmp_path / "secret")}))
