"""Searching a run's settings by the loss on kept-back examples: many short runs on one model, chosen and cut short by Optuna.

The model is borrowed and the data prepared once. Each trial is an ordinary run in a folder of its own; which trials there are lies in
``search.journal``, which several processes may share, and from which a search goes on.
"""

import contextlib
import hashlib
import os
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from .config import RunConfig
from .control import Control
from .errors import UserError
from .events import Event, Tried
from .files import write_text
from .interfaces import Host
from .options import as_plain, build
from .plan import Plan, Position
from .run import LOCK_NAME, Run
from .search_plan import settled_options
from .search_report import REPEATS, Row, Verdict, conclude, find_best, is_worth_a_look, write_table
from .search_space import ALPHA, Range, Space, as_options, next_guess
from .trials import CUT_SHORT, INTERRUPTED, TRIED_AGAIN, Limits, ResidentHost, Trial, Watch, unchanged

JUDGEMENTS = 5  # of a trial, the last within so many steps of its end
_LIGHT = {  # a trial makes nothing that nobody looks at
    **{"sample_every_steps": 0, "sample_every_epochs": 0, "sheet_weights": [], "save_steps": 0, "save_epochs": 0},
    **{"tensorboard": False, "early_stopping_patience": 0, "validation_every_steps": 0},
}
_MOST_FAILURES = 8  # one after the other; more settings do not go together only by a mistake
_STALE_SECONDS = 60  # for a trial to get its folder
BEST_NAME, TABLE_NAME, PLOT_NAME = "best.yaml", "trials.md", "search.png"
_WORDS = {"COMPLETE": "done", "PRUNED": "cut short", "FAIL": "failed", "RUNNING": "running"}


def load_optuna() -> None:
    """In a thread of its own: what its import keeps of exceptions would keep whoever imports it, and the model with them."""
    thread = threading.Thread(target=import_module, args=("optuna",), name="hotlora optuna")
    thread.start()
    thread.join()


