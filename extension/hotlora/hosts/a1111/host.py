"""AUTOMATIC1111's WebUI as a host: trains on the checkpoint that is loaded there, between other people's pictures.

This file and its ``a1111_*`` siblings are the only ones that know the WebUI; its ``modules`` are imported where they are
used, so that importing these files works anywhere. Written against v1.10.1.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...engine.errors import ModelAway, UserError
from ...sd.config import ImageConfig
from ...sd.metadata import file_hashes
from .checkpoint import check_usable, explain_absence, find_loaded
from .lora import copy_with_card, find_lora_extension, forget_encoded_prompts, lora_root, own_folder
from .model import A1111Model
from .sampling import check_sampler
from .turn import plain_model

_YIELD_SECONDS = 0.01
_HANDOVER_SECONDS = 0.1


class A1111Host:
    """Implements :class:`hotlora.engine.interfaces.Host`; one object per run."""

    def __init__(self) -> None:
        self._config: ImageConfig | None = None  # of the run that borrowed
        self._loaded: Any = None  # the WebUI's model object
        self._file: str | None = None  # what was loaded into it
        self._somebody_waited = False
        self._holder: int | None = None  # the thread that has the turn

    def borrow(self, config: ImageConfig) -> Any:
        """The checkpoint that is loaded. Where the config names none, it is written there.

        Raises:
            ModelAway: when there is none, or not the one that the config names.
            UserError: when it cannot be trained as it is loaded now, or options do not fit it.
        """
        from modules import call_queue, devices, shared

        from ...sd.trainee import ImageTrainee

        if self.has_model(config):
            _hash_ahead(Path(find_loaded().sd_checkpoint_info.filename))
        with call_queue.queue_lock:
            _check_there(config)
            loaded = find_loaded()
            check_usable(loaded)
            check_sampler(config.sample_sampler, is_sdxl=loaded.is_sdxl)
            zero_snr = shared.opts.sd_noise_schedule == "Zero Terminal SNR"
            model = A1111Model(loaded, config, device=devices.device, sampled_at_zero_snr=zero_snr)
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
        from modules import call_queue

        lock = call_queue.queue_lock
        self._let_others_go_first(lock)
        with lock:
            try:
                self._check_unchanged()
                self._holder = threading.get_ident()
                with plain_model(self._loaded):
                    _check_still_usable(self._loaded)
                    yield
            except RuntimeError:
                _check_there(self._config)
                raise
            finally:
                self._holder = None
                self._somebody_waited = self.wanted()

    def _let_others_go_first(self, lock: Any) -> None:
        """The lock wakes whoever waits, but may be taken again before they are awake (``modules/fifo_lock.py``): so let
        them take it. The short sleep is for those whom that happened to through others; they stand in no queue."""
        time.sleep(_YIELD_SECONDS)
        until = time.monotonic() + _HANDOVER_SECONDS
        while self._somebody_waited and not lock._lock.locked() and time.monotonic() < until:
            time.sleep(0.001)

    def wanted(self) -> bool:
        """Whether a picture, or anything else that needs the model, waits in the WebUI's queue."""
        from modules import call_queue

        return bool(call_queue.queue_lock._pending_threads)

    def _check_unchanged(self) -> None:
        _check_there(self._config)
        loaded, name = find_loaded(), self._config.name
        if loaded is not self._loaded or loaded.sd_checkpoint_info.filename != self._file:
            raise ModelAway(f"cannot train '{name}' now: the WebUI has loaded its checkpoint anew. It goes on by itself.")

    def publish(self, path: Path) -> None:
        """Make the file what ``<lora:name:1>`` means from now on: in a folder that the WebUI searches, in its list, and
        with nothing left of an older file of that name. Only within a turn, when no layer has anything of it."""
        if self._holder != threading.get_ident():
            raise RuntimeError("publish outside a turn")
        networks = find_lora_extension()
        if networks:
            networks.networks_in_memory.clear()
        if lora_root().resolve() not in path.resolve().parents:
            copy_with_card(path, own_folder())
        if networks:
            networks.list_available_networks()
        forget_encoded_prompts()


def _check_there(config: ImageConfig) -> None:
    """Raise ModelAway where the run's checkpoint is not loaded."""
    reason = explain_absence(config)
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
