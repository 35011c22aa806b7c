"""Samples of a run as HTML: a row for each prompt, its steps from left to right, other runs' below. Reads histories; starts nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..engine.events import Finished, Previewed
from ..engine.history import History
from .draw import PICTURE_SUFFIXES, escape, hint, picture_source, zoomable

_MOST_SHOWN = 48
_LEAST_OF_A_ROW = 2


def show_samples(history: History, others: Mapping[str, History] | None = None) -> str:
    """The comparison where there is one, then the prompts, the one that was sampled last first.

    Args:
        others: runs whose samples of the same prompts are shown below, by name.
    """
    parts = []
    if isinstance(history.outcome, Finished) and "sheet" in history.outcome.files:
        parts.append(_show_sheet(Path(history.outcome.files["sheet"])))
    rows = _sort_by_prompt(history)
    beside = {name: _sort_by_prompt(other) for name, other in (others or {}).items()}
    count = sum(1 + sum(prompt in found for found in beside.values()) for prompt in rows)
    most = max(_MOST_SHOWN // max(count, 1), _LEAST_OF_A_ROW)
    for prompt in list(rows)[: _MOST_SHOWN // _LEAST_OF_A_ROW]:
        parts.append(f'<section class="hotlora-prompt"><p>{escape(prompt)}</p>{_show_row(rows[prompt], most)}')
        for name, found in beside.items():
            if prompt in found:
                parts.append(f'<p class="hotlora-muted">{escape(name)}</p>{_show_row(found[prompt], most)}')
        parts.append("</section>")
    return "".join(parts) or hint("Samples appear here as they are made. Press Sample now to see one at once.")


def mark_samples(history: History) -> tuple:
    """No two states of a run's samples have the same."""
    sheet = history.outcome.files.get("sheet") if isinstance(history.outcome, Finished) else None
    return sheet, [(sample.path, sample.step, sample.time) for sample in history.samples]


def _sort_by_prompt(history: History) -> dict[str, list[Previewed]]:
    rows: dict[str, list[Previewed]] = {}
    for sample in sorted(history.samples, key=lambda sample: sample.step, reverse=True):
        rows.setdefault(sample.prompt, []).append(sample)
    return {prompt: found[::-1] for prompt, found in rows.items()}


def _show_row(samples: Sequence[Previewed], most: int) -> str:
    """At most ``most`` of them, the first and the last among them."""
    kept = samples
    if len(samples) > most:
        kept = [samples[round(place * (len(samples) - 1) / (most - 1))] for place in range(most)]
    left_out = len(samples) - len(kept)
    told = f'<p class="hotlora-muted"><span>steps left out:</span> <b>{left_out}</b></p>' if left_out else ""
    return f'<div class="hotlora-row" tabindex="0">{"".join(map(_show_sample, kept))}</div>{told}'


def _show_sample(sample: Previewed) -> str:
    path, below = Path(sample.path), f"<figcaption><b>{sample.step}</b></figcaption>"
    if path.suffix in PICTURE_SUFFIXES:
        source = picture_source(path)
        words = escape(f"{sample.step}: {sample.prompt}")
        picture = f'<img loading="lazy" src="{source}" alt="{words}" role="button" tabindex="0">'
        return f'<figure data-step="{sample.step}">{picture}{below}</figure>' if source else ""
    return f'<figure data-step="{sample.step}" class="hotlora-text"><pre>{escape(_read_text(path))}</pre>{below}</figure>'


def _show_sheet(path: Path) -> str:
    if path.suffix not in PICTURE_SUFFIXES:
        return f'<div class="hotlora-page">{_show_markdown(_read_text(path))}</div>'
    source = picture_source(path)
    return f'<div class="hotlora-sheet">{zoomable(source, "<b>comparison</b>", "comparison of weights")}</div>' if source else ""


def _show_markdown(text: str) -> str:
    """The little of it that pages of ours use: headings, bold lines, and blocks of text as it is."""
    parts, fence = [], ""
    for line in text.splitlines():
        if fence and line == fence:
            parts.append("</pre>")
            fence = ""
        elif fence:
            parts.append(escape(line) + "\n")
        elif set(line) == {"`"}:
            parts.append("<pre>")
            fence = line
        elif line.startswith("#"):
            parts.append(f"<h5>{escape(line.lstrip('# '))}</h5>")
        elif line:
            parts.append(f"<b>{escape(line.strip('*'))}</b>")
    return "".join(parts)


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
