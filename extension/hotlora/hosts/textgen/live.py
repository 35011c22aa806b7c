"""Answers by the model with the adapter that is just being trained, where the user wants that.

Between the run's turns the model is the clean one. An answer with the adapter puts it in for its own length, in the thread that
answers, while the generation lock keeps the run from its turn.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ...engine.control import Newest
from .alone import alone_with


class LiveAnswers:
    """The switch between the clean model and the one in training; one object per program.

    Attributes:
        wanted: whether answers are to come from the run in training.
    """

    def __init__(self, newest: Callable[[], Newest | None] = lambda: None):
        self._newest = newest
        self.wanted = False
        self._net: Any = None  # the model that answers with it
        self._answering = threading.Lock()  # a stopped answer lets go of the program's lock before its last token is through

    @contextlib.contextmanager
    def put_aside(self, net: Any) -> Iterator[None]:
        """For a turn: the model answers as its class does. Afterwards its answers come with the adapter, while that is wanted."""
        with self._answering:
            self.end()
            try:
                yield
            finally:
                if self.wanted and self._newest():
                    self._net = net
                    net.__dict__["generate"] = lambda *args, **options: self._answer(net, *args, **options)

    def _answer(self, net: Any, *args: Any, **options: Any) -> Any:
        newest = self._newest() if self.wanted else None
        with self._answering, contextlib.ExitStack() as stack:
            if newest:
                stack.enter_context(alone_with(net))
                stack.enter_context(newest.attached())
            return type(net).generate(net, *args, **options)

    def end(self) -> None:
        """Nothing of a run is left on the model."""
        if self._net is not None:
            self._net.__dict__.pop("generate", None)
            self._net = None
