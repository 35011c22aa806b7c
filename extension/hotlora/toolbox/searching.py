"""Searching a run's settings by the loss on kept-back examples: many short runs on one model, chosen and cut short by Optuna.

The model is loaded and the data prepared once. Each trial is an ordinary run in a folder of its own; which trials there are lies in
``search.journal``, which several processes may share, and from which a search goes on.
"""

import hashlib
import math
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ..engine.config import RunConfig
from ..engine.errors import UserError
from ..engine.events import Event, Failed, Started, Validated
from ..engine.files import write_text
from ..engine.interfaces import Host, Renewing, Trainee
from ..engine.job import Job
from ..engine.options import build
from ..engine.plan import Plan, Position
from ..engine.run import LOCK_NAME, Run
from .search_report import REPEATS, Row, conclude, find_best, write_table
from .search_space import ALPHA, Range, Space, as_options

JUDGEMENTS = 5  # of a trial, the last within so many steps of its end
_LIGHT = {  # a trial makes nothing that nobody looks at
    **{"sample_every_steps": 0, "sample_every_epochs": 0, "sheet_weights": [], "save_steps": 0, "save_epochs": 0},
    **{"tensorboard": False, "early_stopping_patience": 0, "validation_every_steps": 0},
}
_TIME_OVER, _INTERRUPTED = _TRIED_AGAIN = ("time was over", "interrupted")  # which says nothing about the settings
_STALE_SECONDS = 60  # for a trial to get its folder


class ResidentHost:
    """A host whose model, once borrowed, serves run after run with the same prepared data."""

    def __init__(self, host: Host, first: Renewing):
        self._host, self._first = host, first
        self.has_model, self.turn, self.wanted, self.publish = host.has_model, host.turn, host.wanted, host.publish

    def borrow(self, config: Any) -> Trainee:
        return self._first.renew(config)


@dataclass(frozen=True)
class Limits:
    """When a search ends. ``until``: by ``time.monotonic``; ``trials``: searched settings, those of earlier calls included."""

    until: float = math.inf
    trials: float = math.inf


class Watch:
    """Follows a trial's run: tells Optuna its losses, and stops it where it is hopeless or time is over."""

    def __init__(self, trial: Any, job: Job, until: float, *, may_prune: bool):
        self._trial, self._job, self._until, self._may_prune = trial, job, until, may_prune
        self.loss: float | None = None
        self.parameters = 0
        self.cut = ""  # why it was stopped

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self.parameters = event.trainable_parameters
        if isinstance(event, Validated):
            self.loss = event.loss
            self._trial.report(event.loss, event.step)
            if self._may_prune and (not math.isfinite(event.loss) or self._trial.should_prune()):
                self._stop("cut short")
        if time.monotonic() > self._until:
            self._stop(_TIME_OVER)

    def _stop(self, why: str) -> None:
        self.cut = self.cut or why
        self._job.control.stop()


