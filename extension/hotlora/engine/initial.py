"""Going on from a finished adapter (``init_lora``) instead of from no change."""

from pathlib import Path

import torch

from .adapters import AdapterSet
from .config import RunConfig
from .errors import UserError
from .interfaces import Keeping, Trainee
from .run import Run

Tensors = dict[str, dict[str, torch.Tensor]]  # exported name -> tensor name -> tensor, shaped as AdapterSet.tensors says


def read_initial(trainee: Trainee, config: RunConfig, run: Run) -> Tensors:
    """The tensors to go on from; ranks and alphas are the file's from here on, also in the run's config file."""
    tensors = trainee.read(Path(config.init_lora).expanduser())
    if isinstance(trainee, Keeping):
        trainee.keep(run.states)
    run.write_config(config)
    return tensors


def load_initial(adapters: AdapterSet, tensors: Tensors, config: RunConfig) -> None:
    """Put them into the adapters. Raises UserError where they are for other layers, or of another shape."""
    missing = set(adapters.targets) - set(tensors)
    extra = set(tensors) - set(adapters.targets)
    if missing or extra:
        name = sorted(missing or extra)[0]
        which = "lacks" if missing else "has"
        raise UserError(
            f"cannot go on from '{config.init_lora}': it {which} the layer {name}, which does not fit these options. "
            "Choose the options it was trained with: which parts of the model, and which of their layers."
        )
    try:
        adapters.load(tensors)
    except (RuntimeError, KeyError) as error:
        raise UserError(
            f"cannot go on from '{config.init_lora}': it does not fit this model and these options ({error}). "
            "Choose another init_lora, or the base_model and options it was trained with."
        ) from error
