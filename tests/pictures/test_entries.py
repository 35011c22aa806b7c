"""Several folders in one run: what holds for each, against a count by hand; and what is wrong with them, said by name."""

import tracemalloc
from collections import Counter

import pytest
import torch
from hotlora.engine.access import Access
from hotlora.engine.errors import UserError
from hotlora.engine.options import as_plain, build
from hotlora.pictures.album import look_at_pictures
from hotlora.pictures.caption_editing import list_captions
from hotlora.pictures.checking import check_pictures
from hotlora.pictures.dataset import read_dataset
from hotlora.pictures.editor import PictureEditor
from hotlora.pictures.entries import list_sources
from hotlora.pictures.folder_facts import count_folders, count_tags, list_datasets
from hotlora.pictures.health import report_health
from hotlora.pictures.stock import Stock
from hotlora.sd.config import ImageConfig
from pictures import make_pictures
from PIL import Image


@pytest.fixture
def world(tmp_path):
    """cats 0-2, dogs 3-4 (one in a folder that repeats it 5 times), and people 5-9 to regularise by."""
    make_pictures(tmp_path / "cats", 3)
    make_pictures(tmp_path / "dogs", 1, first=3)
    make_pictures(tmp_path / "dogs" / "5_puppies", 1, (96, 64), first=4)
    make_pictures(tmp_path / "people", 5, first=5)
    return tmp_path


def config(world, *entries, **values):
    placed = [{**entry, "folder": str(world / entry["folder"])} if "folder" in entry else entry for entry in entries]
    options = {"output_dir": str(world / "run"), "resolution": 64, "min_bucket_reso": 32, "bucket_reso_steps": 8}
    return build(ImageConfig, {**options, "datasets": placed, **values})


CATS = {"folder": "cats", "repeats": 2, "trigger_word": "zwx", "resolution": 96, "weight": 2.0, "flip_aug": True, "caption_suffix": "photo"}
DOGS = {"folder": "dogs", "resolution": [64, 128], "shuffle_caption": True, "keep_tokens": 1}
PEOPLE = {"folder": "people", "regularisation": True, "class_words": "person", "weight": 0.5}


class Encoder:
    def __call__(self, pixels):
        small = torch.nn.functional.avg_pool2d(pixels, 8)
        return torch.cat([small, small.mean(1, keepdim=True)], dim=1), torch.ones(len(pixels), 4, *small.shape[2:])


def make_stock(options):
    return Stock(read_dataset(options), options, Encoder(), "vae", list_sources(options)[0].root / "cache")


def test_an_epoch_shows_each_folder_as_often_as_it_says_at_each_of_its_sizes(world):
    stock = make_stock(config(world, CATS, DOGS, PEOPLE, batch_size=2))
    shown = Counter()
    for batch in stock.plan(epoch=3, seed=1):
        assert len({stock.fits[place].bucket for place in batch}) == 1
        shown.update((stock.examples[place].path.name, stock.fits[place].bucket) for place in batch)
    expected = {(f"picture {number}.png", (96, 96)): 2 for number in range(3)}
    expected |= {("picture 3.png", (size, size)): 1 for size in (64, 128)}
    expected |= {("picture 4.png", bucket): 5 for bucket in ((80, 48), (152, 104))}  # nearest to 3:2 within 64² and 128²
    people = {key: times for key, times in shown.items() if key not in expected}
    assert {key: times for key, times in shown.items() if key in expected} == expected
    assert sum(people.values()) == sum(expected.values()) == 18 and {bucket for _, bucket in people} == {(64, 64)}


