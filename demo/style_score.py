"""How much a picture is in the demo's style, and whether it still shows its subject. NumPy only.

The style is a colour style on white ground, so four numbers per picture say which it is: saturation, share of near-black,
blueness and greenness of its inked area. A logistic regression on true pictures turns them into p(style).
"""

from collections.abc import Sequence

import numpy as np

_WHITE = 0.9  # a pixel whose darkest channel is above this is ground, not ink
_NEAR_BLACK = 0.25
_RIDGE = 0.1  # keeps the weights finite although the two sets can be told apart perfectly


def ink_mask(picture: np.ndarray) -> np.ndarray:
    """Where the picture is drawn on: [height, width] bool from [height, width, 3] in 0..1."""
    return picture.min(axis=2) < _WHITE


def saturation(picture: np.ndarray) -> float:
    """Mean chroma (largest minus smallest channel) of the inked area, 0..1; 0 for an empty picture."""
    return float(measure(picture)[0])


def measure(picture: np.ndarray) -> np.ndarray:
    """[4]: saturation, share of near-black, blueness and greenness of the inked area; zeros for an empty picture."""
    ink = picture[ink_mask(picture)]
    if not len(ink):
        return np.zeros(4)
    red, green, blue = ink.T
    highest, lowest = ink.max(axis=1), ink.min(axis=1)
    measures = [highest - lowest, highest < _NEAR_BLACK, blue - (red + green) / 2, green - (red + blue) / 2]
    return np.array([values.mean() for values in measures])


class StyleScore:
    """p(style) of pictures, by logistic regression on :func:`measure`."""

    def __init__(self, in_style: Sequence[np.ndarray], others: Sequence[np.ndarray]):
        measures = np.array([measure(picture) for picture in [*in_style, *others]])
        labels = np.array([1.0] * len(in_style) + [0.0] * len(others))
        self._mean, self._deviation = measures.mean(axis=0), measures.std(axis=0) + 1e-6
        self._weights = np.zeros(measures.shape[1] + 1)
        self._fit(self._design(measures), labels)

    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """p(style), 0..1, of each picture."""
        return _logistic(self._design(np.array([measure(picture) for picture in pictures])) @ self._weights)

    def _design(self, measures: np.ndarray) -> np.ndarray:
        return np.column_stack([np.ones(len(measures)), (measures - self._mean) / self._deviation])

    def _fit(self, design: np.ndarray, labels: np.ndarray) -> None:
        """Newton's method on the ridge-penalised log-likelihood, which is concave."""
        ridge = _RIDGE * np.eye(design.shape[1])
        ridge[0, 0] = 0.0  # the intercept is free
        for _ in range(50):
            p = _logistic(design @ self._weights)
            gradient = design.T @ (labels - p) - ridge @ self._weights
            curvature = (design * (p * (1 - p))[:, None]).T @ design + ridge
            step = np.linalg.solve(curvature, gradient)
            self._weights += step
            if np.abs(step).max() < 1e-8:
                return


def match_silhouette(picture: np.ndarray, known: dict[str, np.ndarray]) -> str:
    """The name in ``known`` (name -> ink mask) whose silhouette overlaps most (intersection over union) with the picture's."""
    ink = ink_mask(picture)
    overlaps = {name: (ink & other).sum() / max((ink | other).sum(), 1) for name, other in known.items()}
    return max(overlaps, key=overlaps.__getitem__)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))
