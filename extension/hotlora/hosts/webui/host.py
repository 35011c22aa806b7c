"""What hosting is like in AUTOMATIC1111's program and in those made from it: a checkpoint borrowed under the queue lock, turns at it, and
LoRAs published. What such a program's model is made of is a subclass's to know."""

import contextlib
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...engine.errors import ModelAway, UserError
from ...engine.interfaces import Trainee
from ...sd.config import ImageConfig
from ...sd.continuing import check_initial
from ...sd.model import ImageModel
from ..shared.beside import write_command
from ..shared.turns import Turns
from .checkpoints import find_file, hash_checkpoint, is_wanted
from .loras import publish_lora
from .queue import find_queue_lock
from .sampling import check_sampler


class WebuiHost(ABC):
    """Implements :class:`hotlora.engine.interfaces.Host`; one object per run."""

    def __init__(self) -> None:
        self._config: ImageConfig | None = None  # of the run that borrowed
        self._loaded: weakref.ref[Any] | None = None  # the program's model object; what it has let go of is not kept alive here
        self._file: str | None = None  # what was loaded into it
        self._turns = Turns(find_queue_lock)

    # -- what a program's own subclass says ------------------------------------------------------------------------------

    @abstractmethod
    def find_loaded(self) -> Any:
        """The program's model object, or None while it has none. Loads nothing."""

    @abstractmethod
    def find_checkpoint(self, config: ImageConfig) -> Any:
        """What the program calls its checkpoint that the run would borrow now."""

    @abstractmethod
    def explain_absence(self, config: ImageConfig) -> str | None:
        """Why the checkpoint that ``base_model`` names (or any, where it is empty) cannot be borrowed now, and what to do about it; None
        where it can. Cheap, and takes no lock."""

    def explain_loss(self, config: ImageConfig) -> str | None:
        """Likewise why it could not be used to the end of a turn."""
        return self.explain_absence(config)

    @abstractmethod
    def make_ready(self, config: ImageConfig) -> None:
        """Have it loaded where the program has not done so. Under the lock, right before it is borrowed. Raises UserError."""

    @abstractmethod
    def check_usable(self, loaded: Any) -> None:
        """Raise UserError where it is none that can be trained, or not as it is loaded."""

    @abstractmethod
    def open_model(self, loaded: Any, config: ImageConfig) -> ImageModel:
        """It, as training sees it. Raises UserError where options do not fit."""

    @abstractmethod
    def plain(self, loaded: Any) -> contextlib.AbstractContextManager[None]:
        """It, as its checkpoint says, for the length of a turn. Raises UserError where it cannot be trained any more."""

    @abstractmethod
    def take_loras_out(self) -> None:
        """Leave nothing of a LoRA in the program's model, if it has one. Under the lock."""

    @abstractmethod
    def send_away(self, loaded: Any) -> None:
        """Out of the device's memory, by the program's own means. Under the lock."""

    @abstractmethod
    def fetch(self, loaded: Any) -> None:
        """Back again, where it is still away. Under the lock."""

    # -- the protocol ------------------------------------------------------------------------------------------------------

    def borrow(self, config: ImageConfig) -> Trainee:
        """The checkpoint that is loaded. Where the config names none, it is written there.

        Raises:
            ModelAway: when there is none, or not the one that the config names.
            UserError: when it cannot be trained as it is loaded now, or options do not fit it.
        """
        from ...sd.trainee import ImageTrainee

        if self.has_model(config):
            hash_checkpoint(self.find_checkpoint(config))
        with find_queue_lock():
            _raise_away(self.explain_absence(config))
            self.make_ready(config)
            loaded = self.find_loaded()
            self.check_usable(loaded)
            check_sampler(config.sample_sampler, is_sdxl=loaded.is_sdxl)
            check_initial(config)
            trainee = ImageTrainee(self.open_model(loaded, config), config)
            config.base_model = config.base_model or loaded.sd_checkpoint_info.name
            self.lend(config, loaded)
        return trainee

    def lend(self, config: ImageConfig, loaded: Any) -> None:
        """From now on turns are this run's, at this model."""
        self._config, self._loaded, self._file = config, weakref.ref(loaded), loaded.sd_checkpoint_info.filename

    def has_model(self, config: ImageConfig) -> bool:
        """Whether the checkpoint that the config names (or any) can be borrowed."""
        return self.explain_absence(config) is None

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """The program's queue lock, and its model without anything that shapes pictures.

        Raises:
            ModelAway: when it is not the model that was borrowed any more; also in the middle of the turn, because
                the API's unload-checkpoint stands in no queue.
        """
        with self._turns.take():
            try:
                self._check_unchanged()
                with contextlib.ExitStack() as given_back:
                    self._enter_plain(given_back)
                    yield
            except RuntimeError:
                if self._config:
                    _raise_away(self.explain_loss(self._config))
                raise

    def _enter_plain(self, given_back: contextlib.ExitStack) -> None:
        """Settings may have changed since the model was borrowed."""
        loaded = self.find_loaded()
        try:
            given_back.enter_context(self.plain(loaded))
            self.check_usable(loaded)
        except UserError as error:  # so the state is saved first; then borrowing says the same, which ends the run
            raise ModelAway(str(error)) from error

    def wanted(self) -> bool:
        """Whether a picture, or anything else that needs the model, waits in the program's queue."""
        return self._turns.somebody_waits()

    def unload(self, config: ImageConfig) -> None:
        """Send the run's checkpoint away, if it is loaded."""
        with find_queue_lock():
            loaded = self.find_loaded()
            if loaded is not None and self.explain_absence(config) is None:
                self.send_away(loaded)

    def load_again(self, config: ImageConfig) -> None:
        """Fetch it, unless the program holds another one by now."""
        with find_queue_lock():
            loaded = self.find_loaded()
            if loaded is not None and is_wanted(loaded.sd_checkpoint_info, config.base_model):
                self.fetch(loaded)

    def _check_unchanged(self) -> None:
        if self._config is None:
            return
        _raise_away(self.explain_absence(self._config))
        loaded = self.find_loaded()
        file = loaded.sd_checkpoint_info.filename if loaded is not None else None
        if file is None or file != self._file or self._loaded is None or loaded is not self._loaded():
            raise ModelAway(f"cannot train '{self._config.name}' now: the WebUI has loaded its checkpoint anew. It goes on by itself.")

    def publish(self, path: Path) -> None:
        """Make the file what ``<lora:name:1>`` means from now on. Only within a turn, when no layer has anything of an older one."""
        self._turns.check_is_mine()
        publish_lora(path)

    # -- a run beside the program: see ``engine.beside`` ----------------------------------------------------------------------

    def beside_command(self) -> Sequence[str]:
        return write_command()

    def find_base(self, config: ImageConfig) -> Path:
        """The checkpoint's file, loaded or not. Raises UserError where the program has none of that name."""
        loaded = self.find_loaded()
        if not config.base_model and loaded is not None:
            config.base_model = loaded.sd_checkpoint_info.name
        file = find_file(config.base_model)
        if file is None:
            what = f"the WebUI has no checkpoint '{config.base_model}'" if config.base_model else "the WebUI has no checkpoint loaded"
            raise UserError(
                f"cannot train '{config.name}' on {config.train_device}: {what}. Choose one at the top of the page, and start again."
            )
        return file

    def publish_beside(self, path: Path) -> None:
        """Between two pictures: the lock is taken for as long as it takes to copy the file."""
        with find_queue_lock():
            self.take_loras_out()
            publish_lora(path)


def _raise_away(reason: str | None) -> None:
    if reason:
        raise ModelAway(reason)
