"""Curves over steps as inline SVG: no script, no library, colours from the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Line", "compact", "curve", "smoothed", "thinned"]

_HEIGHT = 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 10, 26
_MOST = 500  # points of a line; more cannot be seen
_DECADES = 1.5  # above so many the axis is logarithmic

Number = int | float
Points = Sequence[tuple[Number, Number]]


@dataclass(frozen=True)
class Line:
    """Points by x, and how they are drawn: "raw" (faint, behind), "line" or "dots"."""

    points: Points
    kind: str = "line"


def curve(lines: Sequence[Line], label: str, width: int = 480, log: bool | None = None) -> str:
    """A chart of lines with common axes; values that are not finite leave gaps.

    Args:
        lines: drawn in this order.
        label: what it shows, for those who do not see it.
        width: in units of which the height is 210; text is 11 of them.
        log: whether the vertical axis is logarithmic; None: where all values are positive and span more than 1.5
            decades.

    >>> "<polyline" in curve([Line([(0, 1.0), (1, 2.0)])], "loss")
    True
    """
    drawn = [Line(thinned(line.points), line.kind) for line in lines]
    finite = [(x, y) for line in drawn for x, y in line.points if math.isfinite(y)]
    head = f'<svg class="curve" viewBox="0 0 {width} {_HEIGHT}" role="img" aria-label="{escape(label)}">'
    if not finite:
        return f'{head}<text class="tick" x="{width / 2}" y="{_HEIGHT / 2}" text-anchor="middle">no values</text></svg>'
    horizontal = _Axis.of([x for x, _ in finite], _LEFT, width - _RIGHT, log=False)
    values = [y for _, y in finite]
    wide = min(values) > 0 and math.log10(max(values)) - math.log10(min(values)) > _DECADES
    vertical = _Axis.of(values, _HEIGHT - _BOTTOM, _TOP, log=wide if log is None else log)
    parts = [head]
    for value in vertical.ticks():
        y = vertical(value)
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{compact(value)}</text>')
    for value in horizontal.ticks():
        x = horizontal(value)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{compact(value)}</text>')
    for line in drawn:
        parts += _drawn(line, horizontal, vertical)
    return "".join(parts) + "</svg>"


def smoothed(points: Points, span: Number | None = None) -> list[tuple[Number, Number]]:
    """Mean over about `span` points to either side, so that it neither lags nor is pulled at its ends.

        m_n = sum_i a^|n - i| y_i / sum_i a^|n - i|

    Args:
        points: by x; values that are not finite are left out.
        span: 1 / (1 - a); None takes a fiftieth of the points, at least 2.

    >>> smoothed([(0, 1.0), (1, 1.0), (2, 1.0)], 4)
    [(0, 1.0), (1, 1.0), (2, 1.0)]
    """
    kept = [(x, y) for x, y in points if math.isfinite(y)]
    keep = 1 - 1 / (span or max(2.0, len(kept) / 50))
    values = [y for _, y in kept]
    before, after = _past(values, keep), _past(values[::-1], keep)[::-1]
    return [
        (x, (total + later - y) / (weight + more - 1))
        for (x, y), (total, weight), (later, more) in zip(kept, before, after, strict=True)
    ]


def _past(values: Sequence[Number], keep: float) -> list[tuple[float, float]]:
    """(sum_{i <= n} keep^(n-i) y_i, the same of ones) at every n."""
    total = weight = 0.0
    out: list[tuple[float, float]] = []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        out.append((total, weight))
    return out


def thinned(points: Points, most: int = _MOST) -> list[tuple[Number, Number]]:
    """At most about `most` points: of every stretch its least and its greatest, so that no spike is lost."""
    points = list(points)
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / (most // 2))
    kept = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        broken = [p for p in part if not math.isfinite(p[1])]
        fine = [p for p in part if math.isfinite(p[1])]
        chosen = {min(fine, key=lambda p: p[1]), max(fine, key=lambda p: p[1])} if fine else set()
        kept += sorted([*chosen, *broken[:1]], key=lambda p: p[0])
    return kept


def compact(value: Number) -> str:
    """A number in few letters.

    >>> [compact(v) for v in (0, 0.25, 1234.0, 2.5e6, 3e-5, 12000)]
    ['0', '0.25', '1.23k', '2.5M', '3e-5', '12k']
    """
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit * 0.99999:
            return f"{value / limit:.3g}{letter}"
    if 0 < size < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.3g}"


@dataclass(frozen=True)
class _Axis:
    """Values to places: from `low` at `start` to `high` at `end`."""

    low: Number
    high: Number
    start: Number
    end: Number
    log: bool

    @classmethod
    def of(cls, values: Sequence[Number], start: Number, end: Number, *, log: bool) -> _Axis:
        low, high = min(values), max(values)
        if low == high:
            room = abs(low) * 0.1 or 1.0
            low, high = low - room, high + room
        return cls(low, high, start, end, log)

    def __call__(self, value: Number) -> float:
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        # halves first: a span above the largest float is infinite
        part = (at / 2 - low / 2) / (high / 2 - low / 2)
        return self.start + (self.end - self.start) * part

    def ticks(self) -> list[Number]:
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            every = max(1, len(powers) // 6)
            marks = (1,) if len(powers) > 4 else (1, 2, 5)
            found = [m * 10.0**p for p in powers if p % every == 0 for m in marks]
        else:
            raw = (self.high / 2 - self.low / 2) / 2.5
            if not 1e-300 < raw < 1e300:
                return []
            unit = 10.0 ** math.floor(math.log10(raw))
            step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw * 0.999)
            found = [k * step for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
            found = found if len(found) <= 20 else []  # values that differ by their last digits only
        return [v for v in found if self.low * (1 - 1e-9) <= v <= self.high * (1 + 1e-9)] if self.log else found


def _drawn(line: Line, horizontal: _Axis, vertical: _Axis) -> list[str]:
    runs: list[list[str]] = [[]]
    for x, y in line.points:
        if math.isfinite(y):
            runs[-1].append(f"{horizontal(x):.1f},{vertical(y):.1f}")
        elif runs[-1]:
            runs.append([])
    parts = [f'<polyline class="{line.kind}" points="{" ".join(run)}"/>' for run in runs if len(run) > 1]
    if line.kind == "dots":
        parts += [_dot(place) for run in runs for place in run]
    else:
        parts += [_dot(run[0]) for run in runs if len(run) == 1]
    return parts


def _dot(place: str) -> str:
    x, y = place.split(",")
    return f'<circle class="dot" cx="{x}" cy="{y}" r="2.5"/>'
