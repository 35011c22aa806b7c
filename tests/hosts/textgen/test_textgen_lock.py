"""What the host relies on in text-generation-webui's generation lock: that it is a plain lock, read anew at each use."""

import re
import threading
from pathlib import Path

import pytest
from hotlora.hosts.textgen.lock import WatchedLock
from real_textgen import FOLDER, needs_folder
from waiting import wait_until


@pytest.fixture(params=["plain", "watched"])
def lock(request):
    """The lock that the program makes, and the same with our count of who waits."""
    inner = threading.Lock()
    return inner if request.param == "plain" else WatchedLock(inner)


def test_the_watched_lock_does_what_a_plain_one_does(lock):
    assert lock.acquire() is True and lock.locked()
    assert lock.acquire(blocking=False) is False
    assert lock.acquire(False) is False
    assert lock.acquire(timeout=0.01) is False
    lock.release()
    assert not lock.locked()
    with lock as taken:
        assert taken is True and lock.locked()
    assert not lock.locked()
    with pytest.raises(ZeroDivisionError), lock:
        1 / 0  # noqa: B018
    assert not lock.locked()
    with pytest.raises(RuntimeError):
        lock.release()


def test_another_thread_may_release_it(lock):
    """The program does: an answer that is stopped is closed by whoever collects it."""
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join(30)
    assert not lock.locked()


def test_who_holds_the_inner_lock_holds_the_watched_one():
    inner = threading.Lock()
    watched = WatchedLock(inner)
    inner.acquire()
    waiter = threading.Thread(target=lambda: watched.acquire() and watched.release())
    waiter.start()
    wait_until(lambda: watched.waiting == 1)
    inner.release()
    waiter.join(30)
    assert watched.waiting == 0 and not inner.locked()


def read_sources():
    return {
        path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8")
        for path in [*Path(FOLDER).glob("modules/*.py"), Path(FOLDER) / "server.py"]
    }


@needs_folder
def test_the_program_makes_a_plain_lock_and_only_takes_and_releases_it():
    """So ours may be put before it at any time, and is taken by whoever comes next."""
    used = set()
    for name, source in read_sources().items():
        assert not re.search(r"import .*generation_lock|=\s*shared\.generation_lock\b", source), f"{name} keeps the lock"
        used |= set(re.findall(r"shared\.generation_lock\.(\w+)", source))
    assert used == {"acquire", "release"}
    server = read_sources()["server.py"]
    assert "shared.generation_lock = Lock()" in server and re.search(r"from threading import .*\bLock\b", server)


@needs_folder
@pytest.mark.parametrize("name", ["text_generation", "logits"])
def test_answers_and_logits_take_it(name):
    assert "shared.generation_lock.acquire()" in read_sources()[f"modules/{name}.py"]
