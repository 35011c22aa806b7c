"""Killed at any operation on files and at any instant, as often as it may be: nothing is lost, and the run comes to the same end."""

import json
import os
import random
import sys

import pytest
import worlds
from forks import Forks
from tally import FULL, counting, scaled, spread
from transformers import __version__ as transformers_version

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills need fork, and a fork that libraries survive")
HAS_TEXT = tuple(int(part) for part in transformers_version.split(".")[:2]) >= (4, 40)
KINDS = [kind for kind in worlds.KINDS if HAS_TEXT or not kind.startswith("text")]
HOLDS = "resumed, it ends with the same files and numbers, bit for bit; what lies there at any instant is whole"
_AGAIN = 0.2  # chance that what was killed is killed again when it goes on


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return worlds.build_world(tmp_path_factory.mktemp("world"), text=HAS_TEXT)


@pytest.fixture(scope="module")
def forks(world, tmp_path_factory):
    server = Forks("worlds:warm_up", str(world), str(tmp_path_factory.mktemp("warm")), KINDS)
    yield server
    server.close()


@pytest.fixture(scope="module")
def whole(forks, world, tmp_path_factory):
    """kind -> (the folder of a run that nothing happens to, operations on files that it takes, seconds of its own work)."""
    made = {}

    def make(kind, act="die"):
        if (kind, act) not in made:
            folder = tmp_path_factory.mktemp("whole")
            worlds.write_options(world, kind, folder)
            code = forks.call("worlds:train", kind, str(folder), 0, act, log=folder / "log")
            assert code == 0, worlds.tail(folder / "log")
            made[kind, act] = folder, *json.loads((folder / "measured").read_text(encoding="utf-8"))
        return made[kind, act]

    return make


def finish(forks, kind, folder, rng=None):
    """Go on until it is done, killed again on the way now and then."""
    while rng and rng.random() < _AGAIN:
        forks.call("worlds:train", kind, str(folder), log=folder / "log", kill_after=rng.uniform(0.02, 1.0))
        worlds.check_published(folder)
    for left in folder.glob("cache/**/.*.tmp"):
        os.utime(left, (0, 0))  # other programs may write there: only what is a minute old goes
    code = forks.call("worlds:train", kind, str(folder), log=folder / "log")
    assert code == 0, f"exit code {code}: {worlds.tail(folder / 'log')}"
    worlds.check_no_leftovers(folder)


def counts(kind):
    """(kills at operations on files, kills at instants)."""
    if kind == "toy":
        return scaled(8, 100), scaled(3, 40)
    return (scaled(2, 30), scaled(1, 24)) if kind.startswith("image") else (scaled(2, 20), scaled(1, 14))


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_operations_on_files(forks, world, whole, kind, tmp_path):
    expected, operations, _ = whole(kind)
    rng = random.Random(1)
    with counting(f"{kind.partition(',')[0]} runs killed in the middle of an operation on files", HOLDS) as tally:
        for nth in spread(counts(kind)[0], operations):
            folder = tmp_path / str(nth)
            worlds.write_options(world, kind, folder)
            with tally.trial(f"{kind}, operation {nth} of {operations}"):
                assert forks.call("worlds:train", kind, str(folder), nth, log=folder / "log") == -9
                worlds.check_published(folder)
                finish(forks, kind, folder, rng if FULL else None)
                worlds.check_equal(folder, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_instant(forks, world, whole, kind, tmp_path):
    expected, _, seconds = whole(kind)
    rng = random.Random(2)
    with counting(f"{kind.partition(',')[0]} runs killed at a random instant", HOLDS) as tally:
        for number in range(counts(kind)[1]):
            folder = tmp_path / str(number)
            worlds.write_options(world, kind, folder)
            after = rng.uniform(0.02, seconds)
            with tally.trial(f"{kind}, after {after:.3f} seconds"):
                forks.call("worlds:train", kind, str(folder), log=folder / "log", kill_after=after)
                worlds.check_published(folder)
                finish(forks, kind, folder, rng if FULL else None)
                worlds.check_equal(folder, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_disk_is_full(forks, world, whole, kind, tmp_path):
    expected, writes, _ = whole(kind, "full")
    with counting("runs on a disk that is full from some byte on", "a sentence; with space again, it ends as if nothing had been") as tally:
        for nth in spread(scaled(3 if kind == "toy" else 1, 20 if kind == "toy" else 6), writes):
            folder = tmp_path / str(nth)
            worlds.write_options(world, kind, folder)
            with tally.trial(f"{kind}, write {nth} of {writes}"):
                code = forks.call("worlds:train", kind, str(folder), nth, "full", log=folder / "log")
                said = worlds.tail(folder / "log")
                assert code == 2 and "the disk is full" in said, f"exit code {code}: {said}"
                worlds.check_published(folder)
                worlds.check_no_leftovers(folder)
                finish(forks, kind, folder)
                worlds.check_equal(folder, expected)
