"""Files dropped into a data set: nothing that is there is lost, nothing lands elsewhere, and a picture keeps its caption."""

import errno
import io
import shutil
import stat
import threading
import time
import warnings
import zipfile
from pathlib import Path

import pytest
from hotlora.engine.errors import UserError
from hotlora.ui import zip_files
from hotlora.ui.datasets import add_to_data_set, list_data_sets

SUFFIXES = (".png", ".jpg", ".txt", ".csv")


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "data sets ü"


@pytest.fixture
def add(root, tmp_path):
    """``add({"a.png": b"…"}, to="cats")`` uploads files, as a browser would; returns what was told."""
    uploads = iter(range(100))

    def add(files: dict[str, bytes], to: str = "cats") -> str:
        paths = []
        for name, data in files.items():
            path = tmp_path / "uploads" / str(next(uploads)) / name
            path.parent.mkdir(parents=True)
            path.write_bytes(data)
            paths.append(path)
        folder, told = add_to_data_set(root, to, paths, SUFFIXES)
        assert folder == root / to.strip()
        assert all(path.exists() for path in paths)
        return told

    return add


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def packed(files: dict[str, bytes], compression=zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_files_are_copied_into_the_set_and_the_set_is_listed(add, root):
    assert list_data_sets(root) == []
    assert add({"a.png": b"A", "a.txt": b"a cat", "图 片.JPG": b"B"}) == "Added 3 files to 'cats'."
    assert content(root) == {"cats/a.png": b"A", "cats/a.txt": b"a cat", "cats/图 片.JPG": b"B"}
    add({"b.png": b"B"}, to=" Äpfel 1 ")
    add({"b.png": b"B"}, to="Birnen")
    assert list_data_sets(root) == ["Birnen", "cats", "Äpfel 1"]


def test_what_is_there_with_the_same_bytes_is_left(add, root):
    add({"a.png": b"A", "a.txt": b"a cat"})
    assert add({"a.png": b"A", "b.png": b"B"}) == "Added 1 file to 'cats'. 1 file was there already."
    assert set(content(root / "cats")) == {"a.png", "a.txt", "b.png"}


def test_another_picture_of_the_same_name_gets_a_new_one_with_its_caption(add, root):
    add({"a.png": b"first", "a.txt": b"the first"})
    for _ in range(2):  # the second time it is there already
        told = add({"a.png": b"second", "a.txt": b"the second"})
    assert "2 files were there already" in told
    expected = {"a.png": b"first", "a.txt": b"the first", "a (2).png": b"second", "a (2).txt": b"the second"}
    assert content(root / "cats") == expected
    assert "1 file got a new name" in add({"A.PNG": b"third"})
    assert content(root / "cats") == expected | {"A (3).PNG": b"third"}


def test_a_picture_never_takes_over_the_caption_of_one_with_another_suffix(add, root):
    add({"a.png": b"first", "a.txt": b"the first"})
    add({"a.jpg": b"second"})
    assert content(root / "cats") == {"a.png": b"first", "a.txt": b"the first", "a (2).jpg": b"second"}


def test_pictures_that_came_with_one_caption_keep_it(add, root):
    add({"a.png": b"first", "a.jpg": b"second", "a.txt": b"both"})
    assert set(content(root / "cats")) == {"a.png", "a.jpg", "a.txt"}


def test_a_new_caption_replaces_the_old_one_which_is_kept(add, root):
    add({"a.png": b"A", "a.txt": b"one"})
    assert "kept beside it with .bak at its end" in add({"a.txt": b"two"})
    add({"a.png": b"A", "a.txt": b"three"})
    assert content(root / "cats") == {"a.png": b"A", "a.txt": b"three", "a.txt.bak": b"one", "a.txt.2.bak": b"two"}


def test_a_caption_may_come_before_its_picture(add, root):
    add({"a.txt": b"a cat"})
    add({"a.png": b"A"})
    assert set(content(root / "cats")) == {"a.txt", "a.png"}


def test_other_files_are_left_out_and_named(add, root):
    assert add({"a.png": b"A", "b.psd": b"B", "c.heic": b"C"}) == (
        "Added 1 file to 'cats'. Left out b.psd, c.heic: a data set takes .png .jpg .txt .csv."
    )
    assert set(content(root / "cats")) == {"a.png"}
    with pytest.raises(UserError, match=r"cannot add to the data set 'dogs': b\.psd cannot be used\. It takes \.png .* and \.zip files\."):
        add({"b.psd": b"B"}, to="dogs")
    with pytest.raises(UserError, match="there are no files"):
        add({}, to="dogs")
    assert list_data_sets(root) == ["cats"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        ".",
        "..",
        ".hidden",
        "a/b",
        "a\\b",
        "../x",
        "C:x",
        "a|b",
        "a?",
        "x.",
        "con",
        "NUL.set",
        "Com1",
        "LPT9.x",
        "a\nb",
        "x" * 101,
    ],
)
def test_no_name_leads_elsewhere_or_fails_on_windows(add, root, name):
    with pytest.raises(UserError, match="cannot name the data set"):
        add({"a.png": b"A"}, to=name)
    assert not root.exists()


