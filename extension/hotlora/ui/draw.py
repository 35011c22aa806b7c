"""Small pieces of HTML that the page is drawn with. Labels stand in elements of their own, so that hosts can translate them."""

import base64
import functools
import html
import io
from collections.abc import Iterable
from pathlib import Path

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_LONGEST_SIDE = 640


def escape(text: object) -> str:
    """Text for HTML, quotes included. Halves of surrogate pairs, as names of files may hold, are written out: no page could be sent
    them."""
    return html.escape(str(text).encode("utf-8", "backslashreplace").decode("utf-8"), quote=True)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Labels with values, side by side."""
    items = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in pairs if value)
    return f'<dl class="hotlora-facts">{items}</dl>' if items else ""


def notes(lines: Iterable[str]) -> str:
    """Things to know, one a line."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="hotlora-notes">{items}</ul>' if items else ""


def hint(text: str) -> str:
    """What stands where there is nothing yet."""
    return f'<p class="hotlora-hint">{escape(text)}</p>'


def tell_other(folder: str) -> str:
    """A line above what is shown of a folder: the script (javascript/hotlora_answer.js) shows it while the page names another."""
    return (
        f'<p class="hotlora-message" data-of="{escape(folder)}"><span>This is of another folder:</span> <code>{escape(folder)}</code></p>'
    )


def jpeg_source(data: bytes) -> str:
    """A picture as the ``src`` of an image: the page needs no file access for it."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")


def picture_source(path: Path, side: int = _LONGEST_SIDE) -> str:
    """The picture in a file, likewise, at most so many pixels wide and high; empty where it cannot be read (any more)."""
    try:
        return _read_picture(path, path.stat().st_mtime_ns, side)
    except OSError:
        return ""


@functools.lru_cache(maxsize=512)
def _read_picture(path: Path, changed: int, side: int) -> str:
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB")
    if path.stem != "comparison":
        small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return jpeg_source(buffer.getvalue())


def duration(seconds: float | None) -> str:
    """``1 h 05 min``, ``12 min``, ``40 s``."""
    if seconds is None:
        return ""
    minutes, seconds = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes >= 5 else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def gigabytes(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 2**30:.1f} GB"


def zoomable(source: str, caption: str, alt: str) -> str:
    """A picture that grows when it is clicked, with a line below it."""
    return (
        f'<figure><label><input type="checkbox"><img loading="lazy" src="{source}" alt="{escape(alt)}"></label>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
