"""The program's folder of LoRAs, as far as runs share it with their user: which names are taken, which folders are copies of a run's."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from ...engine.errors import UserError
from ...llm.peft_reading import CONFIG, read_fingerprint
from .host import lora_folder


class LoraLibrary:
    """Implements :class:`hotlora.engine.interfaces.Library`."""

    def folder(self) -> Path:
        """The program's own."""
        return lora_folder()

    def check_name(self, name: str) -> None:
        """Raises UserError where there is a LoRA of that name, which the run's would replace."""
        place = lora_folder() / name
        if place.exists():
            raise UserError(f"cannot call a run '{name}': {place} is a LoRA of that name already. Choose another name, or remove it.")

    def remove_copies(self, name: str) -> None:
        """Only what was trained here. An adapter that is applied stays so until it is taken off."""
        numbered = re.compile(rf"{re.escape(name)}-step\d{{8}}")
        self._remove(lambda folder: folder == name or bool(numbered.fullmatch(folder)))

    def remove_copy(self, name: str) -> None:
        """Likewise."""
        self._remove(lambda folder: folder == name)

    def _remove(self, is_meant: Callable[[str], bool]) -> None:
        for folder in list(lora_folder().glob("*/")):
            if is_meant(folder.name) and _is_ours(folder):
                try:
                    shutil.rmtree(folder)
                except OSError as error:
                    raise UserError(f"cannot delete {folder}: {error.strerror}. Close what uses it and try again.") from error


def _is_ours(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and read_fingerprint(folder) != ""
