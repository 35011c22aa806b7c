"""The training loop: from a borrowed model to a saved adapter, as a generator of events.

It reads from top to bottom. Between any two events the model may go back to its host: the work is cut into pieces at
its ``yield``s, and :func:`through_turns` runs the pieces turn by turn.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any

from .config import RunConfig
from .control import Control, Newest
from .curves import plot_loss
from .errors import ModelAway, UserError
from .events import Event, Finished, Paused, Preparing, Saved, Started, Warned
from .interfaces import Sharing, Trainee
from .looking import compare, draw_beside, grade, preview, validate
from .precision import name_precision
from .processes import ALONE, Processes
from .session import Diverged, Session
from .shrinking import shrink
from .writing import forget_old_checkpoints, write_usable


def train(trainee: Trainee, config: RunConfig, control: Control, processes: Processes = ALONE) -> Generator[Event, None, None]:
    """Train and save; resumes where the run's folder holds a state. This is the first of its processes; see ``following`` for the others.

    Closing the generator gives the model back at once and writes nothing more; ``control.stop()`` saves first.

    Raises:
        ModelAway: when the host holds another model now; the state is saved.
        UserError: for what the user can mend: bad data, a full disk, memory that does not suffice, a diverging run.
    """
    with contextlib.closing(through_turns(control, prepare(trainee, processes), contextlib.nullcontext)) as preparation:
        for event in preparation:
            yield event
            if control.stopping:
                yield Finished(step=0, reason="stopped", files={})
                return
    with control.turn():
        session = Session(trainee, config, control.run, processes)
    processes.hand_out(session.state)
    control.newest = Newest(lambda: session.step, lambda path: write_usable(session, path), session.shown)
    try:
        yield from through_turns(control, _run(session, control, processes), session.attached, session.save_state)
    finally:
        control.newest = None


def through_turns(
    control: Control, work: Generator[Event, None, None], context: Callable[[], Any], before_pause: Callable[[], None] | None = None
) -> Generator[Event, None, None]:
    """Advance ``work`` inside turns; give the model back between two of its events when the turn is over."""
    with contextlib.closing(work):
        while True:
            if control.paused:
                if before_pause:
                    before_pause()
                if not control.freeing:  # which is said once it is done
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


def prepare(trainee: Trainee, processes: Processes) -> Generator[Event, None, None]:
    """The trainee's data, and what is to be said of them. Raises UserError where another process has other data, or another model."""
    if isinstance(trainee, Sharing):
        trainee.processes = processes
    for progress in trainee.prepare():
        yield Preparing(progress.what, progress.done, progress.total)
    processes.require_same(
        {
            "base model": trainee.fingerprint,
            "training data": trainee.data_fingerprint,
            "kind of device": trainee.device.type,
            "precision": name_precision(trainee.compute_dtype),
        }
    )
    for message in trainee.warnings():
        yield Warned(message)


def _run(session: Session, control: Control, processes: Processes) -> Generator[Event, None, None]:
    yield Started(
        name=session.run.adapter_name,
        step=session.step,
        total_steps=session.plan.total_steps,
        steps_per_epoch=session.plan.steps_per_epoch,
        trainable_parameters=sum(p.numel() for p in session.parameters),
        summary=session.trainee.summary(),
    )
    while session.warnings:
        yield Warned(session.warnings.pop(0))
    if session.resumed and session.step >= session.plan.total_steps:
        reached = f"Step {session.step} is reached already, and the run ends at {session.plan.total_steps}"
        yield Warned(f"{reached}: nothing is trained. Raise max_steps, or epochs, to go on.")
    if not session.resumed:
        session.save_state()
        yield from grade(session, control)
    while True:
        try:
            yield from _train_on(session, control)
            yield from _finish(session, control)
            return
        except Diverged as problem:
            refuse_bad_model(session, problem)
            session.rewind()
            processes.hand_out(session.state)
            yield Warned(f"Training broke down ({problem}): back to step {session.step}, at half the learning rate.")


def refuse_bad_model(session: Session, problem: Diverged) -> None:
    """Raise UserError where a run broke down before anything was learned: no learning rate is to blame then."""
    if session.step == 0 and not session.config.init_lora:
        raise UserError(
            f"cannot train on '{session.config.base_model}': it gives no usable numbers before anything is learned ({problem}). "
            "Get its file again, set mixed_precision: no, or choose another base_model."
        ) from problem


def _train_on(session: Session, control: Control) -> Iterator[Event]:
    """Steps, and what is due after each. Raises Diverged before anything bad is written."""
    if not session.position.followed_up:  # the state was saved when the model went away right after a step
        yield from _follow_up(session, control)
    while not (session.done or control.stopping):
        yield session.train_step()
        while session.warnings:
            yield Warned(session.warnings.pop(0))
        yield from _follow_up(session, control)


def _follow_up(session: Session, control: Control) -> Iterator[Event]:
    """What is due after a step: judging, samples, saving. A run that is told to stop leaves the rest of it for after resuming."""
    config, judgement = session.config, session.judgement
    every_epochs = 0 if config.validation_every_steps else 1
    if judgement.judged_step != session.step and _is_due(session, config.validation_every_steps, every_epochs):
        if not (yield from validate(session, control)):
            return
        if not (yield from grade(session, control)):
            return
    asked = control.take_sample_wish()
    due = _is_due(session, config.sample_every_steps, config.sample_every_epochs)
    if (asked or due) and not (yield from preview(session, control, asked)):
        return
    save = control.take_save_wish() or _is_due(session, config.save_steps, config.save_epochs)
    if save:
        path = write_usable(session, session.run.checkpoint_path(f"step{session.step:08d}"))
        control.host.publish(path)
        yield Saved(session.step, "checkpoint", str(path))
        forget_old_checkpoints(session)
    session.position.followed_up = True
    if save or session.state_is_due():
        session.save_state()
    if plan := control.take_grid_wish():
        yield from draw_beside(session, control, plan)


def _is_due(session: Session, every_steps: int, every_epochs: int) -> bool:
    by_steps = every_steps and session.step % every_steps == 0
    by_epochs = every_epochs and session.position.at_epoch_end and session.position.epoch % every_epochs == 0
    return bool(by_steps or by_epochs)


def _finish(session: Session, control: Control) -> Iterator[Event]:
    """Write the finished adapter; after a completed run also the comparison and the plot."""
    session.save_state()
    run, judgement = session.run, session.judgement
    files: dict[str, str] = {}
    early = judgement.best if judgement.stopped_early else None
    reason = "early stopping" if early else "done" if session.done else "stopped"
    with session.best_weights() if early else contextlib.nullcontext():
        if reason != "stopped" and (early or judgement.graded_step != session.step):
            yield from grade(session, control)
        path = write_usable(session, run.final_path)
        control.host.publish(path)
        files["lora"] = str(path)
        yield Saved(early["step"] if early else session.step, "final", str(path))
        if reason != "stopped":
            if session.config.auto_rank:
                yield from shrink(session, control, files)
            yield from compare(session, control, files)
            if "cover" in files:
                control.host.publish(path)  # once more, with its cover
    if plan := control.take_grid_wish():
        yield from draw_beside(session, control, plan)
    if plot_loss(run.events.read(), run.folder / "loss.png"):
        files["loss"] = str(run.folder / "loss.png")
    yield Finished(session.step, reason, files)
