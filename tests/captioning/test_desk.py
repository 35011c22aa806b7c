"""A caption is written where there is none, proposed where there is one, and nobody's words are ever lost."""

import json
import threading
from pathlib import Path

import pytest
from hotlora.captioning.captioner import CaptionerKind
from hotlora.captioning.desk import CaptionDesk, Proposal
from hotlora.captioning.kinds import ALONE
from hotlora.engine.access import Access
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.pictures.caption_editing import list_captions, write_caption
from hotlora.pictures.editor import PictureEditor
from hotlora.sd.config import ImageConfig
from pictures import make_pictures


@pytest.fixture
def config(tmp_path):
    """Six pictures, the last two with captions of a person's."""
    folder = make_pictures(tmp_path / "my cats ü", 6)
    for number in range(4):
        (folder / f"picture {number}.txt").unlink()
    return build(ImageConfig, {"train_data_dir": str(folder), "output_dir": str(tmp_path / "run")})


class Fake:
    """Says the pictures' names; waits at each batch until it may."""

    def __init__(self):
        self.batches, self.may, self.error = [], threading.Semaphore(100), None

    def __call__(self, pictures, images):
        self.may.acquire(timeout=10)
        self.batches.append([path.name for path in pictures])
        if self.error:
            raise self.error
        return [f"seen_{path.stem}, cat" for path in pictures]


def desk_with(fake, access=None):
    return CaptionDesk([CaptionerKind("fake", "Fake", lambda settings: fake, writes_tags=True)], access)


def run(desk, config, **values):
    desk.start(config, values)
    desk.wait(20)
    return desk.status


def captions(config):
    return {name: found.caption for name, found in list_captions(config).items()}


def test_only_where_there_is_none_and_a_second_start_has_nothing_to_do(config):
    before, fake = captions(config), Fake()
    status = run(desk_with(fake), config, caption_batch=3, caption_trigger="sks")
    assert (status.busy, status.done, status.total, status.written, status.proposed, status.message) == (False, 4, 4, 4, 0, "Done.")
    assert fake.batches == [["picture 0.png", "picture 1.png", "picture 2.png"], ["picture 3.png"]]
    written = {f"picture {n}.png": f"sks, seen picture {n}, cat" for n in range(4)}
    assert captions(config) == written | {name: before[name] for name in ("picture 4.png", "picture 5.png")}
    assert run(desk_with(fake), config).message == "Every picture has a caption." and len(fake.batches) == 2


def test_it_stops_after_a_batch_and_goes_on_with_the_rest(config):
    fake = Fake()
    fake.may = threading.Semaphore(0)
    desk = desk_with(fake)
    assert desk.start(config, {"caption_batch": 2}).busy
    with pytest.raises(UserError, match="they are being written already"):
        desk.start(config, {})
    desk.stop()
    assert desk.status.message == "Stopping after the pictures that are looked at now."
    fake.may.release()
    desk.wait(20)
    with pytest.raises(UserError, match="no captions are being written"):
        desk.stop()
    assert (
        desk.status.folder == config.train_data_dir
        and desk.status.message.startswith("Stopped")
        and desk.status.done == 2
        and not desk.status.busy
    )
    fake.may.release()
    assert run(desk, config, caption_batch=2).total == 2
    assert fake.batches == [["picture 0.png", "picture 1.png"], ["picture 2.png", "picture 3.png"]]


def test_proposals_stand_beside_what_is_there_until_somebody_decides(config):
    before, desk = captions(config), desk_with(Fake())
    assert run(desk, config, as_proposals=True).proposed == 6
    assert captions(config) == before, "nothing is written"
    again = desk_with(Fake())  # after a restart
    assert again.list_proposals(config)[5] == Proposal("picture 5.png", before["picture 5.png"], "seen picture 5, cat")
    assert again.decide(config, ["picture 5.png"], accept=True) == "1 accepted, 5 left."
    assert again.decide(config, ["picture 4.png", "none.png"], accept=False) == "1 refused, 4 left."
    assert captions(config) == before | {"picture 5.png": "seen picture 5, cat"}
    assert run(again, config, as_proposals=True).total == 2, "it goes on with pictures that have no proposal"
    again.decide(config, None, accept=False)
    assert again.list_proposals(config) == [] and not list(Path(config.train_data_dir).rglob("proposals.json"))


def test_what_a_person_writes_meanwhile_stays(config):
    fake, desk = Fake(), None

    def say(pictures, images):
        write_caption(config, "picture 1.png", "by hand")
        return fake(pictures, images)

    desk = desk_with(say)
    status = run(desk, config)
    assert (status.written, status.proposed) == (3, 1) and captions(config)["picture 1.png"] == "by hand"
    assert [proposal.name for proposal in desk.list_proposals(config)] == ["picture 1.png"]


def read_all(config):
    folder = Path(config.train_data_dir)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.suffix in (".txt", ".csv", ".jsonl")}


def test_a_whole_writing_is_one_step_of_the_albums_undo(config):
    before, editor, desk = read_all(config), PictureEditor(len), desk_with(Fake())
    run(desk, config, caption_batch=1)
    assert editor.count_steps(config) == 1
    assert editor.undo(config) == "Undone: Write captions: 4 captions" and read_all(config) == before
    run(desk, config, caption_batch=3)
    editor.write(config, "picture 5.png", "by hand")
    (Path(config.train_data_dir) / "picture 0.txt").unlink()
    run(desk, config)
    assert editor.count_steps(config) == 3, "another writing is another step"
    for told in ("Write captions: 1 caption", "caption of picture 5.png", "Write captions: 4 captions"):
        if told.endswith("4 captions"):  # what was removed by hand is gone in any case
            assert sorted(read_all(config)) == sorted([*before, *(f"picture {number}.txt" for number in (1, 2, 3))])
        assert editor.undo(config) == f"Undone: {told}"
    assert read_all(config) == before


