"""The loss plot as a picture, drawn by matplotlib where it is installed."""

import io
from collections.abc import Iterable
from pathlib import Path

from .events import Event
from .files import write_bytes
from .history import History


def plot_loss(events: Iterable[Event], path: Path) -> Path | None:
    """Draw loss, its smoothed curve, validation and learning rate over steps; None when there is nothing to draw or no
    matplotlib to draw with (inside a host the curves are in the tab)."""
    history = History(events)
    steps, validations = history.steps, history.validations
    if not steps:
        return None
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    x = [step.step for step in steps]
    axes.plot(x, [step.loss for step in steps], color="#b8c4dd", linewidth=0.8, label="loss of each step")
    axes.plot(x, [step.average for step in steps], color="#2b4c9b", linewidth=2, label="smoothed")
    if validations:
        axes.plot([v.step for v in validations], [v.loss for v in validations], "o-", color="#d1603d", label="validation")
    axes.set(xlabel="step", ylabel="loss", title="Training loss", xlim=(0, x[-1] + 1), ylim=(0, None))
    rate = axes.twinx()
    rate.plot(x, [step.learning_rate for step in steps], color="#8a8a8a", linestyle=":", linewidth=1, label="learning rate")
    rate.set(ylabel="learning rate", ylim=(0, None))
    handles = [*axes.get_lines(), *rate.get_lines()]
    axes.legend(handles, [str(line.get_label()) for line in handles], loc="upper right")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_bytes(path, buffer.getvalue())
    return path
