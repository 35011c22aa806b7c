"""A run in training: its adapters, optimizer and position, and how to write all of that down and read it back.

One step is one method here; what happens around steps is the loop's.
"""

import contextlib
import dataclasses
import math
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from .adapters import AdapterSet
from .config import RunConfig
from .errors import UserError
from .events import Step, find_last_step
from .gradients import Gradients
from .initial import load_initial, read_initial
from .interfaces import Foreseeing, Trainee
from .judging import Judgement, LossRecord
from .memory import forget_peak, memory_in_use
from .optimizers import build_optimizer, build_scaler, build_scheduler, load_optimizer
from .options import as_plain
from .pace import Pace
from .plan import Plan, Position
from .precision import name_precision
from .processes import ALONE, Order, Processes
from .run import Run, describe_changes
from .state_check import check_best, check_optimizer, check_plain, check_values
from .weights import Weights

_FORESEEN_STEPS = 32

States = Sequence[tuple[str, dict[str, Any] | Exception]]  # as Run.read_states gives them


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
        processes: that take each step together.
        states: to go on from instead, as the run would read them.

    Raises:
        UserError: when the state belongs to another base model, or ``init_lora`` contradicts the options.
    """

    def __init__(self, trainee: Trainee, config: RunConfig, run: Run, processes: Processes = ALONE, *, states: States | None = None):
        self.trainee, self.config, self.run, self._processes = trainee, config, run, processes
        self.warnings: list[str] = list(config.notes)
        self.position, self.losses, self.judgement, self.beginning = Position(), LossRecord(), Judgement(), Beginning()
        states = list(run.read_states()) if states is None else states
        self.adapters = self._build_adapters(resumed=bool(states))
        self.parameters = self.adapters.parameters()
        self.optimizer, self.optimizer_name, warnings = build_optimizer(config, self.adapters.parameter_groups(), trainee.device)
        self.warnings += warnings
        self.rates = [group["lr"] for group in self.optimizer.param_groups]  # as the options say
        self.scaler = build_scaler(trainee.device, trainee.compute_dtype)
        self.weights = Weights(self.adapters, self.optimizer, config)
        self.gradients = Gradients(trainee, config, self.optimizer, self.scaler, self.warnings, processes)
        self.resumed = bool(states) or (run.is_reopened and run.has_results())
        if self.resumed:
            self._resume(states)
        self.plan = Plan(trainee, config, self.position)
        self.warnings += self.plan.notes
        self.scheduler = self._build_scheduler()
        self._state_saved_at = time.monotonic()
        self._pace = Pace(trainee.device)
        self._foreseen = range(0)  # steps that the trainee was told of

    def _build_adapters(self, *, resumed: bool) -> AdapterSet:
        """The adapters as the run begins with them, or as empty as a state can be loaded into."""
        initial = read_initial(self.trainee, self.config, self.run) if self.config.init_lora and not resumed else None
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
            load_initial(adapters, initial, self.config)
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
            forget_peak(self.trainee.device)
            yield

    def train_step(self) -> Step:
        """One optimizer step. Raises Diverged before anything was updated with bad numbers."""
        began = time.monotonic()
        rate = float(self.scheduler.get_last_lr()[0])
        self._processes.call(Order.STEP)
        self._foresee()
        loss, gradient_norm, weights_norm = self.gradients.of_step(self.plan.group(self.position), self.step)
        self._refuse_bad(loss, gradient_norm, weights_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        if self.config.max_norm:
            self.adapters.limit_norms(self.config.max_norm)
        self.weights.update_average()
        epochs_done = self.position.epoch + (self.position.index + 1) / self.plan.steps_in(self.position.epoch)
        self.plan.advance(self.position)
        self.losses.add(loss, self.step)
        seconds = time.monotonic() - began
        self.warnings += filter(None, (self._pace.note(seconds),))
        return Step(
            step=self.step,
            epoch=epochs_done,
            loss=loss,
            average=self.losses.smoothed(self.step),
            learning_rate=rate,
            gradient_norm=gradient_norm,
            seconds=seconds,
            memory_bytes=memory_in_use(self.trainee.device),
        )

    def _foresee(self) -> None:
        """Tell the trainee what comes, where it wants to know."""
        if isinstance(self.trainee, Foreseeing) and not self._foreseen.start <= self.step < self._foreseen.stop:
            groups = self.plan.upcoming(self.position, _FORESEEN_STEPS)
            self._foreseen = range(self.step, self.step + len(groups))
            self.trainee.foresee(
                [pair for step, group in zip(self._foreseen, groups, strict=True) for pair in self.gradients.arguments(group, step)]
            )

    def _refuse_bad(self, loss: float, gradient_norm: float, weights_norm: float) -> None:
        if not math.isfinite(weights_norm):
            self.gradients.drop()
            raise Diverged(f"the adapter's weights are no finite numbers after step {self.step}")
        bad_gradient = not math.isfinite(gradient_norm) and not self.scaler.is_enabled()  # fp16's scaler skips such steps itself
        lost_scale = self.scaler.is_enabled() and self.scaler.get_scale() < 1e-3
        exploded = self.losses.explodes(loss, self.step)
        if math.isfinite(loss) and not (bad_gradient or lost_scale or exploded):
            return
        self.gradients.drop()
        raise Diverged(f"loss {loss:.4g}, gradient norm {gradient_norm:.4g} at step {self.step + 1}")

    def time_step(self) -> float:
        """Seconds that a step takes, measured on the next one's gradients, which are thrown away."""
        began = time.monotonic()
        self._processes.call(Order.TIME)
        self.gradients.of_step(self.plan.group(self.position), self.step)
        self.gradients.drop()
        return time.monotonic() - began

    def refuse_bad_weights(self) -> None:
        """Before anything is written. Raises Diverged where the weights are no finite numbers."""
        if not self.weights.are_finite():
            raise Diverged(f"the adapter's weights are no finite numbers after step {self.step}")

    # -- judging -------------------------------------------------------------------------------------------------------

    def judge(self, loss: float) -> bool:
        """Take note of a validation loss; True when it is the best so far."""
        best = math.isfinite(loss) and self.judgement.is_best(loss)
        self.judgement.add(loss, self.step, self.adapters.tensors() if best else None, self.config.early_stopping_patience)
        return best

    def best_weights(self) -> contextlib.AbstractContextManager[None]:
        """The adapters as they were at the best validation."""
        assert self.judgement.best is not None, "nothing was judged yet"
        return self.weights.at_best(self.judgement.best["tensors"])

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """The model with the usable adapters in it, and otherwise as found. Only for whoever keeps the run from taking a turn
        meanwhile."""
        with self.weights.lock, self.adapters.attached(self.trainee.modules), self.weights.usable():
            yield

    # -- state ---------------------------------------------------------------------------------------------------------

    def state_is_due(self) -> bool:
        return time.monotonic() - self._state_saved_at > self.config.state_minutes * 60

    def save_state(self) -> None:
        """Write :meth:`state`. Raises Diverged where the numbers are none that one could go on with."""
        with self.weights.lock:
            self.refuse_bad_weights()
            self.run.save_state(self.state(), self.step)
        self._state_saved_at = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs to go on with the same numbers. Random numbers need nothing: they are
        a function of seed and step (see Draws). Nor does the schedule: it is a function of step and options."""
        return {
            "fingerprint": self.trainee.fingerprint,
            "data_fingerprint": self.trainee.data_fingerprint,
            "precision": name_precision(self.trainee.compute_dtype),
            "options": as_plain(self.config),
            "rates": self.rates,
            "adapters": self.adapters.tensors(),
            "starts": self.adapters.starts(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.weights.state(),
            "attributes": {name: value for part in self._parts() for name, value in vars(part).items()},
        }

    def _parts(self) -> tuple[Position, LossRecord, Judgement, Beginning]:
        """What a state holds as plain values."""
        return self.position, self.losses, self.judgement, self.beginning

    def _resume(self, states: States) -> None:
        """Go on from the newest state that is whole, and say what is different from then.

        Raises:
            UserError: when there is none: what the run has made is not replaced by a new start.
        """
        state = self._restore_newest(states)
        if state is None:
            results = [path for path in (self.run.final_path, *reversed(self.run.checkpoint_paths())) if path.exists()]
            advice = f"Start a new run with init_lora: '{results[0]}'." if results else "Start a new run, under another name."
            reason = "none of its saved states can be read" if states else "its saved state is gone"
            raise UserError(f"cannot resume '{self.run.name}': {reason}. {advice}")
        lost = find_last_step(self.run.events.path) - self.step
        if lost > 0:
            self.warnings.append(f"The last saved state is of step {self.step}: {lost} later steps were lost and are trained again.")
        self.warnings += describe_changes(state.get("options", {}), self.config, self.step)
        before, now = state.get("precision"), name_precision(self.trainee.compute_dtype)
        if before not in (None, now):
            self.warnings.append(f"From step {self.step + 1} on the base model computes in {now}, where it was {before}.")
        if state.get("rates", self.rates) != self.rates:
            self.losses.rate_lowered = False  # a rate of the user's own choice is taken at its word
        if state.get("data_fingerprint", self.trainee.data_fingerprint) != self.trainee.data_fingerprint:
            self._begin_new_epoch()

    def _restore_newest(self, states: States) -> dict[str, Any] | None:
        """The newest state that fits, restored; what is wrong with those before it is said."""
        for name, state in states:
            try:
                if isinstance(state, Exception):
                    raise state
                self._restore(state)
                return state
            except UserError:
                raise
            except Exception as error:
                self.run.log(f"{name} cannot be read ({type(error).__name__}: {error})")
                self.warnings.append(f"The saved state {name} is damaged; the one before it is taken.")
        return None

    def _restore(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self.trainee.fingerprint:
            raise UserError(
                f"cannot resume '{self.run.name}' on this base model: it was trained on another one (or the file has changed). "
                "Give the same base_model, or start a new run with init_lora."
            )
        self.adapters.begin_at(state.get("starts", {}))
        self.adapters.load(state["adapters"])
        check_plain([*state.get("options", {}).values(), *state.get("rates", []), state.get("data_fingerprint")])
        if state.get("options", {}).get("optimizer", self.config.optimizer) != self.config.optimizer:
            raise ValueError("it is another run's")
        check_optimizer(state["optimizer"], self.optimizer)
        load_optimizer(self.optimizer, state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        for part in self._parts():
            check_values(state["attributes"], part)
            for name in vars(part):
                setattr(part, name, state["attributes"].get(name, getattr(part, name)))  # some are younger than the state
        check_best(self.judgement.best, self.adapters.tensors())
        self.weights.load_state(state["ema"])
        if not self.weights.are_finite():
            raise ValueError("its weights are no finite numbers")

    def _begin_new_epoch(self) -> None:
        """The examples are others now, so this epoch's plan means nothing any more."""
        if self.position.index:
            self.position.epoch, self.position.index = self.position.epoch + 1, 0
        self.warnings.append(
            f"The training data has changed since step {self.step}: epoch {self.position.epoch + 1} begins now, with what is there."
        )

    def _build_scheduler(self) -> torch.optim.lr_scheduler.LRScheduler:
        """The schedule at the run's step: by the options as they are now, whatever they were when the run began."""
        factor = 0.5 if self.losses.rate_lowered else 1.0
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = group["initial_lr"] = rate * factor
        scheduler = build_scheduler(self.config, self.optimizer, self.plan.total_steps)
        scheduler.last_epoch = self.step
        if isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):  # else the optimizer chooses its rates by itself
            for group, rate, factor_at in zip(self.optimizer.param_groups, self.rates, scheduler.lr_lambdas, strict=True):
                group["lr"] = rate * factor * factor_at(self.step)
        scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]
        return scheduler

    def rewind(self) -> None:
        """Go back to the last good state and go on at half the learning rate; once.

        Raises:
            UserError: when that was done already, or there is no state to go back to.
        """
        if self.losses.rate_lowered:
            raise UserError(
                f"cannot train '{self.run.name}' any further: it broke down again at half the learning rate. "
                f"Start anew with a learning_rate well below {self.config.learning_rate / 2:g}; what was saved is from before that."
            )
        if self._restore_newest(list(self.run.read_states())) is None:
            raise UserError(
                f"cannot train '{self.run.name}' any further: it broke down, and there is no saved state to go back to. "
                f"Start anew with a learning_rate well below {self.config.learning_rate:g}."
            )
        self.judgement.stopped_early, self.losses.rate_lowered = False, True
        self.scheduler = self._build_scheduler()
        self.save_state()
