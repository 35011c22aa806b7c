"""Captions for a data set while people look on: one job at a time in a thread of its own, stopped and gone on with, and its proposals.

A caption is written only where there is none; beside one that is there, a proposal is kept until somebody accepts or refuses it. What was
done stays when the job is stopped or the program ends: the next start goes on with what is left.
"""

import os
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..engine.access import Access
from ..engine.errors import UserError
from ..engine.options import build
from ..engine.plurals import counted
from ..pictures.caption_editing import USES, Captioned, find_captioned, list_captions, plan_captions, require_editable
from ..pictures.caption_history import CaptionHistory
from ..pictures.config import PictureConfig
from ..pictures.focus import read_framed
from .captioner import URL_VARIABLE, Captioner, CaptionerKind, CaptionSettings, choose_kind
from .kinds import list_paths
from .proposals import read_proposals, write_proposals
from .wording import word

_SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class CaptionStatus:
    """How far the job is, or how it has ended."""

    busy: bool = False
    done: int = 0
    total: int = 0
    written: int = 0
    proposed: int = 0
    message: str = ""  # what has ended it, or what was left to do
    problems: tuple[str, ...] = ()
    number: int = 0  # of the job, in this program
    folder: str = ""  # of the pictures


@dataclass(frozen=True)
class Proposal:
    """What a captioner would write, beside what is there."""

    name: str  # as the album calls the picture
    caption: str
    proposed: str


