"""The adapters of a run as files for other programs."""

import glob
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from .interfaces import Adapters
from .session import Session


def write_usable(session: Session, path: Path, change: Callable[[Adapters], Adapters] = lambda adapters: adapters) -> Path:
    """The adapters as they are judged and previewed.

    Args:
        change: what is written in their place.

    Raises:
        Diverged: where their numbers are none that one could use. Nothing is written then.
    """
    with session.weights.usable():
        session.refuse_bad_weights()
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
        return session.trainee.write(change(session.adapters), path, notes)


def forget_old_checkpoints(session: Session) -> None:
    """Remove all but the newest, where the options say how many are kept."""
    keep = session.config.keep_last
    for path in session.run.checkpoint_paths()[:-keep] if keep else []:
        if path.is_dir():
            shutil.rmtree(path)
            continue
        for companion in path.parent.glob(f"{glob.escape(path.stem)}.*"):
            companion.unlink()
