"""What the page shows of data and runs, as HTML. Reads histories; starts nothing."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from ..engine.entries import Entry
from ..engine.events import Failed, Paused, Preparing
from ..engine.examples import DataView, Example, Finding, Remedy
from ..engine.history import History, clock
from ..engine.line import Left
from ..engine.marks import Marks
from ..engine.outlook import Outlook
from ..engine.proposals import Proposal
from .draw import duration, escape, facts, gigabytes, hint, jpeg_source, notes
from .labels import in_labels
from .search_views import describe_search, share_of_search
from .smoothing import recent_loss

_LOG_LINES = 200


_ALL_OF_IT = 0.95  # a turn's beginning and end take some


def show_data(view: DataView) -> str:
    """The first examples of a data set, problems first to be seen."""
    cards = [_show_example(example) for example in view.examples]
    more = view.count - len(view.examples)
    rest = f'<p class="hotlora-muted">+ {more}</p>' if more > 0 else ""
    texts = " hotlora-texts" if any(example.spans for example in view.examples) else ""
    return f'{facts(view.facts)}{notes(view.notes)}<div class="hotlora-album{texts}" tabindex="0">{"".join(cards)}{rest}</div>'


def _show_example(example: Example) -> str:
    """Red where it cannot be trained on, amber where something is odd; a sign says the same as the colour."""
    picture = f'<img loading="lazy" src="{jpeg_source(example.thumbnail)}" alt="">' if example.thumbnail else ""
    problem = f'<b class="hotlora-problem">{escape(example.problem)}</b>' if example.problem else ""
    warning = f'<b class="hotlora-warning">{escape(example.warning)}</b>' if example.warning else ""
    frame = "hotlora-bad" if example.problem else "hotlora-odd" if example.warning else ""
    name = escape(example.name)
    below = f"<figcaption>{problem}<span>{_show_text(example)}</span>{warning}</figcaption>"
    return f'<figure class="{frame}" title="{name}">{picture}{below}</figure>'


def show_findings(findings: Sequence[Finding], folder: str, steps: int = 0) -> str:
    """What is likely to go wrong, a line each, with a button where the program can mend it (javascript/hotlora_health.js).

    Args:
        folder: that was looked at, as the page names it.
        steps: changes of its data that can be undone.
    """
    found = [finding for finding in findings if not finding.is_note]
    items = "".join(f"<li><span>{escape(finding.said)}</span>{_show_remedy(finding.remedy)}</li>" for finding in found)
    told = f'<ul class="hotlora-notes">{items}</ul>' if items else "<p>Nothing was found that commonly goes wrong.</p>"
    told += "".join(f'<p class="hotlora-muted">{escape(finding.said)}</p>' for finding in findings if finding.is_note)
    undo = f'<button type="button" data-undo="1"><span>Undo</span> <b>{steps}</b></button>' if steps else ""
    return f'<div class="hotlora-card hotlora-findings" data-of="{escape(folder)}"><h4>Health report</h4>{told}{undo}</div>'


def show_looking(folder: str, done: int, total: int) -> str:
    """How far a folder's report is that goes on; the script (javascript/hotlora_health.js) asks for the rest until somebody stops it."""
    bar = f'<div class="hotlora-bar"><i style="width:{done / max(total, 1):.1%}"></i></div>'
    stop = '<button type="button" data-stop="1"><span>Stop</span></button>'
    counts = f"<p><span>looking for what is wrong</span> · <b>{done} / {total}</b></p>"
    about = f'data-of="{escape(folder)}" data-looking="{done}"'
    return f'<div class="hotlora-card hotlora-findings" {about}><h4>Health report</h4>{bar}{counts}{stop}</div>'


def _show_remedy(remedy: Remedy | None) -> str:
    """With the number of examples that it changes."""
    if remedy is None:
        return ""
    wish = escape(json.dumps(asdict(remedy), ensure_ascii=False))
    return f' <button type="button" data-remedy="{wish}"><span>{escape(remedy.label)}</span> <b>{len(remedy.names)}</b></button>'


