"""`mezzotint restore SCAN --task mri|ct`: from file to file, in the file's unit and place, and one line for rubbish."""

from __future__ import annotations

import json

import pytest
import torch

from mezzotint.cli import restore_scan
from mezzotint.cli.main import run
from mezzotint.data.medical import Volume, phantom_volume, read_nifti, write_dicom_series, write_nifti


@pytest.fixture
def heads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(restore_scan, "_HEADS", 24)
    head = phantom_volume(7, (8, 16, 16), "t1", spacing=(5.0, 2.0, 1.5), lesion=True).volume
    write_nifti("head.nii.gz", head)
    write_nifti("other.nii.gz", phantom_volume(8, (8, 16, 16), "t1").volume)
    return head


def test_mri_from_nifti_to_nifti(heads, capsys, tmp_path):
    call = ["restore", "head.nii.gz", "--task", "mri", "--samples", "3", "--steps", "6"]
    assert run([*call, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    before, after, spread = (read_nifti(f"{n}.nii.gz") for n in ("head", "head-restored", "head-restored-spread"))
    assert before.header is not None and after.header is not None and before.header.codes == after.header.codes
    assert torch.equal(before.affine, after.affine) and torch.equal(before.affine, spread.affine)
    assert told["restored"]["psnr"] > told["without_a_prior"]["psnr"] + 3
    truth = before.data.clamp(min=0)
    mse = (after.data.clamp(min=0) - truth).square().mean()
    assert told["restored"]["psnr"] == pytest.approx(10 * float((truth.max() ** 2 / mse).log10()), abs=0.01)
    assert 0 < float(spread.data.mean()) < 0.3 * float(before.data.max())
    record = json.loads((tmp_path / "head-restored.json").read_text())
    assert record["measurement"] == {"simulated": "mri", "noise": 0.02, "acceleration": 4.0, "coils": 4}
    assert record["seeds"] == [0, 1, 2] and record["medical_device"] is False
    kept = (tmp_path / "head-restored.nii.gz").read_bytes()
    assert run(call) == 0 and (tmp_path / "head-restored.nii.gz").read_bytes() == kept
    told = capsys.readouterr().out
    assert "simulated from head.nii.gz; nothing here is a medical device" in told


def test_other_scans_are_the_prior(heads, capsys):
    call = ["restore", "head.nii.gz", "--task", "mri", "--steps", "4", "--json", "--prior", "other.nii.gz"]
    assert run(call) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["prior"] == "Gaussian of 1 scans" and told["spread"] is None


def test_ct_from_dicom_to_nifti(heads, capsys, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    head = phantom_volume(9, (8, 16, 16), "ct").volume
    write_dicom_series(tmp_path / "series", head, "CT")
    for more, least in ((["--views", "5"], 2.0), (["--span", "60"], 2.0)):  # 20 views of 16 pixels are no few
        assert run(["restore", "series", "--task", "ct", "--steps", "6", "--out", "ct.nii", "--json", *more]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["unit"] == "HU" and told["measurement"]["noise"] == pytest.approx(0.2)
        assert told["restored"]["psnr"] > told["without_a_prior"]["psnr"] + least
        after = read_nifti("ct.nii", unit="HU")
        assert torch.allclose(after.affine, head.affine, atol=1e-4)
        error = float((after.data.clamp(min=-1000) - head.data.clamp(min=-1000)).abs().mean())
        assert told["restored"]["mean absolute error"] == pytest.approx(error, rel=1e-3)
    files = sorted((tmp_path / "series").iterdir(), key=lambda p: pydicom.dcmread(p).ImagePositionPatient[2])
    files[3].unlink()
    assert run(["restore", "series", "--task", "ct"]) == 2
    assert "missing" in (error := capsys.readouterr().err) and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--task", "mri"], "a scan is needed"),
        (["nothing.nii.gz", "--task", "mri"], "No such file"),
        (["text.txt", "--task=ct"], "expected a NIfTI file"),
        (["broken.nii.gz", "--task", "mri"], "broken.nii.gz"),
        (["several.nii.gz", "--task", "mri"], "2 values a voxel"),
        (["large.nii.gz", "--task", "mri"], "16 x 16 to 64 x 64; give --model"),
        (["head.nii.gz", "--task", "mri", "--acceleration", "-2"], "acceleration=-2.0"),
        (["head.nii.gz", "--task", "ct", "--span", "200"], "span=200.0"),
        (["head.nii.gz", "--task", "mri", "--noise", "-1"], "std=-1.0"),
        (["head.nii.gz", "--task", "mri", "--method", "magic"], "unknown method 'magic'"),
        (["head.nii.gz", "--task", "mri", "--model", "emoji-pixel"], "these slices need one channel of 16 x 16"),
        (["head.nii.gz", "--task", "mri", "--prior", "large.nii.gz"], "large.nii.gz has slices of 96 x 80"),
        (["head.nii.gz", "--task", "mri", "--prior", "other.nii.gz", "--model", "m"], "two priors"),
        (["head.nii.gz", "--task", "mri", "--out", "a.png"], "ends in .nii or .nii.gz"),
        (["head.nii.gz", "--task", "mri", "--out", "none/a.nii"], "its folder does not exist"),
    ],
)
def test_bad_calls_are_one_line_and_write_nothing(heads, tmp_path, capsys, more, message):
    (tmp_path / "text.txt").write_text("no scan")
    (tmp_path / "broken.nii.gz").write_bytes((tmp_path / "head.nii.gz").read_bytes()[:300])
    eye = torch.eye(4, dtype=torch.float64)
    write_nifti("several.nii.gz", Volume(torch.rand(2, 8, 16, 16), eye))
    write_nifti("large.nii.gz", Volume(torch.rand(1, 2, 96, 80), eye))
    before = sorted(p.name for p in tmp_path.iterdir())
    assert run(["restore", *more]) == 2
    told = capsys.readouterr().err
    assert message in told and len(told.strip().splitlines()) == 1, told
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_the_list_names_them(capsys):
    assert run(["restore", "--list"]) == 0
    told = capsys.readouterr().out
    assert "fastMRI" in told and "y = radon(x) + n" in told
