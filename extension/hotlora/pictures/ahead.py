"""Reading pictures in threads while those before them are encoded: else a card waits for each, because scaling a large picture down takes
longer than encoding it. Must not import any host."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_THREADS = 4

Item = TypeVar("Item")
Read = TypeVar("Read")


def read_ahead(read: Callable[[Item], Read], items: Iterable[Item]) -> Iterator[Read]:
    """What ``read`` makes of each, in their order; at most four are read before they are asked for. What it raises comes in its place."""
    pool, begun = ThreadPoolExecutor(_THREADS, "hotlora pictures"), deque[Future[Read]]()
    try:
        for item in items:
            begun.append(pool.submit(read, item))
            if len(begun) > _THREADS:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
