"""Run after run in one process, as programs that stay open do it: nothing grows."""

import gc
import os
import sys
import threading

import psutil
import pytest
import torch
import worlds
from hotlora.engine.events import Finished
from hotlora.engine.job import Job
from hotlora.engine.run import Run
from tally import counting, scaled
from test_kills import HAS_TEXT
from toy import ToyHost, toy_config
from worlds import SafeToy

_WARM_UP = 3
_MOST_BYTES = 3_000_000  # a run, on average: what an allocator keeps, and no model
_ALLOCATOR_BYTES = 40_000_000  # that come and go however many runs there are


def held():
    """(threads, open files, tensors)."""
    gc.collect()
    files = psutil.Process().num_fds() if os.name != "nt" else psutil.Process().num_handles()
    return threading.active_count(), files, sum(type(thing) in (torch.Tensor, torch.nn.Parameter) for thing in gc.get_objects())


def toy_run(folder, number):
    config = toy_config(folder / str(number), output_name="x", save_steps=3, sample_prompts=["a"], epochs=1, tensorboard=False)
    assert isinstance(Job(ToyHost(SafeToy), config, Run.start(config)).work(), Finished)


def real_run(kind):
    """Of train.py's own machinery, with the models loaded anew each time."""

    def run(folder, number, world=[]):  # noqa: B006 (made once)
        if not world:
            world.append(worlds.build_world(folder / "world", text=HAS_TEXT))
        worlds.write_options(world[0], kind, folder / str(number), max_steps=2)
        assert worlds.train(kind, str(folder / str(number))) == 0

    return run


RUNS = {"toy": (toy_run, 20, 50), "image": (real_run("image"), 5, 50), **({"text": (real_run("text"), 5, 50)} if HAS_TEXT else {})}


@pytest.mark.parametrize("kind", RUNS)
def test_nothing_grows(tmp_path, kind, monkeypatch, capfd):
    monkeypatch.setattr("hotlora.cli.train.stop_on_signals", lambda job: None)
    run, short, full = RUNS[kind]
    threads = torch.get_num_threads()
    with counting(
        "runs one after the other in one process", "as many threads, open files and tensors as before; memory stays flat"
    ) as tally:
        for number in range(_WARM_UP):
            run(tmp_path, f"warm {number}")
        before, memory = held(), psutil.Process().memory_info().rss
        for number in range(scaled(short, full)):
            with tally.trial(f"{kind} {number}"):
                run(tmp_path, number)
        with tally.trial(f"{kind}, after all"):
            tally.tried -= 1
            after = held()
            assert after == before, f"threads, files, tensors: {before}, then {after}"
            grown = psutil.Process().memory_info().rss - memory
            assert sys.platform != "linux" or grown < _ALLOCATOR_BYTES + _MOST_BYTES * scaled(short, full), f"{grown:,} bytes more"
    torch.set_num_threads(threads)
