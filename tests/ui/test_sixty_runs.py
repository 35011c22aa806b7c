"""Sixty runs with five hundred sample pictures: what a look at the page costs the server, and that nothing of it is kept."""

import time

from bench_runs import append, make_runs
from hotlora.engine.events import Previewed, Warned
from hotlora.ui.page import build_page
from page_memory import measuring_page
from PIL import Image
from test_redraws import Browser, step
from toy_studio import toy_studio

MOST_SECONDS = 0.1  # of the processor, for one look


def make_many(folder):
    make_runs(folder, 60, steps=200)
    for run in range(60):
        place = folder / f"run {run:04}"
        paths = [place / f"{number}.jpg" for number in range(9 if run < 20 else 8)]  # 500 in all
        for path in paths:
            Image.new("RGB", (512, 512), (run, 90, 120)).save(path)
        made = [Previewed(200, "a cat", 1.0, 1, str(path)) for path in paths]
        append(place / "events.jsonl", made)


def test_no_look_is_dear_and_none_leaves_anything_behind(tmp_path):
    make_many(tmp_path / "runs")
    watch = build_page(toy_studio(tmp_path)).hotlora.watch
    browser = Browser(watch)
    browser.selected = "run 0059"
    browser.look()  # the program's first: it reads every event there is
    spent = []
    for _ in range(60):  # the small pictures come, some with each look
        began = time.thread_time()
        browser.look()
        spent.append(time.thread_time() - began)
    assert browser.look() == set(), "all is shown, and nothing is drawn without a change"
    events = watch._jobs.folder / "run 0059" / "events.jsonl"

    def change_and_look(number):
        append(events, [step(201 + number % 2) if number % 2 else Warned("x.")])
        browser.selected = f"run {59 - number % 2:04}"
        began = time.thread_time()
        assert browser.look()
        return time.thread_time() - began

    spent += map(change_and_look, range(100))
    with measuring_page() as held:
        for number in range(150):  # five hundred: see test_redraws
            if number == 50:
                before = held()
            change_and_look(number)
        grown = held() - before
    assert max(spent) < MOST_SECONDS, sorted(spent)[-5:]
    assert grown < 50_000, f"{grown:,} bytes in 100 redraws"
