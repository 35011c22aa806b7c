"""Where other computers can ask for runs, no run reads outside of the folders that its owner has named."""

import os
from pathlib import Path

import pytest
from hotlora.engine.access import Access
from hotlora.engine.config import RunConfig
from hotlora.engine.errors import UserError
from hotlora.engine.options import build, options_of
from hotlora.sd.config import ImageConfig

EVERY_PATH = {
    *("base_model", "train_data_dir", "metadata_path", "init_lora", "validation_dir"),
    *("cache_dir", "mask_dir", "reg_data_dir", "vae"),
}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """An allowed folder with a data set, another one beside it, and an empty one to stand in."""
    for name in ("allowed/cats", "allowed too", "secret/cats", "here"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "secret" / "cats" / "a.png").write_bytes(b"secret")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def allow(world: Path, **options):
    Access([world / "allowed", world / "allowed too"]).check(build(ImageConfig, {"masked_loss": True, **options}))


def test_every_option_that_is_opened_is_marked_as_a_path():
    marked = {name for name, field in options_of(ImageConfig).items() if field.metadata["path"]}
    assert marked == EVERY_PATH
    sounds_so = {name for name in options_of(ImageConfig) if name.endswith(("_dir", "_path", "_lora", "model"))}
    assert sounds_so - marked == {"output_dir"}


def test_without_folders_everything_is_allowed(world):
    Access(None).check(build(ImageConfig, dict.fromkeys(EVERY_PATH, "/anywhere") | {"masked_loss": True}))
    assert Access(None).allows(Path("/anywhere"))


@pytest.mark.parametrize("name", sorted(EVERY_PATH))
def test_an_option_that_leads_elsewhere_is_refused_by_name_with_what_is_allowed(world, name):
    allow(world, **{name: str(world / "allowed" / "cats")})
    allow(world, **{name: str(world / "allowed too" / "not there yet")})
    with pytest.raises(UserError) as refusal:
        allow(world, **{name: str(world / "secret" / "cats")})
    for told in (name, str(world / "secret" / "cats"), str(world / "allowed"), str(world / "allowed too")):
        assert told in str(refusal.value)


def test_the_allowed_folders_themselves_are_allowed_and_their_namesakes_are_not(world):
    allow(world, train_data_dir=str(world / "allowed"))
    for path in (world, world / "allowed too much", str(world / "allowed") + "x", "/", Path(world.anchor)):
        with pytest.raises(UserError):
            allow(world, train_data_dir=str(path))


@pytest.mark.parametrize(
    "path",
    [
        "{world}/allowed/../secret/cats",
        "{world}/allowed/cats/../../secret",
        "../secret/cats",
        "../allowed/../secret",
        "secret",
        ".",
        "~",
        "~/pictures",
        "/etc/passwd",
        "//server/share/cats",
        "\\\\server\\share\\cats",
        "C:\\Users",
        "C:cats",
        "{world}/allowed/\0/cats",
    ],
)
@pytest.mark.parametrize("name", ["train_data_dir", "cache_dir"])
def test_no_spelling_leads_out(world, name, path):
    with pytest.raises(UserError, match=f"cannot use {name}"):
        allow(world, **{name: path.format(world=world)})


def test_relative_paths_and_tildes_that_lead_in_are_allowed(world, monkeypatch):
    allow(world, train_data_dir="../allowed/cats")
    allow(world, train_data_dir=f"{world}/secret/../allowed/cats")
    monkeypatch.setenv("HOME", str(world))
    monkeypatch.setenv("USERPROFILE", str(world))
    allow(world, train_data_dir="~/allowed/cats")
    monkeypatch.chdir(world / "allowed")
    allow(world, train_data_dir="cats")


def link(path: Path, target: Path) -> None:
    try:
        path.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("this computer lets nobody make links")


@pytest.mark.parametrize(
    ("at", "to", "used"),
    [
        ("allowed/link", "secret/cats", "allowed/link"),  # the folder itself
        ("allowed/link", "secret", "allowed/link/cats"),  # a folder on the way
        ("allowed/link", "secret/cats", "allowed/link/../cats"),  # what `..` means after a link: secret/cats
        ("allowed/cats/a.png", "secret/cats/a.png", "allowed/cats"),  # a picture in it
        ("allowed/cats/more", "secret/cats", "allowed"),  # a folder below it
        ("allowed/cats/lost", "secret/none", "allowed"),  # one that leads nowhere yet
        ("allowed/cats/.hotlora-cache", "secret", "allowed/cats"),  # where the run would write
    ],
)
def test_links_do_not_lead_out(world, at, to, used):
    link(world / at, world / to)
    with pytest.raises(UserError, match="cannot use train_data_dir"):
        allow(world, train_data_dir=f"{world}/{used}")


def test_links_within_the_folders_and_to_them_are_fine(world):
    link(world / "allowed" / "cats" / "others", world / "allowed too")
    link(world / "to allowed", world / "allowed")
    allow(world, train_data_dir=str(world / "allowed" / "cats"))
    (world / "allowed" / "cats" / "others").unlink()
    Access([world / "to allowed"]).check(build(ImageConfig, {"train_data_dir": str(world / "to allowed" / "cats")}))
    Access([world / "to allowed"]).check(build(ImageConfig, {"train_data_dir": str(world / "allowed" / "cats")}))


@pytest.mark.skipif(os.name == "nt", reason="a link in a circle cannot be made there")
def test_links_in_a_circle_lead_nowhere(world):
    link(world / "allowed" / "one", world / "allowed" / "two")
    link(world / "allowed" / "two", world / "allowed" / "one")
    try:
        allow(world, train_data_dir=str(world / "allowed" / "one" / "cats"))
    except UserError:
        return
    assert not (world / "allowed" / "one" / "cats").exists()  # Python 3.13 resolves it to itself, which is within


@pytest.mark.parametrize(
    "name", ["v1-5-pruned.safetensors [6ce0161689]", "anime/model.safetensors", "anime\\model.safetensors", "org/model"]
)
def test_a_base_model_may_be_a_name_of_the_programs_own_list(world, name):
    allow(world, base_model=name)


def test_a_base_model_that_is_a_file_here_is_no_name(world, monkeypatch):
    (world / "here" / "models").mkdir()
    (world / "here" / "models" / "m.safetensors").write_bytes(b"")
    for path in ("models/m.safetensors", "models", "../secret/m.safetensors", "~/m.safetensors", str(world / "secret" / "m.safetensors")):
        with pytest.raises(UserError, match="cannot use base_model"):
            allow(world, base_model=path)


def test_a_metadata_file_may_be_named_as_in_the_data_folder(world):
    data = str(world / "allowed" / "cats")
    allow(world, train_data_dir=data, metadata_path="captions.csv")
    allow(world, train_data_dir=data, metadata_path="captions/all.csv")
    for path in ("../../secret/all.csv", "../../../etc/all.csv", str(world / "secret" / "all.csv")):
        with pytest.raises(UserError, match="cannot use metadata_path"):
            allow(world, train_data_dir=data, metadata_path=path)
    (world / "here" / "captions.csv").write_text("secret")
    with pytest.raises(UserError, match="cannot use metadata_path"):
        allow(world, train_data_dir=data, metadata_path="captions.csv")


def test_no_folders_allow_nothing(world):
    with pytest.raises(UserError, match="only these folders may be used: none"):
        Access([]).check(build(RunConfig, {"train_data_dir": str(world)}))
    Access([]).check(build(RunConfig, {}))
