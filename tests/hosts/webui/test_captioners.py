"""The program's own captioners are used by its own functions, under its lock, and given back. The stand-ins do what modules/interrogate.py
and modules/deepbooru.py of AUTOMATIC1111 1.10 and of Forge do with their models, and write down in which order."""

import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest
import webui as stand_in
from hotlora.captioning.captioner import CaptionSettings
from hotlora.engine.errors import UserError
from hotlora.hosts.webui import captioners
from hotlora.hosts.webui.captioners import HostBlip, HostDeepBooru, list_host_captioners
from PIL import Image


class Interrogator:
    """Where its two models are, and what was asked of it."""

    def __init__(self, did, lock):
        self.did, self.lock, self.where, self.error = did, lock, "nowhere", None

    def load(self):
        assert self.lock._lock.locked(), "not under the queue lock"
        if self.error:
            raise self.error
        self.did.append("load")
        self.where = "gpu"

    def generate_caption(self, image):
        assert self.where == "gpu" and self.lock._lock.locked()
        self.did.append("caption")
        return f"a picture\n of {image.size[0]}"

    def interrogate(self, image):
        raise AssertionError("asks CLIP as well, and downloads its lists")

    def unload(self):
        assert self.lock._lock.locked()
        self.did.append("unload")
        self.where = "cpu"


class DeepBooru:
    def __init__(self, did, lock):
        self.did, self.lock, self.model, self.error = did, lock, None, None

    def start(self):
        assert self.lock._lock.locked()
        if self.model is None:
            self.model = "without its weights"
            if self.error:
                raise self.error
            self.model = "gpu"
        self.did.append("start")

    def stop(self):
        self.model.lower()
        self.did.append("stop")

    def tag_multi(self, image, force_disable_ranks=False):
        assert force_disable_ranks and self.model == "gpu"
        self.did.append("tag")
        return "1girl, long_hair, miku_\\(x\\)"


@pytest.fixture
def program(monkeypatch, tmp_path):
    """Either program; Forge's memory management works inside of load and start, and has no lowvram to speak of."""
    web = stand_in.make_webui(monkeypatch, tmp_path)
    did, lock = [], web.call_queue.queue_lock
    web.shared.interrogator = Interrogator(did, lock)
    deepbooru, lowvram = ModuleType("modules.deepbooru"), ModuleType("modules.lowvram")
    deepbooru.model = DeepBooru(did, lock)
    lowvram.send_everything_to_cpu = lambda: did.append("send to cpu")
    web.devices.torch_gc = lambda: did.append("collect")
    for name, module in {"deepbooru": deepbooru, "lowvram": lowvram}.items():
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)
        monkeypatch.setattr(sys.modules["modules"], name, module, raising=False)
    return SimpleNamespace(did=did, lock=lock, interrogator=web.shared.interrogator, deepbooru=deepbooru.model)


IMAGES = [Image.new("RGB", (side, 8)) for side in (10, 20)]


def test_blip_is_loaded_for_a_batch_and_given_back(program):
    assert HostBlip()([], IMAGES) == ["a picture of 10", "a picture of 20"]
    assert program.did == ["send to cpu", "collect", "load", "caption", "caption", "unload"]
    assert not program.lock._lock.locked()


def test_deepbooru_writes_plain_tags_and_is_given_back(program):
    assert HostDeepBooru()([], IMAGES) == ["1girl, long_hair, miku_(x)"] * 2
    assert program.did == ["start", "tag", "tag", "stop"] and not program.lock._lock.locked()


@pytest.mark.parametrize(("make", "name"), [(HostBlip, "interrogator"), (HostDeepBooru, "deepbooru")])
def test_what_cannot_be_loaded_is_told_with_the_file_and_the_lock_is_free(program, make, name):
    missing = "its file is not there, and could not be downloaded"
    for error, reason in ((OSError("no network"), "no network"), (IndexError("list index out of range"), missing)):
        getattr(program, name).error = error
        with pytest.raises(UserError, match=rf"cannot load it \({reason}\)\. Connect to the internet once, or put model"):
            make()([], IMAGES)
        assert not program.lock._lock.locked()


def test_whoever_draws_a_picture_comes_between_two_batches(program):
    order, captioner = [], HostBlip()
    inside, may = threading.Event(), threading.Event()

    def caption_once(image, plain=program.interrogator.generate_caption):
        order.append("caption")
        inside.set()
        may.wait(5)
        return plain(image)

    program.interrogator.generate_caption = caption_once

    def draw():
        with program.lock:
            order.append("picture")

    job = threading.Thread(target=lambda: [captioner([], IMAGES[:1]) for _ in range(2)])
    job.start()
    inside.wait(5)
    person = threading.Thread(target=draw)
    person.start()
    while not program.lock._pending_threads:
        pass
    may.set()
    job.join(10)
    person.join(10)
    assert order == ["caption", "picture", "caption"]


def test_only_those_that_the_program_has_are_offered(program, monkeypatch):
    there = {"modules.interrogate"}
    monkeypatch.setattr(captioners.importlib.util, "find_spec", lambda name: name in there or None)
    assert [kind.key for kind in list_host_captioners()] == ["host-blip"]
    there.add("modules.deepbooru")
    blip, deepbooru = list_host_captioners()
    assert deepbooru.writes_tags and not blip.writes_tags
    assert isinstance(blip.make(CaptionSettings()), HostBlip) and isinstance(deepbooru.make(CaptionSettings()), HostDeepBooru)
