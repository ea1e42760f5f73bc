"""A medical image in memory: values, where each voxel lies in the patient, their unit and the map to a model's range.

Axes, once for all: `data` is (c, d, h, w). The voxel data[:, k, j, i] has its centre at affine @ (i, j, k, 1), in
millimetres, x to the patient's right, y to the front, z to the head (RAS+). So column 0 of the affine belongs to the
last axis of `data` (w), column 1 to h, column 2 to d: a NIfTI file's first axis, which runs fastest, is w.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.data.medical.nifti_header import NiftiHeader
from mezzotint.data.medical.ranges import RangeMap, RangeRule, fitted

__all__ = ["Volume"]


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """Values with their place in the patient; immutable, and every change of axes changes the affine with it.

    Args:
        data: (c, d, h, w) float32: in `unit`, or in a model's range where there is a range_map.
        affine: (4, 4) float64, (i, j, k, 1) to millimetres in RAS+, i along w, j along h, k along d.
        unit: of the values: "HU", "SUV", "Bq/ml"; "" where it is arbitrary.
        range_map: what took the values to the range of a model, None where they are in `unit`.
        stored: type of the numbers in the file they came from.
        header: of the NIfTI file they came from, for writing again.

    Raises:
        ValueError: for another type or shape, nothing inside, or an affine that is no invertible affine map.

    >>> volume = Volume(torch.zeros(1, 2, 3, 4), torch.diag(torch.tensor([1.0, 1.0, 5.0, 1.0], dtype=torch.float64)))
    >>> volume.spacing
    (5.0, 1.0, 1.0)
    """

    data: Tensor
    affine: Tensor
    unit: str = ""
    range_map: RangeMap | None = None
    stored: str = "float32"
    header: NiftiHeader | None = None

    def __post_init__(self) -> None:
        if self.data.ndim != 4 or self.data.numel() == 0 or self.data.dtype != torch.float32:
            raise ValueError(
                f"the data are {self.data.dtype} of shape {tuple(self.data.shape)}; expected float32 (c, d, h, w)"
            )
        a = self.affine
        if a.shape != (4, 4) or a.dtype != torch.float64 or not bool(torch.isfinite(a).all()):
            raise ValueError(f"the affine is {a.dtype} of shape {tuple(a.shape)}; expected (4, 4) float64, finite")
        if a[3].tolist() != [0, 0, 0, 1]:
            raise ValueError(f"the last row of the affine is {a[3].tolist()}; expected 0, 0, 0, 1")
        if not float(torch.linalg.det(a[:3, :3] / a[:3, :3].norm(dim=0).clamp(min=1e-300)).abs()) > 1e-6:
            raise ValueError(f"the affine folds the volume flat, its columns are dependent: {a[:3, :3].tolist()}")

    def __repr__(self) -> str:
        d, h, w = (f"{s:.4g}" for s in self.spacing)
        parts = [f"{tuple(self.data.shape)}", f"{d} x {h} x {w} mm", self.unit or "arbitrary unit"]
        return f"Volume({', '.join(parts)}{'' if self.range_map is None else f', by {self.range_map}'})"

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbours along (d, h, w), millimetres: in the order of the data, as the metrics take it."""
        w, h, d = self.affine[:3, :3].norm(dim=0).tolist()
        return d, h, w

    @property
    def size(self) -> tuple[int, int, int]:
        """(d, h, w)."""
        d, h, w = self.data.shape[1:]
        return d, h, w

    def to_mm(self, index: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Places in the patient (RAS+, millimetres, float64) of voxels (k, j, i), in the order of the data's axes."""
        return index.double().flip(1) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def with_data(self, data: Tensor) -> Volume:
        """Other values at the same places, such as a model's output, in the same unit and range.

        Raises:
            ValueError: for another size.
        """
        if tuple(data.shape[-3:]) != self.size:
            raise ValueError(f"data of shape {tuple(data.shape)} do not lie on a volume of size {self.size}")
        return replace(self, data=data.detach().cpu().float().reshape(-1, *self.size))

    def to_model(self, rule: RangeRule | None = None, mask: Tensor | None = None) -> Volume:
        """The volume in [-1, 1], with the map that takes it back.

        Args:
            rule: `Window`, `Percentile`, `Uptake`, `Amplitude`; None for 8-bit images, and for what is in [-1, 1].
            mask: (d, h, w) bool; where a rule that looks at values may look.

        Raises:
            ValueError: if it is in a model's range already, or for values whose range no rule tells.

        >>> from mezzotint.data.medical import Window
        >>> ct = Volume(torch.full((1, 1, 1, 1), 500.0), torch.eye(4, dtype=torch.float64), unit="HU")
        >>> ct.to_model(Window(-1000.0, 1000.0)).to_unit().data.item()
        500.0
        """
        if self.range_map is not None:
            raise ValueError(f"the volume is in the range of a model already, by {self.range_map}; to_unit() goes back")
        found = fitted(self.data, rule, self.stored, mask)
        return replace(self, data=found.forward(self.data), range_map=found)

    def to_unit(self) -> Volume:
        """The volume in its own unit: the inverse of `to_model` inside the window."""
        if self.range_map is None:
            return self
        return replace(self, data=self.range_map.inverse(self.data), range_map=None)

    def crop(self, d: slice = slice(None), h: slice = slice(None), w: slice = slice(None)) -> Volume:
        """Part of the volume, any step: voxels keep their places.

        Raises:
            ValueError: if nothing is left, or for a negative step.

        >>> volume = Volume(torch.zeros(1, 4, 4, 4), torch.eye(4, dtype=torch.float64))
        >>> volume.crop(d=slice(1, 4, 2)).affine[:3, [2, 3]].tolist()
        [[0.0, 0.0], [0.0, 0.0], [2.0, 1.0]]
        """
        affine = self.affine.clone()
        for axis, (part, n) in enumerate(zip((w, h, d), reversed(self.size), strict=True)):
            start, stop, step = part.indices(n)
            if step < 0 or start >= stop:
                raise ValueError(f"the part {part} of {n} voxels is empty or runs backwards; use flip to reverse")
            affine[:3, 3] += start * self.affine[:3, axis]
            affine[:3, axis] *= step
        return replace(self, data=self.data[:, d, h, w], affine=affine)

    def flip(self, axis: int) -> Volume:
        """The voxels in reverse order along axis 0 (d), 1 (h) or 2 (w): another order of the same places."""
        if axis not in (0, 1, 2):
            raise ValueError(f"flip got axis {axis}; expected 0 (d), 1 (h) or 2 (w)")
        affine, column = self.affine.clone(), 2 - axis
        affine[:3, 3] += (self.size[axis] - 1) * self.affine[:3, column]
        affine[:3, column] = -self.affine[:3, column]
        return replace(self, data=self.data.flip(axis + 1), affine=affine)

    def canonical(self) -> Volume:
        """The same voxels in the order nearest RAS+: w to the right, h to the front, d to the head. Nothing is
        resampled, so an oblique volume stays oblique."""
        cosine = self.affine[:3, :3] / self.affine[:3, :3].norm(dim=0)
        best = max(
            permutations(range(3)), key=lambda order: sum(float(cosine[r, c].abs()) for r, c in enumerate(order))
        )
        affine = self.affine[:, [*best, 3]]
        data = self.data.permute(0, *[3 - column for column in reversed(best)])
        turned = replace(self, data=data, affine=affine)
        for row in range(3):
            if float(affine[row, row]) < 0:
                turned = turned.flip(2 - row)
        return turned