# -- ZIP files ---------------------------------------------------------------------------------------------------------


def test_a_zip_file_is_unpacked_with_its_folders(add, root):
    files = {"10_cat/a.png": b"A", "10_cat/a.txt": b"a cat", "5_dog/a.png": b"B", "metadata.csv": b"file_name,text"}
    assert add({"all.ZIP": packed(files)}) == "Added 4 files to 'cats'."
    assert content(root / "cats") == files
    assert add({"all.zip": packed(files)}) == "Added 0 files to 'cats'. 4 files were there already."
    assert list(root.iterdir()) == [root / "cats"]  # nothing is left of the unpacking


def test_what_systems_hide_in_zip_files_is_dropped_and_other_kinds_are_told(add, root):
    files = {"__MACOSX/._a.png": b"x", ".DS_Store": b"x", "Thumbs.db": b"x", ".git/a.png": b"x", "a.png": b"A", "notes.docx": b"x"}
    assert add({"all.zip": packed(files)}).endswith("Left out notes.docx: a data set takes .png .jpg .txt .csv.")
    assert content(root / "cats") == {"a.png": b"A"}


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/x.png", "..\\x.png", "a\\..\\..\\x.png", "C:\\x.png", "C:x.png", "\\\\s\\x.png"]
)
def test_a_zip_file_that_leads_elsewhere_is_refused_whole(add, root, tmp_path, name):
    with pytest.raises(UserError, match="cannot unpack 'all.zip': .* outside of the data set"):
        add({"all.zip": packed({"good.png": b"A", name: b"B"})})
    assert list_data_sets(root) == [] and not list(tmp_path.rglob("*.png"))


def test_names_in_zip_files_that_windows_does_not_take_are_changed(add, root):
    add({"all.zip": packed({"aux/con.png": b"A", "a?b/c*d.png": b"B", "e. /f.png": b"C"})})
    assert content(root / "cats") == {"_aux/_con.png": b"A", "a_b/c_d.png": b"B", "e/f.png": b"C"}


def test_names_that_macos_does_not_mark_as_utf8_are_read_as_that(add, root):
    data = packed({"Kätzchen 猫.png": b"A"})
    flags = (0x800).to_bytes(2, "little")
    unmarked = data.replace(b"PK\x03\x04\x14\x00" + flags, b"PK\x03\x04\x14\x00\0\0").replace(b"\x14\x00" + flags, b"\x14\x00\0\0")
    assert zipfile.ZipFile(io.BytesIO(unmarked)).namelist() != ["Kätzchen 猫.png"]
    add({"all.zip": unmarked})
    assert content(root / "cats") == {"Kätzchen 猫.png": b"A"}


