"""``hotlora questions``: questions and answers about documents, written by a run file's model. Exit codes as of ``hotlora train``."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ..engine.events import Event, Preparing
from ..engine.options import build
from ..engine.places import clean_place
from ..engine.recipe import read_options
from ..llm.questions.folder import KEPT, OPEN, PROPOSED, tally
from ..llm.questions.job import QuestionJob, QuestionPlan
from ..llm.questions.settings import QuestionSettings
from ..tasks import TEXTS
from .drawing import carry_out


def run(options: argparse.Namespace) -> int:
    """Write what is missing; returns the exit code. Raises UserError for what is wrong before the model is loaded."""
    config: Any = read_options({TEXTS.name: TEXTS.config_class}, options.config, options.set)
    TEXTS.check_model(config)
    pairs = [pair.partition("=") for pair in options.ask]
    settings = build(QuestionSettings, {key.strip(): value for key, _, value in pairs})
    documents = Path(clean_place(str(options.documents), "--documents"))
    folder = Path(clean_place(str(options.folder), "--folder", written=True))
    job = QuestionJob(TEXTS.make_host(), config, QuestionPlan(documents, folder, settings, config.sample_seed))
    for problem in job.problems:
        print(f"note: {problem}", flush=True)
    job.subscribe(_Teller(job))
    outcome = carry_out(job)
    for reason, count in tally(job.outcomes).items():
        print(f"dropped: {reason}: {count}", file=sys.stderr)
    if isinstance(outcome, int):
        return outcome
    if outcome.reason == "stopped":
        print("stopped; the same command goes on from there")
        return 0
    print(f"{job.store.count()[OPEN]} wait for review in {folder / PROPOSED}. Only what is accepted is learned: review them on the page,")
    print('or write "accepted": true into the rows that are good.')
    return 0


class _Teller:
    """Says each question that was asked."""

    def __init__(self, job: QuestionJob):
        self._job, self._told = job, job.count_asked()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Preparing) and event.done > self._told:
            self._told = event.done
            usable = sum(outcome == KEPT for outcome in self._job.outcomes.values())
            print(f"{event.done} of {event.total}: {usable} usable", flush=True)
