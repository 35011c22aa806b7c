"""Captions that a captioner proposes for pictures, until somebody accepts or refuses them: one file in the data set's cache folder."""

import json
from collections.abc import Mapping
from pathlib import Path

from ..engine.files import write_text
from ..pictures.config import PictureConfig
from ..pictures.index import choose_cache_folder

_NAME = "proposals.json"


def read_proposals(config: PictureConfig) -> dict[str, str]:
    """Picture, as the album calls it -> the caption that is proposed. A damaged file holds none."""
    try:
        content = json.loads(_find(config).read_text(encoding="utf-8"))
        return {str(name): str(text) for name, text in content.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def write_proposals(config: PictureConfig, proposals: Mapping[str, str]) -> None:
    """All of them, in place of those before."""
    path = _find(config)
    if proposals:
        write_text(path, json.dumps(dict(proposals), ensure_ascii=False, indent=0))
    else:
        path.unlink(missing_ok=True)


def _find(config: PictureConfig) -> Path:
    return choose_cache_folder(config) / _NAME
