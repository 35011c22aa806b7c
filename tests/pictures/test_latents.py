import dataclasses
import gc
import hashlib
import os
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.pictures.buckets import Fit
from hotlora.pictures.dataset import Example
from hotlora.pictures.latents import LatentCache
from hotlora.sd.config import ImageConfig
from PIL import Image


class Encoder:
    """Stands in for a VAE: averages 8x8 pixels, and remembers how many pictures it was given at once."""

    def __init__(self):
        self.batches: list[int] = []

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.batches.append(len(pixels))
        small = torch.nn.functional.avg_pool2d(pixels, 8)
        mean = torch.cat([small, small.mean(1, keepdim=True)], dim=1)
        return mean, mean.abs() + 0.1

    @property
    def pictures(self) -> int:
        return sum(self.batches)


def make_example(path: Path, seed: int = 0, size=(80, 64), **fields) -> Example:
    noise = np.random.default_rng(seed).integers(0, 255, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size).save(path)
    return Example(path, "a", 1, False, None, size, digest_of(path), "f", **fields)


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def config(**values) -> ImageConfig:
    return build(ImageConfig, {"resolution": 64, "min_bucket_reso": 32, "max_bucket_reso": 128, "bucket_reso_steps": 32, **values})


def make_cache(folder: Path, encoder=None, vae="vae 1", **values) -> LatentCache:
    return LatentCache(encoder or Encoder(), vae, config(**values), folder)


SQUARE = Fit((64, 64), (80, 64))


@pytest.fixture
def example(tmp_path) -> Example:
    return make_example(tmp_path / "bild ü.png")


def files(folder: Path) -> list[Path]:
    return sorted((folder / "latents").rglob("*.safetensors"))


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_filled_once_and_the_same_ever_after(tmp_path, example, where):
    encoder = Encoder()
    cache = make_cache(tmp_path / "c", encoder, cache_latents=where)
    list(cache.fill([(example, SQUARE)]))
    first, second = cache.get(example, SQUARE), cache.get(example, SQUARE)
    assert encoder.pictures == 1
    # written out again: the middle 64 columns, -1..1, averaged over 8x8 blocks
    pixels = torch.from_numpy(np.asarray(Image.open(example.path))[:, 8:72].astype(np.float32)).permute(2, 0, 1) / 127.5 - 1
    blocks = pixels.reshape(3, 8, 8, 8, 8).mean(dim=(2, 4))
    for latent in (first, second):
        assert torch.allclose(latent.mean[:3], blocks, atol=1e-5)
        assert torch.allclose(latent.std[:3], blocks.abs() + 0.1, atol=1e-5)
        assert latent.mean.shape == (4, 8, 8) and latent.mean.dtype == latent.std.dtype == torch.float32
        assert latent.mask is None


def test_default_is_the_disk_and_survives_a_restart(tmp_path, example):
    list(make_cache(tmp_path / "c").fill([(example, SQUARE)]))
    (file,) = files(tmp_path / "c")
    assert file.parent.name == file.name[:2]
    encoder = Encoder()
    again = make_cache(tmp_path / "c", encoder)
    progress = list(again.fill([(example, SQUARE)]))
    assert again.get(example, SQUARE).mean.shape == (4, 8, 8)
    assert encoder.pictures == 0
    assert (progress[-1].done, progress[-1].total) == (1, 1)


