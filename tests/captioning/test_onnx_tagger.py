"""Tags are those whose probability, computed by hand from the same pixels, is above the threshold of their category."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
from hotlora.captioning.onnx_tagger import OnnxTagger
from hotlora.engine.errors import UserError
from PIL import Image
from small_tagger import SIDE, TAGS, make_tagger

# AUTOMATIC1111's packages are older than any onnxruntime that could be installed beside them without moving one
needs_onnx = pytest.mark.skipif(not (find_spec("onnxruntime") and find_spec("onnx")), reason="onnxruntime is not part of these packages")


def noise(seed, size=(SIDE, SIDE)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def by_hand(image, weights, general, character, *, channels_last=True):
    pixels = np.asarray(image, dtype=np.float32)[:, :, [2, 1, 0]]
    sure = 1 / (1 + np.exp(-(pixels if channels_last else pixels.transpose(2, 0, 1)).reshape(-1) @ weights))
    found = []
    for category, threshold in (("4", character), ("0", general)):
        of_it = [(p, name) for p, (name, c) in zip(sure, TAGS, strict=True) if c == category and p > threshold]
        found += [name for _, name in sorted(of_it, reverse=True)]
    return ", ".join(found)


@needs_onnx
@pytest.mark.parametrize(("channels_last", "batch"), [(True, "N"), (True, 1), (False, "N")])
def test_tags_are_those_above_their_categorys_threshold(tmp_path, channels_last, batch):
    weights = make_tagger(tmp_path, channels_last=channels_last, batch=batch)
    images = [noise(seed) for seed in range(6)]
    for general, character in ((0.5, 0.5), (0.6, 0.3), (0.3, 0.9)):
        expected = [by_hand(image, weights, general, character, channels_last=channels_last) for image in images]
        assert OnnxTagger(str(tmp_path), general, character)([], images) == expected
        assert len(set(expected)) > 1 and not any("sensitive" in tags for tags in expected)


@needs_onnx
def test_a_picture_of_another_shape_stands_on_a_white_square(tmp_path):
    weights = make_tagger(tmp_path)
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(noise(1, (SIDE, 8)), (0, 4))
    assert OnnxTagger(str(tmp_path), 0.5, 0.5)([], [noise(1, (SIDE, 8))]) == [by_hand(square, weights, 0.5, 0.5)]


@needs_onnx
def test_files_that_do_not_fit_are_told(tmp_path):
    make_tagger(tmp_path)
    tags = tmp_path / "selected_tags.csv"
    whole = tags.read_text(encoding="utf-8")
    tags.write_text("".join(whole.splitlines(keepends=True)[:-1]), encoding="utf-8")
    with pytest.raises(UserError, match=r"knows 8 tags, and selected_tags\.csv has 7"):
        OnnxTagger(str(tmp_path), 0.5, 0.5)([], [noise(1)])
    tags.write_text("id,tag\n1,x\n", encoding="utf-8")
    with pytest.raises(UserError, match="cannot read the tags"):
        OnnxTagger(str(tmp_path), 0.5, 0.5)
    tags.write_text(whole, encoding="utf-8")
    (tmp_path / "model.onnx").write_bytes(b"none")
    with pytest.raises(UserError, match="onnxruntime cannot read it"):
        OnnxTagger(str(tmp_path), 0.5, 0.5)


def test_a_missing_file_is_told_with_what_to_put_where(tmp_path):
    with pytest.raises(UserError, match=r"no model\.onnx and no selected_tags\.csv in .*set tagger_folder to it"):
        OnnxTagger(str(tmp_path), 0.5, 0.5)
    with pytest.raises(UserError, match="tagger_folder is empty"):
        OnnxTagger("", 0.5, 0.5)


def test_a_missing_package_is_told_with_a_command_that_moves_nothing(tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"")
    (tmp_path / "selected_tags.csv").write_text("name,category\nx,0\n", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError) as refusal:
        OnnxTagger(str(tmp_path), 0.5, 0.5)
    command = f'"{sys.executable}" -m pip install onnxruntime numpy=={np.__version__}'
    assert str(refusal.value).endswith(f": {command}"), "whatever stands behind a command is copied with it"