def show_place(name: str, text: str) -> str:
    """Which example is being edited, and its text as it was read; the page's script adds its picture and where it stands."""
    about = f'data-name="{escape(name)}" data-text="{escape(text)}"'
    return f'<div class="hotlora-place" {about}><img alt=""><b>{escape(name)}</b> <span></span> <em></em></div>'


def _show_text(example: Example) -> str:
    """What belongs to the example; learned pieces marked where not all of it is learned."""
    if example.spans:
        return "".join(f"<mark>{escape(text)}</mark>" if learned else escape(text) for text, learned in example.spans)
    return escape(example.text) or '<i class="hotlora-muted">no caption</i>'


def show_outlook(outlook: Outlook | None) -> str:
    """What will happen, before it starts."""
    if outlook is None:
        return ""
    title = '<h4>What will happen</h4><p class="hotlora-since">The recipe was changed after this. Ask again.</p>'
    if outlook.cancelled:
        return f'<div class="hotlora-card" data-state="cancelled">{title}<p>Cancelled.</p></div>'
    if outlook.error:
        told = f"{title}<p>{escape(in_labels(outlook.error))}</p>{_show_proposals(outlook.proposals)}"
        return f'<div class="hotlora-card hotlora-bad" data-state="failed">{told}</div>'
    if outlook.estimate is None:
        doing = _show_work(outlook.progress) if outlook.progress else "<p><span>looking at the model</span> …</p>"
        clock = f'<b data-elapsed="{outlook.elapsed_seconds:.0f}"></b>'
        return f'<div class="hotlora-card" data-state="busy">{title}{doing}{clock}</div>'
    estimate = outlook.estimate
    known = [(key, str(value)) for key, value in outlook.summary.items()]
    found = [
        ("steps", f"{estimate.total_steps:,}"),
        ("time", f"about {duration(estimate.seconds)}"),
        ("memory in use", gigabytes(estimate.memory_bytes)),
        ("memory free", gigabytes(estimate.free_bytes)),
        ("trained numbers", f"{estimate.trainable_parameters:,}"),
    ]
    told = f"{title}{facts([*found, *known])}{notes(outlook.warnings)}{_show_proposals(outlook.proposals)}"
    return f'<div class="hotlora-card" data-state="done">{told}</div>'


def _show_proposals(proposals: Sequence[Proposal]) -> str:
    """What makes a run fit, from as it is to what was measured with it, each with a button that puts it into the form."""
    if not proposals:
        return ""
    return f'<p><b>What makes it fit, as measured</b></p><ul class="hotlora-notes">{"".join(map(_show_proposal, proposals))}</ul>'


def _show_proposal(made: Proposal) -> str:
    before = made.before
    memory, speed = gigabytes(made.memory_bytes), _speed(made.seconds_per_step)
    if not before.refusal:
        memory, speed = f"{gigabytes(before.memory_bytes)} → {memory}", f"{_speed(before.seconds)} → {speed}"
    wish = escape(json.dumps(dict(made.changes)))
    button = f'<button type="button" data-proposal="{wish}">Put it into the recipe</button>'
    return f"<li><code>{escape(made.name())}</code> <b>{memory} · {speed}</b> {button}</li>"


def show_status(name: str, status: str, history: History, held_up: str = "", had: float | None = None) -> str:
    """Where the run is, in one look.

    Args:
        held_up: what holds up those that wait.
        had: how much of the last minute the run had the model; told where others had a part of it.
    """
    share = _share(status, history)
    line = _explain(status, history)
    if status == "waiting" and held_up:
        line += f'<p class="hotlora-message">{escape(held_up)}</p>'
    pairs = describe_search(history, status) if history.search else _describe_training(history, status, had)
    return (
        f'<div class="hotlora-status" data-status="{escape(status)}"><div class="hotlora-title"><strong>{escape(name)}</strong>'
        f'<em class="hotlora-badge hotlora-{escape(status.replace(" ", "-"))}">{escape(status)}</em></div>'
        f'<div class="hotlora-bar" role="progressbar" aria-label="{escape(name)}" aria-valuenow="{share * 100:.0f}">'
        f'<i style="width:{share:.1%}"></i></div>'
        f"{line}{facts(pairs)}</div>"
    )


