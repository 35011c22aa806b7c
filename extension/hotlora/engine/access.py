"""Which files and folders a run may name, where people from other computers can ask for runs. Must import nothing of ours but
``engine``; reads no file, only looks where links lead."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from .config import RunConfig
from .errors import UserError

_MAY_BE_NAMES = ("base_model", "metadata_path")  # a checkpoint in the program's own list; a file in train_data_dir


class Access:
    """The folders that runs may read and write.

    Args:
        folders: None allows everything, as for people who sit at this computer.
    """

    def __init__(self, folders: Sequence[Path] | None):
        self._folders: list[Path] | None = None
        if folders is not None:
            both = [path for folder in folders for path in (_absolute(folder), _absolute(folder).resolve())]
            self._folders = list(dict.fromkeys(both))

    @property
    def is_open(self) -> bool:
        """Whether everything is allowed."""
        return self._folders is None

    def check(self, config: RunConfig) -> None:
        """Look at every option that is a path, and for links that lead out of the folders among them. ``output_dir`` is not
        looked at: a program that takes runs from others sets it itself.

        Raises:
            UserError: naming the first option that leads elsewhere.
        """
        if self._folders is None:
            return
        for name, value in config.places():
            for path in _find_places(name, value, config):
                self._check_path(name, value, path)

    def allows(self, path: Path) -> bool:
        """Whether a path lies in the folders, both as it is written and where its links lead. One that is written elsewhere is
        not even looked at, because on Windows a look at another computer's path tells that computer who is asking."""
        if self._folders is None:
            return True
        try:
            return self._covers(Path(os.path.abspath(path))) and self._covers(_absolute(path).resolve())
        except (OSError, RuntimeError, ValueError):  # links in a circle, characters that no path has
            return False

    def _covers(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self._folders or [])

    def _check_path(self, name: str, value: str, path: Path) -> None:
        allowed = ", ".join(str(folder) for folder in self._folders or []) or "none"
        start, end = f"cannot use {name} '{value}'", f"only these folders may be used: {allowed}."
        if not self.allows(path):
            raise UserError(f"{start}: other computers can ask for runs here, so {end} Choose one of them.")
        for link in _find_links(path):
            if not self.allows(link):
                raise UserError(f"{start}: {link} leads elsewhere, but {end} Remove that link.")


def _absolute(path: Path) -> Path:
    """From the root, with every `..` kept: after a link it means another folder than where it is written."""
    return Path(path).expanduser().absolute()


def _find_places(name: str, value: str, config: RunConfig) -> Iterator[Path]:
    """Where a run would look for what the option names."""
    path = Path(value)
    if name not in _MAY_BE_NAMES or not _is_plain_name(path):
        yield path.expanduser()
    elif path.exists():
        yield path
    if name == "metadata_path":
        yield Path(config.train_data_dir).expanduser() / path


def _is_plain_name(path: Path) -> bool:
    """Whether nothing but the current folder can be meant."""
    return not (path.anchor or ".." in path.parts or str(path).startswith("~"))


def _find_links(folder: Path) -> Iterator[Path]:
    """Everything below the folder that stands for something elsewhere; also behind such links, as pictures are looked for."""
    seen = {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, followlinks=True):
        real = {name: os.path.realpath(os.path.join(place, name)) for name in folders}
        new = [name for name in folders if real[name] not in seen]
        seen.update(real.values())
        yield from (path for path in (Path(place, name) for name in (*folders, *files)) if path.is_symlink())
        folders[:] = new
