"""AUTOMATIC1111's WebUI as a host: trains on the checkpoint that is loaded there, between other people's pictures.

This folder and ``webui/`` are the only ones that know the WebUI; its ``modules`` are imported where they are used, so that importing these
files works anywhere. Written against v1.10.1.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...engine.errors import ModelAway, UserError
from ...engine.interfaces import Trainee
from ...sd.config import ImageConfig
from ...sd.continuing import check_initial
from ...sd.metadata import file_hashes
from ..shared.turns import Turns
from ..webui.loras import publish_lora
from ..webui.queue import find_queue_lock
from ..webui.sampling import check_sampler
from .checkpoint import check_usable, explain_absence, find_loaded, is_wanted
from .foreign import warn_of_others
from .model import A1111Model
from .turn import plain_model


class A1111Host:
    """Implements :class:`hotlora.engine.interfaces.Host`; one object per run."""

    def __init__(self) -> None:
        self._config: ImageConfig | None = None  # of the run that borrowed
        self._loaded: Any = None  # the WebUI's model object
        self._file: str | None = None  # what was loaded into it
        self._turns = Turns(find_queue_lock)

    def borrow(self, config: ImageConfig) -> Trainee:
        """The checkpoint that is loaded. Where the config names none, it is written there.

        Raises:
            ModelAway: when there is none, or not the one that the config names.
            UserError: when it cannot be trained as it is loaded now, or options do not fit it.
        """
        from modules import devices, shared

        from ...sd.trainee import ImageTrainee

        if self.has_model(config):
            _hash_ahead(Path(find_loaded().sd_checkpoint_info.filename))
        with find_queue_lock():
            _check_there(config)
            loaded = find_loaded()
            check_usable(loaded)
            check_sampler(config.sample_sampler, is_sdxl=loaded.is_sdxl)
            check_initial(config)
            zero_snr = shared.opts.sd_noise_schedule == "Zero Terminal SNR"
            model = A1111Model(loaded, config, device=devices.device, sampled_at_zero_snr=zero_snr)
            model.warnings += warn_of_others(loaded)
            trainee = ImageTrainee(model, config)
            config.base_model = config.base_model or loaded.sd_checkpoint_info.name
            self._config, self._loaded, self._file = config, loaded, loaded.sd_checkpoint_info.filename
        return trainee

    def has_model(self, config: ImageConfig) -> bool:
        """Whether the checkpoint that the config names (or any) is loaded and where the WebUI computes."""
        return explain_absence(config) is None

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """The WebUI's queue lock, and its model without anything that shapes pictures.

        Raises:
            ModelAway: when it is not the model that was borrowed any more; also in the middle of the turn, because
                the API's unload-checkpoint stands in no queue.
        """
        with self._turns.take():
            try:
                self._check_unchanged()
                with plain_model(self._loaded):
                    _check_still_usable(self._loaded)
                    yield
            except RuntimeError:
                _check_there(self._config)
                raise

    def wanted(self) -> bool:
        """Whether a picture, or anything else that needs the model, waits in the WebUI's queue."""
        return self._turns.somebody_waits()

    def _check_unchanged(self) -> None:
        _check_there(self._config)
        loaded, name = find_loaded(), self._config.name if self._config else ""
        if loaded is not self._loaded or loaded.sd_checkpoint_info.filename != self._file:
            raise ModelAway(f"cannot train '{name}' now: the WebUI has loaded its checkpoint anew. It goes on by itself.")

    def publish(self, path: Path) -> None:
        """Make the file what ``<lora:name:1>`` means from now on. Only within a turn, when no layer has anything of an older one."""
        self._turns.check_is_mine()
        publish_lora(path)


def check_on_loaded(config: ImageConfig) -> None:
    """Raise UserError where a run that starts now would not train on what is loaded. Where that is another checkpoint than its own, the
    run waits for it, and this says nothing."""
    loaded = find_loaded()
    if loaded is not None and is_wanted(loaded.sd_checkpoint_info, config.base_model):
        check_usable(loaded)
        check_sampler(config.sample_sampler, is_sdxl=loaded.is_sdxl)


def _check_there(config: ImageConfig | None) -> None:
    """Raise ModelAway where the run's checkpoint is not loaded."""
    reason = explain_absence(config) if config else None
    if reason:
        raise ModelAway(reason)


def _check_still_usable(loaded: Any) -> None:
    """Settings may have changed since the model was borrowed."""
    try:
        check_usable(loaded)
    except UserError as error:  # so the state is saved first; then borrowing says the same, which ends the run
        raise ModelAway(str(error)) from error


def _hash_ahead(path: Path) -> None:
    """Metadata has the checkpoint's hashes. Gigabytes take seconds; the answer is kept, and now nobody waits for the model."""
    if path.is_file():
        file_hashes(path)
