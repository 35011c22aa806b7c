"""A run in progress: its adapters, optimizer and position, and how to write all of that down and read it back.

One step is one method here; what happens around steps is the loop's.
"""

import contextlib
import math
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from .adapters import AdapterSet
from .config import RunConfig
from .errors import UserError
from .events import Step
from .gradients import Gradients
from .interfaces import Batch, Trainee
from .memory import memory_in_use
from .optimizers import build_optimizer, build_scaler, build_scheduler
from .run import Run

_SMOOTHING = 0.95  # of the loss that people see
_EXPLODED = 10.0  # smoothed loss this many times the run's mean so far: far beyond what noise does
_EXPLOSION_NEEDS_STEPS = 50


class Diverged(Exception):
    """The loss or the gradient is not a number, or the loss has exploded."""


class Session:
    """Everything that changes while a run trains.

    Args:
        trainee: the borrowed model with its data, prepared.
        run: its folder; the newest state in it is loaded if there is one.

    Raises:
        UserError: when the state belongs to another base model, or ``init_lora`` contradicts the options.
    """

    def __init__(self, trainee: Trainee, config: RunConfig, run: Run):
        self.trainee, self.config, self.run = trainee, config, run
        self.warnings: list[str] = list(config.notes)
        state = run.load_state()
        initial = None if state or not config.init_lora else self._read_initial()
        self.adapters = AdapterSet(
            trainee.targets(),
            getattr(config, "network_type", "lora"),
            use_rslora=config.use_rslora,
            use_dora=config.use_dora,
            dora_axis=trainee.dora_axis,
            dropout=config.lora_dropout,
            lokr_factor=getattr(config, "lokr_factor", -1),
            start=getattr(config, "lora_start", "default") if state is None else "default",
            seed=config.seed,
        )
        self.adapters.to(trainee.device)
        if initial:
            self._load_initial(initial)
        self.parameters = self.adapters.parameters()
        self.optimizer, self.optimizer_name, warnings = build_optimizer(config, self.adapters.parameter_groups(), trainee.device)
        self.warnings += warnings
        self._planned_epoch: int | None = None
        self.accumulation = config.gradient_accumulation_steps
        self.steps_per_epoch = self._steps_in(0)
        self.total_steps = config.max_steps or sum(self._steps_in(epoch) for epoch in range(config.epochs))
        self.scheduler = build_scheduler(config, self.optimizer, self.total_steps)
        self.scaler = build_scaler(trainee.device, trainee.compute_dtype)
        self.ema = self._build_ema()
        self._set_optimizer_mode("train")
        self.gradients = Gradients(trainee, config, self.optimizer, self.scaler, self.warnings)
        self.step, self.epoch, self.index = 0, 0, 0
        self.average, self.mean_loss = 0.0, 0.0
        self.best: dict[str, Any] | None = None  # {"loss", "step", "tensors"}
        self.not_improved, self.judged_step, self.graded_step = 0, 0, 0
        self.scores: dict[str, float] = {}  # of the last judging
        self.followed_up = True  # whether all that is due after the current step is done
        self.stopped_early = False
        self.rate_lowered = False
        self._showing_best = False
        self._whole = threading.RLock()  # the newest adapter is also written from outside (see Control.newest)
        self.started_at, self.session_id = time.time(), uuid.uuid4().int % 2**32
        self._state_saved_at = time.monotonic()
        self.resumed = state is not None
        if state:
            self._restore(state)

    # -- position ------------------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        return self.step >= self.total_steps or self.stopped_early

    def _groups(self, epoch: int) -> list[Sequence[Batch]]:
        """The epoch's batches, in the groups that make one optimizer step each."""
        if self._planned_epoch != epoch:
            batches = self.trainee.batches(epoch, self.config.seed)
            if not batches:
                raise UserError("cannot train: there are no examples. Look at train_data_dir.")
            self._planned = [batches[i : i + self.accumulation] for i in range(0, len(batches), self.accumulation)]
            self._planned_epoch = epoch
        return self._planned

    def _steps_in(self, epoch: int) -> int:
        return len(self._groups(epoch))

    @property
    def epochs_done(self) -> float:
        """How many epochs, with the fraction of the current one."""
        return self.epoch + self.index / self._steps_in(self.epoch)

    @property
    def at_epoch_end(self) -> bool:
        return self.index == 0 and self.step > 0

    # -- one step ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """The model in training: adapters in, modes set; afterwards as found."""
        with self.adapters.attached(self.trainee.modules), self.trainee.training():
            self.adapters.set_training(True)
            yield

    def train_step(self) -> Step:
        """One optimizer step. Raises Diverged before anything was updated with bad numbers."""
        began = time.monotonic()
        group = self._groups(self.epoch)[self.index]
        rate = self.scheduler.get_last_lr()[0]
        loss, gradient_norm = self.gradients.of_step(group, self.step)
        self._refuse_bad(loss, gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        if self.config.max_norm:
            self.adapters.limit_norms(self.config.max_norm)
        if self.ema is not None:
            self.ema.update_parameters(torch.nn.ParameterList(self.parameters))
        self.step, self.followed_up = self.step + 1, False
        self.index += 1
        epochs_done = self.epochs_done
        if self.index == self._steps_in(self.epoch):
            self.epoch, self.index = self.epoch + 1, 0
        self.average = _SMOOTHING * self.average + (1 - _SMOOTHING) * loss
        usual = min(loss, 3 * self.mean_loss) if self.step > 1 else loss  # so that an explosion does not hide itself
        self.mean_loss += (usual - self.mean_loss) / self.step
        return Step(
            step=self.step,
            epoch=epochs_done,
            loss=loss,
            average=self.smoothed_loss,
            learning_rate=rate,
            gradient_norm=gradient_norm,
            seconds=time.monotonic() - began,
            memory_bytes=memory_in_use(self.trainee.device),
        )

    @property
    def smoothed_loss(self) -> float:
        """The loss averaged over about the last 20 steps, without a bias towards zero at the start."""
        return self.average / (1 - _SMOOTHING**self.step) if self.step else 0.0

    def _refuse_bad(self, loss: float, gradient_norm: float) -> None:
        bad_gradient = not math.isfinite(gradient_norm) and not self.scaler.is_enabled()  # fp16's scaler skips such steps itself
        lost_scale = self.scaler.is_enabled() and self.scaler.get_scale() < 1e-3
        smoothed = self.smoothed_loss
        exploded = self.step >= _EXPLOSION_NEEDS_STEPS and min(smoothed, loss) > _EXPLODED * self.mean_loss
        if math.isfinite(loss) and not (bad_gradient or lost_scale or exploded):
            return
        self.optimizer.zero_grad(set_to_none=True)
        raise Diverged(f"loss {loss:.4g}, gradient norm {gradient_norm:.4g} at step {self.step + 1}")

    # -- averages ------------------------------------------------------------------------------------------------------

    def _build_ema(self):
        if not self.config.ema_decay:
            return None
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        return AveragedModel(torch.nn.ParameterList(self.parameters), multi_avg_fn=get_ema_multi_avg_fn(self.config.ema_decay))

    def _set_optimizer_mode(self, mode: str) -> None:
        """Schedule-free optimizers keep other weights to train with than to use."""
        if self.config.optimizer == "AdamWScheduleFree":
            getattr(self.optimizer, mode)()

    @contextlib.contextmanager
    def usable_weights(self, weight: float = 1.0) -> Iterator[None]:
        """The adapters as they are saved, judged and previewed: averaged, without dropout; afterwards bit for bit back."""
        with self._whole:
            kept = [p.detach().clone() for p in self.parameters]
            self._set_optimizer_mode("eval")
            try:
                if self._showing_best:
                    self._overwrite(kept)
                elif self.ema is not None and self.step:
                    self._overwrite([p.detach() for p in self.ema.module])
                with self.adapters.at_weight(weight):
                    yield
            finally:
                self._set_optimizer_mode("train")
                self._overwrite(kept)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """The model with the usable adapters in it, and otherwise as found. Only for whoever keeps the run from taking a turn
        meanwhile."""
        with self._whole, self.adapters.attached(self.trainee.modules), self.usable_weights():
            yield

    @torch.no_grad()
    def _overwrite(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    # -- judging -------------------------------------------------------------------------------------------------------

    def judge(self, loss: float) -> bool:
        """Take note of a validation loss; True when it is the best so far."""
        self.judged_step = self.step
        if self.best is None or loss < self.best["loss"]:
            self.best = {"loss": loss, "step": self.step, "tensors": self.adapters.tensors()}
            self.not_improved = 0
            return True
        self.not_improved += 1
        patience = self.config.early_stopping_patience
        self.stopped_early = bool(patience) and self.not_improved >= patience
        return False

    @contextlib.contextmanager
    def best_weights(self) -> Iterator[None]:
        """The adapters as they were at the best validation; averaged already, so :meth:`usable_weights` leaves them."""
        kept = self.adapters.tensors()
        self.adapters.load(self.best["tensors"])
        self._showing_best = True
        try:
            yield
        finally:
            self._showing_best = False
            self.adapters.load(kept)

    # -- state ---------------------------------------------------------------------------------------------------------

    def state_is_due(self) -> bool:
        return time.monotonic() - self._state_saved_at > self.config.state_minutes * 60

    def save_state(self) -> None:
        """Write everything that a resumed run needs to go on with the same numbers. Random numbers need nothing: they are
        a function of seed and step (see Draws)."""
        with self._whole:
            state = {
                "fingerprint": self.trainee.fingerprint,
                "adapters": self.adapters.tensors(),
                "starts": self.adapters.starts(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "scaler": self.scaler.state_dict(),
                "ema": self.ema.state_dict() if self.ema is not None else None,
                "attributes": {name: getattr(self, name) for name in _SAVED_ATTRIBUTES},
            }
            self.run.save_state(state, self.step)
        self._state_saved_at = time.monotonic()

    def _restore(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self.trainee.fingerprint:
            raise UserError(
                f"cannot resume '{self.run.name}' on this base model: it was trained on another one (or the file has changed). "
                "Give the same base_model, or start a new run with init_lora."
            )
        self.adapters.begin_at(state.get("starts", {}))
        self.adapters.load(state["adapters"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        for name, value in state["attributes"].items():
            setattr(self, name, value)

    def rewind(self) -> None:
        """Go back to the last good state and go on at half the learning rate; once.

        Raises:
            UserError: when that was done already.
        """
        if self.rate_lowered:
            raise UserError(
                f"cannot train '{self.run.name}' any further: the loss broke down again at half the learning rate. "
                f"Start anew with a learning_rate well below {self.config.learning_rate / 2:g}; what was saved before is good."
            )
        state = self.run.load_state()
        if state is None:
            raise RuntimeError("no state to go back to")
        self._restore(state)
        self.stopped_early, self.rate_lowered = False, True
        self.scheduler.base_lrs = [rate / 2 for rate in self.scheduler.base_lrs]
        for group in self.optimizer.param_groups:
            group["initial_lr"] /= 2
            group["lr"] /= 2
        self.scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]
        self.save_state()

    # -- init_lora -----------------------------------------------------------------------------------------------------

    def _read_initial(self) -> dict[str, dict[str, torch.Tensor]]:
        """The tensors to go on from; ranks and alphas are the file's from here on, also in the run's config file."""
        tensors = self.trainee.read(Path(self.config.init_lora))
        self.run.write_config(self.config)
        return tensors

    def _load_initial(self, tensors: dict[str, dict[str, torch.Tensor]]) -> None:
        missing = set(self.adapters.targets) - set(tensors)
        extra = set(tensors) - set(self.adapters.targets)
        if missing or extra:
            name = sorted(missing or extra)[0]
            which = "lacks" if missing else "has"
            raise UserError(
                f"cannot go on from '{self.config.init_lora}': it {which} the layer {name}, which does not fit these options. "
                "Choose the network options it was trained with (text encoder, convolutions, include, exclude)."
            )
        try:
            self.adapters.load(tensors)
        except (RuntimeError, KeyError) as error:
            raise UserError(
                f"cannot go on from '{self.config.init_lora}': it does not fit this model and these options ({error})."
            ) from error


_SAVED_ATTRIBUTES = (
    "step",
    "epoch",
    "index",
    "average",
    "mean_loss",
    "best",
    "not_improved",
    "judged_step",
    "graded_step",
    "scores",
    "followed_up",
    "stopped_early",
    "rate_lowered",
    "started_at",
    "session_id",
)
