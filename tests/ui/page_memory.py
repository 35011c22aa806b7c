"""What the page keeps in memory, whatever else runs in the process."""

import contextlib
import gc
import tracemalloc

_DEPTH = 4  # frames: more take minutes


@contextlib.contextmanager
def measuring_page():
    """Gives a function that tells how many bytes are held that code of ``hotlora/ui`` has asked for since."""
    tracemalloc.start(_DEPTH)

    def held() -> int:
        gc.collect()
        snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/hotlora/ui/*", all_frames=True)])
        return sum(trace.size for trace in snapshot.traces)

    try:
        yield held
    finally:
        tracemalloc.stop()
