"""What holds for all tests."""

import gc
import sys
from importlib.metadata import version
from importlib.util import find_spec

import pytest
import real_webui

# AUTOMATIC1111 pins transformers 4.30, which knows no chat templates: text runs never meet it, so neither do their tests. And the fault
# harness and the check of a card, half of which is text, run under the newest packages only; so do runs in several processes and
# the arithmetic of memory, which needs a newer torch.
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
    *(f"toolbox/test_{name}.py" for name in ("text_tools", "answering", "gguf")),
]
collect_ignore = _OF_TEXT if tuple(int(part) for part in version("transformers").split(".")[:2]) < (4, 40) else []
# Optuna, which searches settings, is in no host's pins: there the page says how it is added.
_OF_OPTUNA = ["engine/test_searching.py", "engine/test_search_job.py", "ui/test_search_asked.py"]
if not find_spec("optuna"):
    collect_ignore = [*collect_ignore, *_OF_OPTUNA]
if sys.platform != "linux":
    collect_ignore = [*collect_ignore, "test_processes.py"]  # docs/processes.md says that nobody has tried it elsewhere


_OF_CURVES = ["test_readers.py", "test_train_cli.py"]
_searched = {"modules": 0}


@pytest.fixture(autouse=True)
def _garbage_is_not_looked_for_in_libraries():
    """Each run ends with a full collection, which would go through the half a million objects of torch, Gradio and others for as long
    as a small run takes. They stay anyway: what has been imported by now is left out."""
    if len(sys.modules) > _searched["modules"] + 50:
        _searched["modules"] = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def _no_ocr(request, monkeypatch):
    """Reading the text in pictures takes a second for each: one file of tests does."""
    if request.path.name != "test_ocr.py":
        monkeypatch.setattr("hotlora.pictures.ocr.find_spec", lambda name: True)
        monkeypatch.setattr("hotlora.pictures.ocr.TextReader.read", lambda reader, picture: "")


@pytest.fixture(autouse=True)
def _no_curve(request, monkeypatch):
    """Drawing the curve of losses takes longer than all else in a small run: its own test and those of whole runs have it drawn."""
    if request.path.name not in _OF_CURVES and (loop := sys.modules.get("hotlora.engine.loop")):
        monkeypatch.setattr(loop, "plot_loss", lambda events, path: None)


@pytest.fixture(params=real_webui.EACH_WEBUI)
def each_webui(request, monkeypatch):
    """The running program that a test drives, one after the other."""
    monkeypatch.setattr(real_webui, "driven", [request.param])
    return request.param
