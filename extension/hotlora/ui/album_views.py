"""What the page shows of an album that is edited, as HTML. The script (javascript/hotlora_editing.js) adds thumbnails, marks and counts."""

import json
from collections.abc import Sequence
from typing import Any

from .draw import escape, facts, notes

_TAGS = 1000  # that are sent; the most frequent of them are shown
_HELP = 'All words must be there, with - none of them, | means or. tag:cat is a whole tag, name:cat the file, "" no caption.'


def show_tools(operations: Sequence[tuple[str, str]]) -> str:
    """The filter, the tags, and what can be done with what is chosen."""
    options = "".join(f'<option value="{escape(key)}">{escape(label)}</option>' for key, label in operations)
    buttons = {
        "change": "<span>Change the chosen</span><span>Change all shown</span>",
        "leave": "<span>Leave out of training</span>",
        "back": "<span>Bring back into training</span>",
        "undo": "<span>Undo</span>",
    }
    drawn = "".join(f'<button type="button" data-do="{key}">{label} <b></b></button>' for key, label in buttons.items())
    return f"""<div class="hotlora-tools hotlora-hidden">
<div class="hotlora-line-of">
<input id="hotlora_filter" type="search" placeholder='cat -dog "blue sky" | bird' aria-label="Filter" autocomplete="off">
<label><input id="hotlora_aside" type="checkbox"> <span>what is left out</span> <b></b></label></div>
<p class="hotlora-muted">{escape(_HELP)}</p>
<div id="hotlora_tags" tabindex="0"></div>
<div class="hotlora-line-of"><p><span>shown</span> <b id="hotlora_shown"></b> · <span>chosen</span> <b id="hotlora_chosen"></b></p>
<button type="button" data-do="all">Choose all shown</button><button type="button" data-do="none">Choose none</button></div>
<div class="hotlora-line-of"><select id="hotlora_operation" aria-label="Operation">{options}</select>
<input id="hotlora_change_text" list="hotlora_known_tags" placeholder="tags, or a pattern" autocomplete="off">
<input id="hotlora_change_by" list="hotlora_known_tags" placeholder="what stands there instead" autocomplete="off">
<datalist id="hotlora_known_tags"></datalist></div>
<div class="hotlora-line-of">{drawn}</div></div>"""


def show_pager() -> str:
    """From one page of the album to the others."""
    back, on = (
        f'<button type="button" data-turn="{by}" title="{told}">{sign}</button>'
        for by, sign, told in ((-1, "‹", "the pictures before"), (1, "›", "more pictures"))
    )
    return f'<div class="hotlora-pager hotlora-hidden">{back}<b></b>{on}</div>'


def show_cut() -> str:
    """What is used of a picture and what its buckets keep of that, over the picture, in two ways to change it; the script
    (javascript/hotlora_focus.js) fills it in."""
    keys = 'tabindex="0" role="group" aria-keyshortcuts="ArrowLeft ArrowRight ArrowUp ArrowDown"'
    point = "Click on what matters, or move the point with the arrow keys. What is dark is cut off."
    crop = "Drag a rectangle over what is to be used, or its sides and corners. Arrow keys move it, with Shift they change its size."
    kept = "What is dark is cut off; the file stays as it is."
    return f"""<details class="hotlora-cut hotlora-hidden"><summary><span>What is kept of the picture</span> <b></b></summary>
<div class="hotlora-line-of"><button type="button" data-way="focus" aria-pressed="true">Focus point</button>
<button type="button" data-way="crop" aria-pressed="false">Crop</button></div>
<div class="hotlora-cut-picture" aria-label="What is kept of the picture" {keys}><img alt="" draggable="false"></div>
<div data-when="focus"><p class="hotlora-muted">{point}</p>
<p class="hotlora-muted hotlora-at-random">As it is, another part of this size is kept each time.</p>
<button type="button" data-clear="focus">Keep the middle again</button></div>
<div data-when="crop" hidden><p class="hotlora-muted"><b></b> · <span>{crop}</span> <span>{kept}</span></p>
<button type="button" data-clear="crop">Whole picture</button></div></details>"""


def show_album(page: Any, query: str = "", *, aside: bool = False) -> str:
    """A page of an album (``studio.Editor.look``)."""
    told = {
        "query": query,
        "aside": int(aside),
        "start": page.start,
        "count": page.count,
        "shown": len(page.names),
        "left-out": page.left_out,
        "steps": page.steps,
        "most-tokens": page.most_tokens,
        "tags": json.dumps(list(page.tags)[:_TAGS], ensure_ascii=False, separators=(",", ":")),
    }
    attributes = " ".join(f'data-{key}="{escape(value)}"' for key, value in told.items())
    cards = (
        "".join(_show_card(shown, page.most_tokens) for shown in page.shown)
        or '<p class="hotlora-muted">Nothing is shown by this filter.</p>'
    )
    about = "" if aside else f"{facts(page.facts)}{notes(page.notes)}"
    return f'{about}<div class="hotlora-album hotlora-edited" tabindex="0" {attributes}>{cards}</div>'


def _show_card(shown: Any, most_tokens: int) -> str:
    """Red where it cannot be trained on, amber where something is odd; a sign says the same as the colour."""
    frame = "hotlora-bad" if shown.problem else "hotlora-odd" if shown.warning else ""
    name, text = escape(shown.name), escape(shown.text) or '<i class="hotlora-muted">no caption</i>'
    problem = f'<b class="hotlora-problem">{escape(shown.problem)}</b>' if shown.problem else ""
    warning = f'<b class="hotlora-warning">{escape(shown.warning)}</b>' if shown.warning else ""
    over = " hotlora-over" if most_tokens and shown.tokens > most_tokens else ""
    tokens = f'<i class="hotlora-tokens{over}">{shown.tokens} / {most_tokens}</i>' if shown.tokens and most_tokens else ""
    mask = '<i class="hotlora-has-mask">mask</i>' if shown.mask else ""
    picture = f'<input type="checkbox" tabindex="-1" aria-label="{name}"><img data-thumbnail="{escape(shown.thumbnail)}" alt="">'
    below = f"<figcaption>{problem}<span>{text}</span>{warning}{tokens}{mask}</figcaption>"
    keys = 'role="group" tabindex="0" aria-keyshortcuts="Enter Space"'
    return f'<figure class="{frame}" title="{name}" {keys} data-name="{name}"{_tell_cuts(shown)}>{picture}{below}</figure>'


def _tell_cuts(shown: Any) -> str:
    """What the script draws frames by."""
    if not shown.size:
        return ""
    cuts = ";".join("{} {} {:g} {:g} {:g} {:g}".format(*cut.bucket, cut.left, cut.top, cut.width, cut.height) for cut in shown.cuts)
    said = "".join(
        f' data-{key}="{" ".join(map("{:g}".format, value))}"' for key, value in (("focus", shown.focus), ("crop", shown.crop)) if value
    )
    return ' data-size="{} {}" data-cuts="{}"'.format(*shown.size, cuts) + said + ' data-random="1"' * shown.random