def test_weight_caption_and_mirroring_are_those_of_the_folder(world):
    stock = make_stock(config(world, CATS, DOGS, PEOPLE, prior_loss_weight=0.25, caption_prefix="a"))
    place = {}
    for number, example in enumerate(stock.examples):
        place.setdefault(example.path.parent.name, number)
    assert [stock.weight(place[name]) for name in ("cats", "dogs", "people")] == [2.0, 1.0, 0.125]
    captions = {name: stock.fixed_caption(stock.examples[place[name]]) for name in place}
    assert captions == {
        "cats": "zwx, a red square, number 0 photo",
        "dogs": "a yellow square, number 3",
        "5_puppies": "a white square, number 4",
        "people": "a black square, number 5",
    }
    drawn = {name: {stock._draw_flip(place[name], chance) for chance in map(random_of, range(20))} for name in place}
    assert drawn == {"cats": {False, True}, "dogs": {False}, "5_puppies": {False}, "people": {False}}


def random_of(seed):
    import random

    return random.Random(seed)


def test_the_runs_own_folder_comes_first_with_the_runs_options(world):
    options = config(world, {"folder": "dogs"}, train_data_dir=str(world / "cats"), trigger_word="zwx", reg_data_dir=str(world / "people"))
    sources = list_sources(options)
    assert [(source.root.name, source.use) for source in sources] == [("cats", "train"), ("dogs", "train"), ("people", "reg")]
    assert sources[0].config is options and sources[1].config is options


def test_several_sizes_for_all_and_pictures_kept_back_whole(world):
    options = config(world, {"folder": "cats"}, {"folder": "dogs", "resolution": 96}, resolution=[64, 128], validation_split=0.4)
    data = read_dataset(options)
    assert options.resolution == 128 and options.resolutions == [64, 128] and any("64, 128 pixels" in note for note in options.notes)
    sizes = {}
    for example in [*data.train, *data.validation]:
        sizes.setdefault((example.path.parent.name, example.path.name), []).append(example.resolution)
    assert all(found == ([64, 128] if folder == "cats" else [96]) for (folder, _), found in sizes.items())
    assert len({e.path for e in data.validation}) == 2 and not {e.path for e in data.train} & {e.path for e in data.validation}


def test_the_runs_size_is_the_largest_where_every_folder_has_its_own(world):
    """For samples, and for what has none."""
    values = {"output_dir": str(world / "run"), "datasets": [{**PEOPLE, "folder": "p"}, {"folder": "a", "resolution": [512, 768]}]}
    options = build(ImageConfig, values)
    assert options.resolution == 768 and list_sources(options)[1].config.resolution == 768
    assert build(ImageConfig, {**values, "datasets": [*values["datasets"], "b"]}).resolution == 512
    assert build(ImageConfig, {**values, "resolution": 640}).resolution == 640


def test_sizes_that_come_to_the_same_are_told():
    said = "Resolutions 512 and 540 come to the same sizes. Lower bucket_reso_steps, which is 64, or leave one out."
    assert said in build(ImageConfig, {"datasets": [{"folder": "a", "resolution": [512, 540, 768]}]}).notes
    assert said not in build(ImageConfig, {"resolution": [512, 540], "bucket_reso_steps": 8}).notes
    assert said in build(ImageConfig, {"resolution": [512, 540]}).notes


def test_one_entry_alone_is_what_the_folder_alone_is(world):
    plain = read_dataset(config(world, train_data_dir=str(world / "dogs"), trigger_word="zwx"))
    entry = read_dataset(config(world, {"folder": "dogs", "trigger_word": "zwx"}))
    assert entry.train == plain.train and entry.fingerprint(64) == plain.fingerprint(64)
    larger = read_dataset(config(world, {"folder": "dogs", "resolution": 128}))
    assert larger.fingerprint(64) != plain.fingerprint(64)


def test_metadata_in_a_folder_and_by_name(world):
    (world / "cats" / "metadata.csv").write_text("filename,prompt\npicture 0.png,a first cat\n", encoding="utf-8")
    (world / "dogs" / "own.csv").write_text("filename,prompt\npicture 3.png,a first dog\n", encoding="utf-8")
    options = config(world, {"folder": "cats"}, {"folder": "dogs", "metadata_path": "own.csv"})
    captions = {example.path.name: example.caption for example in read_dataset(options).train}
    assert captions["picture 0.png"] == "a first cat" and captions["picture 3.png"] == "a first dog"


