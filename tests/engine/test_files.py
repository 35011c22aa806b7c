"""Files are replaced all at once or not at all."""

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.files import remove_dead_leftovers, remove_leftovers, replacing, replacing_folder, write_bytes, write_text


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "Ordner mit Leerzeichen" / "日本.txt"
    write_text(path, "old")
    with pytest.raises(ValueError), replacing(path) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert path.read_text(encoding="utf-8") == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(UserError, match="disk is full"):
        write_bytes(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_another_program_holds_is_tried_again(tmp_path, monkeypatch):
    import os

    path, tries, replace = tmp_path / "a", [], os.replace

    def held(source, target):
        tries.append(1)
        if len(tries) < 3:
            raise PermissionError("held by another program")
        replace(source, target)

    monkeypatch.setattr(os, "replace", held)
    write_text(path, "new")
    assert path.read_text() == "new" and len(tries) == 3


def test_what_a_kill_left_behind_is_removed(tmp_path):
    write_text(tmp_path / "state" / "good.pt", "x")
    (tmp_path / "state" / ".good.pt.99.tmp").write_text("half")
    remove_leftovers(tmp_path)
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["good.pt"]


def write_folder(path, text):
    with replacing_folder(path) as folder:
        folder.mkdir()
        (folder / "a.txt").write_text(text)


def test_a_folder_is_replaced_whole(tmp_path):
    write_folder(tmp_path / "lora", "old")
    (tmp_path / "lora" / "more.txt").write_text("of the old one")
    write_folder(tmp_path / "lora", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["lora"]
    assert [p.read_text() for p in (tmp_path / "lora").iterdir()] == ["new"]


def test_a_folder_that_cannot_be_written_leaves_the_old_one(tmp_path):
    write_folder(tmp_path / "lora", "old")
    with pytest.raises(ValueError), replacing_folder(tmp_path / "lora") as folder:
        folder.mkdir()
        raise ValueError
    assert [p.name for p in tmp_path.iterdir()] == ["lora"] and (tmp_path / "lora" / "a.txt").read_text() == "old"


class Killed(BaseException):
    """As a power cut: nothing runs afterwards."""


def test_in_shared_folders_only_the_files_of_dead_processes_go(tmp_path):
    import os
    import subprocess
    import sys

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = {f".a.{gone.pid}.tmp": 0, f".new.{gone.pid}.tmp": None, f".b.{os.getpid()}.tmp": 0, ".other.tmp": 0, "c.tmp": 0}
    for name, changed in names.items():
        (tmp_path / name).write_text("x", encoding="utf-8")
        if changed is not None:
            os.utime(tmp_path / name, (changed, changed))
    remove_dead_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*names} - {f".a.{gone.pid}.tmp"}


@pytest.mark.parametrize("survives", [0, 1, 2])
def test_a_kill_between_two_renames_leaves_a_whole_folder(tmp_path, monkeypatch, survives):
    import os
    import shutil

    write_folder(tmp_path / "lora", "old")
    renames, replace = [], os.replace

    def killed(source, target):
        if len(renames) == survives:
            raise Killed
        renames.append(1)
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(Killed):
        write_folder(tmp_path / "lora", "new")
        raise Killed
    monkeypatch.undo()
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["lora"]
    assert (tmp_path / "lora" / "a.txt").read_text() == ("new" if survives == 2 else "old")
