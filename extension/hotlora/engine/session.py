"""A run in training: its adapters, optimizer and position, and how to write all of that down and read it back.

One step is one method here; what happens around steps is the loop's.
"""

import contextlib
import dataclasses
import math
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from .adapters import AdapterSet
from .config import RunConfig
from .errors import UserError
from .events import Step
from .gradients import Gradients
from .interfaces import Trainee
from .judging import Judgement, LossRecord
from .memory import memory_in_use
from .optimizers import build_optimizer, build_scaler, build_scheduler
from .plan import Plan, Position
from .run import Run


class Diverged(Exception):
    """The loss or the gradient is not a number, or the loss has exploded."""


@dataclass
class Beginning:
    """When a run began, for the file's metadata; a resumed one keeps it."""

    started_at: float = field(default_factory=time.time)  # seconds since 1970
    session_id: int = field(default_factory=lambda: uuid.uuid4().int % 2**32)


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
        self.warnings: list[str] = []
        state = run.load_state()
        self.adapters = self._build_adapters(resumed=state is not None)
        self.parameters = self.adapters.parameters()
        self.optimizer, self.optimizer_name, warnings = build_optimizer(config, self.adapters.parameter_groups(), trainee.device)
        self.warnings += warnings
        self.plan = Plan(trainee, config)
        self.scheduler = build_scheduler(config, self.optimizer, self.plan.total_steps)
        self.scaler = build_scaler(trainee.device, trainee.compute_dtype)
        self.ema = self._build_ema()
        self._set_optimizer_mode("train")
        self.gradients = Gradients(trainee, config, self.optimizer, self.scaler, self.warnings)
        self.position, self.losses, self.judgement, self.beginning = Position(), LossRecord(), Judgement(), Beginning()
        self._showing_best = False
        self._weights_lock = threading.RLock()  # the newest adapter is also written from outside (see Control.newest)
        self._state_saved_at = time.monotonic()
        self.resumed = state is not None
        if state:
            self._restore(state)

    def _build_adapters(self, *, resumed: bool) -> AdapterSet:
        """The adapters as the run begins with them, or as empty as a state can be loaded into."""
        initial = self._read_initial() if self.config.init_lora and not resumed else None
        choice = self.trainee.adapter_choice()
        if resumed:
            choice = dataclasses.replace(choice, start="default")
        adapters = AdapterSet(
            self.trainee.targets(),
            **asdict(choice),
            use_rslora=self.config.use_rslora,
            use_dora=self.config.use_dora,
            dropout=self.config.lora_dropout,
            seed=self.config.seed,
        )
        adapters.to(self.trainee.device)
        if initial:
            self._load_initial(adapters, initial)
        return adapters

    # -- position ------------------------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.position.step

    @property
    def done(self) -> bool:
        return self.step >= self.plan.total_steps or self.judgement.stopped_early

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
        rate = self.scheduler.get_last_lr()[0]
        loss, gradient_norm = self.gradients.of_step(self.plan.group(self.position), self.step)
        self._refuse_bad(loss, gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        if self.config.max_norm:
            self.adapters.limit_norms(self.config.max_norm)
        if self.ema is not None:
            self.ema.update_parameters(torch.nn.ParameterList(self.parameters))
        epochs_done = self.position.epoch + (self.position.index + 1) / self.plan.steps_in(self.position.epoch)
        self.plan.advance(self.position)
        self.losses.add(loss, self.step)
        return Step(
            step=self.step,
            epoch=epochs_done,
            loss=loss,
            average=self.losses.smoothed(self.step),
            learning_rate=rate,
            gradient_norm=gradient_norm,
            seconds=time.monotonic() - began,
            memory_bytes=memory_in_use(self.trainee.device),
        )

    def _refuse_bad(self, loss: float, gradient_norm: float) -> None:
        bad_gradient = not math.isfinite(gradient_norm) and not self.scaler.is_enabled()  # fp16's scaler skips such steps itself
        lost_scale = self.scaler.is_enabled() and self.scaler.get_scale() < 1e-3
        exploded = self.losses.explodes(loss, self.step)
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
        with self._weights_lock:
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
        with self._weights_lock, self.adapters.attached(self.trainee.modules), self.usable_weights():
            yield

    @torch.no_grad()
    def _overwrite(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    # -- judging -------------------------------------------------------------------------------------------------------

    def judge(self, loss: float) -> bool:
        """Take note of a validation loss; True when it is the best so far."""
        best = self.judgement.is_best(loss)
        self.judgement.add(loss, self.step, self.adapters.tensors() if best else None, self.config.early_stopping_patience)
        return best

    @contextlib.contextmanager
    def best_weights(self) -> Iterator[None]:
        """The adapters as they were at the best validation; averaged already, so :meth:`usable_weights` leaves them."""
        kept = self.adapters.tensors()
        assert self.judgement.best is not None, "nothing was judged yet"
        self.adapters.load(self.judgement.best["tensors"])
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
        with self._weights_lock:
            state = {
                "fingerprint": self.trainee.fingerprint,
                "adapters": self.adapters.tensors(),
                "starts": self.adapters.starts(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "scaler": self.scaler.state_dict(),
                "ema": self.ema.state_dict() if self.ema is not None else None,
                "attributes": {name: value for part in self._parts() for name, value in vars(part).items()},
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
        for part in self._parts():
            for name in vars(part):
                setattr(part, name, state["attributes"][name])

    def _parts(self) -> tuple[Position, LossRecord, Judgement, Beginning]:
        """What a state holds as plain values."""
        return self.position, self.losses, self.judgement, self.beginning

    def rewind(self) -> None:
        """Go back to the last good state and go on at half the learning rate; once.

        Raises:
            UserError: when that was done already.
        """
        if self.losses.rate_lowered:
            raise UserError(
                f"cannot train '{self.run.name}' any further: the loss broke down again at half the learning rate. "
                f"Start anew with a learning_rate well below {self.config.learning_rate / 2:g}; what was saved before is good."
            )
        state = self.run.load_state()
        if state is None:
            raise RuntimeError("no state to go back to")
        self._restore(state)
        self.judgement.stopped_early, self.losses.rate_lowered = False, True
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

    def _load_initial(self, adapters: AdapterSet, tensors: dict[str, dict[str, torch.Tensor]]) -> None:
        missing = set(adapters.targets) - set(tensors)
        extra = set(tensors) - set(adapters.targets)
        if missing or extra:
            name = sorted(missing or extra)[0]
            which = "lacks" if missing else "has"
            raise UserError(
                f"cannot go on from '{self.config.init_lora}': it {which} the layer {name}, which does not fit these options. "
                "Choose the network options it was trained with (text encoder, convolutions, include, exclude)."
            )
        try:
            adapters.load(tensors)
        except (RuntimeError, KeyError) as error:
            raise UserError(
                f"cannot go on from '{self.config.init_lora}': it does not fit this model and these options ({error})."
            ) from error