class Search:
    """All trials of one search.

    Args:
        config: of the run whose settings are searched.
        folder: of the search; made where it is not there.
        space: what may change, see :mod:`.search_space`.
        pruner: which runs are cut short: those below the "median" of the others, or by "hyperband".
    """

    def __init__(self, config: RunConfig, folder: Path, space: Space, *, pruner: str = "median", say: Callable[[str], None] = print):
        self.config, self.folder, self.space, self._say = config, folder, space, say
        self._values = {key: getattr(config, key) for key in config.given} | {"lora_rank": config.lora_rank}
        folder.mkdir(parents=True, exist_ok=True)
        self._claim = FileLock(folder / "search.lock")
        self._pruner = pruner
        self._every = 0

    def prepare(self, host: Host) -> None:
        """Borrow the model and prepare the data, once for all trials. Raises UserError where nothing is kept back to judge by."""
        trainee: Any = host.borrow(self.config)
        for _ in trainee.prepare():
            pass
        if not trainee.validation_batches():
            raise UserError("cannot search: no example is kept back to judge by. Raise validation_split, or set validation_dir.")
        self._first = trainee
        self._host = ResidentHost(host, trainee)
        total = Plan(trainee, self.config, Position()).total_steps
        self._every = max(total // JUDGEMENTS, 1)
        self._study = self._open_study(total)

    def _open_study(self, total: int) -> Any:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruners = optuna.pruners
        pruner = (
            pruners.MedianPruner(n_startup_trials=REPEATS + 1, n_warmup_steps=self._every)
            if self._pruner == "median"
            else pruners.HyperbandPruner(min_resource=self._every, max_resource=total)
        )
        backend = JournalFileBackend(str(self.folder / "search.journal"))
        with self._claim:
            study = optuna.create_study(
                storage=optuna.storages.JournalStorage(backend),
                study_name="search",
                load_if_exists=True,
                pruner=pruner,
                direction="minimize",
            )
            mine = repr(sorted((key, str(value)) for key, value in self._values.items())) + self._first.data_fingerprint
            mark = hashlib.sha256((mine + repr(self.space) + self._first.fingerprint).encode()).hexdigest()
            if study.user_attrs.setdefault("of", mark) != mark:
                raise UserError(
                    f"cannot go on with the search in '{self.folder}': it was for other options, data or values. Choose another --output."
                )
            study.set_user_attr("of", mark)
        return study

    # -- trials --------------------------------------------------------------------------------------------------------

    def work(self, limits: Limits) -> None:
        """Trials until there is nothing more to do or time is over. The model is afterwards bit for bit as it was."""
        before = self._fingerprint_weights()
        try:
            while claimed := self._claim_next(limits):
                self._try(*claimed, limits)
        finally:
            if self._fingerprint_weights() != before:
                raise RuntimeError("the model's weights are no longer what they were before the search")

    def _fingerprint_weights(self) -> str:
        digest = hashlib.sha256()
        for module in self._first.modules:
            for tensor in module.state_dict().values():
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _claim_next(self, limits: Limits) -> tuple[Any, dict[str, Any]] | None:
        """The next trial and what it sets, marked as this process's; None where there is none."""
        with self._claim:
            self._mend()
            rows = self.rows()
            found = self._choose_kind(rows, limits)
            if found is None:
                return None
            kind, of = found
            trial = self._study.ask()
            chosen: dict[str, Any] = self._draw(trial) if kind == "search" else {}
            if of is not None:
                chosen = of.chosen
            seed = self.config.seed if kind == "search" else self._find_fresh_seed(rows, kind, of)
            plain = {"kind": kind, "chosen": chosen, "seed": seed, "of": None if of is None else of.number}
            for name, value in plain.items():
                trial.set_user_attr(name, value)
            return trial, {**self._as_options(chosen), "seed": seed}

    @staticmethod
    def _seeds(rows: Sequence[Row], kind: str, of: Row | None) -> set[int]:
        """Those at which it was, or is being, trained."""
        number = None if of is None else of.number
        return {row.seed for row in rows if row.kind == kind and row.of == number and (row.loss is not None or row.state == "running")}

    def _find_fresh_seed(self, rows: Sequence[Row], kind: str, of: Row | None) -> int:
        """That at which settings were chosen is not fresh for them."""
        seed, taken = self.config.seed + (of is not None), self._seeds(rows, kind, of)
        while seed in taken:
            seed += 1
        return seed

    def _choose_kind(self, rows: Sequence[Row], limits: Limits) -> tuple[str, Row | None] | None:
        """The config as given first, to know the noise; the best at fresh seeds last, for which time is kept."""
        from optuna.trial import TrialState

        left = limits.until - time.monotonic()
        each = max((row.seconds for row in rows if row.loss is not None), default=0.0)
        if left <= each:
            return None
        if self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):  # which the next one asked for would be
            return "search", None
        if len(self._seeds(rows, "as given", None)) < REPEATS:
            return "as given", None
        best = find_best(rows)
        searched = sum(row.kind == "search" and row.state != "failed" for row in rows)
        if searched < limits.trials and left > each + REPEATS * (best.seconds if best else each):
            return "search", None
        given = [row.loss for row in rows if row.kind == "as given" and row.loss is not None]
        if best is None or len(given) < REPEATS or (best.loss or 0.0) >= sum(given) / len(given):
            return None
        return ("repeat", best) if len(self._seeds(rows, "repeat", best)) < REPEATS else None

    def _draw(self, trial: Any) -> dict[str, Any]:
        chosen = {}
        for key, values in self.space.items():
            if isinstance(values, Range):
                chosen[key] = trial.suggest_float(key, values.low, values.high, log=True)
            else:
                chosen[key] = trial.suggest_categorical(key, list(values))
        return chosen

    def _as_options(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        return as_options({"lora_rank": self.config.lora_rank, **chosen}) if ALPHA in chosen else dict(chosen)

    def _try(self, trial: Any, options: dict[str, Any], limits: Limits) -> None:
        """One run. What it comes to is told to Optuna, also where it fails."""
        from optuna.trial import TrialState

        began, kind = time.monotonic(), trial.user_attrs["kind"]
        folder, watch, why = self._folder_of(trial.number), None, ""
        light = _LIGHT | ({"test_answers": 0} if hasattr(self.config, "test_answers") else {})
        values = {**self._values, **light, **options, "auto_rank": False, "validation_every_steps": self._every}
        values |= {"output_dir": str(folder), "output_name": ""}
        try:
            config = build(type(self.config), values)
            job = Job(self._host, config, Run.start(config))
            watch = Watch(trial, job, limits.until, may_prune=kind == "search")
            job.subscribe(watch)
            outcome = job.work()
            why = outcome.message if isinstance(outcome, Failed) else ""
        except UserError as error:  # these settings do not go together
            why = str(error)
        except BaseException:
            self._end(trial, TrialState.FAIL, began, watch, _INTERRUPTED)
            raise
        if watch and watch.cut == "cut short":
            self._end(trial, TrialState.PRUNED, began, watch, "cut short")
        elif why or watch is None or watch.cut or watch.loss is None or not math.isfinite(watch.loss):
            self._end(trial, TrialState.FAIL, began, watch, why or (watch.cut if watch else "") or "no loss")
        else:
            self._end(trial, TrialState.COMPLETE, began, watch, "")

    def _end(self, trial: Any, state: Any, began: float, watch: Watch | None, why: str) -> None:
        trial.set_user_attr("seconds", time.monotonic() - began)
        trial.set_user_attr("parameters", watch.parameters if watch else 0)
        trial.set_user_attr("why", why)
        complete = state.name == "COMPLETE" and watch
        self._study.tell(trial, watch.loss if complete and watch else None, state=state)
        if why in _TRIED_AGAIN and trial.params:
            self._study.enqueue_trial(trial.params)
        self._say(
            f"trial {trial.number} ({trial.user_attrs['kind']}): " + (f"kept-back loss {watch.loss:.5f}" if complete and watch else why)
        )
        self._tidy()

    def _mend(self) -> None:
        """Trials of processes that are gone have failed, and their settings are tried again."""
        from optuna.trial import TrialState

        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            lock, age = self._folder_of(trial.number) / LOCK_NAME, time.time() - trial.datetime_start.timestamp()
            if not lock.exists() and age < _STALE_SECONDS:
                continue
            if lock.exists():
                try:
                    with FileLock(lock, timeout=0):
                        pass
                except Timeout:
                    continue  # somebody trains there
            self._study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                self._study.enqueue_trial(trial.params)

    def _folder_of(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"

    def _tidy(self) -> None:
        """Only what did best keeps its LoRA; no trial keeps a state."""
        rows = self.rows()
        best = find_best(rows)
        for row in rows:
            run = Run(self._folder_of(row.number), f"{row.number:04d}", self.config.FILE_SUFFIX)
            if row.state == "running" or not run.folder.is_dir():
                continue
            for path in run.folder.iterdir():
                name = path.name
                result = name.startswith(f"{row.number:04d}") and not (best and row.number == best.number and path == run.final_path)
                if result or path in (run.states, run.checkpoints):
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    # -- what came out -------------------------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """All trials that were begun, in their order."""
        words = {"COMPLETE": "done", "PRUNED": "cut short", "FAIL": "failed", "RUNNING": "running"}
        rows = []
        for trial in self._study.get_trials(deepcopy=False):
            told = trial.user_attrs
            if trial.state.name not in words or "kind" not in told:
                continue
            loss = trial.value if trial.state.name == "COMPLETE" else None
            state = words[trial.state.name]
            numbers = {"parameters": told.get("parameters", 0), "seconds": told.get("seconds", 0.0)}
            rows.append(Row(trial.number, told["kind"], told["chosen"], state, loss, of=told["of"], seed=told["seed"], **numbers))
        return rows

    def report(self, write_best: Callable[[dict[str, Any], list[str]], str]) -> list[str]:
        """Table, plot, best settings and verdict, as files in the folder and as lines for people.

        Args:
            write_best: text of a run file, of these options with these lines of comment.
        """
        rows = self.rows()
        verdict, table = conclude(rows), write_table(rows)
        write_text(self.folder / "trials.md", "\n".join([*table, "", verdict.words, ""]))
        chosen = self._as_options(verdict.proposal.chosen) if verdict.proposal else {}
        comment = [verdict.words, f"Gain {verdict.gain:.5f}; noise {verdict.noise:.5f}; chance makes up to {verdict.margin:.5f}."]
        write_text(self.folder / "best.yaml", write_best({**self._values, **chosen}, comment))
        return [*table, "", self._plot(), f"The proposed run file is {self.folder / 'best.yaml'}.", verdict.words]

    def _plot(self) -> str:
        """Optuna's own picture, where matplotlib is there to draw it."""
        path = self.folder / "search.png"
        try:
            import matplotlib
            import optuna.visualization.matplotlib as drawing
        except ImportError:
            return "There is no plot: matplotlib is not installed."
        matplotlib.use("Agg")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this is an experiment of Optuna's
            figure: Any = drawing.plot_intermediate_values(self._study).figure
        figure.savefig(path)
        return f"The losses of all trials are drawn in {path}."