def test_links_in_zip_files_are_not_followed(add, root):
    entry = zipfile.ZipInfo("link.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
        archive.writestr("a.png", "A")
    add({"all.zip": buffer.getvalue()})
    assert content(root / "cats") == {"a.png": b"A"}


def test_a_zip_file_that_is_made_to_fill_the_disk_is_refused_before_it_is_unpacked(add, root, monkeypatch):
    monkeypatch.setattr(zip_files, "_SMALL_BYTES", 1000)
    bomb = packed({"a.png": bytes(3_000_000)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 10_000
    with pytest.raises(UserError, match="2.9 MB would come out of 0.0 MB, more than 100 times as much"):
        add({"bomb.zip": bomb})
    monkeypatch.setattr(zip_files, "_MOST_FILES", 2)
    with pytest.raises(UserError, match="3 files would come out of it, and at most 2 are taken at once"):
        add({"many.zip": packed({"a.png": b"", "b.png": b"", "c.png": b""})})
    assert list_data_sets(root) == []


def test_a_zip_file_that_lies_about_its_size_unpacks_to_no_more(add, root):
    data = packed({"a.png": bytes(100_000)}, zipfile.ZIP_DEFLATED)
    lying = data.replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != data
    with pytest.raises(UserError, match="no whole ZIP file"):
        add({"all.zip": lying})


@pytest.mark.parametrize(
    "damage", [lambda d: b"no zip", lambda d: d[: len(d) // 2], lambda d: d.replace(b"AAAA", b"ABBA", 1), lambda d: b""]
)
def test_a_damaged_zip_file_is_told_and_adds_nothing(add, root, damage):
    with pytest.raises(UserError, match="cannot unpack 'all.zip': it is no whole ZIP file"):
        add({"good.png": b"G", "all.zip": damage(packed({"a.png": b"AAAA" * 100}))})
    assert list_data_sets(root) == []


def test_a_locked_zip_file_is_told(add):
    data = bytearray(packed({"a.png": b"A"}))
    data[6] |= 1  # the flag for encryption, in the file's head and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(UserError, match="locked with a password"):
        add({"all.zip": bytes(data)})


def test_sixty_thousand_small_files_take_seconds(add, root):
    """Time in proportion to their number: it used to grow with its square, to hours."""
    taken = []
    for count in (3000, 30_000):
        data, began = packed({f"{number}.txt": b"a" for number in range(count)}), time.process_time()
        assert f"Added {count:,} files" in add({"all.zip": data}, to=str(count))
        taken.append(time.process_time() - began)
    assert taken[1] < 30 * taken[0] and taken[1] < 60


def test_uploads_do_not_wait_for_each_others_unpacking(root, tmp_path, monkeypatch):
    (tmp_path / "slow.zip").write_bytes(packed({"a.png": b"A"}))
    (tmp_path / "b.png").write_bytes(b"B")
    begun, go_on, right = threading.Event(), threading.Event(), shutil.copyfileobj

    def copy_slowly(*args):
        begun.set()
        assert go_on.wait(20)
        return right(*args)

    monkeypatch.setattr(zip_files.shutil, "copyfileobj", copy_slowly)
    slow = threading.Thread(target=add_to_data_set, args=(root, "cats", [tmp_path / "slow.zip"], SUFFIXES))
    slow.start()
    assert begun.wait(20)
    add_to_data_set(root, "cats", [tmp_path / "b.png"], SUFFIXES)
    go_on.set()
    slow.join(20)
    assert content(root / "cats") == {"a.png": b"A", "b.png": b"B"}


def test_every_flipped_byte_is_a_sentence_or_makes_no_difference(add, root):
    """In stored and in squeezed files, their heads and the directory: whatever Python's reader stumbles over."""
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        data = packed({"a.png": b"AAAA" * 5 + b"BC", "d/b.txt": b"text " * 9}, compression)
        for place in range(len(data)):
            for change in (0x01, 0x80, 0xFF):
                damaged = data[:place] + bytes([data[place] ^ change]) + data[place + 1 :]
                (root.parent / "all.zip").write_bytes(damaged)
                try:
                    add_to_data_set(root, "cats", [root.parent / "all.zip"], SUFFIXES)
                except UserError as error:
                    assert str(error).startswith("cannot ")


def raw_zip(name: bytes, flags: int = 0) -> bytes:
    """A ZIP file with one entry of whatever name."""
    data = packed({"x" * max(len(name), 1): b"A"})
    mark = b"x" * max(len(name), 1)
    data = data.replace(mark, name)
    for head, at in ((b"PK\x03\x04", 26), (b"PK\x01\x02", 28)):
        start = data.index(head)
        data = data[: start + at] + len(name).to_bytes(2, "little") + data[start + at + 2 :]
        flag = start + (6 if at == 26 else 8)
        data = data[:flag] + flags.to_bytes(2, "little") + data[flag + 2 :]
    end = data.index(b"PK\x05\x06")
    directory = data.index(b"PK\x01\x02")
    return data[: end + 12] + (end - directory).to_bytes(4, "little") + directory.to_bytes(4, "little") + data[end + 20 :]


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        (b"", 0, "a file without a name"),
        (b".", 0, "a file without a name"),
        (b"./", 0, "there are no files"),
        (b"a/ /..png/", 0, "there are no files"),
        (b"a" * 300 + b".png", 0, "longer than 240 bytes"),
        ("猫".encode() * 90 + b".png", 0x800, "longer than 240 bytes"),
        (b"a" * 300 + b"/a.png", 0, "longer than 240 bytes"),
        (b"a/" * 3000 + b"a.png", 0, "more than 32 folders"),
        (b"\xed\xa0\x80.png", 0x800, "no whole ZIP file"),  # half of a surrogate pair
        (b"\xff\xfe.png", 0x800, "no whole ZIP file"),
    ],
)
def test_names_that_no_system_takes_are_a_sentence(add, root, name, flags, said):
    with pytest.raises(UserError, match=said):
        add({"all.zip": raw_zip(name, flags)})
    assert list_data_sets(root) == []


def test_a_file_in_the_place_of_a_folder_is_a_sentence(add):
    with pytest.raises(UserError, match="cannot write .* into the data set 'cats'"):
        add({"all.zip": packed({"a.png": b"A", "a.png/b.png": b"B"})})


def test_two_zip_files_with_the_same_names_keep_their_pairs(add, root):
    add({"1.zip": packed({"a.png": b"first", "a.txt": b"the first"}), "2.zip": packed({"a.png": b"second", "a.txt": b"the second"})})
    assert content(root / "cats") == {"a.png": b"first", "a.txt": b"the first", "a (2).png": b"second", "a (2).txt": b"the second"}
    add({"pictures.zip": packed({"a.png": b"third"}), "captions.zip": packed({"a.txt": b"the third"})})
    assert content(root / "cats")["a (3).txt"] == b"the third" and content(root / "cats")["a.txt"] == b"the first"


def test_one_name_without_end_is_refused(add, root):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(1500):
            archive.writestr("a.txt", str(number))
    with pytest.raises(UserError, match="comes more than 1,000 times"):
        add({"all.zip": buffer.getvalue()})


def test_a_full_disk_is_called_so(add, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zip_files.shutil, "copyfileobj", fail)
    with pytest.raises(UserError, match="the disk is full"):
        add({"all.zip": packed({"a.png": b"A"})})


def test_all_zip_files_of_an_upload_count_together(add, monkeypatch):
    monkeypatch.setattr(zip_files, "_MOST_FILES", 3)
    with pytest.raises(UserError, match="4 files would come out of it, and at most 3"):
        add({"1.zip": packed({"a.png": b"", "b.png": b""}), "2.zip": packed({"c.png": b"", "d.png": b""})})
    monkeypatch.setattr(zip_files, "_MOST_BYTES", 10)
    with pytest.raises(UserError, match="GB would come out of it, and at most"):
        add({"1.zip": packed({"a.png": b"x" * 11})})
