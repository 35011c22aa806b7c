"""Toys for tests of runs beside their program: ``python beside_worker.py`` is the process that trains one, and ``python beside_worker.py
FOLDER`` a program that has one trained, for as long as nobody ends it."""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "extension"), str(ROOT / "tests")]

from hotlora.cli import main  # noqa: E402
from hotlora.engine.jobs import Jobs  # noqa: E402
from hotlora.tasks import TASKS  # noqa: E402
from toy import ToyConfig, ToyHost, ToyTrainee  # noqa: E402

RUN = {"output_name": "far", "lora_rank": 2, "batch_size": 4, "learning_rate": 1e-2, "tensorboard": False, "train_device": "cpu"}


class SlowToy(ToyTrainee):
    """Slow enough to be told something meanwhile."""

    def loss(self, batch, draws):
        time.sleep(0.01)
        return super().loss(batch, draws)


class Program(ToyHost):
    """One whose model nobody may touch."""

    def __init__(self):
        super().__init__()
        self.base = Path(__file__)

    def borrow(self, config):
        raise AssertionError("the program's model was borrowed")

    def turn(self):
        raise AssertionError("the program's lock was taken")

    def beside_command(self):
        return [sys.executable, __file__]

    def find_base(self, config):
        config.base_model = config.base_model or "loaded"
        return self.base

    def publish_beside(self, path):
        self.published.append(path)


if __name__ == "__main__":
    if sys.argv[1:]:
        jobs = Jobs(Program, Path(sys.argv[1]), ToyConfig)
        jobs.start({**RUN, "max_steps": 100_000, "state_minutes": 1000})
        time.sleep(100)
        os._exit(1)
    TASKS[ToyConfig.TASK] = SimpleNamespace(label="toys", config_class=ToyConfig, make_host=lambda: ToyHost(SlowToy))
    sys.exit(main(["beside"]))
