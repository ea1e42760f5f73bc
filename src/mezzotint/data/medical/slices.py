"""Where the slices of a series lie, and the one affine map they make: sorted, evenly spaced, complete, or refused."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Slice", "affine_of"]

_UNEVEN = 0.02  # of the spacing: more is no scanner's rounding (our choice)
_LISTED = 8
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Slice:
    """What a slice states of its place, in LPS millimetres.

    Args:
        name: of its file, for messages.
        position: (3,) centre of its first pixel.
        orientation: (6,) directions in which the column, then the row index grows.
        spacing: (2,) between rows, then between columns.
        shape: (rows, columns).
        between: what it says of the distance to the next slice, used only where there is no next; 0 for nothing.
    """

    name: str
    position: np.ndarray | None
    orientation: np.ndarray | None
    spacing: np.ndarray | None
    shape: tuple[int, int]
    between: float = 0.0


def affine_of(slices: Sequence[Slice]) -> tuple[list[int], np.ndarray]:
    """The slices' order along their normal, and the affine (column, row, slice, 1) -> RAS+ millimetres.

    Raises:
        ValueError: for slices that differ in size, direction or spacing, lie at one place, have gaps or do not lie on
            one line.
    """
    first = slices[0]
    if len(slices) == 1 and (first.position is None or first.orientation is None):
        warnings.warn(f"{first.name} states no place in the patient; its pixel spacing alone is used", stacklevel=3)
        rows, columns = (1.0, 1.0) if first.spacing is None else first.spacing
        return [0], LPS_TO_RAS @ np.diag([columns, rows, first.between or 1.0, 1.0])
    for s in slices:
        if s.position is None or s.orientation is None or s.spacing is None:
            stated = {
                "ImagePositionPatient": s.position,
                "ImageOrientationPatient": s.orientation,
                "PixelSpacing": s.spacing,
            }
            lost = [name for name, value in stated.items() if value is None]
            raise ValueError(f"{s.name} has no {', '.join(lost)}; its place in the patient is unknown")
    return _sorted(slices)


def _sorted(slices: Sequence[Slice]) -> tuple[list[int], np.ndarray]:
    first = slices[0]
    assert first.orientation is not None and first.spacing is not None
    along, down = first.orientation[:3], first.orientation[3:]
    if abs(along @ along - 1) > 1e-3 or abs(down @ down - 1) > 1e-3 or abs(along @ down) > 1e-3:
        raise ValueError(f"{first.name}: its ImageOrientationPatient is not two unit vectors at a right angle")
    if not (first.spacing > 0).all():
        raise ValueError(f"{first.name}: its PixelSpacing is {first.spacing.tolist()}; expected two numbers > 0")
    for s in slices[1:]:
        if s.shape != first.shape:
            raise ValueError(f"{s.name} has {s.shape} pixels, {first.name} has {first.shape}; they are not one volume")
        if not np.allclose(s.orientation, first.orientation, atol=1e-4):  # type: ignore[arg-type]
            raise ValueError(f"{s.name} and {first.name} lie in different directions; they are not one volume")
        if not np.allclose(s.spacing, first.spacing, rtol=1e-4):  # type: ignore[arg-type]
            raise ValueError(f"{s.name} and {first.name} differ in PixelSpacing; they are not one volume")
    normal = np.cross(along, down)
    positions = np.stack([s.position for s in slices])  # type: ignore[arg-type]
    place = positions @ normal
    order = np.argsort(place, kind="stable").tolist()
    if len(slices) == 1:
        step = normal * (first.between or 1.0)
    else:
        _check_even([slices[i].name for i in order], place[order])
        step = (positions[order[-1]] - positions[order[0]]) / (len(slices) - 1)
        line = positions[order[0]] + np.arange(len(slices))[:, None] * step
        away = np.abs(positions[order] - line).max(1)
        if away.max() > _UNEVEN * np.linalg.norm(step):
            worst = slices[order[int(away.argmax())]].name
            raise ValueError(
                f"{worst} lies {away.max():.3g} mm off the line of the other slices; they are not one stack"
            )
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = along * first.spacing[1], down * first.spacing[0], step
    affine[:3, 3] = positions[order[0]]
    return order, LPS_TO_RAS @ affine


def _check_even(names: list[str], place: np.ndarray) -> None:
    gaps = np.diff(place)
    usual = float(np.median(gaps))
    same = gaps <= max(1e-3, _UNEVEN * usual)
    if same.any():
        raise ValueError(
            f"{int(same.sum())} slices lie where another lies: "
            + _list(f"{names[i]} and {names[i + 1]} at {place[i]:.3f} mm" for i in np.flatnonzero(same))
        )
    missing = [i for i in range(len(gaps)) if gaps[i] > 1.5 * usual]
    if missing:
        raise ValueError(
            "slices are missing: "
            + _list(
                f"{round(gaps[i] / usual) - 1} between {names[i]} ({place[i]:.3f} mm) and {names[i + 1]} "
                f"({place[i + 1]:.3f} mm)"
                for i in missing
            )
        )
    if (np.abs(gaps - gaps.mean()) > _UNEVEN * usual).any():
        i = int(np.abs(gaps - usual).argmax())
        raise ValueError(
            f"slices are unevenly spaced: {gaps.min():.4g} to {gaps.max():.4g} mm, as between {names[i]} and "
            f"{names[i + 1]}; resample them to even places first"
        )


def _list(items: object) -> str:
    items = list(items)  # type: ignore[call-overload]
    return "; ".join(items[:_LISTED]) + (f"; and {len(items) - _LISTED} more" if len(items) > _LISTED else "")
