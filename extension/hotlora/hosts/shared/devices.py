"""Where a model computes, and in what precision: the same answer for every host. Must not import any library of models."""

import contextlib
import warnings
from collections.abc import Callable, Iterator

import torch

from ...engine.errors import UserError
from ...engine.launch import count_launched, place_here
from ...engine.plurals import counted

_DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_FIRST_WITH_BF16 = (8, 0)  # compute capability: from the RTX 30 series on; older cards only imitate it, slowly
_NO_HALF = "GTX 16"  # whose fp16 gives pictures that are no numbers


def choose_device(wanted: str = "") -> torch.device:
    """The one that is wanted, or else the fastest that is there; of several processes, each its own.

    Raises:
        UserError: when it is not there, or there are fewer than processes.
    """
    if wanted:
        return _take(wanted)
    found = _find_kind()
    return torch.device(found) if found == "cpu" or count_launched() == 1 else _choose_card(found)


def _find_kind() -> str:
    """The fastest that is there."""
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "xpu" if hasattr(torch, "xpu") and torch.xpu.is_available() else "cpu"


def _take(wanted: str) -> torch.device:
    check_device(wanted)
    if count_launched() > 1:
        raise UserError(f"cannot train on '{wanted}' in several processes: each has a card of its own. Leave train_device empty.")
    device = torch.device(wanted)
    if device.index is not None:
        getattr(torch, device.type).set_device(device.index)  # for libraries that ask for no more than "cuda"
    return device


def check_device(wanted: str) -> None:
    """Raise UserError where there is none that PyTorch calls so."""
    there = [*list_devices(), "cpu"]
    if wanted not in there:
        raise UserError(
            f"cannot train on '{wanted}': here there is {', '.join(there)}. Set train_device to one of these, or leave it empty."
        )


def list_devices() -> dict[str, str]:
    """The graphics cards that this program sees: what PyTorch calls each -> its name."""
    kind = _find_kind()
    if kind in ("cpu", "mps"):
        return {} if kind == "cpu" else {"mps": "Apple"}
    module = getattr(torch, kind)
    return {f"{kind}:{index}": module.get_device_name(index) for index in range(module.device_count())}


def offer_devices(find_own: Callable[[], torch.device] | None = None) -> list[str]:
    """The cards to choose from beside a program's own, each with its name behind it; none where there is no second one."""
    there = list_devices()
    if len(there) < 2:
        return []
    own = find_own() if find_own else None
    mine = f"{own.type}:{own.index or 0}" if own else ""
    return [f"{device} ({name})" for device, name in there.items() if device != mine]


def _choose_card(kind: str) -> torch.device:
    place, processes = place_here()
    cards = 1 if kind == "mps" else getattr(torch, kind).device_count()
    if processes > cards:
        raise UserError(
            f"cannot train in {processes} processes on this computer: it has {counted(cards, 'GPU')}, and each needs one. "
            f"Start {cards} (--nproc_per_node {cards})."
        )
    if kind != "mps":
        getattr(torch, kind).set_device(place)  # for libraries that ask for no more than "cuda"
    return torch.device(kind, place)


def choose_dtype(mixed_precision: str, device: torch.device) -> torch.dtype:
    """Precision of the base model and its arithmetic.

    Raises:
        UserError: when the device cannot do it.
    """
    if mixed_precision == "auto":
        return _choose_best(device)
    dtype = _DTYPES[mixed_precision]
    if dtype == torch.float32 or can_compute(device, dtype):
        return dtype
    where = f"a processor with torch {torch.__version__}" if device.type == "cpu" else f"this device ({device.type})"
    instead = "no (or bf16)" if dtype == torch.float16 and can_compute(device, torch.bfloat16) else "no"
    raise UserError(f"cannot train with mixed_precision {mixed_precision} on {where}: it does not compute in that. Set it to {instead}.")


def _choose_best(device: torch.device) -> torch.dtype:
    """bf16 on cards that are made for it, fp16 on older ones; fp32 elsewhere, where half precision is not known to be faster."""
    if device.type != "cuda":
        return torch.float32
    if torch.version.hip:
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if torch.cuda.get_device_capability(device) >= _FIRST_WITH_BF16:
        return torch.bfloat16
    return torch.float32 if _NO_HALF in torch.cuda.get_device_name(device) else torch.float16


def can_compute(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether mixed precision works there: autocast in this version of torch, and for fp16 a scaler of gradients."""
    if dtype == torch.float16 and device.type == "cpu" and not hasattr(torch.amp, "GradScaler"):
        return False
    value = torch.ones(2, 2, device=device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # some versions warn, and compute in fp32
            with torch.autocast(device.type, dtype):
                return (value @ value).dtype == dtype
    except (RuntimeError, UserWarning):
        return False


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[None]:
    """Arithmetic in ``dtype``: adapters are fp32 among weights that may not be."""
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


@contextlib.contextmanager
def random_numbers_kept(device: torch.device) -> Iterator[None]:
    """Whatever is drawn inside, torch's random numbers go on afterwards as if nothing had been."""
    cuda = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        yield
