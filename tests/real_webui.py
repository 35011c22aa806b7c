"""A running AUTOMATIC1111 or Forge, for tests that drive it: where it is, and how to ask it for a picture.

HOTLORA_A1111_URL is its address (started with ``--api``, the demo's checkpoint loaded), HOTLORA_A1111_LORA_DIR its ``models/Lora``,
HOTLORA_A1111_PYTHON its Python. HOTLORA_A1111_FOLDER is where its files are; nothing need run for that. HOTLORA_FORGE_... likewise.
"""

import base64
import importlib.util
import io
import json
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image


@dataclass(frozen=True)
class Webui:
    """Where one is; empty where it is not named."""

    name: str
    url: str
    lora_dir: str
    python: str


def find_webui(name: str) -> Webui:
    """As the environment says."""
    url, lora_dir, python = (os.environ.get(f"HOTLORA_{name.upper()}_{part}", "").rstrip("/") for part in ("URL", "LORA_DIR", "PYTHON"))
    return Webui(name, url, lora_dir, python)


WEBUIS = [find_webui("a1111"), find_webui("forge")]
EACH_WEBUI = [
    pytest.param(
        web,
        id=web.name,
        marks=pytest.mark.skipif(
            not (web.url and web.lora_dir),
            reason=f"HOTLORA_{web.name.upper()}_URL and HOTLORA_{web.name.upper()}_LORA_DIR name no running program",
        ),
    )
    for web in WEBUIS
]
driven = WEBUIS[:1]  # the one that the test at hand drives
in_each_webui = pytest.mark.usefixtures("each_webui")
FOLDER = os.environ.get("HOTLORA_A1111_FOLDER", "")
needs_folder = pytest.mark.skipif(not FOLDER, reason="HOTLORA_A1111_FOLDER names no folder of AUTOMATIC1111's files")
PICTURE = {"seed": 1, "steps": 12, "width": 64, "height": 64, "cfg_scale": 4, "sampler_name": "DPM++ 2M"}


def webui_now() -> Webui:
    """The one that the test at hand drives."""
    return driven[0]


def lora_dir() -> Path:
    """Where the WebUI looks for LoRAs."""
    return Path(webui_now().lora_dir)


def ask(path: str, body: Any = None, method: str | None = None) -> Any:
    """The JSON that the WebUI answers with."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(webui_now().url + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=180) as answer:
        return json.loads(answer.read() or "null")


def draw(prompt: str, **options: Any) -> np.ndarray:
    """A picture from txt2img. [height, width, 3]"""
    picture = ask("/sdapi/v1/txt2img", {**PICTURE, "prompt": prompt, **options})["images"][0]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")).astype(int)


def load_module(name: str) -> ModuleType:
    """One of the WebUI's own ``modules``, from its folder, with whatever stands for the others in ``sys.modules``."""
    spec = importlib.util.spec_from_file_location(f"modules.{name}", Path(FOLDER) / "modules" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
