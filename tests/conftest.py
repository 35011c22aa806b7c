"""What holds for all tests."""

import sys
from importlib.metadata import version

import pytest
import real_webui

# AUTOMATIC1111 pins transformers 4.30, which knows no chat templates: text runs never meet it, so neither do their tests. And the fault
# harness and the check of a card, half of which is text, run under the newest packages only; so do runs in several processes, the
# arithmetic of memory, which needs a newer torch, and the search, whose package no host is given.
_STANDALONE = [f"hosts/standalone/test_{name}.py" for name in ("texts", "merging", "model_folder", "few_bits")]
_OF_TEXT = [
    "llm",
    "hosts/textgen",
    *_STANDALONE,
    "ui/test_textgen_plugin.py",
    "faults",
    "test_processes.py",
    "tools/test_gpu_check.py",
    "tools/test_write_memory.py",
    "toolbox/test_searching.py",
    "toolbox/test_text_tools.py",
]
collect_ignore = _OF_TEXT if tuple(int(part) for part in version("transformers").split(".")[:2]) < (4, 40) else []
if sys.platform != "linux":
    collect_ignore = [*collect_ignore, "test_processes.py"]  # docs/processes.md says that nobody has tried it elsewhere


@pytest.fixture(params=real_webui.EACH_WEBUI)
def each_webui(request, monkeypatch):
    """The running program that a test drives, one after the other."""
    monkeypatch.setattr(real_webui, "driven", [request.param])
    return request.param
