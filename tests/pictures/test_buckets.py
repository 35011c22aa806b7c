import random
from collections import Counter
from pathlib import Path

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.options import build
from hotlora.pictures.batches import plan_batches
from hotlora.pictures.buckets import Fit, bucket_info, bucket_sizes, choose_bucket, crop_offset
from hotlora.pictures.dataset import Example
from hotlora.sd.config import ImageConfig


def config(**values) -> ImageConfig:
    return build(ImageConfig, values)


def test_sizes_at_512_are_sd_scripts():
    wide = [(256, 832), (256, 896), (256, 960), (256, 1024), (320, 704), (320, 768), (384, 640), (448, 576)]
    expected = sorted(wide + [(512, 512)] + [(h, w) for w, h in wide])
    assert bucket_sizes(512, 256, 1024, 64) == expected
    assert len(expected) == 17


@pytest.mark.parametrize("resolution, longest, count", [(1024, 1024, 25), (1024, 2048, 41)])
def test_number_of_sizes_is_sd_scripts(resolution, longest, count):
    assert len(bucket_sizes(resolution, 256, longest, 64)) == count


@pytest.mark.parametrize(
    "resolution, shortest, longest, step", [(512, 256, 1024, 64), (768, 300, 1000, 8), (1024, 512, 2048, 32), (96, 32, 256, 8)]
)
def test_sizes_keep_to_area_limits_and_step(resolution, shortest, longest, step):
    for width, height in bucket_sizes(resolution, shortest, longest, step):
        assert width % step == height % step == 0
        assert width * height <= resolution**2
        assert min(width, height) > shortest - step and max(width, height) < longest + step


def test_demo_model_trains_in_64_pixel_squares():
    options = config(resolution=64, min_bucket_reso=64, max_bucket_reso=64)
    assert choose_bucket(128, 128, options) == Fit((64, 64), (64, 64))
    assert choose_bucket(200, 100, options) == Fit((64, 64), (128, 64))
    assert choose_bucket(128, 128, config(resolution=64)) == Fit((64, 64), (64, 64)), "default limits leave the square"


@pytest.mark.parametrize(
    "values, word",
    [
        ({"bucket_reso_steps": 12}, "bucket_reso_steps"),
        ({"resolution": 64, "bucket_reso_steps": 128}, "resolution"),
        ({"resolution": 100, "enable_bucket": False}, "resolution: 96"),
        ({"min_bucket_reso": 1024, "max_bucket_reso": 512}, "min_bucket_reso"),
    ],
)
def test_impossible_buckets_are_refused_with_the_option_to_change(values, word):
    with pytest.raises(UserError, match=word):
        config(**values)


def test_a_step_that_latents_cannot_follow_is_refused():
    with pytest.raises(UserError, match="multiple of 8"):
        config(bucket_reso_steps=20)


@pytest.mark.parametrize(
    "size, bucket, scaled",
    [
        ((512, 512), (512, 512), (512, 512)),
        ((4000, 3000), (576, 448), (597, 448)),  # 1.333: 576/448 = 1.286 is nearer than 640/384 = 1.667
        ((3000, 4000), (448, 576), (448, 597)),
        ((256, 832), (256, 832), (256, 832)),  # a bucket's own size is taken as it is
        ((100, 100), (512, 512), (512, 512)),  # enlarged
        ((800, 1000), (448, 576), (461, 576)),
        ((5000, 100), (1024, 256), (12800, 256)),
    ],
)
def test_nearest_aspect_ratio_is_chosen_and_covered(size, bucket, scaled):
    assert choose_bucket(*size, config(resolution=512)) == Fit(bucket, scaled)


def test_choice_is_the_first_nearest_ratio_for_any_size():
    sizes, rng = bucket_sizes(512, 256, 1024, 64), random.Random(3)
    for _ in range(300):
        width, height = rng.randint(20, 3000), rng.randint(20, 3000)
        fit = choose_bucket(width, height, config(resolution=512))
        if (width, height) not in sizes:
            errors = [abs(w / h - width / height) for w, h in sizes]
            assert sizes.index(fit.bucket) == errors.index(min(errors))
        assert fit.scaled[0] >= fit.bucket[0] and fit.scaled[1] >= fit.bucket[1]
        assert fit.scaled[0] == fit.bucket[0] or fit.scaled[1] == fit.bucket[1]


