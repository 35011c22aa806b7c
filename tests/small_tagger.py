"""A tagger of the form that people download: random weights in model.onnx, and selected_tags.csv."""

import csv
from pathlib import Path

import numpy as np

SIDE = 16
TAGS = [
    ("general", "9"),
    ("sensitive", "9"),
    ("1girl", "0"),
    ("long_hair", "0"),
    ("^_^", "0"),
    ("red_eyes", "0"),
    ("blue_sky", "0"),
    ("miku_(x)", "4"),
]


def make_tagger(folder: Path, *, channels_last: bool = True, batch: str | int = "N") -> np.ndarray:
    """Write both files; returns the weights, (pixels, tags), by which a test computes what must come out."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True, exist_ok=True)
    weights = np.random.default_rng(0).normal(0, 0.0004, (SIDE * SIDE * 3, len(TAGS))).astype(np.float32)
    shape = [batch, SIDE, SIDE, 3] if channels_last else [batch, 3, SIDE, SIDE]
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["sums"]),
        helper.make_node("Sigmoid", ["sums"], ["sure"]),
    ]
    sides = {"input": shape, "sure": [batch, len(TAGS)]}
    given, found = (helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in sides.items())
    graph = helper.make_graph(nodes, "tagger", [given], [found], [numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(folder / "model.onnx"))
    with open(folder / "selected_tags.csv", "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["tag_id", "name", "category", "count"])
        rows.writerows([number, name, category, 9] for number, (name, category) in enumerate(TAGS))
    return weights
