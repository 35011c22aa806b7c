"""The demo's style score tells true pictures in the style from true pictures in the base's look, on subjects it was not fitted on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from style_score import StyleScore, ink_mask, match_silhouette, measure, saturation

PICTURES = Path(__file__).resolve().parents[2] / "demo" / "pictures"


def load(folder: str) -> dict[str, np.ndarray]:
    return {p.stem: np.asarray(Image.open(p).convert("RGB")) / 255 for p in sorted((PICTURES / folder).glob("*.png"))}


@pytest.fixture(scope="module")
def sets():
    return load("train"), load("unseen-style"), load("unseen-base")


def test_unseen_subjects_in_the_style_score_high_and_in_the_base_look_low(sets):
    train, style, base = (list(pictures.values()) for pictures in sets)
    for kept, scored in ((base[::2], base[1::2]), (base[1::2], base[::2])):
        score = StyleScore(train, kept)
        assert score(style).mean() > 0.8
        assert score(scored).mean() < 0.25


def test_score_rises_as_a_picture_turns_from_base_to_style(sets):
    train, style, base = sets
    score = StyleScore(list(train.values()), list(base.values()))
    means = [score([(1 - share) * base[name] + share * style[name] for name in style]).mean() for share in (0, 0.25, 0.5, 0.75, 1)]
    assert means == sorted(means) and means[-1] > means[0] + 0.5


def test_measures_of_flat_colours():
    picture = np.ones((10, 10, 3))
    assert (measure(picture) == 0).all() and saturation(picture) == 0
    picture[:5] = (0.2, 0.1, 0.1)  # half the picture: dark red
    assert ink_mask(picture).mean() == 0.5
    assert np.allclose(measure(picture), [0.1, 1.0, -0.05, -0.05])
    picture[:5] = (0.0, 0.0, 1.0)
    assert np.allclose(measure(picture), [1.0, 0.0, 1.0, -0.5])


def test_fit_is_where_the_penalised_likelihood_has_no_slope(sets):
    train, _, base = (list(pictures.values()) for pictures in sets)
    score = StyleScore(train, base)
    x = np.array([measure(picture) for picture in [*train, *base]])
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    y = np.array([1] * len(train) + [0] * len(base))
    p = score([*train, *base])
    assert abs((y - p).sum()) < 1e-6  # an intercept without penalty makes the mean prediction right
    pull = x.T @ (y - p)
    assert np.allclose(pull / np.linalg.norm(pull), score._weights[1:] / np.linalg.norm(score._weights[1:]), atol=1e-5)


def test_silhouettes_survive_recolouring(sets):
    train, style, base = sets
    known = {name: ink_mask(picture) for name, picture in {**train, **base}.items()}
    assert len(known) == 80
    assert np.mean([match_silhouette(picture, known) == name for name, picture in style.items()]) > 0.9
