import contextlib
import sys

import numpy as np
import pytest
import torch
from hotlora.engine.errors import UserError
from hotlora.pictures import reading as pictures
from hotlora.pictures.buckets import Fit
from hotlora.pictures.reading import check_picture, cut_mask, cut_pixels, read_mask, read_picture, read_size
from PIL import Image, ImageOps

with contextlib.suppress(ImportError):
    import pillow_avif  # noqa: F401  registers itself with Pillow

AVIF = ".avif" in Image.registered_extensions()
RED, BLUE, GREEN = (200, 10, 20), (10, 20, 200), (20, 180, 30)


def gradient(width: int = 24, height: int = 16) -> Image.Image:
    """A picture in which no two pixels of a row or column are alike."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 10, y * 12, (x + y) * 5], axis=-1).astype(np.uint8))


def largest_difference(a: Image.Image, b: Image.Image) -> int:
    assert a.size == b.size
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max())


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".jpg", ".jpeg", ".PNG"])
def test_formats_give_what_was_saved(tmp_path, suffix):
    path = tmp_path / f"ein Bild ü{suffix}"
    lossless = {"lossless": True} if suffix == ".webp" else {}
    flat = Image.new("RGB", (24, 16), RED) if suffix.startswith(".j") else gradient()
    flat.save(path, **lossless)
    assert read_size(path) == (24, 16) == check_picture(path.read_bytes(), path)[0]
    assert largest_difference(read_picture(path).rgb, flat) <= (3 if suffix.startswith(".j") else 0)


@pytest.mark.skipif(not AVIF, reason="this Pillow cannot write AVIF")
def test_avif(tmp_path):
    path = tmp_path / "a.avif"
    Image.new("RGB", (24, 16), RED).save(path)
    assert read_size(path) == (24, 16) == check_picture(path.read_bytes(), path)[0]
    assert largest_difference(read_picture(path).rgb, Image.new("RGB", (24, 16), RED)) <= 4


def test_avif_without_a_decoder_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "a.avif"
    path.write_bytes(b"\0\0\0\x20ftypavif" + bytes(40))
    monkeypatch.setattr(Image, "registered_extensions", dict)
    monkeypatch.setitem(sys.modules, "pillow_avif", None)  # makes its import fail
    for look in (read_picture, read_size):
        with pytest.raises(UserError, match=r"a\.avif.*pillow-avif-plugin"):
            look(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_rotation_is_applied_as_pillow_does(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    gradient().save(path, exif=exif, quality=95)
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert largest_difference(read_picture(path).rgb, expected) == 0
    assert read_size(path) == expected.size == check_picture(path.read_bytes(), path)[0]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_is_no_reason_to_refuse(tmp_path):
    path = tmp_path / "a.jpg"
    gradient().save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken")
    assert read_size(path) == (24, 16) == read_picture(path).rgb.size


def test_transparency_is_put_on_white(tmp_path):
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 255))
    image.putpixel((0, 0), (255, 0, 0, 0))
    image.putpixel((1, 0), (100, 0, 0, 128))
    image.save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture.rgb.getpixel((0, 0)) == (255, 255, 255)
    assert picture.rgb.getpixel((2, 0)) == (0, 0, 0)
    mixed = [round(c * 128 / 255 + 255 * 127 / 255) for c in (100, 0, 0)]
    assert np.abs(np.array(picture.rgb.getpixel((1, 0))) - mixed).max() <= 1
    assert picture.alpha.getpixel((0, 0)) == 0 and picture.alpha.getpixel((1, 0)) == 128


def test_an_opaque_alpha_channel_is_none(tmp_path):
    gradient().convert("RGBA").save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture.alpha is None
    assert largest_difference(picture.rgb, gradient()) == 0


def test_palette_with_transparent_entry(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=1)
    picture = read_picture(tmp_path / "a.png")
    assert [picture.rgb.getpixel((x, 0)) for x in (0, 1)] == [RED, (255, 255, 255)]
    assert [picture.alpha.getpixel((x, 0)) for x in (0, 1)] == [255, 0]


def test_palette_greyscale_and_one_bit(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.save(tmp_path / "p.png")
    Image.new("L", (2, 1), 77).save(tmp_path / "l.png")
    Image.new("LA", (2, 1), (77, 0)).save(tmp_path / "la.png")
    Image.new("1", (2, 1), 1).save(tmp_path / "1.png")
    colors = {name: read_picture(tmp_path / f"{name}.png").rgb.getpixel((0, 0)) for name in ("p", "l", "la", "1")}
    assert colors == {"p": RED, "l": (77, 77, 77), "la": (255, 255, 255), "1": (255, 255, 255)}


def test_cmyk(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.rgb.mode == "RGB"
    assert np.abs(np.array(picture.rgb.getpixel((8, 8))) - (255, 0, 0)).max() <= 4
    assert check_picture((tmp_path / "a.jpg").read_bytes(), tmp_path / "a.jpg")[0] == (16, 16)


def test_16_bit_greyscale_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257, 128 * 257, 200 * 257, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    rgb = read_picture(tmp_path / "a.png").rgb
    assert [rgb.getpixel((x, 0)) for x in range(5)] == [(v, v, v) for v in (0, 1, 128, 200, 255)]


def test_16_bit_in_mode_i_too():
    image = Image.fromarray(np.array([[0, 128 * 257, 65535]], dtype=np.int32))
    assert image.mode == "I"
    rgb = pictures._flatten(image).rgb
    assert [rgb.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_truncated_files_are_named(tmp_path, suffix):
    rng = np.random.default_rng(0)
    path = tmp_path / f"halb{suffix}"
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    for look in (read_picture, lambda p: check_picture(p.read_bytes(), p)):
        with pytest.raises(UserError, match=f"halb{suffix}"):
            look(path)


def test_not_a_picture_empty_and_missing_are_named(tmp_path):
    (tmp_path / "text.png").write_text("<html>404</html>", encoding="utf-8")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, reason in (("text.png", "no picture"), ("empty.png", "empty"), ("gone.png", "No such file")):
        for look in (read_picture, read_size):
            with pytest.raises(UserError, match=f"{name}.*{reason}"):
                look(tmp_path / name)


@pytest.mark.parametrize("host_limit", [None, 50])
def test_decompression_bombs_are_named(tmp_path, monkeypatch, host_limit):
    gradient().save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", host_limit)
    monkeypatch.setattr(pictures, "_MAX_PIXELS", 24 * 16 - 1)
    for look in (read_picture, read_size, lambda p: check_picture(p.read_bytes(), p)):
        with pytest.raises(UserError, match=r"bomb\.png.*pixels"):
            look(tmp_path / "bomb.png")


def test_size_is_read_without_decoding(tmp_path):
    path = tmp_path / "a.png"
    gradient().save(path)
    path.write_bytes(path.read_bytes()[:60])  # header and nothing else
    assert read_size(path) == (24, 16)


@pytest.mark.parametrize(
    "scaled, bucket, top_left", [((96, 64), (64, 64), (0, 16)), ((12, 8), (8, 8), (0, 2)), ((24, 16), (16, 16), (0, 3))]
)
def test_cut_equals_scaling_everything_and_cropping(scaled, bucket, top_left):
    image, (top, left) = gradient(), top_left
    whole = image.resize(scaled, Image.Resampling.LANCZOS).crop((left, top, left + bucket[0], top + bucket[1]))
    expected = torch.from_numpy(np.asarray(whole).astype(np.float32)).permute(2, 0, 1) / 255 * 2 - 1
    pixels = cut_pixels(image, Fit(bucket, scaled), top_left)
    assert pixels.shape == (3, bucket[1], bucket[0]) and pixels.dtype == torch.float32
    assert (pixels - expected).abs().max() <= 2.01 / 127.5


def test_pixel_values_span_minus_one_to_one():
    image = Image.new("RGB", (8, 8), (0, 255, 127))
    red, green, blue = cut_pixels(image, Fit((8, 8), (8, 8)), (0, 0))
    assert (red == -1).all() and (green == 1).all() and blue.abs().max() < 0.005


def test_shrinking_averages_instead_of_aliasing():
    board = Image.fromarray((np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    pixels = cut_pixels(board, Fit((16, 16), (16, 16)), (0, 0))
    assert pixels.abs().max() < 0.06  # all grey


def test_a_very_long_picture_is_not_blown_up_as_a_whole():
    image = Image.new("RGB", (20_000, 2), RED)
    fit = Fit((64, 64), (640_000, 64))
    assert cut_pixels(image, fit, (0, 319_968)).shape == (3, 64, 64)


def test_mask_is_averaged_to_latent_size():
    mask = Image.new("L", (32, 16), 0)
    mask.paste(255, (12, 0, 32, 16))
    values = cut_mask(mask, Fit((32, 16), (32, 16)), (0, 0), 8)
    assert values.shape == (1, 2, 4)
    assert torch.equal(values, torch.tensor([[[0, 0.5, 1, 1], [0, 0.5, 1, 1]]]))


def test_mask_of_another_size_is_stretched_over_the_picture():
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 64))
    values = cut_mask(mask, Fit((16, 32), (32, 32)), (0, 16), 8)
    assert values.shape == (1, 4, 2)
    assert values.min() > 0.9  # the right half


def test_mask_file_is_read_as_brightness(tmp_path):
    Image.new("RGB", (8, 8), "white").save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png")
    assert mask.mode == "L" and mask.getextrema() == (255, 255)


def test_multi_picture_jpegs_of_phones_pass_the_check(tmp_path):
    path = tmp_path / "a.jpg"
    gradient(64, 48).save(path, format="MPO", save_all=True, append_images=[gradient(64, 48)])
    assert check_picture(path.read_bytes(), path)[0] == (64, 48) == read_picture(path).rgb.size
