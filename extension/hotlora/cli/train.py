"""``hotlora train`` and ``hotlora check``: joins the stand-alone host to a job, and turns signals and outcomes into exit codes
(0 finished or stopped, 2 something the user can mend, 1 a bug)."""

import argparse
import os
import signal
import sys
from typing import Any

import yaml

from ..engine.config import RunConfig
from ..engine.console import Console, paint
from ..engine.errors import UserError
from ..engine.events import Failed
from ..engine.interfaces import Host, Showing
from ..engine.job import Job
from ..engine.options import build
from ..engine.probe import Estimate, look_ahead
from ..engine.run import Run, check_unchanged, read_run_config, read_yaml
from ..engine.tensorboard import add_tensorboard
from ..tasks import IMAGES, TASKS, find_task


def run(options: argparse.Namespace) -> int:
    """Train, or check; returns the exit code. Raises UserError for what is wrong before training starts."""
    console = Console()
    try:
        config = read_config(options)
        host = TASKS[config.TASK].make_host()
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


def read_config(options: argparse.Namespace) -> RunConfig:
    """The run's options: of the resumed run, then the file's, then ``--set``."""
    values = read_run_config(options.resume) if options.resume else {}
    old = build(choose_config_class(values), values) if options.resume else None
    if options.config:
        values.update(read_yaml(options.config))
    for override in options.set:
        key, separator, text = override.partition("=")
        if not separator:
            raise UserError(f"cannot read --set {override}: it must be KEY=VALUE.")
        values[key.strip()] = read_value(text)
    if options.resume:
        values["output_dir"] = str(options.resume)
    config = build(choose_config_class(values), values)
    if old:
        check_unchanged(old, config)
        config.given = frozenset()  # what init_lora may take over was settled when the run started
    return config


def choose_config_class(values: dict[str, Any]) -> type[RunConfig]:
    """That of the run's ``task_type``; pictures where it is not said."""
    return find_task(values.get("task_type", IMAGES.name)).config_class


def read_value(text: str) -> Any:
    """A value of ``--set`` as YAML would read it."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


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
    for message in trainee.warnings():
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
