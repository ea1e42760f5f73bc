"""Sparse-view CT end to end, on a synthetic head: DICOM in, 20 views, several restorations, NIfTI out.

    python examples/medical_ct.py --out /tmp/ct

The prior is no network but a Gaussian fitted to other synthetic heads (mean and covariance), so that this takes
seconds and its exact posterior is known; any `Denoiser` stands in its place. No clinical claim: nothing here is a
medical device.
Needs pydicom: pip install 'mezzotint[medical]'.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from mezzotint.core import VP, Gaussian, Noise
from mezzotint.data.medical import Window, phantom_volume, read_dicom, read_nifti, write_dicom_series, write_nifti
from mezzotint.metric import consistency, mean_absolute_error, spread_correlation, volume_psnr
from mezzotint.restore import MomentMatching, exact_posterior, posterior, total_variation
from mezzotint.restore.operators import Radon
from mezzotint.restore.scan import ct_scan, slice_prior

SIDE, SLICES, VIEWS, STD = 32, 8, 20, 0.2
HEAD = Window(-1000.0, 1000.0)  # Hounsfield units; -1 is air


def fitted_prior(seeds: range) -> Gaussian:
    """N(mean, covariance) of the slices of other heads."""
    heads = [phantom_volume(seed, (SLICES, SIDE, SIDE), "ct").volume.to_model(HEAD).data[0] for seed in seeds]
    return slice_prior(torch.cat(heads)[:, None])


def main(out: Path, heads: int = 80, samples: int = 4, steps: int = 20) -> dict[str, float]:
    """Write the series, restore it, write the restoration and its spread; returns what is printed."""
    out.mkdir(parents=True, exist_ok=True)
    print("synthetic data; nothing here is a medical device")
    phantom = phantom_volume(10_000, (SLICES, SIDE, SIDE), "ct", spacing=(5.0, 2.0, 2.0), lesion=True)
    files = write_dicom_series(out / "series", phantom.volume, "CT")

    head = read_dicom(sorted(files))  # names say nothing of the order of slices
    volume = head.to_model(HEAD)
    x = volume.data.transpose(0, 1).contiguous()  # slices are the batch: (d, 1, h, w)
    scan = ct_scan(x, Noise(range(SLICES)), views=VIEWS, std=STD)
    radon, y, std = scan.operator, scan.y, scan.std

    prior = fitted_prior(range(heads))
    many = posterior(MomentMatching(), prior.denoiser(VP()), radon, y, range(samples), std=std, steps=steps)
    wide = Radon.sparse(VIEWS, SIDE).double()
    exact = torch.stack([exact_posterior(prior, wide, row[None].double(), std).mean for row in y])
    made = {
        "filtered back-projection": scan.plain,
        "total variation": total_variation(radon, y, 0.2, low=-1.0, high=1.0),
        "the restoration": many.mean,
        "the prior's exact posterior mean": exact,
    }

    write_nifti(out / "restored.nii.gz", volume.with_data(many.mean[:, 0]))  # written in Hounsfield units
    write_nifti(out / "spread.nii.gz", 1000 * many.std[:, 0], like=head)  # 1000 HU is 1 in the window
    again = read_nifti(out / "restored.nii.gz", unit="HU")

    def units(x: Tensor) -> Tensor:
        return volume.with_data(x[:, 0].clamp(-1, 1)).to_unit().data

    told = {}
    for name, x_hat in made.items():
        rows = (units(x_hat)[None] + 1000, head.data.clamp(-1000, 1000)[None] + 1000, phantom.body[None, None])
        told[f"PSNR of {name}"] = float(volume_psnr(*rows))
        told[f"mean |error| of {name}, HU"] = float(mean_absolute_error(*rows))
    told |= {
        "consistency |y - A x| / |y|": float(consistency(radon, many.mean, y).mean()),
        "correlation of spread and error": float(spread_correlation(many.std, many.mean - x).mean()),
        "greatest change of the affine, mm": float((again.affine - head.affine).abs().max()),
    }
    for name, value in told.items():
        print(f"{name:50} {value:.4g}")
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("medical-ct"))
    main(parser.parse_args().out)
