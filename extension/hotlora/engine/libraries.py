"""Libraries that take seconds to import, imported in the background while people still fill in a page.

A library that imports itself in a circle looks half made to a second thread that imports it meanwhile. So whoever needs one waits here
first.
"""

import contextlib
import threading
from collections.abc import Callable

_importing: threading.Thread | None = None


def import_ahead(work: Callable[[], None]) -> None:
    """Have ``work`` import them, in a thread of its own. What goes wrong there is said to whoever needs the library, who meets it again."""
    global _importing

    def import_quietly() -> None:
        with contextlib.suppress(Exception):
            work()

    _importing = threading.Thread(target=import_quietly, name="hotlora libraries", daemon=True)
    _importing.start()


def wait_for_libraries() -> None:
    """Return when that is done, or nothing of the kind was begun."""
    if _importing and _importing is not threading.current_thread():
        _importing.join()