def _share(status: str, history: History) -> float:
    """Of its work, how much is done."""
    if status == "preparing" and isinstance(history.latest, Preparing) and history.latest.total:
        return history.latest.done / history.latest.total
    if history.search:
        return share_of_search(history, status)
    return history.step / history.started.total_steps if history.started and history.started.total_steps else 0.0


def _describe_training(history: History, status: str, had: float | None) -> list[tuple[str, str]]:
    total = history.started.total_steps if history.started else 0
    running, rate = status == "training", history.seconds_per_step
    return [
        ("step", f"{history.step:,} / {total:,}" if total else ""),
        ("epoch", f"{history.steps[-1].epoch:.1f}" if history.steps else ""),
        ("time left", duration(history.seconds_left) if running else ""),
        ("speed", _speed(rate) if rate else ""),
        ("time with the model", f"{had:.0%} of the last minute" if running and had is not None and had < _ALL_OF_IT else ""),
        ("loss", f"{recent_loss(history):.4f}" if history.steps else ""),
        ("memory in use", gigabytes(history.steps[-1].memory_bytes) if history.steps else ""),
        *_show_grades(history),
    ]


def _show_grades(history: History) -> list[tuple[str, str]]:
    """Each score, from the first grading to the last."""
    if not history.grades:
        return []
    first, last = history.grades[0], history.grades[-1]
    named = [(f"{name}, {last.count} {last.what}", first.scores.get(name, 0.0), score) for name, score in last.scores.items()]
    return [(name, f"{before:.0%} → {now:.0%}" if last is not first else f"{now:.0%}") for name, before, now in named]


def _explain(status: str, history: History) -> str:
    """A sentence where the status alone does not say enough."""
    latest = history.latest
    if isinstance(latest, Failed):
        return f'<p class="hotlora-message hotlora-bad">{escape(in_labels(latest.message))}</p>'
    if status == "paused" and isinstance(latest, Paused) and latest.message:
        return f'<p class="hotlora-message">{escape(latest.message)}</p>'
    if status == "preparing" and isinstance(latest, Preparing):
        return _show_work(latest)
    sentences = {
        "waiting": "It starts when the runs before it are done.",
        "interrupted": "The program ended while it trained. Press Resume to go on where it was.",
        "not started": "It has not been started yet. Press Resume to start it.",
        "stopped": "Press Resume to go on where it stopped.",
    }
    return f"<p>{escape(sentences[status])}</p>" if status in sentences else ""


def _show_work(work: Preparing) -> str:
    return f"<p><span>{escape(work.what)}</span> <b>{work.done} / {work.total}</b> …</p>"


def _speed(seconds_per_step: float) -> str:
    return f"{1 / seconds_per_step:.2f} it/s" if seconds_per_step < 1 else f"{seconds_per_step:.2f} s/it"


def show_left(left: Sequence[Left]) -> str:
    """The runs that stood in line when the program ended; empty where none did."""
    if not left:
        return ""
    items = "".join(f"<li><b>{escape(run.name)}</b>: {_show_place(run)}</li>" for run in left)
    return f"<p>These runs were in line when the program ended:</p><ol>{items}</ol>"


def _show_place(run: Left) -> str:
    """How far it had come. Numbers stand in nodes of their own, because the WebUI translates the words."""
    if run.trials:
        return f"<span>trials:</span> <b>{run.trials}</b>"
    if not run.step:
        return "<span>had not begun</span>"
    lost = f" · <span>steps after the last saved state, which are trained again:</span> <b>{run.lost_steps}</b>" if run.lost_steps else ""
    return f"<span>at step</span> <b>{run.step}</b>{lost}"


def show_log(history: History, folder: Path) -> str:
    """What a person should know, the newest first."""
    lines = "".join(f"<li><time>{clock(at)}</time> <span>{escape(text)}</span></li>" for at, text in reversed(history.log[-_LOG_LINES:]))
    return f'<ul class="hotlora-log">{lines}</ul><p class="hotlora-muted"><b>folder</b> <code>{escape(folder)}</code></p>'