class CaptionDesk:
    """One per program.

    Args:
        kinds: whom there is to choose from.
        access: which folders people from other computers may name; None where there are none such.
    """

    settings_class = CaptionSettings

    def __init__(self, kinds: Sequence[CaptionerKind], access: Access | None = None):
        self._kinds, self._access = kinds, access
        self._lock = threading.Lock()  # over the proposals' file and the status
        self._status = CaptionStatus()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._step = ""  # of the captions' history: a whole writing is undone at once

    def list_kinds(self) -> list[tuple[str, str]]:
        """(key, label) of each captioner."""
        return [(kind.key, kind.label) for kind in self._kinds]

    @property
    def status(self) -> CaptionStatus:
        return self._status

    def start(self, config: PictureConfig, values: Mapping[str, Any]) -> CaptionStatus:
        """Begin, or go on with what is left.

        Args:
            config: names the pictures' folder.
            values: of :class:`CaptionSettings`.

        Raises:
            UserError: where settings are wrong or not allowed, or it is at work already.
        """
        settings = build(CaptionSettings, values)
        kind = choose_kind(self._kinds, settings.captioner)
        settings = self._check_allowed(settings)
        with self._lock:
            if self._status.busy:
                raise UserError("cannot write captions: they are being written already. Wait for that, or stop it.")
            names = _list_open(config, settings)
            if not names:
                told = "Every picture has a proposal." if settings.as_proposals else "Every picture has a caption."
                self._status = CaptionStatus(message=told, number=self._status.number)
                return self._status
            self._stop.clear()
            self._step = ""
            self._status = CaptionStatus(busy=True, total=len(names), number=self._status.number + 1, folder=config.train_data_dir)
        self._thread = threading.Thread(target=self._work, args=(config, settings, kind, names), name="hotlora captions", daemon=True)
        self._thread.start()
        return self._status

    def stop(self) -> None:
        """After the pictures that are looked at now. Raises UserError where none are."""
        with self._lock:
            if not self._status.busy:
                raise UserError("cannot stop: no captions are being written. Write some first.")
            self._stop.set()
            self._status = replace(self._status, message="Stopping after the pictures that are looked at now.")

    def wait(self, seconds: float | None = None) -> None:
        """Until the job has ended."""
        if self._thread:
            self._thread.join(seconds)

    def _check_allowed(self, settings: CaptionSettings) -> CaptionSettings:
        """The settings with the address that is asked. Raises UserError for folders and addresses that only this computer's user may name:
        who asks from elsewhere could have the program read its owner's files, send its key, or look around in its network."""
        address = os.environ.get(URL_VARIABLE, "")
        if self._access and not self._access.is_open:
            for path in list_paths(settings):
                if not self._access.allows(path):
                    raise UserError(f"cannot use '{path}': other computers can ask for captions here. Put it into one of the data folders.")
            if settings.endpoint_url and settings.endpoint_url != address:
                raise UserError(
                    f"cannot ask '{settings.endpoint_url}': other computers can ask for captions here. "
                    f"Have its owner set {URL_VARIABLE} to that address where the program is started."
                )
        return replace(settings, endpoint_url=settings.endpoint_url or address)

    # -- the job -------------------------------------------------------------------------------------------------------

    def _work(self, config: PictureConfig, settings: CaptionSettings, kind: CaptionerKind, names: Sequence[tuple[str, Path]]) -> None:
        try:
            captioner = kind.make(settings)
            for batch in _split(names, settings.caption_batch):
                if self._stop.is_set():
                    self._tell(message="Stopped. Write captions goes on with the rest.")
                    return
                self._caption(config, settings, captioner, batch, is_tags=kind.writes_tags)
            self._tell(message="Done.")
        except UserError as error:
            self._tell(message=str(error))
        except Exception as error:  # a library's, which says nothing to people; the console has all of it
            traceback.print_exc()
            self._tell(message=f"This failed because of a bug ({type(error).__name__}: {error}). Details are in the console.")
        finally:
            self._tell(busy=False)

    def _tell(self, **news: Any) -> None:
        with self._lock:
            self._status = replace(self._status, **news)

    def _caption(
        self, config: PictureConfig, settings: CaptionSettings, captioner: Captioner, batch: Sequence[tuple[str, Path]], *, is_tags: bool
    ) -> None:
        images, problems = {}, []
        for name, path in batch:
            try:
                images[name, path] = read_framed(path).rgb
            except UserError as error:
                problems.append(str(error))
        said = captioner([path for _, path in images], list(images.values())) if images else []
        worded = {name: word(text, settings, is_tags=is_tags) for (name, _), text in zip(images, said, strict=True)}
        problems += [f"{name}: the captioner had nothing to say. Write its caption by hand." for name, text in worded.items() if not text]
        written, proposed = self._keep(config, {name: text for name, text in worded.items() if text}, only_propose=settings.as_proposals)
        status = self._status
        self._tell(
            done=status.done + len(batch),
            written=status.written + written,
            proposed=status.proposed + proposed,
            problems=(*status.problems, *problems)[:_SHOWN_PROBLEMS],
        )

    def _keep(self, config: PictureConfig, captions: Mapping[str, str], *, only_propose: bool) -> tuple[int, int]:
        """Write them where there is none by now, propose the others; how many of each."""
        changes, proposals = list[tuple[Captioned, str]](), dict[str, str]()
        for name, text in captions.items():
            found = find_captioned(config, name)
            if found.caption == text:
                continue
            if found.caption or only_propose:
                proposals[name] = text
            else:
                changes.append((found, text))
        if changes:
            told = f"Write captions: {counted(self._status.written + len(changes), 'caption')}"
            self._step = CaptionHistory(config).carry_out(told, plan_captions(changes), behind=self._step)
        if proposals:
            with self._lock:
                write_proposals(config, read_proposals(config) | proposals)
        return len(changes), len(proposals)

    # -- proposals -----------------------------------------------------------------------------------------------------

    def list_proposals(self, config: PictureConfig) -> list[Proposal]:
        """Those of pictures that are still there, in the pictures' order."""
        proposals = read_proposals(config)
        there = list_captions(config) if proposals else {}
        return [Proposal(name, found.caption, proposals[name]) for name, found in there.items() if name in proposals]

    def decide(self, config: PictureConfig, names: Sequence[str] | None, *, accept: bool) -> str:
        """Write proposals as captions, or drop them; returns what was done.

        Args:
            names: of the pictures; None for all.
        """
        with self._lock:
            proposals = read_proposals(config)
            chosen = [name for name in (proposals if names is None else names) if name in proposals]
            if accept:
                there = list_captions(config, USES)
                if names is None:  # what was left out meanwhile keeps its proposal
                    chosen = [name for name in chosen if name in there]
                changes = [(require_editable(there, name), proposals[name]) for name in chosen]
                if changes:
                    CaptionHistory(config).carry_out(f"Accept proposals: {counted(len(changes), 'caption')}", plan_captions(changes))
            write_proposals(config, {name: text for name, text in proposals.items() if name not in set(chosen)})
        return f"{len(chosen)} {'accepted' if accept else 'refused'}, {len(proposals) - len(chosen)} left."


def _list_open(config: PictureConfig, settings: CaptionSettings) -> list[tuple[str, Path]]:
    """(name, file) of the pictures that are to be looked at."""
    proposals = read_proposals(config) if settings.as_proposals else {}
    captions = list_captions(config)
    return [
        (name, found.path) for name, found in captions.items() if (name not in proposals if settings.as_proposals else not found.caption)
    ]


def _split(names: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]
