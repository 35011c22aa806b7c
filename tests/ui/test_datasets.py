"""Files dropped into a data set: nothing that is there is lost, nothing lands elsewhere, and a picture keeps its caption."""

import io
import stat
import zipfile
from pathlib import Path

import pytest
from hotlora.engine.errors import UserError
from hotlora.ui import datasets
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
    monkeypatch.setattr(datasets, "_SMALL_BYTES", 1000)
    bomb = packed({"a.png": bytes(3_000_000)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 10_000
    with pytest.raises(UserError, match="would come out of 0.0 MB, which is too much"):
        add({"bomb.zip": bomb})
    monkeypatch.setattr(datasets, "_MOST_FILES", 2)
    with pytest.raises(UserError, match="3 files of"):
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
