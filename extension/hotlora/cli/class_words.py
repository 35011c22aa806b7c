"""``hotlora class``: regularisation pictures of a class word, drawn by the stand-alone host's sampler. Exit codes as of
``hotlora train``."""

import argparse
from pathlib import Path

from ..engine.places import clean_place
from ..engine.plurals import counted
from ..engine.recipe import read_options
from ..pictures.class_pictures import ClassJob, ClassPlan
from ..tasks import IMAGES
from .drawing import carry_out


def run(options: argparse.Namespace) -> int:
    """Draw what is missing; returns the exit code. Raises UserError for what is wrong before drawing starts."""
    config = read_options({IMAGES.name: IMAGES.config_class}, options.config, options.set)
    IMAGES.check_model(config)
    folder = Path(clean_place(str(options.folder), "--folder", written=True))
    seed = config.sample_seed if options.seed is None else options.seed
    job = ClassJob(IMAGES.make_host(), config, ClassPlan(folder, tuple(options.words), options.count, seed))
    outcome = carry_out(job)
    if isinstance(outcome, int):
        return outcome
    if outcome.reason == "stopped":
        print("stopped; the same command goes on from there")
        return 0
    print(f"{folder} holds {counted(options.count, 'picture')} with captions. Set reg_data_dir to it, or make it an entry of datasets.")
    return 0
