"""People who use the program while it trains, many at once, on stand-ins of both programs: they get what they would have got without."""

import contextlib
import json
import random
import threading
import time

import pytest
import torch
from hotlora.engine.jobs import Jobs
from tally import counting, scaled
from test_kills import HAS_TEXT
from waiting import wait_until


def together(count, work):
    """So many people at once, each doing ``work(number)``; what one of them raises is raised here."""
    wrong = []

    def one(number):
        try:
            work(number)
        except BaseException as error:
            wrong.append(error)

    people = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for person in people:
        person.start()
    for person in people:
        person.join(120)
        assert not person.is_alive(), "somebody waits for ever"
    if wrong:
        raise wrong[0]


def test_pictures_while_it_trains(monkeypatch, tmp_path):
    from hotlora.engine.options import build
    from hotlora.hosts.a1111.host import A1111Host
    from hotlora.sd.config import ImageConfig
    from toy import ToyTrainee
    from toy_studio import SlowToy
    from webui import make_webui

    web = make_webui(monkeypatch, tmp_path)
    loaded, info = web.loaded, web.loaded.sd_checkpoint_info

    class Host(A1111Host):
        """Its own turns at the real lock's stand-in; what is trained is a toy that hangs in the loaded model."""

        def borrow(self, config):
            self.lend(build(ImageConfig, {"output_name": config.output_name, "base_model": info.name}), loaded)
            trainee = SlowToy(config)
            loaded.model.toy = trainee.net
            return trainee

    assert issubclass(SlowToy, ToyTrainee)
    jobs = Jobs(Host, tmp_path / "runs", ImageConfig)
    options = {"train_data_dir": "x", "max_steps": 100_000, "epochs": 100_000, "slice_seconds": 0.1, "tensorboard": False, "lora_rank": 2}
    jobs.start({"output_name": "cat", **options})
    wait_until(lambda: jobs.history("cat").step > 1)
    x = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    with web.call_queue.queue_lock:
        plain = loaded.model.toy(x)
    with counting("pictures drawn during a run, by several people at once", "each the same as without the run") as tally:

        def draw(number):
            rng = random.Random(number)
            for picture in range(scaled(5, 25)):
                time.sleep(rng.uniform(0, 0.03))
                with tally.trial(f"person {number}, picture {picture}"), web.call_queue.queue_lock:
                    assert torch.equal(loaded.model.toy(x), plain), "another picture"
                    assert getattr(web.layer, "__webui_hypertile_params").enabled and web.sd_hijack.model_hijack.circular_enabled
                with contextlib.suppress(Exception):
                    getattr(jobs.control("cat"), rng.choice(["pause", "go_on", "go_on", "sample_now", "save_now"]))()

        together(8, draw)
        jobs.control("cat").go_on()
        jobs.stop("cat")
        wait_until(lambda: jobs.status("cat") == "stopped", 60)


@pytest.mark.skipif(not HAS_TEXT, reason="text runs need a newer transformers")
def test_answers_while_it_trains(monkeypatch, tmp_path):
    from hotlora.hosts.textgen.host import TextgenHost
    from hotlora.hosts.textgen.live import LiveAnswers
    from hotlora.llm.config import TextConfig
    from textgen_program import install
    from worlds import PAIRS

    program = install(monkeypatch, tmp_path / "program")
    data = tmp_path / "facts.jsonl"
    data.write_text("\n".join(json.dumps({"question": q, "answer": a}) for q, a in PAIRS), encoding="utf-8")
    live = LiveAnswers(lambda: jobs.current.control.newest if jobs.current else None)
    jobs = Jobs(lambda: TextgenHost(live), tmp_path / "runs", TextConfig, on_end=lambda job: live.end())
    plain, traces = program.answer(), program.traces()
    values = {
        "train_data_dir": str(data),
        "lora_rank": 2,
        "max_steps": 100_000,
        "slice_seconds": 0.1,
        "test_answers": 0,
        "tensorboard": False,
    }
    for name in ("one", "two"):
        jobs.start({"output_name": name, "sample_max_tokens": 2, **values})
    wait_until(lambda: jobs.history("one").step > 1, 60)
    with counting("answers given during two runs in line, to several people at once", "each the same as without the runs") as tally:

        def ask(number):
            rng = random.Random(number)
            for question in range(scaled(3, 15)):
                time.sleep(rng.uniform(0, 0.05))
                with tally.trial(f"person {number}, question {question}"):
                    assert program.answer() == plain, "another answer"

        together(4, ask)
        jobs.stop("one")
        wait_until(lambda: jobs.status("one") == "stopped", 60)
        wait_until(lambda: jobs.history("two").step > 1, 60)
        together(2, ask)
        jobs.stop("two")
        wait_until(lambda: jobs.status("two") == "stopped", 60)
        with tally.trial("afterwards"):
            assert program.traces() == traces and program.answer() == plain
