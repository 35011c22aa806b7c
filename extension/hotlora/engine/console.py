"""The console as a reader of a run's events: one live line on a terminal, plain lines elsewhere."""

import sys
import time
from typing import TextIO

from tqdm import tqdm

from .events import Event, Failed, Finished, Graded, Preparing, Previewed, Saved, Started, Step, Validated, Warned
from .examples import Example
from .history import show_scores
from .plurals import counted

_PLAIN_LINE_SECONDS = 10.0
_LEARNED_COLOUR, _NO_COLOUR = "\x1b[32m", "\x1b[0m"


class Console:
    """Call it with every event."""

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._bar: tqdm | None = None
        self._what = ""
        self._printed_at = 0.0
        self._first: Step | None = None
        self._total = 0

    def __call__(self, event: Event) -> None:
        handler = getattr(self, f"_on_{type(event).__name__.lower()}", None)
        if handler:
            handler(event)

    def _say(self, text: str) -> None:
        if self._live:
            tqdm.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def _show(self, what: str, done: int, total: int) -> tqdm:
        """The live line, or a plain one now and then."""
        if self._bar is None or self._what != what:
            self.close()
            self._what = what
            self._bar = tqdm(
                total=total, desc=what, initial=max(done - 1, 0), file=self._stream, dynamic_ncols=True, disable=not self._live
            )
        self._bar.n = done
        return self._bar

    def _on_preparing(self, event: Preparing) -> None:
        bar = self._show(event.what, event.done, event.total)
        bar.refresh()
        if not self._live and (self._plain_line_is_due() or event.done == event.total):
            self._say(f"{event.what}: {event.done} of {event.total}")

    def _on_started(self, event: Started) -> None:
        self._total, self._first = event.total_steps, None
        what = ", ".join(f"{key} {value}" for key, value in event.summary.items())
        self._say(f"{event.name}: {what}")
        verb = f"going on at step {event.step} of" if event.step else "training"
        steps = f"{counted(event.total_steps, 'step')}, {event.steps_per_epoch} per epoch"
        self._say(f"{verb} {steps}, {event.trainable_parameters:,} trainable parameters")

    def _on_step(self, event: Step) -> None:
        self._first = self._first or event
        memory = f"{event.memory_bytes / 2**30:.1f} GB"
        if self._live:
            bar = self._show("training", event.step, self._total)
            bar.set_postfix_str(f"epoch {event.epoch:.2f}, loss {event.average:.4f}, {memory}")
        elif self._plain_line_is_due() or event.step in (1, self._total):
            done, seconds = event.step - self._first.step, event.time - self._first.time
            speed = done / seconds if done and seconds else 1 / max(event.seconds, 1e-9)
            left = (self._total - event.step) / speed
            self._say(
                f"step {event.step}/{self._total}  epoch {event.epoch:.2f}  loss {event.average:.4f}  {speed:.2f} it/s  "
                f"{_clock(left)} left  {memory}"
            )

    def _plain_line_is_due(self) -> bool:
        due = time.monotonic() - self._printed_at > _PLAIN_LINE_SECONDS
        if due:
            self._printed_at = time.monotonic()
        return due

    def _on_validated(self, event: Validated) -> None:
        self._say(f"step {event.step}: validation loss {event.loss:.4f}" + (" (best so far)" if event.best else ""))

    def _on_graded(self, event: Graded) -> None:
        self._say(f"step {event.step}: {show_scores(event)} on {event.count} {event.what}")

    def _on_previewed(self, event: Previewed) -> None:
        self._say(f"sample: {event.path}")

    def _on_saved(self, event: Saved) -> None:
        self._say(f"saved: {event.path}")

    def _on_warned(self, event: Warned) -> None:
        self._say(f"note: {event.message}")

    def _on_finished(self, event: Finished) -> None:
        self.close()
        self._say(f"finished ({event.reason}) at step {event.step}")
        for what, path in event.files.items():
            self._say(f"  {what}: {path}")

    def _on_failed(self, event: Failed) -> None:
        self.close()

    def close(self) -> None:
        """End the live line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def paint(example: Example, stream: TextIO | None = None) -> str:
    """An example for printing to ``stream`` (standard output): what is learned is green on a terminal, between ⟦ and ⟧ elsewhere."""
    stream = stream or sys.stdout
    begin, end = (_LEARNED_COLOUR, _NO_COLOUR) if stream.isatty() else ("⟦", "⟧")
    pieces = [f"{begin}{text}{end}" if learned else text for text, learned in example.spans] or [example.text]
    text = f"--- {example.name}" + (f" ({example.problem})" if example.problem else "") + "\n" + "".join(pieces)
    encoding = stream.encoding or "utf-8"  # on Windows often one that lacks most of the world's letters
    return text.encode(encoding, "replace").decode(encoding)