def test_memory_mode_writes_nothing(tmp_path, example):
    list(make_cache(tmp_path / "c", cache_latents="memory").fill([(example, SQUARE)]))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"vae": "vae 2"},
        {"fit": Fit((64, 64), (96, 77))},
        {"fit": Fit((32, 64), (80, 64))},
        {"picture": True},
        {"flipped": True},
        {"masked_loss": True},
    ],
)
def test_nothing_old_is_used_when_anything_changed(tmp_path, example, change):
    list(make_cache(tmp_path / "c").fill([(example, SQUARE)]))
    old = make_cache(tmp_path / "c").get(example, SQUARE)
    encoder = Encoder()
    values = {"masked_loss": True} if "masked_loss" in change else {}
    cache = make_cache(tmp_path / "c", encoder, vae=change.get("vae", "vae 1"), **values)
    if "picture" in change:
        example = make_example(example.path, seed=1)
    new = cache.get(example, change.get("fit", SQUARE), change.get("flipped", False))
    assert encoder.pictures == 1
    if "vae" not in change and "masked_loss" not in change:
        assert new.mean.shape != old.mean.shape or not torch.equal(new.mean, old.mean)


def test_a_moved_picture_keeps_its_latent(tmp_path, example):
    list(make_cache(tmp_path / "c").fill([(example, SQUARE)]))
    moved = example.path.rename(tmp_path / "other.png")
    encoder = Encoder()
    make_cache(tmp_path / "c", encoder).get(dataclasses.replace(example, path=moved, caption="b"), SQUARE)
    assert encoder.pictures == 0


def test_a_picture_changed_after_the_check_is_named(tmp_path, example):
    make_example(example.path, seed=5)
    with pytest.raises(UserError, match="bild ü.png.*changed"):
        list(make_cache(tmp_path / "c").fill([(example, SQUARE)]))


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-50] ^= 1
    path.write_bytes(data)


def damage_garbage(path: Path) -> None:
    path.write_bytes(b"not safetensors")


@pytest.mark.parametrize("damage", [damage_truncate, damage_flip_a_bit, damage_garbage, os.unlink])
def test_a_damaged_file_is_encoded_again(tmp_path, example, damage):
    cache = make_cache(tmp_path / "c")
    list(cache.fill([(example, SQUARE)]))
    good = cache.get(example, SQUARE)
    damage(files(tmp_path / "c")[0])
    encoder = Encoder()
    repaired = make_cache(tmp_path / "c", encoder).get(example, SQUARE)
    assert encoder.pictures == 1 and torch.equal(repaired.mean, good.mean)
    assert make_cache(tmp_path / "c", encoder).get(example, SQUARE) is not None
    assert encoder.pictures == 1, "it was stored again"


@pytest.mark.parametrize("damage", [damage_truncate, damage_garbage, os.unlink])
def test_fill_repairs_files_cut_short(tmp_path, example, damage):
    list(make_cache(tmp_path / "c").fill([(example, SQUARE)]))
    damage(files(tmp_path / "c")[0])
    encoder = Encoder()
    list(make_cache(tmp_path / "c", encoder).fill([(example, SQUARE)]))
    assert encoder.pictures == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", [0, 1])
def test_not_finite_names_the_picture_and_stores_nothing(tmp_path, bad, which):
    good, dark = make_example(tmp_path / "good.png", 1), make_example(tmp_path / "dark.png", 2)
    mean_of_dark = make_cache(tmp_path / "other").get(dark, SQUARE).mean

    def encode(pixels):
        result = Encoder()(pixels)
        index = next(i for i, mean in enumerate(result[0]) if torch.equal(mean, mean_of_dark))
        result[which][index, 0, 0, 0] = bad
        return result

    with pytest.raises(UserError, match=r"dark\.png.*fp32"):
        list(make_cache(tmp_path / "c", encode, vae_batch_size=2).fill([(good, SQUARE), (dark, SQUARE)]))
    assert files(tmp_path / "c") == []


def test_batches_hold_pictures_of_one_bucket(tmp_path):
    encoder = Encoder()
    pairs = [(make_example(tmp_path / f"{i}.png", i), SQUARE if i % 2 else Fit((64, 32), (64, 51))) for i in range(10)]
    progress = list(make_cache(tmp_path / "c", encoder, vae_batch_size=2).fill(pairs))
    assert sorted(encoder.batches) == [1, 1, 2, 2, 2, 2]
    assert [p.done for p in progress] == sorted(p.done for p in progress)
    assert (progress[0].done, progress[-1].done, progress[-1].total) == (0, 10, 10)


