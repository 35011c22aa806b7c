"""What holds for all tests."""

from importlib.metadata import version

import pytest
import real_webui

# AUTOMATIC1111 pins transformers 4.30, which knows no chat templates: text runs never meet it, so neither do their tests. And the fault
# harness and the check of a card, half of which is text, run under the newest packages only.
_STANDALONE = [f"hosts/standalone/test_{name}.py" for name in ("texts", "merging", "model_folder")]
_OF_TEXT = ["llm", "hosts/textgen", *_STANDALONE, "ui/test_textgen_plugin.py", "faults", "tools/test_gpu_check.py"]
collect_ignore = _OF_TEXT if tuple(int(part) for part in version("transformers").split(".")[:2]) < (4, 40) else []


@pytest.fixture(params=real_webui.EACH_WEBUI)
def each_webui(request, monkeypatch):
    """The running program that a test drives, one after the other."""
    monkeypatch.setattr(real_webui, "driven", [request.param])
    return request.param
