"""Names that people give to runs, data sets and presets: each becomes a file or folder, on whatever system. Must import nothing
of ours but ``engine``."""

import re

from .errors import UserError

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL)  # Windows' devices
_MOST_CHARACTERS = 100
_MOST_BYTES = 200  # Linux and macOS take 255, of which some are for what is put behind the name


def check_name(name: str, what: str, *, forbidden: str = "") -> str:
    """The name, when it can be a file's or a folder's on every system.

    Args:
        what: what is named so, for the message, such as "the preset".
        forbidden: characters that cannot be used here though files may have them.

    Raises:
        UserError: when it cannot.
    """
    bad = sorted({*_FORBIDDEN.findall(name), *(set(forbidden) & set(name))})
    if not name.strip():
        reason = "that is no name"
    elif bad:
        reason = f"{' '.join(c if c.isprintable() else repr(c) for c in bad)} cannot be used in names"
    elif name.startswith((" ", ".")) or name.endswith((" ", ".")):
        reason = "a dot or a space cannot stand at either end"
    elif _RESERVED.fullmatch(name):
        reason = "Windows keeps that name for itself"
    elif len(name) > _MOST_CHARACTERS or len(name.encode("utf-8")) > _MOST_BYTES:
        reason = f"that is longer than {_MOST_CHARACTERS} characters, or {_MOST_BYTES} bytes"
    else:
        return name
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
    raise UserError(f"cannot name {what} '{shown}': {reason}. Choose a name of letters, digits, spaces and dashes.")


def clean_name(name: str) -> str:
    """The nearest name to it that every system takes for a file or folder."""
    name = _FORBIDDEN.sub("_", name).strip().rstrip(". ") or "_"
    return f"_{name}" if _RESERVED.fullmatch(name) else name
