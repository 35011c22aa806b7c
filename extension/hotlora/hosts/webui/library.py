"""The WebUI's LoRA folders, as far as runs share them with their user: which names are taken, and which files are copies of a run's."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ...engine.errors import UserError
from .loras import find_lora_extension, lora_root, numbered_stem, own_folder

_SUFFIXES = (".safetensors", ".pt", ".ckpt")
_ENDINGS = (".safetensors", ".json", ".png", ".preview.png", ".txt", ".civitai.info")  # of a LoRA and what belongs to it


class LoraLibrary:
    """Implements :class:`hotlora.engine.interfaces.Library`."""

    def folder(self) -> Path:
        """The WebUI looks again for names that it does not know."""
        own_folder().mkdir(parents=True, exist_ok=True)
        return own_folder()

    def check_name(self, name: str) -> None:
        """Raises UserError where ``<lora:name>`` means a file already, by its name or by what it calls itself."""
        found = next(_find_called(name), None)
        if found is None:
            return
        start = f"cannot call a run '{name}': <lora:{name}> is {found} already"
        if own_folder() in found.parents:
            raise UserError(f"{start}, which an earlier run has left. Choose another name, or remove that file.")
        raise UserError(f"{start}, and would be this run's. Choose another name.")

    def remove_copies(self, name: str) -> None:
        """With all that lies beside them on their cards. Takes no lock: who uses one has read it."""
        self._remove(lambda stem: stem == name or numbered_stem(stem) == name)

    def remove_copy(self, name: str) -> None:
        """Likewise."""
        self._remove(lambda stem: stem == name)

    def _remove(self, is_meant: Callable[[str], bool]) -> None:
        for file in [file for file in own_folder().glob("*") if file.is_file() and any(map(is_meant, _stems(file.name)))]:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"cannot delete {file}: {error.strerror}. Make a picture without it and try again.") from error
        networks = find_lora_extension()
        if networks:
            networks.list_available_networks()


def _find_called(name: str) -> Iterator[Path]:
    """Files that the WebUI knows by the name, those first that have come since it looked."""
    wanted = os.path.normcase(name)
    for place, _, files in os.walk(lora_root(), followlinks=True):
        for file in files:
            stem, suffix = os.path.splitext(file)
            if suffix.lower() in _SUFFIXES and os.path.normcase(stem) == wanted:
                yield Path(place) / file
    networks = find_lora_extension()
    for known in getattr(networks, "available_networks", {}).values():
        path = Path(known.filename)
        if name in (known.name, known.alias) and path.is_file():
            yield path


def _stems(file: str) -> list[str]:
    """The adapters whose a file may be: itself, its settings, its picture, or another note on it."""
    return [file.removesuffix(ending) for ending in _ENDINGS if file.endswith(ending)]
