"""Processes that may be killed: each is forked from one that has all libraries loaded, so that it begins within a hundredth of a second.

That one is a process of its own and runs one thread, whatever the tests before have started here.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

_LONGEST_SECONDS = 180.0
HUNG = 1000
TESTS = Path(__file__).resolve().parents[1]


class Forks:
    """Calls functions of test modules in processes of their own.

    Args:
        warm_up: ``module:name`` of a function, and what it is called with before anything is forked: what it loads is loaded for all.
    """

    def __init__(self, warm_up: str, *arguments: Any):
        paths = [str(place) for place in (TESTS / "faults", TESTS, TESTS.parent / "extension")]
        settings = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
        environment = {**os.environ, **settings, "PYTHONPATH": os.pathsep.join(paths)}
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, warm_up, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        assert self._server.stdout.readline() == "ready\n"

    def call(self, function: str, *arguments: Any, log: Path, kill_after: float | None = None) -> int:
        """The exit status: what the function returns, or the negative number of the signal that killed it; HUNG after a long time.

        Args:
            function: ``module:name``.
            arguments: what JSON can say.
            log: what is printed is added to this file.
            kill_after: seconds of its own work, so that it does not matter what else the computer does.
        """
        request = {"function": function, "arguments": arguments, "log": str(log), "kill_after": kill_after}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait(10)
        self._server.stdout.close()


def serve(warm_up: str, arguments: Sequence[Any]) -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(1)
    _find(warm_up)(*arguments)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        process = os.fork()
        if process == 0:
            _work(request)
        print(_wait(process), file=answers, flush=True)


def _find(function: str) -> Any:
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)


def _work(request: dict) -> None:
    code = 70
    try:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(log, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if request["kill_after"]:
            signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which is death, and nothing is run before it
            signal.setitimer(signal.ITIMER_PROF, request["kill_after"])
        code = _find(request["function"])(*request["arguments"]) or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait(process: int) -> int:
    until = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < until:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return HUNG


if __name__ == "__main__":
    serve(sys.argv[1], json.loads(sys.argv[2]))
