"""Loss curves: whatever the losses are, the drawing is whole, and every number in it is one."""

import math
import re
import time
from xml.etree import ElementTree

import pytest
from hotlora.engine.events import Started, Step, Validated
from hotlora.engine.history import History
from hotlora.ui.charts import ALSO, draw_losses
from hotlora.ui.smoothing import recent_loss, smooth


def history(losses, validations=(), first=1):
    events = [Started("cat", first - 1, 100, 10, 1000, {})]
    events += [Step(number, 1.0, loss, loss, 1e-4, 1.0, 0.1, 0) for number, loss in enumerate(losses, start=first)]
    return History(events + [Validated(step, loss, False) for step, loss in validations])


def draw(**histories):
    """The drawing, taken apart; every number in it is finite."""
    html = draw_losses(histories)
    tree = ElementTree.fromstring(html)
    for element in tree.iter():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy"):
            assert math.isfinite(float(element.get(name, 0)))
    assert not re.search(r"\b(nan|inf)\b", html)
    return tree


def points(tree):
    """Of each line, what it goes through."""
    lines = [line.get("points").split() for line in tree.iter("polyline")]
    return [[tuple(map(float, point.split(","))) for point in line] for line in lines]


def inside(tree):
    x, y, width, height = (float(tree.find(".//svg/svg").get(name)) for name in ("x", "y", "width", "height"))
    return lambda point: x - 0.1 <= point[0] <= x + width + 0.1 and y - 0.1 <= point[1] <= y + height + 0.1


def test_before_the_first_step_it_says_what_will_be_there():
    for histories in ({}, {"cat": History()}, {"cat": history([])}):
        assert "appears with the first steps" in draw_losses(histories)


def test_falling_losses_fall_and_validation_has_dots():
    tree = draw(cat=history([4, 3, 2, 1], [(2, 3.5), (4, 2.5)]))
    raw, smoothed, validation = points(tree)
    assert raw[0] == smoothed[0] and len(validation) == 2
    assert [y for _, y in smoothed] == sorted(y for _, y in smoothed)  # downwards on the screen
    assert [x for x, _ in smoothed] == sorted(x for x, _ in smoothed)
    assert all(map(inside(tree), [*raw, *smoothed, *validation]))
    assert [title.text for title in tree.iter("title")] == ["3.5000 @ 2", "2.5000 @ 4"]
    assert [text.text for text in tree.iter("b")] == ["smoothed loss", "each step", "validation loss"]


@pytest.mark.parametrize("loss", [0.0, 0.1, 1e-12, 1e12, 1e300])
@pytest.mark.parametrize("count", [1, 2])
def test_one_point_and_level_curves_can_be_seen(loss, count):
    tree = draw(cat=history([loss] * count, [(1, loss)]))
    for line in points(tree):
        assert len(line) >= 2 and all(map(inside(tree), line))
    assert all(line.get("stroke-linecap") == "round" for line in tree.iter("polyline"))


@pytest.mark.parametrize("losses", [[math.nan], [math.inf], [math.nan, 1.0, math.nan], [1.0, math.inf, -math.inf, 2.0], [math.nan] * 5])
def test_losses_that_are_no_numbers_are_left_out(losses):
    tree = draw(cat=history(losses, [(1, math.nan), (1, math.inf)]))
    assert all(map(inside(tree), [point for line in points(tree) for point in line]))


def test_an_outlier_is_cut_off_and_does_not_flatten_the_rest():
    spiked = history([1.0, 0.9, 1e6, 0.8])
    tree = draw(cat=spiked)
    raw, smoothed = points(tree)
    assert all(map(inside(tree), smoothed)) and not inside(tree)(raw[2])
    assert raw[3][1] - raw[0][1] > 100  # units of the drawing's 240


def test_a_long_run_is_drawn_in_few_points_and_to_its_end():
    long = history([1 / number for number in range(1, 100_001)])
    started = time.thread_time()
    tree = draw(cat=long)
    assert time.thread_time() - started < 2
    right = max(x for line in points(tree) for x, _ in line)
    assert all(len(line) <= 1001 and line[-1][0] == right for line in points(tree))


def test_runs_lie_over_each_other_on_the_same_axes():
    tree = draw(**{"cat": history([2, 1], [(2, 1.5)]), "<b>dog</b>": history([2, 1, 0.5, 0.25], first=1), "not started": history([])})
    cat, validation, dog = points(tree)
    assert cat == dog[:2]
    assert [text.text for text in tree.iter("b")] == ["cat", "<b>dog</b>"]
    strokes = [line.get("stroke") for line in tree.iter("polyline")]
    assert strokes[0] == strokes[1] != strokes[2]  # validation in its run's colour


def test_more_runs_than_colours_are_drawn():
    assert len(points(draw(**{f"run {number}": history([1, 2]) for number in range(20)}))) == 20


@pytest.mark.parametrize("last", [1, 2, 3, 7, 10, 99, 1234, 100_000])
def test_steps_are_marked_with_few_whole_numbers(last):
    tree = draw(cat=history([1.0], first=last))
    marks = [float(text.text) for text in tree.iter("text") if text.get("text-anchor") != "end" or float(text.get("y")) > 220]
    assert marks[0] == 0 and 2 <= len(marks) <= 11 and all(mark == int(mark) <= last for mark in marks)


def test_the_raw_line_is_inside_the_axes_however_it_swings():
    tree = draw(cat=history([1.5 + math.sin(number * 1.7) for number in range(200)]))
    raw, smoothed = points(tree)
    assert all(map(inside(tree), [*raw, *smoothed]))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.99])
def test_the_smoothed_loss_is_the_weighted_mean_of_those_before(share):
    losses = [2.0, 1.0, 4.0, 0.5, 0.25, 1.5]
    smoothed = [loss for _, loss in smooth(list(enumerate(losses)), share)]
    for place, found in enumerate(smoothed):
        weights = [share ** (place - earlier) if place > earlier else 1.0 for earlier in range(place + 1)]
        assert found == pytest.approx(sum(w * x for w, x in zip(weights, losses, strict=False)) / sum(weights))


def test_a_short_run_is_smoothed_without_lag():
    falling = history([3.0, 2.6, 2.2, 1.8, 1.5, 1.3, 1.1, 1.0, 0.9, 0.9, 0.85, 0.85, 0.85, 0.85, 0.85, 0.85])
    assert abs(recent_loss(falling) - 0.87) < 0.15
    assert math.isnan(recent_loss(history([])))


def test_validation_and_the_learning_rate_are_shown_where_they_are_wanted():
    run = {"cat": history([2, 1.5, 1], [(2, 1.7)])}
    lines = {also: ElementTree.fromstring(draw_losses(run, 0.5, also)) for also in ((), ALSO[:1], ALSO[1:], ALSO)}
    assert [len(points(tree)) for tree in lines.values()] == [2, 3, 3, 4]
    assert all("learning rate" in [text.text for text in lines[also].iter("b")] for also in (ALSO[1:], ALSO))
