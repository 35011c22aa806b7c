"""Train a LoRA from a YAML file: ``python train.py --config configs/my_lora.yaml``.

Thin: reads options, joins the stand-alone host to a job, and turns signals and errors into exit codes
(0 finished or stopped, 2 something the user can mend, 1 a bug).
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

# Waiting OpenMP threads spin by default; where anything else uses the processor, that makes steps several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its notes are about picture processors that nobody uses here
sys.path.insert(0, str(Path(__file__).resolve().parent / "extension"))

from hotlora.engine.config import RunConfig
from hotlora.engine.console import Console, paint
from hotlora.engine.errors import UserError
from hotlora.engine.events import Failed
from hotlora.engine.interfaces import Host
from hotlora.engine.job import Job
from hotlora.engine.probe import Estimate, look_ahead
from hotlora.engine.recipe import read_options
from hotlora.engine.run import Run
from hotlora.engine.tensorboard import add_tensorboard
from hotlora.llm.config import TextConfig
from hotlora.sd.config import ImageConfig

TASKS = {config_class.TASK: config_class for config_class in (ImageConfig, TextConfig)}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parse(arguments)
    console = Console()
    try:
        config = read_config(options)
        host = make_host(config)
        if options.check:
            check(config, host, console)
            return 0
        run = Run.reopen(config) if options.resume else Run.start(config)
        job = Job(host, config, run)
        job.subscribe(console)
        tensorboard = add_tensorboard(job)
        if config.tensorboard and not tensorboard:
            print("note: TensorBoard is not installed, so there is no logs/; curves are in events.jsonl and loss.png", file=sys.stderr)
        stop_on_signals(job)
        outcome = job.run()
        if tensorboard:
            tensorboard.close()
    except UserError as error:
        outcome = Failed(str(error), bug=False)
    console.close()
    if isinstance(outcome, Failed):
        print(f"error: {outcome.message}", file=sys.stderr)
        return 1 if outcome.bug else 2
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description="Train a LoRA adapter from a YAML file.")
    parser.add_argument("--config", type=Path, help="YAML file with the run's options")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one option; may be repeated")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with the run in this output_dir")
    parser.add_argument(
        "--check", action="store_true", help="check options, data and memory, say what training would take, and train nothing"
    )
    options = parser.parse_args(arguments)
    if not (options.config or options.resume):
        parser.error("give --config FILE or --resume RUN")
    return options


def read_config(options: argparse.Namespace) -> RunConfig:
    """The run's options: of the resumed run, then the file's, then ``--set``."""
    return read_options(TASKS, options.config, options.set, options.resume)


def make_host(config: RunConfig) -> Host:
    """The stand-alone host that holds the task's models."""
    if isinstance(config, TextConfig):
        from hotlora.hosts.standalone.texts import TransformersHost

        return TransformersHost()
    from hotlora.hosts.standalone.images import DiffusersHost

    return DiffusersHost()


def check(config: RunConfig, host: Host, console: Console) -> None:
    """Everything short of training: options, base model, data, cached latents, and two measured steps."""
    trainee = host.borrow(config)
    for event in look_ahead(trainee, config, host):
        if isinstance(event, Estimate):
            estimate = event
        else:
            console(event)
    console.close()
    for example in trainee.examples():
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


if __name__ == "__main__":
    sys.exit(main())
