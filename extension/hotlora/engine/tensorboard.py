"""TensorBoard as a reader of a run's events: scalars and samples in the run folder's ``logs/``."""

from pathlib import Path
from typing import Any

from .events import Event, Graded, Previewed, Started, Step, Validated
from .job import Job

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


class TensorBoard:
    """Call it with every event. Raises ImportError where TensorBoard is not installed."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        self._writer_class, self._folder = SummaryWriter, folder
        self._writer: Any = None
        self._step = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._open(event.step + 1 if event.step else 0)
        elif self._writer is None:
            return  # nothing to show has happened yet
        elif isinstance(event, Step):
            if event.step <= self._step:  # training has gone back
                self._open(event.step)
            self._step = event.step
            for name in ("loss", "average", "learning_rate", "gradient_norm"):
                self._writer.add_scalar(f"train/{name}", getattr(event, name), event.step)
        elif isinstance(event, Validated):
            for name, value in {"loss": event.loss, **event.scores}.items():
                self._writer.add_scalar(f"validation/{name}", value, event.step)
        elif isinstance(event, Graded):
            for name, value in event.scores.items():
                self._writer.add_scalar(f"{event.what}/{name}".replace(" ", "_"), value, event.step)
        elif isinstance(event, Previewed):
            self._add_sample(event)

    def _open(self, first_step: int) -> None:
        """Write from that step on: what is computed again replaces the points of before."""
        self.close()
        self._writer, self._step = self._writer_class(str(self._folder), purge_step=first_step), max(first_step - 1, 0)

    def _add_sample(self, event: Previewed) -> None:
        path = Path(event.path)
        if path.suffix in _PICTURES:
            import numpy
            from PIL import Image

            with Image.open(path) as picture:
                self._writer.add_image(event.prompt[:80] or "sample", numpy.asarray(picture.convert("RGB")), event.step, dataformats="HWC")
        else:
            self._writer.add_text(event.prompt[:80], path.read_text(encoding="utf-8"), event.step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


def add_tensorboard(job: Job) -> TensorBoard | None:
    """Let TensorBoard read the run, where that is wanted and installed; to be closed afterwards."""
    if not job.config.tensorboard:
        return None
    try:
        reader = TensorBoard(job.run.tensorboard)
    except ImportError:
        return None
    except Exception as error:  # it is there but cannot be loaded, such as with a protobuf of another age
        job.run.log(f"TensorBoard cannot be used: {error}")
        return None
    job.subscribe(reader)
    return reader


def work_with_tensorboard(job: Job) -> None:
    """Carry the job out, with such a reader."""
    tensorboard = add_tensorboard(job)
    try:
        job.work()
    finally:
        if tensorboard:
            tensorboard.close()
