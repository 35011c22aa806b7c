"""The training loop: from a borrowed model to a saved adapter, as a generator of events.

It reads from top to bottom. Between any two events the model may go back to its host: the work is cut into pieces at
its ``yield``s, and :func:`through_turns` runs the pieces turn by turn.
"""

import contextlib
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from .config import RunConfig
from .control import Control, Newest
from .curves import plot_loss
from .errors import ModelAway, UserError
from .events import Event, Finished, Graded, Paused, Preparing, Previewed, Saved, Started, Validated, Warned
from .interfaces import Grading, Preview, Previewing, PreviewRequest, Trainee, Validating
from .session import Diverged, Session


def train(trainee: Trainee, config: RunConfig, control: Control) -> Iterator[Event]:
    """Train and save; resumes where the run's folder holds a state.

    Closing the generator gives the model back at once and writes nothing more; ``control.stop()`` saves first.

    Raises:
        ModelAway: when the host holds another model now; the state is saved.
        UserError: for what the user can mend: bad data, a full disk, memory that does not suffice, a diverging run.
    """
    with contextlib.closing(through_turns(control, _prepare(trainee), contextlib.nullcontext)) as preparation:
        for event in preparation:
            yield event
            if control.stopping:
                yield Finished(step=0, reason="stopped", files={})
                return
    with control.turn():
        session = Session(trainee, config, control.run)
    control.newest = Newest(lambda: session.step, lambda path: _write_usable(session, path), session.shown)
    try:
        yield from through_turns(control, _run(session, control), session.attached, session.save_state)
    finally:
        control.newest = None


def through_turns(
    control: Control, work: Iterator[Event], context: Callable[[], Any], before_pause: Callable[[], None] | None = None
) -> Iterator[Event]:
    """Advance ``work`` inside turns; give the model back between two of its events when the turn is over."""
    with contextlib.closing(work):
        while True:
            if control.paused:
                if before_pause:
                    before_pause()
                yield Paused()
            with contextlib.ExitStack() as turn:
                try:
                    turn.enter_context(control.turn())
                except ModelAway:  # keep what was learned since the last state, to resume from
                    if before_pause:
                        before_pause()
                    raise
                turn.enter_context(context())
                for event in work:
                    yield event
                    if control.turn_over():
                        break
                else:
                    return


def _prepare(trainee: Trainee) -> Iterator[Event]:
    for progress in trainee.prepare():
        yield Preparing(progress.what, progress.done, progress.total)
    for message in trainee.warnings():
        yield Warned(message)


def _run(session: Session, control: Control) -> Iterator[Event]:
    yield Started(
        name=session.run.adapter_name,
        step=session.step,
        total_steps=session.plan.total_steps,
        steps_per_epoch=session.plan.steps_per_epoch,
        trainable_parameters=sum(p.numel() for p in session.parameters),
        summary=session.trainee.summary(),
    )
    if not session.resumed:
        session.save_state()
        yield from _test(session)
    if not session.position.followed_up:  # the state was saved when the model went away right after a step
        yield from _follow_up(session, control)
    while not (session.done or control.stopping):
        try:
            yield session.train_step()
        except Diverged as problem:
            session.rewind()
            yield Warned(f"Training broke down ({problem}): back to step {session.step}, at half the learning rate.")
            continue
        while session.warnings:
            yield Warned(session.warnings.pop(0))
        yield from _follow_up(session, control)
    yield from _finish(session, control)


def _follow_up(session: Session, control: Control) -> Iterator[Event]:
    """What is due after a step: judging, samples, saving."""
    config = session.config
    if session.judgement.judged_step != session.step and _is_due(
        session, config.validation_every_steps, 0 if config.validation_every_steps else 1
    ):
        yield from _validate(session, control)
        yield from _test(session)
    if control.take_sample_wish() or _is_due(session, config.sample_every_steps, config.sample_every_epochs):
        yield from _preview(session)
    save = control.take_save_wish() or _is_due(session, config.save_steps, config.save_epochs)
    if save:
        yield _save(session, control, f"step{session.step:08d}", "checkpoint")
        _forget_old_checkpoints(session)
    session.position.followed_up = True
    if save or session.state_is_due():
        session.save_state()


def _is_due(session: Session, every_steps: int, every_epochs: int) -> bool:
    by_steps = every_steps and session.step % every_steps == 0
    by_epochs = every_epochs and session.position.at_epoch_end and session.position.epoch % every_epochs == 0
    return bool(by_steps or by_epochs)


def _validate(session: Session, control: Control) -> Iterator[Event]:
    """Loss on the kept-back examples, with the weights that would be saved."""
    trainee = session.trainee
    batches = trainee.validation_batches() if isinstance(trainee, Validating) else ()
    if not batches:
        return
    total = count = 0.0
    with session.usable_weights():
        for batch in batches:
            with torch.no_grad():
                loss = trainee.validation_loss(batch)
            total, count = total + loss.total.item(), count + loss.count
        mean = total / count
        scores = dict(trainee.describe_validation(mean)) if isinstance(trainee, Grading) else {}
        session.judgement.scores |= {"validation loss": mean, **scores}
        best = session.judge(mean)
        if best:
            path = _write(session, session.run.best_path)
    yield Validated(session.step, mean, best, scores)
    if best:
        control.host.publish(path)
        yield Saved(session.step, "best", str(path))


