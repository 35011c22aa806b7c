"""``hotlora train`` and ``hotlora check``: joins the stand-alone host to a job, and turns signals and outcomes into exit codes
(0 finished or stopped, 2 something the user can mend, 1 a bug)."""

import argparse
import os
import signal
import sys
from typing import Any

from ..engine.config import RunConfig
from ..engine.console import Console, paint
from ..engine.events import Failed
from ..engine.interfaces import Host, Showing
from ..engine.job import Job
from ..engine.probe import Estimate, look_ahead
from ..engine.recipe import read_options
from ..engine.run import Run
from ..engine.tensorboard import add_tensorboard
from ..tasks import TASKS


def run(options: argparse.Namespace) -> int:
    """Train, or check; returns the exit code. Raises UserError for what is wrong before training starts."""
    console = Console()
    try:
        kinds = {name: task.config_class for name, task in TASKS.items()}
        config = read_options(kinds, options.config, options.set, options.resume)
        task = TASKS[config.TASK]
        task.check(config)
        task.check_model(config)
        host = task.make_host()
        if options.check:
            check(config, host, console)
            return 0
        return train(config, host, console, resume=bool(options.resume))
    finally:
        console.close()


def train(config: RunConfig, host: Host, console: Console, *, resume: bool) -> int:
    """Train until it is done or stopped; returns the exit code."""
    job = Job(host, config, Run.reopen(config) if resume else Run.start(config))
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
    trainee = host.borrow(config)
    for event in look_ahead(trainee, config, host):
        if isinstance(event, Estimate):
            estimate = event
        else:
            console(event)
    console.close()
    for example in trainee.examples() if isinstance(trainee, Showing) else ():
        print(paint(example))
    for key, value in trainee.summary().items():
        print(f"{key}: {value}")
    for message in (*config.notes, *trainee.warnings()):
        print(f"note: {message}")
    print(f"trainable parameters: {estimate.trainable_parameters:,}")
    print(
        f"steps: {estimate.total_steps} ({estimate.steps_per_epoch} per epoch), about {estimate.seconds / 60:.1f} minutes without samples"
    )
    print(f"memory: {estimate.memory_bytes / 2**30:.2f} GB in use while training, {estimate.free_bytes / 2**30:.1f} GB free beside it")
    print("Everything is in order. Nothing was trained.")


def stop_on_signals(job: Job) -> None:
    """First Ctrl-C: save and end. Second: end at once."""

    def stop(number: int, frame: Any) -> None:
        if job.control.stopping:
            os._exit(128 + number)
        print("\nstopping after this step and saving (again to stop at once) …", file=sys.stderr)
        job.control.stop()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
