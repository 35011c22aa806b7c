"""What every process of a run but the first does: the same steps on the same numbers, when the first one says so, and nothing else.

Judges, draws, prints and writes nothing.
"""

import contextlib
import tempfile
from pathlib import Path
from typing import NoReturn

from .config import RunConfig
from .interfaces import Host
from .loop import prepare
from .processes import Joined, Order
from .run import Run
from .session import Diverged, Session


def follow(host: Host, config: RunConfig, processes: Joined) -> NoReturn:
    """Train along.

    Raises:
        EndedError: when the run has ended, however it did.
        Exception: what went wrong here, which is to be told to the first one.
    """
    trainee = host.borrow(config)
    with host.turn(), tempfile.TemporaryDirectory() as folder:
        for _ in prepare(trainee, processes):
            pass
        run = Run(Path(folder), config.name, config.FILE_SUFFIX)  # the true one is the first process's alone
        processes.listen()
        while True:
            session = Session(trainee, config, run, processes, states=[("the first process's state", processes.take())])
            with session.attached():
                _take_steps(session, processes)


def _take_steps(session: Session, processes: Joined) -> None:
    """Until the first process hands out another state: it has gone back to an earlier step."""
    while (order := processes.listen()) != Order.TAKE:
        with contextlib.suppress(Diverged):  # the first one finds the same, and says what becomes of it
            if order == Order.STEP:
                session.train_step()
            else:
                session.time_step()
