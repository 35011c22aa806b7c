"""Adding, by a press, a package that only some feature needs, where nobody but the program's user reaches the page: install.py does it,
which moves no package that is there. The script (javascript/hotlora_packages.js) puts the button beside every sentence that misses one."""

import importlib
import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import gradio as gr

from ..engine.errors import UserError
from ..shipped import find_shipped
from .compat import answer, listen, message
from .draw import escape

ADDABLE = ("openpyxl", "pypdf", "pyarrow", "optuna", "diffusers")
_TOLD = "HotLoRA: "  # how install.py begins its lines


class PackageSection:
    """Nothing to be seen: what the script presses."""

    def __init__(self, said: Any):
        self._said = said

    def build(self) -> None:
        """Make it."""
        hidden: dict[str, Any] = {"elem_classes": ["hotlora-hidden"]}
        gr.HTML(f'<i data-packages="{escape(json.dumps(ADDABLE))}"></i>', elem_id="hotlora_addable", **hidden)
        self._add = gr.Button("add", elem_id="hotlora_add_package", **hidden)
        self._wish = gr.Textbox(elem_id="hotlora_package", **hidden)

    def connect(self) -> None:
        """Answer it."""
        wish = "(...values) => [window.hotloraPackage || '']"
        added = answer(self._add.click, lambda name: message(add_package(name)), [self._wish], [self._said], js=wish)
        listen(added.then, None, js="() => { hotloraPackageAdded(); }")


def add_package(name: str) -> str:
    """Add one of ``ADDABLE`` to this program, and return what was added.

    Raises:
        UserError: for another one, and where it cannot be added.
    """
    if name not in ADDABLE:
        raise UserError(f"cannot add '{name}': it is none of {', '.join(ADDABLE)}. Add it yourself.")
    command = [sys.executable, str(find_shipped("install.py")), "--only", name]
    run = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    importlib.invalidate_caches()  # what was looked for in vain is looked for again
    told = [line.removeprefix(_TOLD) for line in run.stdout.splitlines() if line.startswith(_TOLD)]
    if find_spec(name):
        return " ".join([*(f"{line[:1].upper()}{line[1:]}" for line in told), f"{name} is there now. Look again."])
    reason = (told or run.stderr.strip().splitlines() or ["it said nothing."])[-1].rstrip(".")
    raise UserError(f"cannot add {name} here: {reason}. Add it by hand, with the program's own Python.")
