"""How much memory a run takes, on whatever device it is."""

import sys

import psutil
import torch

_NEARLY_NOTHING = 0.04
_WORDS = ("out of memory", "can't allocate memory", "not enough memory")  # CUDA and MPS; torch on Linux; on Windows


def forget_peak(device: torch.device) -> None:
    """What was allocated before is nobody's peak any more: it may have been a picture's."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def memory_in_use(device: torch.device) -> int:
    """Bytes: the peak of tensors allocated since the last :func:`forget_peak` on a device with its own memory, else the resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.current_allocated_memory()
    return psutil.Process().memory_info().rss


def is_nearly_full(device: torch.device) -> bool:
    """Whether nearly nothing of a device's own memory is free, for anybody; never where the CPU has the same memory."""
    if device.type != "cuda":
        return False
    free, total = torch.cuda.mem_get_info(device)
    return free < _NEARLY_NOTHING * total


def peak_resident_bytes() -> int:
    """The most memory this process has had, on whatever system."""
    of_windows = getattr(psutil.Process().memory_info(), "peak_wset", None)
    if of_windows is not None:
        return int(of_windows)
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def release_cached_memory(device: torch.device) -> None:
    """Give unused blocks back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def release_all_cached_memory() -> None:
    """Of whatever devices there are."""
    for kind in ("cuda", "mps"):
        if (torch.cuda if kind == "cuda" else torch.backends.mps).is_available():
            release_cached_memory(torch.device(kind))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the computer ran out: CUDA and Python have a type for it, others only words."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)
