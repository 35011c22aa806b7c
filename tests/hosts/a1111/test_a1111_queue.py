"""What the host relies on in the WebUI's queue, held by the stand-in of these tests and, where its folder is named, by its own classes."""

import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import pytest
from hotlora.hosts.shared.turns import Turns
from hotlora.hosts.webui.queue import QueueLock, find_queue_lock
from hotlora.hosts.webui.sampling import _globals_kept
from real_webui import load_module, needs_folder
from waiting import wait_until
from webui import FairLock, State

BOTH = ["stand-in", pytest.param("real", marks=needs_folder)]


@pytest.fixture
def modules(monkeypatch):
    """What the WebUI's modules import from each other, with nothing behind it."""
    package = ModuleType("modules")
    for name in ("shared", "progress", "errors", "devices", "fifo_lock", "profiling"):
        setattr(package, name, SimpleNamespace())
        monkeypatch.setitem(sys.modules, f"modules.{name}", getattr(package, name))
    monkeypatch.setitem(sys.modules, "modules", package)
    package.devices.torch_gc = lambda: None
    return package


@pytest.fixture(params=BOTH)
def lock(request, modules):
    return FairLock() if request.param == "stand-in" else load_module("fifo_lock").FIFOLock()


def start(count, work):
    """So many threads, each begun when the one before waits or is through."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
        yield thread


def test_it_is_taken_once_and_says_so(lock):
    assert lock.acquire() is True
    assert lock.acquire(blocking=False) is False and not lock._pending_threads
    assert QueueLock(lock).locked() and QueueLock(lock).waiting == 0
    lock.release()
    assert not QueueLock(lock).locked()
    assert lock.acquire(False) is True
    lock.release()
    with lock:
        assert lock._lock.locked()
    assert not lock._lock.locked()
    with pytest.raises(RuntimeError):
        lock.release()


def test_an_error_inside_lets_go_of_it(lock):
    with pytest.raises(ZeroDivisionError), QueueLock(lock):
        1 / 0  # noqa: B018
    assert not lock._lock.locked()


def test_who_came_first_is_woken_first(lock):
    order, watched = [], QueueLock(lock)

    def wait(number):
        with lock:
            order.append(number)
            time.sleep(0.02)

    with watched:
        threads = []
        for thread in start(4, wait):
            threads.append(thread)
            wait_until(lambda: watched.waiting == len(threads))
        assert order == []
    for thread in threads:
        thread.join(30)
    assert order == [0, 1, 2, 3] and watched.waiting == 0 and not watched.locked()


def test_whoever_is_woken_is_counted_no_more_though_the_lock_may_be_taken_before_they_are_awake(lock):
    """Why a run must let others go first."""
    watched, through = QueueLock(lock), threading.Event()
    lock.acquire()
    thread = threading.Thread(target=lambda: (lock.acquire(), through.set(), lock.release()))
    thread.start()
    wait_until(lambda: watched.waiting == 1)
    lock.release()
    assert watched.waiting == 0
    assert through.wait(30)
    thread.join(30)
    assert not watched.locked()


def test_people_have_it_between_turns_however_eagerly_a_run_asks(lock):
    watched = QueueLock(lock)
    turns, waited, count = Turns(lambda: watched), [], 0

    def draw():
        for _ in range(5):
            began = count
            with lock:
                waited.append(count - began)
            time.sleep(0.02)

    people = [threading.Thread(target=draw) for _ in range(2)]
    for person in people:
        person.start()
    while any(person.is_alive() for person in people):
        with turns.take():
            until = time.monotonic() + 0.2
            while time.monotonic() < until and not turns.somebody_waits():
                time.sleep(0.001)
            count += 1
    assert len(waited) == 10 and max(waited) <= 2, waited


def test_who_was_woken_and_found_it_taken_is_seen(lock):
    """They stand in no queue any more, and wait within it."""
    turns = Turns(lambda: QueueLock(lock))
    with turns.take():
        late = threading.Thread(target=lambda: lock._lock.acquire())
        late.start()
        wait_until(turns.somebody_waits)
    late.join(30)
    assert lock._lock.locked() and not turns.somebody_waits()
    lock.release()
    assert QueueLock(lock).locked() is False


def test_the_turn_belongs_to_one_thread(lock):
    turns = Turns(lambda: QueueLock(lock))
    with pytest.raises(RuntimeError):
        turns.check_is_mine()
    refused = []

    def ask():
        try:
            turns.check_is_mine()
        except RuntimeError as error:
            refused.append(error)

    with turns.take():
        turns.check_is_mine()
        other = threading.Thread(target=ask)
        other.start()
        other.join(30)
    assert len(refused) == 1


@pytest.fixture(params=BOTH)
def state(request, modules):
    return State() if request.param == "stand-in" else load_module("shared_state").State()


def test_a_sample_puts_back_the_state_that_a_picture_changes(state):
    state.job, state.interrupted = "a person's", True
    before = dict(vars(state))
    shared = SimpleNamespace(state=state, cmd_opts=SimpleNamespace(no_prompt_history=False), total_tqdm=SimpleNamespace(clear=lambda: None))
    with _globals_kept(shared):
        state.begin(job="hotlora sample")
        assert state.job == "hotlora sample" and state.job_count == -1
        assert not (state.interrupted or state.skipped or state.stopping_generation)
        assert vars(state) != before
    assert vars(state) == before
    assert state.job == "a person's" and state.interrupted


@needs_folder
def test_the_webuis_own_queue_is_that_lock(modules):
    """Pictures, the page's and the API's, wait for it."""
    modules.fifo_lock = load_module("fifo_lock")
    modules.call_queue = load_module("call_queue")
    sys.modules["modules.call_queue"] = modules.call_queue  # the fixture puts "modules" back, and with it all below
    try:
        turns, drawn = Turns(find_queue_lock), threading.Event()
        draw = modules.call_queue.wrap_queued_call(lambda: find_queue_lock().locked() and drawn.set())
        with turns.take():
            thread = threading.Thread(target=draw)
            thread.start()
            wait_until(turns.somebody_waits)
            assert not drawn.is_set()
        assert drawn.wait(30)
        thread.join(30)
        assert not find_queue_lock().locked() and not turns.somebody_waits()
    finally:
        del sys.modules["modules.call_queue"]