def test_batching_does_not_mix_pictures_up(tmp_path):
    pairs = [(make_example(tmp_path / f"{i}.png", i), SQUARE) for i in range(5)]
    cache = make_cache(tmp_path / "c", vae_batch_size=3)
    list(cache.fill(pairs))
    for example, fit in pairs:
        alone = make_cache(tmp_path / f"alone {example.path.stem}").get(example, fit)
        assert torch.equal(cache.get(example, fit).mean, alone.mean)


def test_a_broken_off_fill_goes_on_where_it_was(tmp_path):
    pairs = [(make_example(tmp_path / f"{i}.png", i), SQUARE) for i in range(6)]
    fill = make_cache(tmp_path / "c").fill(pairs)
    for _ in range(4):  # the start, and three pictures
        next(fill)
    fill.close()
    encoder = Encoder()
    progress = list(make_cache(tmp_path / "c", encoder).fill(pairs))
    assert encoder.pictures == 3 and progress[0].done == 3


def test_flipping_is_encoded_separately(tmp_path, example):
    class Lopsided(Encoder):
        """Like a real VAE, it does not give the mirror image of the latent for the mirrored picture."""

        def __call__(self, pixels):
            mean, std = super().__call__(pixels)
            return mean + torch.arange(mean.shape[-1]) / 10, std

    encoder = Lopsided()
    cache = make_cache(tmp_path / "c", encoder, flip_aug=True)
    list(cache.fill([(example, SQUARE)]))
    assert encoder.pictures == 2
    plain, mirrored = cache.get(example, SQUARE), cache.get(example, SQUARE, True)
    assert encoder.pictures == 2
    slope = torch.arange(8) / 10
    assert torch.allclose(mirrored.mean - slope, (plain.mean - slope).flip(-1), atol=1e-5)
    assert not torch.allclose(mirrored.mean, plain.mean.flip(-1), atol=1e-2)


def test_size_ids_tell_where_the_picture_was_really_cut(tmp_path):
    example = make_example(tmp_path / "a.png", size=(80, 100))
    fit = Fit((64, 64), (64, 80))
    assert make_cache(tmp_path / "c").get(example, fit).size_ids() == (100, 80, 8, 0, 64, 64)
    wide = make_example(tmp_path / "b.png", size=(107, 64))
    fit = Fit((64, 64), (107, 64))
    cache = make_cache(tmp_path / "c")
    assert cache.get(wide, fit).size_ids() == (64, 107, 0, 21, 64, 64)
    assert cache.get(wide, fit, True).size_ids() == (64, 107, 0, 22, 64, 64), "mirrored, it is the right margin"


def test_random_crops_keep_nothing_and_say_where_they_are(tmp_path, example):
    encoder = Encoder()
    cache = make_cache(tmp_path / "c", encoder, crop="random")
    assert list(cache.fill([(example, SQUARE)])) == []
    latents = [cache.get(example, SQUARE, rng=random.Random(seed)) for seed in range(12)]
    assert encoder.pictures == 12 and files(tmp_path / "c") == []
    offsets = {latent.crop_top_left for latent in latents}
    assert len(offsets) > 3 and all(top == 0 and 0 <= left <= 16 for top, left in offsets)
    again = cache.get(example, SQUARE, rng=random.Random(3))
    assert torch.equal(again.mean, latents[3].mean)
    pixels = torch.from_numpy(np.array(Image.open(example.path))).permute(2, 0, 1).float() / 127.5 - 1
    left = again.crop_top_left[1]
    assert torch.allclose(again.mean, Encoder()(pixels[None, :, :, left : left + 64])[0][0], atol=1e-5)


def test_random_crop_without_rng_is_a_bug(tmp_path, example):
    with pytest.raises(ValueError):
        make_cache(tmp_path / "c", crop="random").get(example, SQUARE)


