"""Forty pictures of mixed quality, as people's folders have them: each finding goes to its culprits, and to no innocent neighbour."""

import numpy as np
import pytest
from hotlora.engine.options import build
from hotlora.pictures.health import find_health
from hotlora.sd.config import ImageConfig
from PIL import Image, ImageFilter, ImageOps
from test_health import texture

UPRIGHT, ROTATED = 1, 6  # EXIF orientations
ORIENTATION = 0x0112


def save_rotated(path):
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED
    texture(31, (512, 640)).transpose(Image.Transpose.ROTATE_90).save(path, quality=92, exif=exif)


def save_animated(path):
    texture(32).save(path, save_all=True, append_images=[texture(33), texture(34)], duration=100, loop=0)


def save_truncated(path):
    texture(35).save(path, quality=92)
    path.write_bytes(path.read_bytes()[:6000])


def save_noisy_letterbox(path):
    """A frame of a film, saved as a JPEG: its bars are nearly black."""
    film = Image.new("RGB", (640, 512), (2, 2, 2))
    film.paste(texture(36, (640, 360)), (0, 76))
    film.save(path, quality=80)


def save_thing_before_a_wall(path):
    """A round thing on white: plain around, and no border."""
    picture, mask = Image.new("RGB", (512, 512), "white"), Image.new("L", (512, 512))
    rows, columns = np.mgrid[:512, :512]
    mask = Image.fromarray((((rows - 256) ** 2 + (columns - 256) ** 2) < 200**2).astype(np.uint8) * 255)
    picture.paste(texture(37), (0, 0), mask)
    picture.save(path)


def save_night(path):
    """Black above, dark below, nothing straight between."""
    values = np.asarray(texture(38)).copy()
    for column in range(512):
        values[: 120 + int(60 * np.sin(column / 30)), column] = 0
    values[-3:] = 0
    Image.fromarray(values).save(path)


def save_large(path):
    texture(39, (5200, 3900)).save(path, quality=88)


def save_sixteen_bits(path):
    Image.fromarray(np.asarray(texture(40).convert("L")).astype(np.uint16) * 257).save(path)


def save_transparent(path):
    picture = texture(41).convert("RGBA")
    picture.putalpha(Image.radial_gradient("L").resize(picture.size))
    picture.save(path)


MAKERS = {  # name -> how it is made
    "blurred by hand.png": lambda path: texture(20).filter(ImageFilter.GaussianBlur(4)).save(path),
    "enlarged from tiny.png": lambda path: texture(21, (64, 64)).resize((700, 700), Image.Resampling.BICUBIC).save(path),
    "crushed.jpg": lambda path: texture(22).save(path, quality=12),
    "good.jpg": lambda path: texture(23).save(path, quality=85),
    "tiny.png": lambda path: texture(24, (180, 200)).save(path),
    "panorama.png": lambda path: texture(25, (2400, 400)).save(path),
    "copy.png": lambda path: path.write_bytes((path.parent / "0.png").read_bytes()),
    "saved anew.jpg": lambda path: texture(1).resize((480, 480)).rotate(0.4).save(path, quality=80),
    "framed in white.png": lambda path: ImageOps.expand(texture(26, (440, 440)), 36, "white").save(path),
    "pillars.png": lambda path: ImageOps.pad(texture(27, (384, 512)), (560, 512), color="black").save(path),
    "film.jpg": save_noisy_letterbox,
    "before a wall.png": save_thing_before_a_wall,
    "night.png": save_night,
    "cmyk.jpg": lambda path: texture(28).convert("CMYK").save(path, quality=90),
    "rotated.jpg": save_rotated,
    "animated.gif": save_animated,
    "animated.webp": save_animated,
    "still.gif": lambda path: texture(29).save(path),
    "truncated.jpg": save_truncated,
    "no picture.png": lambda path: path.write_text("<html>not found</html>", encoding="utf-8"),
    "large.jpg": save_large,
    "sixteen bits.png": save_sixteen_bits,
    "transparent.png": save_transparent,
    "grey.png": lambda path: texture(42).convert("L").save(path),
    "palette.png": lambda path: texture(43).quantize(64).save(path),
    "white.png": lambda path: Image.new("RGB", (512, 512), "white").save(path),
}
CULPRITS = {
    "blurred": ["blurred by hand.png", "enlarged from tiny.png"],
    "jpeg": ["crushed.jpg"],
    "small": ["tiny.png"],
    "cut": ["panorama.png"],
    "same": ["0.png", "copy.png"],
    "alike": ["1.png", "saved anew.jpg"],
    "borders": ["film.jpg", "framed in white.png", "pillars.png"],
    "moving": ["animated.gif", "animated.webp"],
    "broken": ["no picture.png", "truncated.jpg"],
    "encoding": ["2.png"],
    "foreign": ["3.png"],
    "empty": ["4.png"],
    "missing": ["5.png"],
    "long": ["6.png"],
    "doubles": ["7.png"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fourteen sound pictures, of which six have something wrong with their captions, and one of each kind above."""
    folder = tmp_path_factory.mktemp("forty ü")
    for number in range(14):
        texture(number).save(folder / f"{number}.png")
    for name, make in MAKERS.items():
        make(folder / name)
    for path in sorted(folder.iterdir()):
        path.with_suffix(".txt").write_text(f"{path.stem}, seen on day {path.stem}", encoding="utf-8")
    (folder / "animated.txt").write_text("both of these, on one day", encoding="utf-8")
    (folder / "2.txt").write_text("ein schÃ¶nes Bild", encoding="utf-8")
    (folder / "3.txt").write_bytes("緑の帽子をかぶった女の子が草の上に座っている".encode("cp932"))
    (folder / "4.txt").write_text(" ", encoding="utf-8")
    (folder / "5.txt").unlink()
    (folder / "6.txt").write_text(", ".join(f"thing {number}" for number in range(60)), encoding="utf-8")
    (folder / "7.txt").write_text("a red hat, seven, a red hat", encoding="utf-8")
    return folder


def look(folder, **values):
    config = build(ImageConfig, {"train_data_dir": str(folder), "output_dir": str(folder / "run"), "max_bucket_reso": 1024, **values})
    return [finding for _, found in find_health(config, lambda text: len(text.split())) for finding in found]


def test_each_finding_is_held_to_its_culprits(folder):
    assert len([path for path in folder.iterdir() if path.suffix in (".png", ".jpg", ".gif", ".webp")]) == 40
    findings = look(folder)
    assert {finding.kind: sorted(finding.names) for finding in findings if not finding.is_note} == CULPRITS
    assert len({finding.kind for finding in findings}) == len(findings), "one line for each"
    assert all(finding.said.endswith(".") and finding.said.count(". ") >= 1 for finding in findings)
    assert look(folder) == findings, "also of what is remembered"


def test_what_is_left_when_the_culprits_are_gone_is_clean(folder, tmp_path):
    guilty = {name for kind, names in CULPRITS.items() for name in names}
    for path in folder.iterdir():
        if path.is_file() and path.suffix != ".txt" and path.name not in guilty:
            for file in (path, path.with_suffix(".txt")):
                (tmp_path / file.name).write_bytes(file.read_bytes())
    assert [finding for finding in look(tmp_path) if not finding.is_note] == []
