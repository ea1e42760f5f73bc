"""The medical examples run from file to file, beat what needs no prior, and keep the geometry."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mezzotint.data.medical import read_nifti

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small(module: ModuleType, tmp_path: Path) -> dict[str, float]:
    module.SIDE, module.SLICES = 16, 8
    return module.main(tmp_path, heads=30, samples=3, steps=8)


def test_mri_from_nifti_to_nifti(tmp_path, capsys):
    told = small(example("medical_mri"), tmp_path)
    assert "nothing here is a medical device" in capsys.readouterr().out
    assert told["PSNR of the restoration, their mean"] > told["PSNR of the coils' adjoint"] + 3
    assert told["PSNR of the restoration, their mean"] > told["PSNR of one sample"]
    before, after, spread = (read_nifti(tmp_path / f"{name}.nii.gz") for name in ("head", "restored", "spread"))
    assert before.header is not None and after.header is not None and before.header.codes == after.header.codes
    assert torch.equal(before.affine, after.affine) and torch.equal(before.affine, spread.affine)
    assert 0.02 < float(spread.data.mean() / before.data.max()) < 0.5  # in the unit of the file
    inside = (after.data - before.data).abs().mean() / before.data.mean()
    assert float(inside) < 0.5


def test_ct_from_dicom_to_nifti(tmp_path, capsys):
    pytest.importorskip("pydicom")
    told = small(example("medical_ct"), tmp_path)
    assert "nothing here is a medical device" in capsys.readouterr().out
    assert told["PSNR of the restoration"] > told["PSNR of filtered back-projection"] + 2
    assert told["PSNR of the prior's exact posterior mean"] > told["PSNR of the restoration"] - 0.5
    assert told["greatest change of the affine, mm"] < 1e-4
    after = read_nifti(tmp_path / "restored.nii.gz", unit="HU")
    assert after.size == (8, 16, 16) and abs(float(after.data[..., 0, 0].median()) + 1000) < 60  # air
