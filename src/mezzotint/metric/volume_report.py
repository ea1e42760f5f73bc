"""One call for a reconstructed volume: its measures in its own unit, over everything and inside the body."""

from __future__ import annotations

from torch import Tensor

from mezzotint.metric.card import MetricCard
from mezzotint.metric.reconstruction import mean_absolute_error, nmse, volume_psnr
from mezzotint.metric.result import MetricResult
from mezzotint.metric.ssim import ssim

__all__ = ["volume_report"]

_MEASURES = {"volume psnr": volume_psnr, "nmse": nmse, "mean absolute error": mean_absolute_error}


def volume_report(a: Tensor, reference: Tensor, mask: Tensor | None = None, *, unit: str = "") -> list[MetricResult]:
    """Measures of one volume against its reference: PSNR, NMSE, mean absolute error, SSIM slice by slice.

    PSNR and SSIM take the maximum of the reference volume for their range, so both need values >= 0 at a stated zero:
    give Hounsfield units + 1000. SSIM is the mean over slices and channels with the Gaussian window of 11 pixels (not
    the 7 by 7 mean of fastMRI). Background dominates what is measured over everything: give the body's mask, and
    read those rows.

    Args:
        a, reference: (c, d, h, w), in their own unit, not in [-1, 1].
        mask: (d, h, w) bool; adds the same measures (not SSIM) inside it.
        unit: of the values, for the card.

    Returns:
        One `MetricResult` a measure; n of the card counts slices.

    Raises:
        ValueError: for shapes that differ, slices below 11 pixels, or a reference without a positive value.

    >>> import torch
    >>> x = torch.rand(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> [(r.name, round(r.value, 3)) for r in volume_report(0.9 * x, x)][1]
    ('nmse', 0.01)
    """
    if a.shape != reference.shape or a.ndim != 4:
        raise ValueError(
            f"volume_report got {tuple(a.shape)} and {tuple(reference.shape)}; expected equal (c, d, h, w)"
        )
    results, slices = [], a.shape[1]
    for where, inside in (("", None), (" inside the mask", mask)):
        if where and inside is None:
            continue
        rows = a[None], reference[None], None if inside is None else inside[None, None]
        for name, measure in _MEASURES.items():
            notes = f"unit {unit or 'arbitrary'}" if measure is mean_absolute_error else ""
            card = MetricCard(name + where, n=slices, n_reference=slices, notes=notes)
            results.append(MetricResult(float(measure(*rows)), card))
    planes = (x.transpose(0, 1).contiguous() for x in (a, reference))
    values = ssim(*planes, data_range=float(reference.max()))
    card = MetricCard("ssim of slices, gaussian 11", n=slices, n_reference=slices)
    # no error is stated: slices of one volume are not independent
    return [*results, MetricResult(float(values.mean()), card)]
