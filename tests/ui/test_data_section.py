"""Captions are opened and changed only where this program may write."""

import dataclasses

import pytest
from hotlora.engine.access import Access
from hotlora.engine.errors import UserError
from hotlora.engine.jobs import Jobs
from hotlora.pictures.album import look_at_pictures
from hotlora.pictures.caption_editing import read_caption, write_caption
from hotlora.sd.config import ImageConfig
from hotlora.ui.page import build_page
from pictures import make_pictures
from toy import ToyHost
from toy_studio import toy_studio


@pytest.fixture
def page(tmp_path):
    jobs = Jobs(ToyHost, tmp_path / "runs", ImageConfig, check_access=Access([tmp_path / "data"]).check)
    captions = {"look_at": look_at_pictures, "read_caption": read_caption, "write_caption": write_caption}
    make_pictures(tmp_path / "data" / "cats", 2)
    make_pictures(tmp_path / "secret", 2)
    return build_page(dataclasses.replace(toy_studio(tmp_path), jobs=jobs, **captions)).hotlora


def shown(page, folder):
    return page.recipe.options.show({"train_data_dir": str(folder)})


def test_captions_of_a_kept_data_set_are_opened_and_saved(page, tmp_path):
    folder = tmp_path / "data" / "cats"
    _, edited, _, caption = page.data._open_caption("picture 1.png", *shown(page, folder))
    assert edited == (str(folder), "picture 1.png") and caption["value"] == "green square, number 1"
    _, album = page.data._keep_caption(edited, "<b>new</b>", *shown(page, tmp_path / "elsewhere"))
    assert (folder / "picture 1.txt").read_text(encoding="utf-8") == "<b>new</b>\n"
    assert "&lt;b&gt;new&lt;/b&gt;" in album and "<b>new" not in album


def test_captions_elsewhere_are_neither_shown_nor_changed(page, tmp_path):
    before = (tmp_path / "secret" / "picture 0.txt").read_bytes()
    with pytest.raises(UserError, match="only these folders may be used"):
        page.data._open_caption("picture 0.png", *shown(page, tmp_path / "secret"))
    edited = (str(tmp_path / "secret"), "picture 0.png")
    with pytest.raises(UserError, match="only these folders may be used"):
        page.data._keep_caption(edited, "stolen", *shown(page, tmp_path / "data" / "cats"))
    assert (tmp_path / "secret" / "picture 0.txt").read_bytes() == before