def _test(session: Session) -> Iterator[Event]:
    """Questions answered with the weights that would be saved, one by one, so that the host gets its model in between."""
    trainee = session.trainee
    if not isinstance(trainee, Grading):
        return
    questions, scores = trainee.questions(), {}
    for place, question in enumerate(questions):
        with session.usable_weights(), torch.no_grad():
            for name, score in trainee.grade(question).items():
                scores.setdefault(name, []).append(score)
        yield Preparing("answering questions", place + 1, len(questions))
    session.judgement.graded_step = session.step
    if questions:
        means = {name: sum(values) / len(values) for name, values in scores.items()}
        session.judgement.scores |= {f"{name} ({trainee.what_is_asked()})": mean for name, mean in means.items()}
        yield Graded(session.step, trainee.what_is_asked(), len(questions), means)


def _preview(session: Session) -> Iterator[Event]:
    trainee = session.trainee
    if not isinstance(trainee, Previewing):
        return
    for number, request in enumerate(trainee.preview_requests()):
        try:
            preview = _make_preview(session, trainee, request)
        except UserError:
            raise
        except Exception as error:  # a sample that fails must not end the training
            session.run.log(traceback.format_exc())
            yield Warned(f"The sample of '{request.prompt}' failed ({error}); training goes on. Details are in {session.run.log_path}.")
            continue
        path = preview.save(session.run.samples / f"step{session.step:08d}-{number:02d}")
        yield Previewed(session.step, request.prompt, request.weight, request.seed, str(path))


def _make_preview(session: Session, trainee: Previewing, request: PreviewRequest) -> Preview:
    with session.usable_weights(request.weight), torch.no_grad():
        return trainee.preview(request)


def _save(session: Session, control: Control, label: str, kind: str) -> Saved:
    path = _write_usable(session, session.run.checkpoint_path(label))
    control.host.publish(path)
    return Saved(session.step, kind, str(path))


def _write_usable(session: Session, path: Path) -> Path:
    with session.usable_weights():
        return _write(session, path)


def _write(session: Session, path: Path) -> Path:
    """The adapters as they stand, as a file for other programs."""
    notes = {
        "step": session.step,
        "epoch": session.position.epoch,
        "total_steps": session.plan.total_steps,
        "steps_per_epoch": session.plan.steps_per_epoch,
        "started_at": session.beginning.started_at,
        "finished_at": time.time(),
        "session_id": session.beginning.session_id,
        "optimizer": session.optimizer_name,
        "loss": session.losses.smoothed(session.step),
        "scores": dict(session.judgement.scores),
    }
    return session.trainee.write(session.adapters, path, notes)


def _forget_old_checkpoints(session: Session) -> None:
    keep = session.config.keep_last
    for path in session.run.checkpoint_paths()[:-keep] if keep else []:
        if path.is_dir():
            shutil.rmtree(path)
            continue
        for companion in path.parent.glob(f"{path.stem}.*"):
            companion.unlink()


def _finish(session: Session, control: Control) -> Iterator[Event]:
    """Write the finished adapter; after a completed run also the comparison and the plot."""
    session.save_state()
    run, files, judgement = session.run, {}, session.judgement
    early = judgement.best if judgement.stopped_early else None
    reason = "early stopping" if early else "done" if session.done else "stopped"
    with session.best_weights() if early else contextlib.nullcontext():
        if reason != "stopped" and (early or judgement.graded_step != session.step):
            yield from _test(session)
        path = _write_usable(session, run.final_path)
        control.host.publish(path)
        files["lora"] = str(path)
        yield Saved(early["step"] if early else session.step, "final", str(path))
        if reason != "stopped":
            yield from _compare(session, files)
            if "cover" in files:
                control.host.publish(path)  # once more, with its cover
    if plot_loss(run.events.read(), run.folder / "loss.png"):
        files["loss"] = str(run.folder / "loss.png")
    yield Finished(session.step, reason, files)


def _compare(session: Session, files: dict[str, str]) -> Iterator[Event]:
    """The same prompts and seeds at every weight, side by side."""
    trainee, rows, weights = session.trainee, [], session.config.sheet_weights
    requests = trainee.preview_requests() if isinstance(trainee, Previewing) else ()
    for request in requests:
        row = []
        for weight in weights:
            wanted = PreviewRequest(request.prompt, request.seed, float(weight))
            try:
                row.append((wanted, _make_preview(session, trainee, wanted)))
            except Exception as error:
                session.run.log(traceback.format_exc())
                yield Warned(f"The comparison sheet failed ({error}); the LoRA itself is saved. Details are in {session.run.log_path}.")
                return
            yield Preparing("comparison sheet", len(rows) * len(weights) + len(row), len(weights) * len(requests))
        rows.append(row)
    if rows and weights:
        files |= {what: str(path) for what, path in trainee.write_comparison(rows, session.run).items()}