class Row(NamedTuple):
    """A line of the table of all runs: what is shown of one."""

    name: str
    status: str
    step: str
    loss: str
    validation: str
    share: float = 0.0  # of its steps, how many are done
    worked: str = ""  # how long
    score: str = ""  # the newest
    picture: str = ""  # its newest sample, as the ``src`` of an image
    marks: Marks = Marks()
    is_away: bool = False  # it waits for its model
    place: int = 0  # among those that wait, from 1


def describe_rows(entries: Sequence[Entry], line: Sequence[str], picture_of: Callable[[History], str] = lambda outline: "") -> list[Row]:
    """What the table shows: the run that has the model, those that wait in their order, then the others as they come.

    Args:
        line: the names of those in line; the first has the model.
        picture_of: a run's newest sample, as the ``src`` of an image; empty where there is none.
    """
    places = {name: place for place, name in enumerate(line)}
    ordered = sorted(entries, key=lambda entry: places.get(entry.name, len(line)))
    return [describe_row(entry)._replace(place=places.get(entry.name, 0), picture=picture_of(entry.outline)) for entry in ordered]


def describe_row(entry: Entry) -> Row:
    """What the table shows of a run."""
    outline = entry.outline
    total = outline.started.total_steps if outline.started else 0
    worked = outline.worked_seconds
    scores = outline.grades[-1].scores if outline.grades else {}
    losses = [*(judged.loss for judged in outline.validations), *(row.loss for row in outline.trials.values() if row.loss is not None)]
    lowest = min(losses, default=None)
    return Row(
        entry.name,
        entry.status or "unreadable",
        f"{outline.step:,} / {total:,}" if total else "",
        f"{recent_loss(outline):.4f}" if outline.steps else "",
        f"{lowest:.4f}" if lowest is not None else "",
        share=min(outline.step / total, 1.0) if total else 0.0,
        worked=duration(worked) if worked >= 1 else "",
        score=next((f"{score:.0%}" for score in scores.values()), ""),
        marks=entry.marks,
        is_away=entry.status == "paused"
        and isinstance(outline.latest, Paused)
        and bool(outline.latest.message)
        and not outline.latest.freed,
    )


def show_runs(rows: Sequence[Row]) -> str:
    """A table of all runs."""
    if not rows:
        return hint("Your runs will be listed here.")
    heads = "<td></td>" + "".join(f"<th>{head}</th>" for head in ("run", "status", "step", "duration", "loss", "validation", "score"))
    table = f'<table class="hotlora-runs"><thead><tr>{heads}</tr></thead><tbody>{"".join(map(_show_row, rows))}</tbody></table>'
    return f'<div class="hotlora-runs-frame" tabindex="0">{table}</div>'


def _show_row(row: Row) -> str:
    badge = f'<em class="hotlora-badge hotlora-{escape(row.status.replace(" ", "-"))}">{escape(row.status)}</em>'
    picture = f'<img loading="lazy" src="{row.picture}" alt="">' if row.picture else ""
    away = ' <em class="hotlora-muted">archived</em>' if row.marks.archived else ""
    note = f'<p class="hotlora-muted">{escape(row.marks.note)}</p>' if row.marks.note else ""
    bar = f'<div class="hotlora-bar"><i style="width:{row.share:.0%}"></i></div>' if row.step else ""
    name = f'<button type="button" class="hotlora-choose">{escape(row.name)}</button>'
    cells = (picture, name + away + note, badge + _show_moves(row), row.step + bar)
    told = f'data-name="{escape(row.name)}" data-status="{escape(row.status)}" data-away="{"yes" if row.is_away else "no"}"'
    return f"<tr {told}>" + "".join(f"<td>{cell}</td>" for cell in (*cells, row.worked, row.loss, row.validation, row.score)) + "</tr>"


def _show_moves(row: Row) -> str:
    """The place of a run that waits, and what moves it."""
    if not row.place:
        return ""
    name = escape(row.name)
    moves = ((-1, "↑", "Train it earlier"), (1, "↓", "Train it later"))
    buttons = "".join(
        f'<button type="button" data-run="{name}" data-move="{by}" title="{told}">{sign}</button>' for by, sign, told in moves
    )
    return f' <b class="hotlora-place">{row.place}.</b> {buttons}'
