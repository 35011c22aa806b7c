"""Names of runs, data sets and presets: what one of them may be called, all may, on every system."""

from types import SimpleNamespace

import pytest
from hotlora.engine.config import RunConfig
from hotlora.engine.errors import UserError
from hotlora.engine.names import check_name, clean_name
from hotlora.engine.options import build
from hotlora.ui.datasets import add_to_data_set
from hotlora.ui.presets import save_preset

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
DEVICES = ["CON", "PRN", "AUX", "NUL", *(f"{kind}{number}" for kind in ("COM", "LPT") for number in "0123456789¹²³")]
RESERVED = [*DEVICES, "con", "Nul", "nul.txt", "com1.tar.gz", "LPT9.x", "CON .txt", "aux.", "CONIN$", "conout$"]
BAD = [
    *("", " ", ".", "..", ".hidden", "end.", "end ", " start", "a/b", "a\\b", "../x", "C:x", "a|b", "a?", "a*", '"a"', "<a>"),
    *("a\nb", "a\0b", "a\x7f", "a\ud800", "x" * 101, "猫" * 67),
]
GOOD = ["cats", "Katzen & Hunde (2)", "猫", "console", "common", "a.b", "10_cat", "com10", "lpt", "nul-1", "x" * 100, "猫" * 66]


def name_run(name, folder):
    build(RunConfig, {"output_name": name, "output_dir": str(folder / "run")})


def name_data_set(name, folder):
    (folder / "a.txt").write_text("a")
    add_to_data_set(folder / "data", name, [folder / "a.txt"], [".txt"])


def name_preset(name, folder):
    save_preset(name, RunConfig(), SimpleNamespace(presets=folder / "presets", shipped_presets=()))


@pytest.mark.parametrize("use", [name_run, name_data_set, name_preset])
@pytest.mark.parametrize("name", RESERVED + BAD)
def test_no_name_is_taken_that_some_system_refuses(tmp_path, use, name):
    if use is name_run and name == "":
        name = "\t"  # an empty one stands for the folder's name
    if use is not name_run and name != name.strip():
        name = f"{name.strip()}."  # spaces around them are dropped
    with pytest.raises(UserError) as refusal:
        use(name, tmp_path)
    assert str(refusal.value).startswith(
        ("cannot name the LoRA", "cannot name the data set", "cannot name a preset", "cannot set output_name")
    )
    str(refusal.value).encode("utf-8")  # it is sent to people
    assert not (tmp_path / "data").exists() and not (tmp_path / "presets").exists()


@pytest.mark.parametrize("use", [name_run, name_data_set, name_preset])
@pytest.mark.parametrize("name", GOOD)
def test_ordinary_names_are_taken(tmp_path, use, name):
    use(name, tmp_path)


def test_a_runs_name_may_not_part_a_prompt(tmp_path):
    with pytest.raises(UserError, match="cannot name the LoRA 'a,b': , cannot be used in names"):
        name_run("a,b", tmp_path)


@pytest.mark.parametrize("name", RESERVED + BAD + GOOD)
def test_a_cleaned_name_can_be_used(name):
    cleaned = clean_name(name)
    if len(name) <= 100 and len(cleaned.encode("utf-8")) <= 200 and not cleaned.startswith("."):
        assert check_name(cleaned, "it") == cleaned
    if name in GOOD:
        assert cleaned == name