class Search:
    """All trials of one search.

    Args:
        config: of the run whose settings are searched.
        folder: of the search; made where it is not there.
        space: what may change, see :mod:`.search_space`.
        pruner: which runs are cut short: those below the "median" of the others, or by "hyperband".
        tell: called with a Tried event when a trial begins and when it has ended, and with what interrupts it.
    """

    def __init__(
        self, config: RunConfig, folder: Path, space: Space, *, pruner: str = "median", tell: Callable[[Event], None] = lambda event: None
    ):
        self.config, self.folder, self.space, self._tell = config, folder, space, tell
        self._values = {key: getattr(config, key) for key in config.given} | {"lora_rank": config.lora_rank}
        folder.mkdir(parents=True, exist_ok=True)
        self._claim = FileLock(folder / "search.lock")
        self._pruner = pruner
        self._every = 0

    def prepare(self, host: Host) -> None:
        """Borrow the model and prepare the data, once for all trials; for hosts that nobody else uses. Raises UserError."""
        trainee = host.borrow(self.config)
        for _ in trainee.prepare():
            pass
        self.begin(host, trainee)

    def begin(self, host: Host, trainee: Any) -> None:
        """Use this model with its data, prepared, for all trials.

        Raises:
            UserError: where nothing is kept back to judge by, and where the folder holds a search for something else.
        """
        if not trainee.validation_batches():
            raise UserError("cannot search: no example is kept back to judge by. Raise validation_split, or set validation_dir.")
        self._first = trainee
        self._host = ResidentHost(host, trainee)
        total = Plan(trainee, self.config, Position()).total_steps
        self._every = max(total // JUDGEMENTS, 1)
        self._study = self._open_study(total)

    def _open_study(self, total: int) -> Any:
        load_optuna()
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruners = optuna.pruners
        pruner = (
            pruners.MedianPruner(n_startup_trials=REPEATS + 1, n_warmup_steps=self._every)
            if self._pruner == "median"
            else pruners.HyperbandPruner(min_resource=self._every, max_resource=total)
        )
        path = str(self.folder / "search.journal")
        lock = JournalFileOpenLock(path) if os.name == "nt" else None  # its usual one is a link, which Windows makes for few
        backend = JournalFileBackend(path, lock_obj=lock)
        with self._claim:
            study = optuna.create_study(
                storage=optuna.storages.JournalStorage(backend),
                study_name="search",
                load_if_exists=True,
                pruner=pruner,
                direction="minimize",
            )
            mine = repr(sorted(settled_options(self.config).items())) + self._first.data_fingerprint
            mark = hashlib.sha256((mine + repr(self.space) + self._first.fingerprint).encode()).hexdigest()
            if study.user_attrs.setdefault("of", mark) != mark:
                raise UserError(
                    f"cannot go on with the search in '{self.folder}': it was for other options, data or values. Choose another name."
                )
            study.set_user_attr("of", mark)
        return study

    # -- trials --------------------------------------------------------------------------------------------------------

    def work(self, limits: Limits, control: Control | None = None) -> None:
        """Trials until there is nothing more to do or time is over.

        Args:
            control: of the work that this is a part of, in a program that others use; trials stop and pause with it. Without one the
                model is afterwards held against what it was, bit for bit.

        Raises:
            ModelAway: when the host holds another model now.
            UserError: where trial after trial fails.
        """
        failures = 0
        with contextlib.nullcontext() if control else unchanged(self._first.modules):
            while not (control and control.stopping) and (claimed := self._claim_next(limits)):
                why = self._try(*claimed, limits, control)
                failures = failures + 1 if why and why not in (CUT_SHORT, *TRIED_AGAIN) else 0
                if failures == _MOST_FAILURES:
                    told = f"cannot go on searching in '{self.folder}': {failures} trials in a row have failed."
                    raise UserError(f"{told} Mend what the last one says: {why}")

    def _claim_next(self, limits: Limits) -> tuple[Any, dict[str, Any]] | None:
        """The next trial and what it sets, marked as this process's; None where there is none."""
        with self._claim:
            self.mend()
            rows = self.rows()
            found = self._choose_kind(rows, limits)
            if found is None:
                return None
            kind, of = found
            if kind == "search":
                self._enqueue_guess(rows)
            trial = self._study.ask()
            chosen: dict[str, Any] = self._draw(trial) if kind == "search" else {}
            if of is not None:
                chosen = of.chosen
            seed = self.config.seed if kind == "search" else self._find_fresh_seed(rows, kind, of)
            plain = {"kind": kind, "chosen": chosen, "seed": seed, "of": None if of is None else of.number}
            for name, value in plain.items():
                trial.set_user_attr(name, value)
            return trial, {**self._as_options(chosen), "seed": seed}

    def _enqueue_guess(self, rows: Sequence[Row]) -> None:
        from optuna.trial import TrialState

        guess = next_guess(self.config, self.space, [row.chosen for row in rows if row.kind == "search"])
        if guess and not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.enqueue_trial(guess)

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
        if best is None or len(given) < REPEATS or not is_worth_a_look(best, sum(given) / len(given)):
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

    def _try(self, trial: Any, options: dict[str, Any], limits: Limits, control: Control | None) -> str:
        """One run. What it comes to is told to Optuna, also where it fails; returns why there is no loss."""
        began, folder, watch, job = time.monotonic(), self._folder_of(trial.number), None, None
        light = _LIGHT | ({"test_answers": 0} if hasattr(self.config, "test_answers") else {})
        values = {**self._values, **light, **options, "auto_rank": False, "validation_every_steps": self._every}
        values |= {"output_dir": str(folder), "output_name": "", "base_model": self.config.base_model}
        self._tell(Tried(asdict(self._row(trial.number, trial.user_attrs, "running"))))
        try:
            config = build(type(self.config), values)
            job = Trial(self._host, config, Run.start(config), control)
            watch = Watch(trial, job, limits, self._tell)
            job.subscribe(watch)
            why = watch.explain_end(job, job.work(), is_stopped=bool(control and control.stopping))
        except UserError as error:  # these settings do not go together
            why = str(error)
        except BaseException:
            self._end(trial, began, watch, INTERRUPTED)
            raise
        self._end(trial, began, watch, why)
        if job and job.away:
            raise job.away
        return why

    def _end(self, trial: Any, began: float, watch: Watch | None, why: str) -> None:
        from optuna.trial import TrialState

        state = TrialState.PRUNED if why == CUT_SHORT else TrialState.FAIL if why else TrialState.COMPLETE
        told = {"seconds": time.monotonic() - began, "parameters": watch.parameters if watch else 0, "why": why}
        for name, value in told.items():
            trial.set_user_attr(name, value)
        loss = watch.loss if watch and not why else None
        self._study.tell(trial, loss, state=state)
        if why in TRIED_AGAIN and trial.params:
            self._study.enqueue_trial(trial.params)
        self._tell(Tried(asdict(self._row(trial.number, {**trial.user_attrs, **told}, _WORDS[state.name], loss))))
        self._tidy()

    def mend(self) -> None:
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
        rows = []
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state.name in _WORDS and "kind" in trial.user_attrs:
                loss = trial.value if trial.state.name == "COMPLETE" else None
                rows.append(self._row(trial.number, trial.user_attrs, _WORDS[trial.state.name], loss))
        return rows

    @staticmethod
    def _row(number: int, told: Mapping[str, Any], state: str, loss: float | None = None) -> Row:
        numbers = {"parameters": told.get("parameters", 0), "seconds": told.get("seconds", 0.0), "why": told.get("why", "")}
        return Row(number, told["kind"], told["chosen"], state, loss, of=told["of"], seed=told["seed"], **numbers)

    def conclude(self) -> tuple[Verdict, dict[str, Any]]:
        """What was found, and the options that it would change."""
        verdict = conclude(self.rows())
        return verdict, self._as_options(verdict.proposal.chosen) if verdict.proposal else {}

    def report(self, *, plot: bool = True) -> list[str]:
        """Table, plot, best settings and verdict, as files in the folder and as lines for people.

        Args:
            plot: not in a program that others use: what draws it has one style for the whole process.
        """
        table = write_table(self.rows())
        verdict, chosen = self.conclude()
        write_text(self.folder / TABLE_NAME, "\n".join([*table, "", verdict.words, ""]))
        comment = [verdict.words, f"Gain {verdict.gain:.5f}; noise {verdict.noise:.5f}; chance makes up to {verdict.margin:.5f}."]
        model = {"base_model": self.config.base_model} if self.config.base_model else {}
        best = build(type(self.config), {**self._values, **model, **chosen})
        plain = yaml.safe_dump(as_plain(best), sort_keys=False, allow_unicode=True)
        write_text(self.folder / BEST_NAME, "".join(f"# {line}\n" for line in comment) + plain)
        return [*table, "", *([self._plot()] if plot else []), f"The proposed run file is {self.folder / BEST_NAME}.", verdict.words]

    def _plot(self) -> str:
        """Optuna's own picture, where matplotlib is there to draw it."""
        path = self.folder / PLOT_NAME
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
