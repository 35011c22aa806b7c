"""The program's own captioners: its BLIP and its DeepBooru, by its own memory management, each batch under the queue lock.

Both are loaded by the program's own functions for a batch and given back afterwards by its own, as its *Interrogate* buttons do: where its
settings keep them in memory, they stay. Only sentences are asked of BLIP, not the list of artists that *Interrogate CLIP* adds.
"""

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...captioning.captioner import CaptionerKind, CaptionSettings
from ...engine.errors import UserError
from ..shared.turns import Turns
from .queue import find_queue_lock

if TYPE_CHECKING:
    from PIL import Image


class HostBlip:
    """A :class:`~hotlora.captioning.captioner.Captioner`."""

    def __init__(self) -> None:
        self._turns = Turns(find_queue_lock)

    def __call__(self, pictures: Sequence[Path], images: "Sequence[Image.Image]") -> list[str]:
        from modules import shared

        interrogator = shared.interrogator
        with self._turns.take(), _given_back(interrogator.unload):
            _free_memory()
            with _telling("BLIP", "model_base_caption_capfilt_large.pth into models/BLIP, and ViT-L-14.pt where --clip-models-path says"):
                interrogator.load()
            return [" ".join(str(interrogator.generate_caption(image)).split()) for image in images]


class HostDeepBooru:
    """A :class:`~hotlora.captioning.captioner.Captioner` that writes tags. How sure it must be of one is a setting of the program."""

    def __init__(self) -> None:
        self._turns = Turns(find_queue_lock)

    def __call__(self, pictures: Sequence[Path], images: "Sequence[Image.Image]") -> list[str]:
        from modules import deepbooru

        model = deepbooru.model
        with self._turns.take(), _given_back(lambda: model.stop() if model.model is not None else None):
            with _telling("DeepBooru", "model-resnet_custom_v3.pt into models/torch_deepdanbooru"):
                _start(model)
            return [_unescape(model.tag_multi(image, force_disable_ranks=True)) for image in images]


def list_host_captioners() -> list[CaptionerKind]:
    """Those that this program has; a fork may have dropped one."""
    kinds = []
    if _has("modules.interrogate"):
        kinds.append(CaptionerKind("host-blip", "BLIP of this WebUI", _make_blip))
    if _has("modules.deepbooru"):
        kinds.append(CaptionerKind("deepbooru", "DeepBooru of this WebUI", _make_deepbooru, writes_tags=True))
    return kinds


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # it has no such package at all, or puts something else in its place
        return False


def _make_blip(settings: CaptionSettings) -> HostBlip:
    return HostBlip()


def _make_deepbooru(settings: CaptionSettings) -> HostDeepBooru:
    return HostDeepBooru()


def _free_memory() -> None:
    """For a small card, as the program's interrogator does first. In Forge this does nothing: it sees to its memory while it loads."""
    try:
        from modules import devices, lowvram
    except ImportError:  # dropped by a fork that manages memory in another way
        return
    lowvram.send_everything_to_cpu()
    devices.torch_gc()


def _start(model: Any) -> None:
    """Both programs make the network before they look for its file: a half-made one would pass for loaded the next time, and tag at
    random."""
    found = model.model
    try:
        model.start()
    except Exception:
        model.model = found
        raise


@contextlib.contextmanager
def _given_back(give_back: Any) -> Iterator[None]:
    try:
        yield
    finally:
        give_back()


@contextlib.contextmanager
def _telling(name: str, files: str) -> Iterator[None]:
    """A sentence where the program cannot load its captioner: mostly because it cannot download it."""
    try:
        yield
    except Exception as error:  # of whatever library it downloads and loads with
        raise UserError(
            f"cannot caption with the WebUI's own {name}: it cannot load it ({_say_reason(error)}). "
            f"Connect to the internet once, or put {files}."
        ) from error


def _say_reason(error: Exception) -> str:
    """What is true of it: the program lists its files and takes the first one, and what could not be downloaded left that list empty."""
    if isinstance(error, IndexError):
        return "its file is not there, and could not be downloaded"
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _unescape(tags: str) -> str:
    """As in a file: brackets mean nothing there."""
    return tags.replace("\\(", "(").replace("\\)", ")").replace("\\\\", "\\")
