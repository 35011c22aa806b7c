"""Dropped files arrive, however long they take and whatever else goes on at the page."""

import os
import time

import pytest
from hotlora.ui.page import build_standalone_page
from pictures import make_pictures
from toy_studio import toy_studio


@pytest.mark.parametrize("disturbed", [False, True])
def test_a_slow_upload_arrives(serve, open_page, tmp_path, disturbed):
    """Gradio 3.41 forgets an upload whose page changes before its answer: by a look for news (``disturbed``), which comes every other
    second, or by anything else."""
    page = open_page(serve(build_standalone_page(toy_studio(tmp_path))))
    page.locator("#hotlora_beat i").wait_for(state="attached")
    slow = 3.0

    def answer_late(route):
        nonlocal slow
        answer = route.fetch()
        if disturbed and slow:
            page.evaluate("document.querySelector('#hotlora_tick').click()")
        time.sleep(slow)
        slow = 0.0
        route.fulfill(response=answer)

    page.route("**/upload*", answer_late)
    make_pictures(tmp_path / "mine", 3)
    page.locator("#hotlora_data_set input").fill("cats")
    page.locator("#hotlora_data_set input").press("Enter")
    page.locator("#hotlora_upload input[type=file]").set_input_files(sorted((tmp_path / "mine").iterdir()))
    page.locator("#hotlora_album figure").first.wait_for()
    assert sorted(os.listdir(tmp_path / "data" / "cats")) == sorted(os.listdir(tmp_path / "mine"))
    page.locator("#hotlora_upload input[type=file]").wait_for(state="attached")  # and more can be dropped
