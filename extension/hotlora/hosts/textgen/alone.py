"""Keeping everybody else's calls out of the model while a run, or an answer, has something in it.

Answers take the program's generation lock, but not all that reads the model does: log-probabilities of a prompt (``echo``) and the
perplexity of a text call ``shared.model`` as it stands. Such a call waits here until the model is as it was loaded; and what is put into
the model waits for such a call. Nothing of this is on the model afterwards.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from torch import nn

_CALL = nn.Module._call_impl.__code__
_LOOK_AGAIN_SECONDS = 0.002


@contextlib.contextmanager
def alone_with(net: nn.Module) -> Iterator[set[int]]:
    """Only this thread computes with the model. Only for whoever holds the generation lock, so that no other thread that waits here does.

    Yields:
        The threads that wait for the end of it, as they come.
    """
    mine, over, waiting = threading.get_ident(), threading.Event(), set[int]()

    def wait(module: nn.Module, arguments: Any) -> None:
        if threading.get_ident() != mine:
            waiting.add(threading.get_ident())
            over.wait()

    hook = net.register_forward_pre_hook(wait, prepend=True)
    try:
        while _is_computing(net, {mine, *waiting}):
            time.sleep(_LOOK_AGAIN_SECONDS)
        yield waiting
    finally:
        hook.remove()
        over.set()


def _is_computing(net: nn.Module, others_than: set[int]) -> bool:
    """Whether a thread is in the middle of the model's forward pass. Seen in the threads' frames, because a mark of its own on the model
    would have to be there before, when no run has a turn."""
    for thread, top in sys._current_frames().items():
        frame = None if thread in others_than else top
        while frame is not None:
            if frame.f_code is _CALL and frame.f_locals.get("self") is net:
                return True
            frame = frame.f_back
    return False
