"""Loss curves as inline SVG: no plotting library in the host, sharp on every screen, coloured by the host's theme."""

import math
from collections.abc import Mapping, Sequence

from ..engine.history import History
from .draw import escape, hint
from .smoothing import Curve, find_fences, smooth

_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 10, 26
_POINTS = 500
_COLOURS = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#ef4444", "#eab308")

ALSO = ("validation loss", "learning rate")  # what can be left out or shown as well


def draw_losses(histories: Mapping[str, History], share: float = 0.9, also: Sequence[str] = ALSO[:1]) -> str:
    """One run with every step's loss, or several runs' smoothed curves side by side; validation as dots on a dashed line.

    Args:
        share: of the average that is kept from step to step; 0 draws the raw line alone.
        also: some of ``ALSO``.
    """
    shown = {name: history for name, history in histories.items() if history.steps}
    if not shown:
        return hint("The loss curve appears with the first steps.")
    alone = len(shown) == 1
    curves = {name: (_raw(history), smooth(_raw(history), share), _validation(history, also)) for name, history in shown.items()}
    axes = _Axes.around([curve for curves_of in curves.values() for curve in (curves_of if alone else curves_of[1:])])
    drawn, legend = [], []
    for number, (name, (raw, smoothed, validation)) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        if alone:
            drawn.append(axes.line(raw, colour, 'stroke-width="1" opacity="0.3"'))
            legend += [(colour, "smoothed loss", ""), (colour, "each step", "hotlora-thin")]
        else:
            legend.append((colour, name, ""))
        drawn.append(axes.line(smoothed, colour, 'stroke-width="2"'))
        if validation:
            of_its_own = "#f97316" if alone else colour
            drawn.append(axes.line(validation, of_its_own, 'stroke-width="1.5" stroke-dasharray="4 3"') + axes.dots(validation, of_its_own))
            if alone:
                legend.append((of_its_own, "validation loss", "hotlora-dashed"))
        if "learning rate" in also:
            drawn.append(_draw_rates(axes, shown[name], colour))
    if "learning rate" in also:
        legend.append(("#6b7280", "learning rate", "hotlora-dotted"))
    return _frame(axes, drawn, legend)


def _frame(axes: "_Axes", drawn: Sequence[str], legend: Sequence[tuple[str, str, str]]) -> str:
    keys = "".join(
        f'<span><i class="{kind}" style="border-color:{colour}"></i><b>{escape(text)}</b></span>' for colour, text, kind in legend
    )
    box = (_LEFT, _TOP, _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM)
    place = 'x="{}" y="{}" width="{}" height="{}" viewBox="{} {} {} {}"'.format(*box, *box)  # cuts off what lies outside
    return (
        f'<div class="hotlora-chart"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="loss over steps">'
        f"{axes.draw()}<svg {place}>{''.join(drawn)}</svg></svg>"
        f'<div class="hotlora-legend">{keys}</div></div>'
    )


def _draw_rates(axes: "_Axes", history: History, colour: str) -> str:
    """Learning rates from 0 to the run's highest, over the chart's whole height."""
    rates = [(step.step, step.learning_rate) for step in history.steps if math.isfinite(step.learning_rate)]
    highest = max((rate for _, rate in rates), default=0.0)
    if not highest:
        return ""
    scaled = [(step, axes.low + (axes.high - axes.low) * 0.97 * rate / highest) for step, rate in rates]
    line = axes.line(scaled, colour, 'stroke-width="1.5" stroke-dasharray="1 4"')
    return f"<g><title>{highest:.3g}</title>{line}</g>"


def _raw(history: History) -> Curve:
    return [(step.step, step.loss) for step in history.steps]


def _validation(history: History, also: Sequence[str]) -> Curve:
    return [(judged.step, judged.loss) for judged in history.validations] if "validation loss" in also else []


class _Axes:
    """From steps and losses to the drawing's units."""

    def __init__(self, last_step: float, low: float, high: float):
        self.last_step, self.low, self.high = max(last_step, 1), low, high

    @classmethod
    def around(cls, curves: Sequence[Curve]) -> "_Axes":
        """All of them but far outliers, with some room."""
        ends = [find_fences([loss for _, loss in curve]) for curve in curves if any(math.isfinite(loss) for _, loss in curve)]
        low, high = (min(low for low, _ in ends), max(high for _, high in ends)) if ends else (0.0, 1.0)
        is_level = high - low <= 1e-9 * abs(high)  # but for rounding
        margin = (0.1 * abs(high) or 0.1) if is_level else 0.08 * (high - low)
        return cls(max(curve[-1][0] for curve in curves if curve), max(low - margin, 0), high + margin)

    def x(self, step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / self.last_step

    def y(self, loss: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (loss - self.low) / (self.high - self.low)

    def line(self, curve: Curve, colour: str, style: str) -> str:
        stride = max(1, len(curve) // _POINTS)
        kept = [point for index, point in enumerate(curve) if index % stride == 0 or index == len(curve) - 1]
        points = [f"{self.x(step):.1f},{self.y(loss):.1f}" for step, loss in kept if math.isfinite(loss)]
        if len(points) == 1:
            points *= 2  # with round ends, a dot
        drawn = 'fill="none" stroke-linejoin="round" stroke-linecap="round"'
        return f'<polyline points="{" ".join(points)}" stroke="{colour}" {drawn} {style}/>'

    def dots(self, curve: Curve, colour: str) -> str:
        return "".join(
            f'<circle cx="{self.x(step):.1f}" cy="{self.y(loss):.1f}" r="3" fill="{colour}"><title>{loss:.4f} @ {step:g}</title></circle>'
            for step, loss in curve
            if math.isfinite(loss)
        )

    def draw(self) -> str:
        """Grid lines with their numbers."""
        parts = []
        for quarter in range(5):
            loss = self.low + (self.high - self.low) * quarter / 4
            y = self.y(loss)
            parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="hotlora-grid"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{loss:.3g}</text>')
        for step in _ticks(self.last_step):
            anchor = "middle" if self.x(step) < _WIDTH - 40 else "end"
            parts.append(f'<text x="{self.x(step):.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{step:g}</text>')
        return "".join(parts)


def _ticks(last: float) -> list[float]:
    """Four to eight round numbers from 0 to ``last``."""
    rough = last / 5
    power = 10 ** math.floor(math.log10(rough)) if rough >= 1 else 1
    stride = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [stride * number for number in range(int(last // stride) + 1)]
