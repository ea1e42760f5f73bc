"""Accelerated MRI end to end, on a synthetic head: NIfTI in, a quarter of k-space, several restorations, NIfTI out.

    python examples/medical_mri.py --out /tmp/mri

The prior is no network but a Gaussian fitted to other synthetic heads (mean and covariance), so that this takes
seconds; any `Denoiser` stands in its place. No clinical claim: nothing here is a medical device.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from mezzotint.core import VP, Gaussian, Noise
from mezzotint.data.medical import Percentile, Volume, phantom_volume, read_nifti, write_nifti
from mezzotint.metric import consistency, spread_correlation, volume_report
from mezzotint.restore import MomentMatching, posterior, total_variation
from mezzotint.restore.scan import mri_scan, slice_prior

SIDE, SLICES, STD, COILS = 32, 8, 0.02, 4


def oblique() -> Tensor:
    """A head that is turned in the scanner, with slices that are thicker than pixels."""
    turn = torch.tensor([[0.0, -0.2, 0.1], [0.2, 0.0, -0.05], [-0.1, 0.05, 0.0]], dtype=torch.float64)
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = torch.linalg.matrix_exp(turn) * torch.tensor([2.0, 2.0, 5.0], dtype=torch.float64)
    affine[:3, 3] = torch.tensor([-30.0, -25.0, -20.0])
    return affine


def fitted_prior(seeds: range) -> Gaussian:
    """N(mean, covariance) of the slices of other heads, each head in a range of its own."""
    heads = [phantom_volume(seed, (SLICES, SIDE, SIDE), "t1").volume.to_model(Percentile()).data[0] for seed in seeds]
    return slice_prior(torch.cat(heads)[:, None])


def decibels(volume: Volume, x: Tensor, truth: Volume, body: Tensor) -> float:
    """PSNR of slices (d, 1, h, w) in the range of a model, in the volume's own unit, inside the body."""
    made = volume.with_data(x[:, 0]).to_unit().data.clamp(min=0)
    rows = {row.name: row.value for row in volume_report(made, truth.data, body)}
    return rows["volume psnr inside the mask"]


def main(out: Path, heads: int = 80, samples: int = 4, steps: int = 20) -> dict[str, float]:
    """Write the scan, restore it, write the restoration and its spread; returns what is printed."""
    out.mkdir(parents=True, exist_ok=True)
    print("synthetic data; nothing here is a medical device")
    phantom = phantom_volume(10_000, (SLICES, SIDE, SIDE), "t1", affine=oblique(), lesion=True)
    write_nifti(out / "head.nii.gz", phantom.volume)

    head = read_nifti(out / "head.nii.gz")
    volume = head.to_model(Percentile())  # one range for all slices; an inverse map comes with it
    x = volume.data.transpose(0, 1).contiguous()  # slices are the batch: (d, 1, h, w)
    scan = mri_scan(x, Noise(range(SLICES)), coils=COILS, std=STD)
    operator, y = scan.operator, scan.y

    prior = fitted_prior(range(heads))
    many = posterior(MomentMatching(), prior.denoiser(VP()), operator, y, range(samples), std=STD, steps=steps)
    smooth = total_variation(operator, y, 0.01, low=-1.0, high=1.0)

    restored = volume.with_data(many.mean[:, 0]).to_unit()  # back to the unit of the file, by the map's inverse
    step = float(volume.range_map.inverse(torch.ones(1)) - volume.range_map.inverse(torch.zeros(1)))  # type: ignore[union-attr]
    write_nifti(out / "restored.nii.gz", restored)
    write_nifti(out / "spread.nii.gz", step * many.std[:, 0], like=head)
    again = read_nifti(out / "restored.nii.gz")

    body = phantom.body
    told = {
        "PSNR of the coils' adjoint": decibels(volume, scan.plain, head, body),
        "PSNR of total variation": decibels(volume, smooth, head, body),
        "PSNR of one sample": decibels(volume, many.samples[0], head, body),
        "PSNR of the restoration, their mean": decibels(volume, many.mean, head, body),
        "consistency |y - A x| / |y|": float(consistency(operator, many.mean, y).mean()),
        "correlation of spread and error": float(spread_correlation(many.std, many.mean - x).mean()),
        "greatest change of the affine, mm": float((again.affine - head.affine).abs().max()),
    }
    for name, value in told.items():
        print(f"{name:45} {value:.4g}")
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("medical-mri"))
    main(parser.parse_args().out)