def test_class_words_are_the_caption_where_there_is_none(world):
    for path in [*world.glob("cats/*.txt"), *world.glob("people/*.txt")]:
        path.unlink()
    data = read_dataset(config(world, {"folder": "cats", "class_words": "cat", "trigger_word": "zwx"}, PEOPLE))
    assert {(example.is_reg, example.caption) for example in data.train} == {(False, "cat"), (True, "person")}


def test_masks_are_each_folders_own(world):
    Image.new("L", (64, 64), 255).save(make_folder(world / "masks") / "picture 0.png")
    Image.new("L", (64, 64), 255).save(make_folder(world / "dog masks") / "picture 0.png")
    (world / "dogs" / "picture 3.png").rename(world / "dogs" / "picture 0.png")
    (world / "dogs" / "picture 3.txt").rename(world / "dogs" / "picture 0.txt")
    own = {"mask_dir": str(world / "dog masks")}
    run = {"masked_loss": True, "mask_dir": str(world / "masks")}
    data = read_dataset(config(world, {"folder": "cats"}, {"folder": "dogs", **own}, **run))
    masks = {example.path.parent.name: example.mask.parent.name for example in data.train if example.mask}
    assert masks == {"cats": "masks", "dogs": "dog masks"}
    with pytest.raises(UserError, match=r"cannot tell whose mask .* both have a picture of that name. Give each its own mask_dir"):
        read_dataset(config(world, {"folder": "cats"}, {"folder": "dogs"}, **run))


def make_folder(path):
    path.mkdir()
    return path


# -- what is wrong -----------------------------------------------------------------------------------------------------