def test_what_is_done_in_the_album_meanwhile_is_a_step_between(config):
    before, editor, fake = read_all(config), PictureEditor(len), Fake()

    def say(pictures, images):
        if len(fake.batches) == 2:
            editor.write(config, "picture 4.png", "by hand")
        return fake(pictures, images)

    run(desk_with(say), config, caption_batch=1)
    assert editor.count_steps(config) == 3
    told = [editor.undo(config) for _ in range(3)]
    assert told == ["Undone: Write captions: 4 captions", "Undone: caption of picture 4.png", "Undone: Write captions: 2 captions"]
    assert read_all(config) == before


def test_a_writing_that_was_killed_is_undone_too(config):
    """The step's last line is cut short: what it was about was not written yet."""
    before, fake, editor = read_all(config), Fake(), PictureEditor(len)
    fake.may = threading.Semaphore(2)
    desk = desk_with(fake)
    desk.start(config, {"caption_batch": 1})
    while desk.status.written < 2:
        threading.Event().wait(0.01)
    desk.stop()
    fake.may.release()
    desk.wait(20)
    (step,) = Path(config.train_data_dir).rglob("undo-*/*.json")
    step.write_text(step.read_text(encoding="utf-8") + '\n{"key": "0", "files": [["', encoding="utf-8")
    assert "Write captions" in editor.undo(config) and read_all(config) == before


def test_accepted_proposals_are_one_step(config):
    table = Path(config.train_data_dir) / "metadata.jsonl"
    table.write_text(json.dumps({"file_name": "picture 0.png", "text": "of the table"}) + "\n", encoding="utf-8")
    before, editor, desk = read_all(config), PictureEditor(len), desk_with(Fake())
    run(desk, config, as_proposals=True)
    desk.decide(config, ["picture 5.png"], accept=True)
    desk.decide(config, None, accept=True)
    assert editor.count_steps(config) == 2 and read_all(config) != before
    assert editor.undo(config) == "Undone: Accept proposals: 5 captions"
    assert editor.undo(config) == "Undone: Accept proposals: 1 caption" and read_all(config) == before


def test_a_proposal_for_a_picture_that_is_left_out_waits(config):
    editor, desk = PictureEditor(len), desk_with(Fake())
    run(desk, config, as_proposals=True)
    editor.leave_out(config, ["picture 1.png"])
    assert desk.decide(config, None, accept=True) == "5 accepted, 1 left."
    editor.bring_back(config, ["picture 1.png"])
    assert [proposal.name for proposal in desk.list_proposals(config)] == ["picture 1.png"]


def test_captions_in_a_table_stay_where_they_are(config):
    table = Path(config.train_data_dir) / "metadata.jsonl"
    table.write_text(json.dumps({"file_name": "picture 0.png", "text": "of the table"}) + "\n", encoding="utf-8")
    desk = desk_with(Fake())
    run(desk, config, as_proposals=True)
    desk.decide(config, None, accept=True)
    assert json.loads(table.read_text(encoding="utf-8"))["text"] == "seen picture 0, cat"
    assert not (table.parent / "picture 0.txt").exists()


def test_a_broken_picture_and_a_silent_captioner_are_named_and_the_rest_is_done(config):
    (Path(config.train_data_dir) / "picture 0.png").write_text("no picture")
    status = run(desk_with(Fake()), config, leave_out="seen picture 1, cat")
    assert len(status.problems) == 2 and "its content is no picture" in status.problems[0] and "picture 1.png" in status.problems[1]
    assert status.written == 2


def test_what_fails_is_said_and_what_was_done_stays(config):
    fake = Fake()
    fake.error = UserError("cannot ask it: nobody is there. Start it.")
    status = run(desk_with(fake), config)
    assert status.message == "cannot ask it: nobody is there. Start it." and not status.busy and status.written == 0
    fake.error = ZeroDivisionError("boom")
    assert "because of a bug (ZeroDivisionError: boom)" in run(desk_with(fake), config).message


def test_settings_are_checked_before_anything_starts(config):
    desk = desk_with(Fake())
    for values, told in (
        ({"captioner": "wd15"}, "there is no such captioner"),
        ({"thresh": 1}, "thresh"),
        ({"general_threshold": 2}, "general"),
    ):
        with pytest.raises(UserError, match=told):
            desk.start(config, values)
    assert not desk.status.busy


def test_others_can_name_neither_folders_nor_addresses_of_their_own(config, tmp_path, monkeypatch):
    desk = CaptionDesk(ALONE, Access([tmp_path / "my cats ü"]))
    monkeypatch.delenv("HOTLORA_CAPTION_URL", raising=False)
    for values in (
        {"captioner": "onnx", "tagger_folder": str(tmp_path / "secret")},
        {"captioner": "blip", "blip_model": str(tmp_path)},
        {"captioner": "endpoint", "endpoint_url": "http://10.0.0.1/v1"},
    ):
        with pytest.raises(UserError, match="other computers can ask for captions here"):
            desk.start(config, values)
    monkeypatch.setenv("HOTLORA_CAPTION_URL", "http://127.0.0.1:9/v1")
    for values in ({}, {"endpoint_url": "http://127.0.0.1:9/v1"}):
        assert "cannot ask http://127.0.0.1:9/v1" in run(desk, config, captioner="endpoint", **values).message