# -- masks ---------------------------------------------------------------------------------------------------------------


def with_alpha(path: Path) -> Example:
    """Transparent in the left half."""
    image = Image.new("RGBA", (64, 64), (10, 200, 30, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    image.save(path)
    return Example(path, "a", 1, False, None, (64, 64), digest_of(path), "f")


FULL = Fit((64, 64), (64, 64))


def test_alpha_is_the_mask(tmp_path):
    cache = make_cache(tmp_path / "c", masked_loss=True)
    latent = cache.get(with_alpha(tmp_path / "a.png"), FULL)
    assert latent.mask.shape == (1, 8, 8)
    assert latent.mask[..., :4].max() == 0 and latent.mask[..., 4:].min() == 1
    mirrored = cache.get(with_alpha(tmp_path / "a.png"), FULL, True)
    assert torch.equal(mirrored.mask, latent.mask.flip(-1))


def test_alpha_is_no_mask_unless_asked_for(tmp_path):
    assert make_cache(tmp_path / "c").get(with_alpha(tmp_path / "a.png"), FULL).mask is None


def test_a_mask_file_goes_before_alpha_and_a_new_one_is_used(tmp_path):
    def masked(colour) -> Example:
        Image.new("L", (32, 32), colour).save(tmp_path / "m.png")
        example = with_alpha(tmp_path / "a.png")
        return dataclasses.replace(example, mask=tmp_path / "m.png", mask_digest=digest_of(tmp_path / "m.png"))

    cache = make_cache(tmp_path / "c", masked_loss=True)
    assert (cache.get(masked(255), FULL).mask == 1).all()
    assert (cache.get(masked(0), FULL).mask == 0).all()


def test_mask_survives_the_disk(tmp_path):
    example = with_alpha(tmp_path / "a.png")
    first = make_cache(tmp_path / "c", masked_loss=True).get(example, FULL)
    encoder = Encoder()
    second = make_cache(tmp_path / "c", encoder, masked_loss=True).get(example, FULL)
    assert encoder.pictures == 0 and torch.equal(first.mask, second.mask)


# -- scale ---------------------------------------------------------------------------------------------------------------


def count_tensors() -> int:
    gc.collect()
    return sum(1 for o in gc.get_objects() if isinstance(o, torch.Tensor))


@pytest.mark.parametrize("where, kept_per_picture", [("disk", 0), ("memory", 2)])
def test_on_disk_memory_stays_flat(tmp_path, monkeypatch, where, kept_per_picture):
    """Of 2,000 pictures nothing may stay; the memory mode shows that this would be seen if it did."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # durability is not what is tested, and slow
    pictures = 2_000 if where == "disk" else 100
    fit = Fit((64, 64), (64, 64))
    pairs = []
    for i in range(pictures):
        path = tmp_path / f"{i}.bmp"
        Image.new("RGB", (8, 8), (i % 256, i // 256, 0)).save(path)
        pairs.append((Example(path, "a", 1, False, None, (8, 8), digest_of(path), "f"), fit))
    encoder = Encoder()
    cache = make_cache(tmp_path / "c", encoder, cache_latents=where, vae_batch_size=8)
    list(make_cache(tmp_path / "warm", cache_latents=where).fill(pairs[:1]))
    before = count_tensors()
    tracemalloc.start()
    most = max(progress.done for progress in cache.fill(pairs))
    for example, fit in pairs:
        cache.get(example, fit)
    gc.collect()
    # Python 3.10's pathlib interns file names, and the interpreter's table of those grows in large steps
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, "*pathlib*")])
    kept_bytes = sum(trace.size for trace in snapshot.traces)
    tracemalloc.stop()
    assert most == encoder.pictures == pictures
    assert count_tensors() - before == kept_per_picture * pictures
    if where == "disk":
        assert len(files(tmp_path / "c")) == pictures
        assert kept_bytes < 300_000, "less than 150 bytes a picture"
