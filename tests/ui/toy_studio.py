"""A studio over the toy host, for pages and HTTP tests."""

import time
from pathlib import Path

from bench_runs import append, make_runs
from hotlora.engine.events import Finished, Graded, Previewed
from hotlora.engine.examples import DataView, Example
from hotlora.engine.interfaces import Progress
from hotlora.engine.jobs import Jobs
from hotlora.sd.config import ImageConfig
from hotlora.tasks import IMAGES
from hotlora.ui.studio import Studio
from PIL import Image
from toy import SearchedToy, ToyHost, ToyTrainee


class SlowToy(SearchedToy):
    """Slow enough to be watched."""

    def loss(self, batch, draws):
        time.sleep(0.02)
        return super().loss(batch, draws)


class Preparer(ToyTrainee):
    """Prepares for very long, a little at a time."""

    def prepare(self):
        for number in range(100_000):
            time.sleep(0.005)
            yield Progress("looking", number, 100_000)


def look(config) -> DataView:
    example = Example("a.png", "<script>boom()</script> a cat", problem="cannot be read")
    return DataView(3, [example], [("pictures", "3")], ["One of them is broken."])


def toy_studio(folder: Path, **options) -> Studio:
    return Studio(
        jobs=Jobs(lambda: ToyHost(SlowToy), folder / "runs", ImageConfig),
        look_at=look,
        datasets=folder / "data",
        presets=folder / "presets",
        shipped_presets=IMAGES.presets,
        upload_suffixes=(".png", ".txt"),
        hides=("base_model",),
        **options,
    )


def make_three_runs(runs: Path) -> None:
    """Finished ones, the first with a picture and a grade."""
    make_runs(runs, 3, steps=20)
    folder = runs / "run 0000"
    Image.new("RGB", (512, 512), "orange").save(folder / "sample.png")
    graded = [Graded(20, "questions", 5, {"exact match": 0.6}), Previewed(20, "a cat", 1.0, 1, str(folder / "sample.png"))]
    append(folder / "events.jsonl", [*graded, Finished(20, "done", {})])
