"""What the file that such a program executes needs to know of the host: one record per program."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from ...engine.interfaces import Host
from ...engine.job import Job
from ...engine.jobs import Jobs
from ...sd.config import ImageConfig


@dataclass(frozen=True)
class Program:
    """AUTOMATIC1111's program, or one that was made from it."""

    key: str  # of its studio
    make_host: Callable[[], Host]
    name_model: Callable[[], str]  # the checkpoint that a run would be started on; empty where there is none
    check_start: Callable[[ImageConfig], None]  # raises UserError for what can be seen in a moment to be wrong with a run
    update_live: Callable[[Jobs, Iterable[str]], None]
    own_device: Callable[[], torch.device]  # where its model is
    remove_live: Callable[[Job], None]