@pytest.mark.parametrize(
    "size, bucket, scaled",
    [
        ((300, 200), (256, 192), (300, 200)),  # keeps its size, loses what is over a multiple of 64
        ((512, 512), (512, 512), (512, 512)),
        ((2000, 100), (1984, 64), (2000, 100)),  # sides beyond min_bucket_reso and max_bucket_reso are allowed
        ((1000, 1000), (512, 512), (512, 512)),
        # by width: sqrt(512² · 4/3) = 591 -> 576, and 576 · 3/4 = 432 -> 384: ratio 1.5, off by 0.167
        # by height: 512² / 591 = 443 -> 384, and 384 · 4/3 = 512: ratio 1.333, off by nothing
        ((4000, 3000), (512, 384), (512, 384)),
    ],
)
def test_no_upscale_never_enlarges(size, bucket, scaled):
    assert choose_bucket(*size, config(resolution=512, bucket_no_upscale=True)) == Fit(bucket, scaled)


def test_no_upscale_enlarges_only_what_is_narrower_than_one_step():
    assert choose_bucket(20, 40, config(resolution=512, bucket_no_upscale=True)) == Fit((64, 64), (64, 128))


def test_no_upscale_scales_down_and_covers_any_size():
    rng, options = random.Random(5), config(resolution=512, bucket_no_upscale=True)
    for _ in range(300):
        width, height = rng.randint(64, 4000), rng.randint(64, 4000)
        fit = choose_bucket(width, height, options)
        assert fit.bucket[0] % 64 == fit.bucket[1] % 64 == 0
        assert fit.bucket[0] <= fit.scaled[0] and fit.bucket[1] <= fit.scaled[1]
        if width * height <= 512 * 512:
            assert fit.scaled == (width, height)
        else:
            assert fit.scaled[0] < fit.bucket[0] + 64 and fit.scaled[1] < fit.bucket[1] + 64


def test_without_buckets_everything_is_square():
    options = config(resolution=200, enable_bucket=False)
    assert choose_bucket(400, 100, options) == Fit((200, 200), (800, 200))
    assert choose_bucket(100, 400, options) == Fit((200, 200), (200, 800))


def test_crop_is_the_middle_or_anywhere():
    fit = Fit((1024, 1024), (1024, 1280))
    assert crop_offset(fit) == (128, 0)
    assert crop_offset(Fit((512, 512), (597, 512))) == (0, 42)
    rng = random.Random(0)
    offsets = {crop_offset(Fit((8, 8), (10, 9)), rng) for _ in range(200)}
    assert offsets == {(top, left) for top in (0, 1) for left in (0, 1, 2)}


def test_bucket_info_is_kohyas():
    fits = [Fit((512, 512), (512, 512)), Fit((448, 576), (448, 597)), Fit((512, 512), (512, 512))]
    info = bucket_info([(100, 100), (300, 400), (7, 7)], fits, [1, 10, 2])
    assert info["buckets"] == {"0": {"resolution": [448, 576], "count": 10}, "1": {"resolution": [512, 512], "count": 3}}
    assert info["mean_img_ar_error"] == pytest.approx((448 / 576 - 300 / 400) / 3)


# -- batches -------------------------------------------------------------------------------------------------------------


def example(repeats: int = 1) -> Example:
    return Example(Path("a.png"), "a", repeats, False, None, (8, 8), "", "a")


def mixed(count: int = 40):
    fits = [Fit(((64, 64), (64, 128), (128, 64))[i % 3], (128, 128)) for i in range(count)]
    return [example(1 + i % 4) for i in range(count)], fits


def test_every_example_comes_as_often_as_it_repeats():
    examples, fits = mixed()
    batches = plan_batches(examples, fits, 4, epoch=0, seed=1)
    assert Counter(i for batch in batches for i in batch) == {i: e.repeats for i, e in enumerate(examples)}


def test_batches_never_mix_buckets_and_only_one_per_bucket_is_short():
    examples, fits = mixed()
    batches = plan_batches(examples, fits, 4, epoch=0, seed=1)
    assert all(len({fits[i].bucket for i in batch}) == 1 for batch in batches)
    short = Counter(fits[batch[0]].bucket for batch in batches if len(batch) < 4)
    assert all(count == 1 for count in short.values())


def test_plan_depends_on_its_arguments_alone():
    examples, fits = mixed()
    state = random.getstate()
    plans = [plan_batches(examples, fits, 4, epoch=e, seed=s) for e, s in ((0, 42), (1, 42), (0, 43))]
    random.seed(99)
    again = [plan_batches(examples, fits, 4, epoch=e, seed=s) for e, s in ((0, 42), (1, 42), (0, 43))]
    random.setstate(state)
    assert plans == again
    assert plans[0] != plans[1] and plans[0] != plans[2] and plans[1] != plans[2]


def test_shuffled_inside_and_across_buckets():
    examples, fits = [example() for _ in range(60)], [Fit(((64, 64), (64, 128))[i < 30], (128, 128)) for i in range(60)]
    batches = plan_batches(examples, fits, 2, epoch=0, seed=1)
    order = [fits[batch[0]].bucket for batch in batches]
    assert order != sorted(order) and order != sorted(order, reverse=True)
    assert any(abs(a - b) > 1 for a, b in batches)
