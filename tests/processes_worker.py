"""Three processes that run the same jobs one after another, for tests: ``python processes_worker.py JOBS SECONDS``.

JOBS is a file of JSON: a list of jobs, each of so many processes. What each process printed, and how its part of a
job ended, goes into the folder ``said`` beside it, and how the processes ended (None where one hung) into ``codes.json``. Imports are paid
once for all of them.
"""

import contextlib
import io
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "extension"), str(ROOT / "tests")]

from hotlora.cli import run_door  # noqa: E402
from hotlora.engine.errors import UserError  # noqa: E402
from hotlora.engine.files import write_text  # noqa: E402
from hotlora.engine.following import follow  # noqa: E402
from hotlora.engine.job import Job  # noqa: E402
from hotlora.engine.processes import join  # noqa: E402
from hotlora.engine.run import Run  # noqa: E402
from toy import ToyHost, ToyTrainee, toy_config  # noqa: E402
from waiting import wait_until  # noqa: E402


class FaultyToy(ToyTrainee):
    """Fails as its job says, where this process is meant."""

    fault, at_step = "", -1

    def prepare(self):
        if self.fault == "unfit":
            raise UserError("cannot read the toy: it is broken. Mend it.")
        yield from super().prepare()

    def loss(self, batch, draws):
        if draws.step == self.at_step:
            if self.fault == "bug":
                raise ValueError("sour milk")
            if self.fault == "death":
                os._exit(3)
            if self.fault == "stop":
                signal.raise_signal(signal.SIGTERM)
            if self.fault == "nan":
                self.poison_at, self.fault = {draws.step}, ""
        if self.fault == "memory":
            self.memory_limit = 1
        return super().loss(batch, draws)


def make_toy(job: dict, place: int):
    def make(config):
        toy = FaultyToy(config, examples=job.get("examples", 13))
        if place == job.get("fault_in"):
            toy.fault, toy.at_step = job["fault"], job.get("at_step", -1)
        return toy

    return make


def run_toy(job: dict, place: int) -> str:
    """How it ended here."""
    config = toy_config(Path(job["folder"]), **job.get("options", {}))
    host = ToyHost(make_toy(job, place))
    with join() as processes:
        if not processes.is_first:
            signal.signal(signal.SIGTERM, lambda *_: processes.wish_stop())
            processes.listen()
            follow(host, processes.take(), processes)
        run = Run.reopen(config) if job.get("resume") else Run.start(config)
        done = Job(host, config, run, processes)
        processes.hand_out(lambda: config)
        outcome = done.work()
        return f"{type(outcome).__name__} {getattr(outcome, 'reason', '')}{getattr(outcome, 'message', '')}"
    return "lost" if processes.lost else "followed"


def run_command(job: dict, place: int) -> str:
    """As the command line does it; with how many pictures were encoded here."""
    from hotlora.hosts.standalone.images import DiffusersModel

    if place == job.get("interrupted"):
        events = Path(job["folder"]) / "events.jsonl"
        threading.Thread(
            target=lambda: (
                wait_until(lambda: events.exists() and '"step": 3,' in events.read_text(encoding="utf-8")),
                signal.raise_signal(signal.SIGINT),
            ),
            daemon=True,
        ).start()
    encoded, encode = [0], DiffusersModel.encode_pixels

    def count(model, pixels):
        encoded[0] += len(pixels)
        return encode(model, pixels)

    DiffusersModel.encode_pixels = count
    try:
        return f"{run_door('train', job['arguments'])} {encoded[0]}"
    finally:
        DiffusersModel.encode_pixels = encode


def agree_on_port(path: Path, place: int) -> str:
    """One that was free a moment ago, for all processes of a job."""
    if place == 0:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            write_text(path, str(free.getsockname()[1]))
    wait_until(path.exists, 200)
    return path.read_text(encoding="utf-8")


def import_libraries() -> None:
    """What the jobs need, before processes are made of this one."""
    import hotlora.cli.train  # noqa: F401
    import peft  # noqa: F401
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel  # noqa: F401
    from hotlora.hosts.standalone import images, texts  # noqa: F401
    from transformers import CLIPTextModel, CLIPTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401


def do_jobs(jobs: Path, place: int) -> None:
    torch.set_num_threads(1)
    for number, job in enumerate(json.loads(jobs.read_text(encoding="utf-8"))):
        if place >= job["processes"]:
            continue
        os.environ |= {"RANK": str(place), "LOCAL_RANK": str(place), "WORLD_SIZE": str(job["processes"])}
        os.environ |= {"LOCAL_WORLD_SIZE": os.environ["WORLD_SIZE"], "MASTER_ADDR": "127.0.0.1"}
        os.environ["MASTER_PORT"] = agree_on_port(jobs.parent / "said" / f"{number}.port", place)
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            ended = (run_command if "arguments" in job else run_toy)(job, place)
        said = jobs.parent / "said" / f"{number}-{place}.json"
        said.write_text(json.dumps([ended, told.getvalue()]), encoding="utf-8")


def main(jobs: Path, seconds: float) -> None:
    import_libraries()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=do_jobs, args=(jobs, place), daemon=True) for place in range(3)]
    until = time.monotonic() + seconds
    for process in processes:
        process.start()
    for process in processes:
        process.join(max(until - time.monotonic(), 0))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    (jobs.parent / "codes.json").write_text(json.dumps(codes), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
