"""What is done with the weights that would be saved, beside training: validation, graded answers, samples, the comparison.

Each is a generator of events, at whose yields the model may go back to its host; each ends early, returning False, when the run is told
to stop, and is then done after resuming.
"""

import time
import traceback
from collections.abc import Generator, Sequence
from typing import Any

import torch

from .control import Control
from .drawing import draw_grid
from .errors import ModelAway, UserError
from .events import Event, Graded, Preparing, Previewed, Saved, Validated, Warned
from .grid import GridPlan
from .interfaces import Grading, Preview, Previewing, PreviewRequest, Validating
from .session import Session
from .writing import write_usable

Work = Generator[Event, None, bool]  # returns whether it was done to its end


def validate(session: Session, control: Control) -> Work:
    """Loss on the kept-back examples."""
    trainee = session.trainee
    if not isinstance(trainee, Validating):
        return True
    batches = trainee.validation_batches()
    total = count = 0.0
    for place, batch in enumerate(batches):
        if control.stopping:
            return False
        with session.weights.usable(), torch.no_grad():
            loss = trainee.validation_loss(batch)
        total, count = total + loss.total.item(), count + loss.count
        if place + 1 < len(batches):
            yield Preparing("validating", place + 1, len(batches))
    if count:
        yield from _judge(session, control, total / count)
    return True


def _judge(session: Session, control: Control, loss: float) -> Generator[Event, None, None]:
    scores = dict(session.trainee.describe_validation(loss)) if isinstance(session.trainee, Grading) else {}
    session.judgement.scores |= {"validation loss": loss, **scores}
    best = session.judge(loss)
    path = write_usable(session, session.run.best_path) if best else None
    yield Validated(session.step, loss, best, scores)
    if path:
        control.host.publish(path)
        yield Saved(session.step, "best", str(path))


def grade(session: Session, control: Control) -> Work:
    """Questions answered and graded, one by one; as many as their share of the run's time allows."""
    trainee, judgement = session.trainee, session.judgement
    if not isinstance(trainee, Grading):
        return True
    every = trainee.questions()
    questions = every if judgement.questions is None else spread(every, judgement.questions)
    scores: dict[str, list[float]] = {}
    done = 0
    while done < len(questions):
        if control.stopping:
            return False
        began = time.monotonic()
        with session.weights.usable(), torch.no_grad():
            for name, score in trainee.grade(questions[done]).items():
                scores.setdefault(name, []).append(score)
        done += 1
        if judgement.questions is None:
            judgement.questions = _how_many(session, trainee.grading_share, len(every), time.monotonic() - began)
            questions = spread(every, max(judgement.questions, 1))
            if judgement.questions < len(every):
                yield Warned(_explain_fewer(judgement.questions, len(every)))
        yield Preparing("answering questions", done, len(questions))
    judgement.graded_step = session.step
    if questions:
        what = trainee.what_is_asked()
        means = {name: sum(values) / len(values) for name, values in scores.items()}
        judgement.scores |= {f"{name} ({what})": mean for name, mean in means.items()}
        yield Graded(session.step, what, len(questions), means)
    return True


def spread(questions: Sequence[Any], count: int) -> list[Any]:
    """So many of them, evenly over all; the first is always the first."""
    count = min(count, len(questions))
    return [questions[place * len(questions) // count] for place in range(count)]


def _how_many(session: Session, share: float, count: int, seconds_each: float) -> int:
    """How many questions to ask each time, so that all times together take at most that share of the run's time."""
    if share >= 1:
        return count
    config, plan = session.config, session.plan
    every = config.validation_every_steps or plan.steps_per_epoch
    times = 2 + plan.total_steps // every  # before, with each validation, at the end
    allowed = share * plan.total_steps * session.time_step() / times
    return min(count, int(allowed / max(seconds_each, 1e-9)))


def _explain_fewer(count: int, wanted: int) -> str:
    asked = f"{count} of {wanted} questions are" if count else "no more questions are"
    return f"Test answers take long on this machine: {asked} asked each time. Set test_answers_share: 1 to ask all of them."


def preview(session: Session, control: Control, asked: bool = False) -> Work:
    """Samples, as the options ask for; ``asked``: somebody has just pressed for them, and is told where there are none."""
    trainee = session.trainee
    if not isinstance(trainee, Previewing):
        return True
    requests = trainee.preview_requests()
    if asked and not requests:
        yield Warned("There is nothing to sample: the run has no sample_prompts.")
    for number, request in enumerate(requests):
        if control.stopping:
            return False
        try:
            made = _make_preview(session, trainee, request)
        except UserError:
            raise
        except Exception as error:  # a sample that fails must not end the training
            session.run.log(traceback.format_exc())
            yield Warned(f"The sample of '{request.prompt}' failed ({error}); training goes on. Details are in {session.run.log_path}.")
            continue
        path = made.save(session.run.samples / f"step{session.step:08d}-{number:02d}")
        yield Previewed(session.step, request.prompt, request.weight, request.seed, str(path))
    return True


def _make_preview(session: Session, trainee: Previewing, request: PreviewRequest) -> Preview:
    with session.weights.usable(request.weight), torch.no_grad():
        return trainee.preview(request)


def draw_beside(session: Session, control: Control, plan: GridPlan) -> Generator[Event, None, None]:
    """The grid that somebody has asked for, from files, while the run itself rests."""
    try:
        yield from draw_grid(session.trainee, session.config, control, plan, session.adapters.detached)
    except ModelAway:
        raise
    except Exception as error:  # as with samples
        if not isinstance(error, UserError):
            session.run.log(traceback.format_exc())
        yield Warned(f"The grid failed ({error}); training goes on.")


def compare(session: Session, control: Control, files: dict[str, str]) -> Generator[Event, None, None]:
    """The same prompts and seeds at every weight, side by side; what was made is added to ``files``."""
    trainee, weights = session.trainee, session.config.sheet_weights
    if not (isinstance(trainee, Previewing) and weights):
        return
    requests = trainee.preview_requests()
    rows: list[list[tuple[PreviewRequest, Preview]]] = []
    for request in requests:
        rows.append([])
        for weight in weights:
            if control.stopping:
                return
            wanted = PreviewRequest(request.prompt, request.seed, float(weight))
            try:
                rows[-1].append((wanted, _make_preview(session, trainee, wanted)))
            except Exception as error:
                session.run.log(traceback.format_exc())
                yield Warned(f"The comparison sheet failed ({error}); the LoRA itself is saved. Details are in {session.run.log_path}.")
                return
            yield Preparing("comparison sheet", sum(map(len, rows)), len(weights) * len(requests))
    if rows:
        files |= {what: str(path) for what, path in trainee.write_comparison(rows, session.run).items()}
