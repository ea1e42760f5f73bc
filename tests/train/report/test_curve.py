"""Curves: places of points, axes, gaps, and what thinning and smoothing keep."""

from __future__ import annotations

import math
import re

import pytest

from mezzotint.train.report.curve import Line, compact, curve, smoothed, thinned


def _lines(svg: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'<polyline class="\w+" points="([^"]*)"', svg)
    return [[tuple(map(float, p.split(","))) for p in points.split()] for points in found]  # type: ignore[misc]


def test_points_lie_where_the_axes_say():
    svg = curve([Line([(0, 10.0), (50, 20.0), (100, 15.0)])], "loss", width=480)
    assert _lines(svg) == [[(58.0, 184.0), (263.0, 10.0), (468.0, 97.0)]]
    ticks = {t: float(y) for y, t in re.findall(r'y="([\d.]+)" text-anchor="end">([^<]+)<', svg)}
    assert ticks["10"] == pytest.approx(184 + 4) and ticks["20"] == pytest.approx(10 + 4)


def test_values_over_decades_get_a_logarithmic_axis_unless_they_may_not():
    points = [(0, 1.0), (1, 10.0), (2, 100.0)]
    (by_decades,) = _lines(curve([Line(points)], "loss"))
    assert [y for _, y in by_decades] == [184.0, 97.0, 10.0]
    (plain,) = _lines(curve([Line(points)], "loss", log=False))
    assert plain[1][1] == pytest.approx(184 - 174 * 9 / 99, abs=0.05)
    (negative,) = _lines(curve([Line([(0, -1.0), (1, 10.0), (2, 100.0)])], "loss"))
    assert negative[1][1] > 150


def test_a_value_that_is_not_finite_leaves_a_gap():
    svg = curve([Line([(0, 1.0), (1, 2.0), (2, math.nan), (3, 3.0), (4, 2.0), (5, math.inf), (6, 1.0)])], "loss")
    assert [len(run) for run in _lines(svg)] == [2, 2] and svg.count("<circle") == 1
    assert "nan" not in svg and "inf" not in svg
    assert "no values" in curve([Line([(0, math.nan)])], "loss")


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-320, 1e300, 2.5])
def test_a_line_that_does_not_move(value):
    ((a, b),) = _lines(curve([Line([(0, value), (1, value)])], "flat"))
    assert a[1] == b[1] and all(map(math.isfinite, (*a, *b)))


def test_extreme_spans_do_not_overflow():
    for values in ((-1e300, 1e300), (1e-300, 1e300), (1.0, 1.0 + 1e-15)):
        (line,) = _lines(curve([Line(list(enumerate(values)))], "wild"))
        assert [y for _, y in line] == [184.0, 10.0]


def test_labels_are_escaped():
    assert '"a"<b>&amp;' not in curve([], '"a"<b>&') and "&quot;a&quot;&lt;b&gt;&amp;" in curve([], '"a"<b>&')


def test_thinning_keeps_spikes_and_order():
    points = [(step, 1.0 + step % 7 / 100) for step in range(20_000)]
    points[12_345] = (12_345, 50.0)
    points[7_000] = (7_000, math.nan)
    kept = thinned(points, 500)
    assert len(kept) <= 501 and (12_345, 50.0) in kept and any(math.isnan(y) for _, y in kept)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)
    assert set(kept[:10]) <= set(points)


def test_smoothing_is_the_formula():
    points = [(10 * n, math.sin(n) + n / 5) for n in range(40)]
    a, made = 1 - 1 / 5.0, smoothed(points, 5.0)
    for n, (x, y) in enumerate(made):
        weights = [a ** abs(n - i) for i in range(40)]
        expected = math.fsum(w * v for w, (_, v) in zip(weights, points, strict=True)) / math.fsum(weights)
        assert x == 10 * n and y == pytest.approx(expected, rel=1e-12)


def test_numbers_in_few_letters():
    told = [compact(v) for v in (999.9999, 1e6, 0.000123, -0.5, -2e-9, 1.5e13)]
    assert told == ["1k", "1M", "1.23e-4", "-0.5", "-2e-9", "15T"]
