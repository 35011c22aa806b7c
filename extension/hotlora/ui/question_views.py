"""What the page shows of questions that a model has written, and of conversations to choose from, as HTML. The script
(javascript/hotlora_questions.js) sends what is done with it."""

from collections.abc import Sequence
from typing import Any

from .draw import escape, hint, notes


def show_questions(status: Any) -> str:
    """How far they are, what was dropped and why, or how it has ended."""
    if not status.number:
        return ""
    share = status.done / max(status.total, 1)
    bad = " hotlora-bad" if status.message.startswith(("cannot", "Writing questions failed")) else ""
    said = f'<p class="hotlora-message{bad}">{escape(status.message)}</p>' if status.message else ""
    dropped = sum(count for _, count in status.dropped)
    counts = f"<b>{status.done} / {status.total}</b> <span>asked</span> · <b>{status.kept}</b> <span>usable</span> · "
    counts += f"<b>{dropped}</b> <span>dropped</span> · {escape(status.folder)}"
    why = notes(f"{count} dropped: {reason}" for reason, count in status.dropped)
    state = f'data-busy="{int(status.busy)}" data-number="{status.number}" data-name="{escape(status.name)}"'
    bar = f'<div class="hotlora-bar"><i style="width:{share:.1%}"></i></div><p>{counts}</p>'
    return f"<div {state}>{bar}{said}{why}{notes(status.problems)}</div>"


def show_review(page: Any, folders: Sequence[str], *, refused: bool = False) -> str:
    """A page of rows to accept, change and refuse; or of those that were refused."""
    options = "".join(f"<option{' selected' if name == page.name else ''}>{escape(name)}</option>" for name in folders)
    other = "Those to review" if refused else "Those that were refused"
    head = f"""<div class="hotlora-line-of"><select aria-label="Data set" data-review="choose">{options}</select>
<p><b>{page.open}</b> <span>to review</span> · <b>{page.accepted}</b> <span>accepted</span> · <b>{page.refused}</b> <span>refused</span></p>
<button type="button" data-review="switch">{other}</button></div>"""
    rows = "".join(_show_row(row, refused=refused) for row in page.rows)
    none = "None was refused." if refused else "Nothing is left to review."
    listed = f'<ul class="hotlora-proposals hotlora-questions" tabindex="0">{rows}</ul>' if rows else hint(none)
    verdicts = {"reopen": "Review all of these again"} if refused else {"accept": "Accept all of these", "refuse": "Refuse all of these"}
    buttons = "".join(f'<button type="button" data-review="all" data-verdict="{key}">{label}</button>' for key, label in verdicts.items())
    take = '<button type="button" data-review="take">Train on what is accepted</button>' if page.accepted else ""
    foot = f'<div class="hotlora-line-of hotlora-apart">{buttons if rows else ""}{_show_pager(page)}{take}</div>'
    about = f'data-name="{escape(page.name)}" data-folder="{escape(page.folder)}" data-start="{page.start}" data-refused="{int(refused)}"'
    return f'<div class="hotlora-review hotlora-tools" {about}>{head}{listed}{foot}</div>'


def _show_pager(page: Any) -> str:
    shown = len(page.rows)
    if shown == page.shown:
        return ""
    last = page.start + shown
    back = f'<button type="button" data-review="turn" data-by="-1" title="the rows before"{" disabled" * (page.start == 0)}>‹</button>'
    on = f'<button type="button" data-review="turn" data-by="1" title="more rows"{" disabled" * (last >= page.shown)}>›</button>'
    return f"{back}<b>{page.start + 1}–{last} / {page.shown}</b>{on}"


def _show_row(row: Any, *, refused: bool) -> str:
    verdicts = {"reopen": "Review again"} if refused else {"accept": "Accept", "refuse": "Refuse"}
    buttons = "".join(f'<button type="button" data-review="one" data-verdict="{key}">{label}</button>' for key, label in verdicts.items())
    texts = ""
    for name, label, text in (("question", "Question", row.question), ("answer", "Answer", row.answer)):
        lines = min(max(-(-len(text) // 60) + text.count("\n"), 1 if name == "question" else 2), 8)
        box = f'<textarea rows="{lines}" data-part="{name}" spellcheck="true"{" readonly" * refused}>{escape(text)}</textarea>'
        texts += f"<label><span>{label}</span>{box}</label>"
    place = f"<summary><b>{escape(row.source)}</b> · <span>passage</span> {row.number}</summary>"
    passage = f"<details open>{place}<blockquote>{escape(row.passage)}</blockquote></details>"
    return f'<li data-key="{escape(row.key)}"><div>{texts}{passage}</div><p class="hotlora-apart">{buttons}</p></li>'


def show_chats(chats: Sequence[Any]) -> str:
    """Conversations with ticks."""
    if not chats:
        return hint("No chats are kept by this program yet.")
    rows = "".join(
        f'<li><label><input type="checkbox" value="{escape(chat.key)}"> <b>{escape(chat.name)}</b></label>'
        f'<span class="hotlora-muted">{f"{escape(chat.partner)} · " if chat.partner else ""}{escape(chat.day)} · '
        f"<span>answers</span> {chat.turns}</span></li>"
        for chat in chats
    )
    head = '<input type="search" data-chats="filter" placeholder="part of a name" aria-label="Filter" autocomplete="off">'
    head += '<button type="button" data-chats="all">Choose all shown</button><button type="button" data-chats="none">Choose none</button>'
    head += f"<p><b data-chats='chosen'>0</b> / {len(chats)} <span>chosen</span></p>"
    return f'<div class="hotlora-tools"><div class="hotlora-line-of">{head}</div><ul class="hotlora-chats" tabindex="0">{rows}</ul></div>'