WRONG = {
    "a mistyped key": ([{"folder": "cats", "repeat_s": 2}], "entry 1 of datasets.*'repeat_s'.*it is written 'repeats'"),
    "nearly a key": ([{"folder": "cats"}, {"folder": "dogs", "flip_agu": True}], "entry 2 of datasets.*Did you mean 'flip_aug'"),
    "sd-scripts' key": ([{"folder": "cats", "num_repeats": 2}], "here it is called 'repeats'"),
    "a key of the run": ([{"folder": "cats", "lora_rank": 4}], "it holds for the whole run, and stands beside datasets"),
    "no folder": ([{"repeats": 2}], "entry 1 of datasets: cannot find its pictures: it names no folder"),
    "a number": ([{"folder": "cats"}, 7], "entry 2 of datasets: cannot read 7"),
    "no number": ([{"folder": "cats", "repeats": "often"}], "cannot set repeats to 'often': it takes a whole number"),
    "out of range": ([{"folder": "cats", "weight": -1}], "cannot set weight to -1.0: it must be at least 0"),
    "two kinds of sizes": ([{"folder": "cats", "resolution": 96, "resolutions": [64, 128]}], "at resolution 96 and at resolutions"),
    "a size too small": ([{"folder": "cats", "resolutions": [8, 64]}], "cannot set resolutions to 8"),
    "buckets": ([{"folder": "cats", "min_bucket_reso": 2048}], "entry 1 of datasets: cannot make buckets"),
    "masks for nothing": ([{"folder": "cats", "mask_dir": "x"}], "entry 1 of datasets: cannot use mask_dir: masked_loss is off"),
    "no list": ([], "datasets to 5: it takes a list"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_entry_is_named(world, name):
    entries, said = WRONG[name]
    with pytest.raises(UserError, match=said) as caught:
        if entries and isinstance(entries[-1], int):
            build(ImageConfig, {"datasets": entries})
        else:
            config(world, *entries, **({} if entries else {"datasets": 5}))
    assert str(caught.value).startswith("cannot ")


MISSING = {
    "missing": ([{"folder": "cats"}, {"folder": "dgos"}], r"there is no such folder. Did you mean .*dogs\? Correct entry 2 of datasets"),
    "twice": ([{"folder": "cats"}, {"folder": "cats", "resolution": 128}], "as entry 2 of datasets: it is entry 1 of datasets already"),
    "regularisation alone": ([PEOPLE], "datasets has regularisation only"),
    "empty": ([{"folder": "cats"}, {"folder": "none"}], "the folder is empty.*correct entry 2 of datasets"),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_folder_that_cannot_be_used_is_said_in_a_moment(world, name):
    (world / "none").mkdir()
    entries, said = MISSING[name]
    with pytest.raises(UserError, match=said):
        check_pictures(config(world, *entries))


def test_the_same_picture_in_two_folders_is_told(world):
    (world / "dogs" / "again.png").write_bytes((world / "cats" / "picture 1.png").read_bytes())
    (world / "dogs" / "again.txt").write_text("again", encoding="utf-8")
    with pytest.raises(UserError, match="it is the same picture as"):
        read_dataset(config(world, {"folder": "cats"}, {"folder": "dogs"}))


def test_repeats_that_go_before_folders_names_are_told(world):
    data = read_dataset(config(world, {"folder": "cats"}, {"folder": "dogs", "repeats": 3}))
    assert {e.repeats for e in data.train if e.path.parts[-2] != "cats"} == {3}
    assert [note for note in data.notes if "dogs 3 times, as repeats says, and not as often as the name of 5_puppies does" in note]


def test_options_are_written_and_read_again_as_they_are(world):
    options = config(world, CATS, DOGS, PEOPLE)
    again = build(ImageConfig, as_plain(options))
    assert as_plain(again) == as_plain(options) and [entry["folder"] for entry in again.datasets] == [
        str(world / e["folder"]) for e in (CATS, DOGS, PEOPLE)
    ]
    assert build(ImageConfig, {"datasets": ["a", {"folder": "b"}]}).datasets == [{"folder": "a"}, {"folder": "b"}]


@pytest.mark.parametrize("key", ["folder", "metadata_path", "mask_dir"])
def test_no_entry_leads_out_of_the_folders_that_are_allowed(world, key):
    (world / "elsewhere").mkdir()
    access = Access([world / "cats"])
    access.check(config(world, {"folder": "cats"}, masked_loss=True))
    with pytest.raises(UserError, match="elsewhere"):
        access.check(
            config(
                world,
                {"folder": "cats", key: str(world / "elsewhere")} | ({} if key != "folder" else {"folder": "elsewhere"}),
                masked_loss=True,
            )
        )
    with pytest.raises(UserError, match="elsewhere"):
        access.check(config(world, {"folder": "cats", "metadata_path": "../elsewhere/a.csv"}))


# -- what people see ---------------------------------------------------------------------------------------------------


def test_the_album_shows_every_folder_by_its_name(world):
    make_pictures(world / "more" / "cats", 1, first=20)
    view = look_at_pictures(config(world, CATS, DOGS, {"folder": "more/cats"}, PEOPLE))
    assert {"cats/picture 0.png", "dogs/5_puppies/picture 4.png", "cats (2)/picture 20.png", "people/picture 5.png"} <= {
        e.name for e in view.examples
    }
    facts = dict(view.facts)
    assert facts["pictures"] == "6" and facts["per epoch with repeats"] == str(2 * 3 + 2 * (1 + 5) + 1)
    assert "96x96 (3)" in facts["trained at"] and "128x128 (1)" in facts["trained at"]


def test_the_runs_own_folder_keeps_its_names_and_no_two_pictures_share_one(world):
    make_pictures(world / "cats" / "dogs", 1, first=20)
    names = [example.name for example in look_at_pictures(config(world, {"folder": "dogs"}, train_data_dir=str(world / "cats"))).examples]
    assert {"picture 0.png", "dogs/picture 20.png", "dogs (2)/picture 3.png"} <= set(names) and len(set(names)) == len(names) == 6


def test_a_trigger_word_is_put_before_its_own_folders_captions(world):
    options = config(world, CATS, {"folder": "dogs", "trigger_word": "dgx"})
    PictureEditor(len).change(options, {"operation": "trigger"})
    captions = {name: found.caption for name, found in list_captions(options).items()}
    assert captions["cats/picture 0.png"] == "zwx, red square, number 0"
    assert captions["dogs/picture 3.png"] == "dgx, yellow square, number 3"


def test_the_health_report_looks_at_every_folder_by_its_own_options(world):
    for number in range(20, 26):
        make_pictures(world / "flat", 1, (512, 512), first=number)
    for path in world.glob("flat/*.txt"):
        path.write_text(f"flx, thing {path.stem}", encoding="utf-8")
    large = config(world, {"folder": "cats"}, {"folder": "dogs", "resolution": 512}, {"folder": "flat", "resolution": 512}, PEOPLE)
    found = {finding.kind: finding for finding in report_health(large)}
    assert sorted(found["small"].names) == ["dogs/5_puppies/picture 4.png", "dogs/picture 3.png"]
    assert found["everywhere"].names == tuple(f"flat/picture {number}.png" for number in range(20, 26))
    named = config(world, {"folder": "cats"}, {"folder": "flat", "resolution": 512, "trigger_word": "flx"})
    assert not [finding for finding in report_health(named) if finding.kind == "everywhere"]


# -- what a file tells -------------------------------------------------------------------------------------------------


def test_folders_are_told_in_the_forms_of_sd_scripts(world):
    """A name that is taken gets a number there: train_network.py, `ss_dataset_dirs`."""
    make_pictures(world / "more" / "cats", 1, first=20)
    options = config(world, CATS, DOGS, {"folder": "more/cats"}, PEOPLE, batch_size=3)
    stock = make_stock(options)
    data, fits = stock.dataset, stock.fits
    assert count_folders(data) == {
        "cats": {"n_repeats": 2, "img_count": 3},
        "dogs": {"n_repeats": 1, "img_count": 1},
        "dogs (2)": {"n_repeats": 1, "img_count": 1},
        "5_puppies": {"n_repeats": 5, "img_count": 1},
        "5_puppies (2)": {"n_repeats": 5, "img_count": 1},
        "cats (2)": {"n_repeats": 1, "img_count": 1},
    }
    assert count_folders(data, is_reg=True) == {"people": {"n_repeats": 1, "img_count": 5}}
    tags = count_tags(data)
    assert tags["cats"] == {"zwx": 3, "red square": 1, "green square": 1, "blue square": 1, "number 0": 1, "number 1": 1, "number 2": 1}
    assert tags["dogs"] == {"yellow square": 1, "number 3": 1} and "dogs (2)" not in tags
    told = {entry["resolution"][0]: entry for entry in list_datasets(data, fits, 3)}
    assert sorted(told) == [64, 96, 128]
    assert (told[64]["num_train_images"], told[64]["num_reg_images"], told[96]["num_train_images"]) == (1 + 5 + 1, 19, 6)
    (cats,) = told[96]["subsets"]
    assert (cats["image_dir"], cats["num_repeats"], cats["img_count"], cats["flip_aug"], cats["is_reg"]) == ("cats", 2, 3, True, False)
    assert [subset["image_dir"] for subset in told[64]["subsets"]] == ["dogs", "5_puppies", "cats", "people"]
    assert told[64]["subsets"][-1]["class_tokens"] == "person" and told[64]["subsets"][1]["class_tokens"] == "puppies"
    assert told[96]["bucket_info"]["buckets"] == {"0": {"resolution": [96, 96], "count": 6}}


def test_memory_does_not_grow_with_the_pictures(tmp_path):
    """Latents on the disk are not held, whatever folder and size they are of."""

    def peak(count):
        folder = tmp_path / str(count)
        make_pictures(folder / "a", count), make_pictures(folder / "b", count, first=1000)
        options = {
            "output_dir": str(folder / "run"),
            "min_bucket_reso": 64,
            "resolutions": [256, 512],
            "datasets": [str(folder / "a"), str(folder / "b")],
        }
        stock = make_stock(build(ImageConfig, options))
        list(stock.fill())
        tracemalloc.start()
        for place in range(len(stock.examples)):
            stock.latent(place, random_of(place))
        held, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    few, many = peak(3), peak(12)
    assert many < few + 100_000  # one latent at 512 pixels has 131 kB
