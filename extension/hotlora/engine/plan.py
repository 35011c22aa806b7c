"""Which batches make which optimizer step, and how many steps there are; and where in that a run stands."""

from collections.abc import Sequence
from dataclasses import dataclass

from .config import RunConfig
from .errors import UserError
from .interfaces import Batch, Trainee


@dataclass
class Position:
    """Where a run stands."""

    step: int = 0  # optimizer steps done
    epoch: int = 0
    index: int = 0  # steps of this epoch that are done
    followed_up: bool = True  # whether all that is due after the last step is done

    @property
    def at_epoch_end(self) -> bool:
        return self.index == 0 and self.step > 0


class Plan:
    """The epochs of a run, each a list of steps."""

    def __init__(self, trainee: Trainee, config: RunConfig, position: Position):
        self._trainee, self._config = trainee, config
        self._epoch: int | None = None  # the one that is planned out
        self._groups: list[Sequence[Batch]] = []
        self.steps_per_epoch = self.steps_in(0)
        before = position.step - position.index  # steps of whole epochs, also of those that were seen with other data
        self.notes: list[str] = []  # what people should know about the length
        self.total_steps = config.max_steps or self._bound(
            before + sum(self.steps_in(epoch) for epoch in range(position.epoch, config.epochs))
        )

    def _bound(self, steps: int) -> int:
        """Of so many steps by ``epochs``, those that are taken."""
        least, most = self._config.least_steps or 0, self._config.most_steps or steps
        taken = min(max(steps, least), max(most, least))
        if taken != steps:
            why = "least_steps" if taken > steps else "most_steps"
            self.notes.append(f"epochs {self._config.epochs} come to {steps:,} steps here, and {why} to {taken:,}: that many are trained.")
        return taken

    def group(self, position: Position) -> Sequence[Batch]:
        """The batches of the step that comes next."""
        return self._groups_of(position.epoch)[position.index]

    def upcoming(self, position: Position, most: int) -> list[Sequence[Batch]]:
        """The batches of the steps that come next in this epoch, at most so many steps."""
        return self._groups_of(position.epoch)[position.index : position.index + most]

    def steps_in(self, epoch: int) -> int:
        return len(self._groups_of(epoch))

    def advance(self, position: Position) -> None:
        """Note that the next step is done."""
        position.step, position.index, position.followed_up = position.step + 1, position.index + 1, False
        if position.index == self.steps_in(position.epoch):
            position.epoch, position.index = position.epoch + 1, 0

    def _groups_of(self, epoch: int) -> list[Sequence[Batch]]:
        """The epoch's batches, in the groups that make one optimizer step each."""
        if self._epoch != epoch:
            batches, size = self._trainee.batches(epoch, self._config.seed), self._config.gradient_accumulation_steps
            if not batches:
                raise UserError("cannot train: there are no examples. Look at train_data_dir.")
            self._groups = [batches[i : i + size] for i in range(0, len(batches), size)]
            self._epoch = epoch
        return self._groups
