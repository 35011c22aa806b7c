"""A running AUTOMATIC1111, for tests that drive it: where it is, and how to ask it for a picture.

HOTLORA_A1111_URL is its address (started with ``--api``, the demo's checkpoint loaded), HOTLORA_A1111_LORA_DIR its ``models/Lora``,
HOTLORA_A1111_PYTHON its Python. HOTLORA_A1111_FOLDER is where its files are; nothing need run for that.
"""

import base64
import importlib.util
import io
import json
import os
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

URL, LORA_DIR, PYTHON = (os.environ.get(f"HOTLORA_A1111_{name}", "").rstrip("/") for name in ("URL", "LORA_DIR", "PYTHON"))
FOLDER = os.environ.get("HOTLORA_A1111_FOLDER", "")
needs_webui = pytest.mark.skipif(
    not (URL and LORA_DIR), reason="HOTLORA_A1111_URL and HOTLORA_A1111_LORA_DIR name no running AUTOMATIC1111"
)
needs_folder = pytest.mark.skipif(not FOLDER, reason="HOTLORA_A1111_FOLDER names no folder of AUTOMATIC1111's files")
PICTURE = {"seed": 1, "steps": 12, "width": 64, "height": 64, "cfg_scale": 4, "sampler_name": "DPM++ 2M"}


def ask(path: str, body: Any = None, method: str | None = None) -> Any:
    """The JSON that the WebUI answers with."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"Content-Type": "application/json"}, method=method)
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
