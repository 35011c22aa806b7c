"""A running text-generation-webui, for tests that drive it: where it is, and how to ask it.

HOTLORA_TEXTGEN_URL is the address of its page and HOTLORA_TEXTGEN_API that of its API (started with ``--api --extensions hotlora``, a small
model loaded with the Transformers loader), HOTLORA_TEXTGEN_PYTHON its Python. HOTLORA_TEXTGEN_FOLDER is where its files are; nothing need
run for that.
"""

import json
import os
import urllib.request
from typing import Any

import pytest

URL, API, PYTHON = (os.environ.get(f"HOTLORA_TEXTGEN_{name}", "").rstrip("/") for name in ("URL", "API", "PYTHON"))
FOLDER = os.environ.get("HOTLORA_TEXTGEN_FOLDER", "")
needs_textgen = pytest.mark.skipif(
    not (URL and API), reason="HOTLORA_TEXTGEN_URL and HOTLORA_TEXTGEN_API name no running text-generation-webui"
)

needs_folder = pytest.mark.skipif(not FOLDER, reason="HOTLORA_TEXTGEN_FOLDER names no folder of text-generation-webui's files")


def post(path: str, body: Any) -> Any:
    """The JSON that its API answers with."""
    request = urllib.request.Request(API + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=180) as answer:
        return json.loads(answer.read())


def chat(question: str, max_tokens: int = 24) -> str:
    """An answer in instruct mode, always the likeliest token."""
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": max_tokens, "temperature": 0.01, "top_k": 1, "seed": 1}
    return post("/v1/chat/completions", body)["choices"][0]["message"]["content"].strip()


def read_logprobs(text: str) -> list:
    """What the loaded model thinks of every token of the text, to the last digit."""
    body = {"prompt": text, "max_tokens": 1, "echo": True, "logprobs": 5, "temperature": 0.01, "top_k": 1, "seed": 1}
    return post("/v1/completions", body)["choices"][0]["logprobs"]
