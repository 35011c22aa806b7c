"""What a look at all runs costs: folders with events as a training writes them, and the list, the page and the HTTP API over them.

    python tools/bench_runs.py --runs 100 400 --steps 2000

The cold look is the program's first one, which reads every event there is; a warm one reads what is new. Trains nothing.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "extension")]

from hotlora.engine.config import RunConfig  # noqa: E402
from hotlora.engine.events import Event, Finished, Preparing, Saved, Started, Step, Validated  # noqa: E402
from hotlora.engine.jobs import Jobs  # noqa: E402
from hotlora.engine.options import as_plain, build  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--steps", type=int, default=2000, help="of each run (default: %(default)s)")
    options = parser.parse_args()
    print(f"{'runs':>6} {'events':>9} {'cold':>9} {'warm':>9} {'one changed':>12} {'one run':>9} {'memory':>9}")
    for count in options.runs:
        with tempfile.TemporaryDirectory() as folder:
            make_runs(Path(folder), count, options.steps)
            print(measure(Path(folder), count, options.steps))


def measure(folder: Path, count: int, steps: int) -> str:
    """A line of the table."""
    before = _memory_bytes()
    jobs = Jobs(lambda: None, folder, RunConfig)
    cold = _seconds(jobs.list_all)
    memory = _memory_bytes() - before
    warm = min(_seconds(jobs.list_all) for _ in range(5))

    def look_at_news() -> None:
        append(folder / "run 0000" / "events.jsonl", [_step(steps + 1)])
        jobs.list_all()

    changed = min(_seconds(look_at_news) for _ in range(5))
    one = min(_seconds(lambda: jobs.status("run 0001")) for _ in range(5))
    times = f"{cold * 1000:7.0f}ms {warm * 1000:7.1f}ms {changed * 1000:10.1f}ms {one * 1000:7.2f}ms"
    return f"{count:6} {count * (steps + steps // 100 + 4):9,} {times} {memory / 2**20:7.1f}MB"


def make_runs(folder: Path, count: int, steps: int) -> None:
    """So many finished runs, each with a validation and a file every 200 steps."""
    config = json.dumps(as_plain(build(RunConfig, {"output_name": "x", "output_dir": str(folder)})))  # which is YAML too
    events = _events(steps)
    for number in range(count):
        run = folder / f"run {number:04}"
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(config, encoding="utf-8")
        append(run / "events.jsonl", events)


def append(path: Path, events: list[Event]) -> None:
    """As :class:`EventLog` writes them, all at once."""
    lines = [json.dumps({"type": type(event).__name__, **dataclasses.asdict(event)}, ensure_ascii=False) for event in events]
    with open(path, "a", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in lines))


def _events(steps: int) -> list[Event]:
    events: list[Event] = [Preparing("caching latents", 1, 1), Started("x", 0, steps, 100, 1_234_567, {"examples": 20})]
    for number in range(1, steps + 1):
        events.append(_step(number))
        if number % 200 == 0:
            events += [Validated(number, 1 / number, True), Saved(number, "checkpoint", f"checkpoints/x-step{number:08}.safetensors")]
    return [*events, Saved(steps, "final", "x.safetensors"), Finished(steps, "done", {})]


def _step(number: int) -> Step:
    return Step(number, number / 100, 0.123456789, 0.1234567, 1e-4, 0.987654321, 0.5123456, 5_000_000_000, time=1.7e9 + number / 2)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _memory_bytes() -> int:
    return psutil.Process().memory_info().rss


if __name__ == "__main__":
    main()
