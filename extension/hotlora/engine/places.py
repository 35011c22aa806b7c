"""Paths as people write them: with a tilde, in quotes, with Windows' backslashes. Must import nothing of ours but ``engine``; opens
no file."""

import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from .errors import UserError

_NAME_BYTES = 255  # of one part, on Linux and macOS; Windows takes as many characters
_PATH_BYTES = 4000
_LOOK_SECONDS = 0.2  # at a folder for what it ought to hold, before somebody who has pressed a button is answered
_QUOTES = ("''", '""', "``", "“”", "„“", "‘’", "«»")


def clean_place(text: str, option_name: str, *, written: bool = False) -> str:
    """The path that is meant, as this system writes it.

    Args:
        written: it names what is made anew, so that it cannot be looked for.

    Raises:
        UserError: for what no file system takes: control characters, names that are too long, the home folder of somebody who
            is not known here, a pipe or a device.
    """
    start = f"cannot use {option_name} '{_shorten(text)}'"
    path = _strip_quotes(text.strip())
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise UserError(f"{start}: it holds a line break or a tab, as backslashes in double quotes do. Put it in single quotes.")
    path = path.removeprefix("file://") if path.startswith("file:///") and os.name != "nt" else path
    path = _expand_home(path, start)
    if os.name != "nt":
        path = _turn_backslashes(path, written=written)
    long = next((part for part in Path(path).parts if len(part.encode("utf-8", "replace")) > _NAME_BYTES), "")
    if long or len(path.encode("utf-8", "replace")) > _PATH_BYTES:
        name = _shorten(long or path)
        raise UserError(f"{start}: '{name}' is longer than {_NAME_BYTES} bytes, more than a name can have. Use shorter names.")
    if os.name != "nt" and not written:  # on Windows a look at another computer's path tells it who is asking
        _refuse_device(path, start)
    return path


def is_ordinary_file(path: Path) -> bool:
    """Whether it is a file with content: no folder, pipe or device, which would never end or never begin."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def may_hold(folder: Path, suffixes: Sequence[str]) -> bool:
    """Whether a file with one of these endings is in the folder or below it, as far as that can be seen in a moment; where it cannot,
    there may be one."""
    until = time.monotonic() + _LOOK_SECONDS
    for _, folders, files in os.walk(folder, followlinks=True):
        if time.monotonic() > until or any(name.lower().endswith(tuple(suffixes)) for name in files if not name.startswith(".")):
            return True
        folders[:] = [name for name in folders if not name.startswith(".")]
    return False


def _strip_quotes(text: str) -> str:
    """Without the quotes that a file manager or a shell puts around a path."""
    return text[1:-1].strip() if len(text) > 1 and text[0] + text[-1] in _QUOTES else text


def _expand_home(path: str, start: str) -> str:
    if not path.startswith("~"):
        return path
    if os.name != "nt":
        path = path.replace("\\", "/", 1) if path.startswith("~\\") else path
    expanded = os.path.expanduser(path)
    if expanded != path:
        return expanded
    name = path[1:].replace("\\", "/").partition("/")[0]
    if not name:
        raise UserError(f"{start}: this system does not say which folder ~ is. Write the folder itself.")
    if os.path.lexists(path):
        return path
    raise UserError(f"{start}: there is no user '{name}' here, so ~{name} is no folder. Write the folder itself.")


def _turn_backslashes(path: str, *, written: bool) -> str:
    """Where they part folders, they are slashes here."""
    if "\\" in path and (written or not os.path.lexists(path)):
        return path.replace("\\", "/")
    return path


def _refuse_device(path: str, start: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # whoever reads it says so
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{start}: it is neither a file nor a folder but a pipe or a device. Name a file or a folder.")


def _shorten(text: str) -> str:
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
