"""What holds for all tests."""

from importlib.metadata import version

# AUTOMATIC1111 pins transformers 4.30, which knows no chat templates: text runs never meet it, so neither do their tests.
_STANDALONE = "hosts/standalone"
_OF_TEXT = ["llm", "hosts/textgen", f"{_STANDALONE}/test_texts.py", f"{_STANDALONE}/test_merging.py", "ui/test_textgen_plugin.py"]
collect_ignore = _OF_TEXT if tuple(int(part) for part in version("transformers").split(".")[:2]) < (4, 40) else []
