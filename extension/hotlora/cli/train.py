"""``hotlora train`` and ``hotlora check``: joins the stand-alone host to a job, and turns signals and outcomes into exit codes
(0 finished or stopped, 2 something the user can mend, 1 a bug). Of several processes the first one's says how the run went."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from ..engine.config import RunConfig
from ..engine.console import Console, paint
from ..engine.errors import UserError
from ..engine.events import Failed, Preparing
from ..engine.following import follow
from ..engine.interfaces import Host
from ..engine.job import Job
from ..engine.launch import check_launch
from ..engine.probe import Estimate, look_ahead
from ..engine.processes import Joined, Processes, join
from ..engine.recipe import read_options
from ..engine.run import Run, describe_place
from ..engine.tensorboard import add_tensorboard
from ..tasks import TASKS


def run(options: argparse.Namespace) -> int:
    """Train, or check; returns the exit code. Raises UserError for what is wrong before training starts."""
    with join() as processes:
        if isinstance(processes, Joined) and not processes.is_first:
            train_along(processes)
        else:
            return _run_first(options, processes)
    return int(processes.lost)


def _run_first(options: argparse.Namespace, processes: Processes) -> int:
    console = Console()
    try:
        kinds = {name: task.config_class for name, task in TASKS.items()}
        config = read_options(kinds, options.config, options.set, options.resume)
        config.notes += check_launch(config.batch_size * config.gradient_accumulation_steps, processes.count)
        task = TASKS[config.TASK]
        task.check(config)
        task.check_model(config)
        host = task.make_host()
        if not options.check:
            return train(config, host, console, processes, resume=bool(options.resume))
        if processes.count > 1:
            raise UserError(
                "cannot check a run in several processes: what is measured is a step of one. Start it as one, without a launcher: "
                "none of several needs more memory."
            )
        config.notes += [] if options.resume else describe_place(config)
        check(config, host, console)
        return 0
    finally:
        console.close()


def train_along(processes: Joined) -> None:
    """Take part in the run of the first process, in silence: what libraries print here, the first one has printed."""
    _handle_signals(lambda: processes.wants_stop, processes.wish_stop)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        processes.listen()
        config = processes.take()
        follow(TASKS[config.TASK].make_host(), config, processes)


def train(config: RunConfig, host: Host, console: Console, processes: Processes, *, resume: bool) -> int:
    """Train until it is done or stopped; returns the exit code."""
    job = Job(host, config, Run.reopen(config) if resume else Run.start(config), processes)
    processes.hand_out(lambda: config)
    job.subscribe(console)
    tensorboard = add_tensorboard(job)
    if config.tensorboard and not tensorboard:
        print("note: TensorBoard is not installed, so there is no logs/; curves are in events.jsonl and loss.png", file=sys.stderr)
    stop_on_signals(job)
    outcome = job.work()
    if tensorboard:
        tensorboard.close()
    if not isinstance(outcome, Failed):
        return 0
    console.close()
    print(f"error: {outcome.message}", file=sys.stderr)
    return 1 if outcome.bug else 2


def check(config: RunConfig, host: Host, console: Console) -> None:
    """Everything short of training: options, base model, data, cached latents, and two measured steps."""
    for event in look_ahead(host, config):
        if isinstance(event, Estimate):
            estimate = event
        else:
            console(event)
    findings = _list_findings(config, console)
    console.close()
    for example in estimate.examples:
        print(paint(example))
    for key, value in estimate.summary.items():
        print(f"{key}: {value}")
    proposed = [proposal.tell() for proposal in estimate.proposals]
    for message in (*config.notes, *estimate.notes, *proposed, *findings):
        print(f"note: {message}")
    print(f"trainable parameters: {estimate.trainable_parameters:,}")
    print(
        f"steps: {estimate.total_steps} ({estimate.steps_per_epoch} per epoch), about {estimate.seconds / 60:.1f} minutes without samples"
    )
    print(f"memory: {estimate.memory_bytes / 2**30:.2f} GB in use while training, {estimate.free_bytes / 2**30:.1f} GB free beside it")
    print("Everything is in order. Nothing was trained.")


def _list_findings(config: RunConfig, console: Console) -> list[str]:
    """What commonly goes wrong with such data."""
    report, said = TASKS[config.TASK].report, list[str]()
    for progress, found in report(config) if report else ():
        console(Preparing(progress.what, progress.done, progress.total))
        said += [finding.said for finding in found]
    return said


def stop_on_signals(job: Job) -> None:
    """First Ctrl-C: save and end. Second: end at once."""

    def stop() -> None:
        print("\nstopping after this step and saving (again to stop at once) …", file=sys.stderr)
        job.control.stop()

    _handle_signals(lambda: job.control.stopping, stop)


def _handle_signals(is_stopping: Callable[[], bool], stop: Callable[[], None]) -> None:
    def handle(number: int, frame: Any) -> None:
        if is_stopping():
            os._exit(128 + number)
        stop()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
