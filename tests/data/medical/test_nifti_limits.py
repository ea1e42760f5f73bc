"""What NIfTI-1 cannot say, and what is no file."""

from __future__ import annotations

import pytest
import torch

from mezzotint.data.medical import Volume, read_nifti, write_nifti
from mezzotint.metric import surface_distances


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        read_nifti(tmp_path)


@pytest.mark.parametrize("shape", [(1, 1, 1, 32768), (1, 1, 40000, 1), (32768, 1, 1, 1)])
def test_axes_that_sixteen_bits_cannot_count_are_refused(tmp_path, shape):
    volume = Volume(torch.zeros(shape), torch.eye(4, dtype=torch.float64))
    with pytest.raises(ValueError, match="axes end at 32767"):
        write_nifti(tmp_path / "a.nii", volume)
    assert not list(tmp_path.iterdir())
    fits = volume.data[:32767, :, :32767, :32767]
    write_nifti(tmp_path / "a.nii", Volume(fits, volume.affine))
    assert read_nifti(tmp_path / "a.nii").data.shape == fits.shape


def test_an_infinite_spacing_is_refused():
    masks = torch.eye(4, dtype=torch.bool)[None]
    with pytest.raises(ValueError, match="one positive number each"):
        surface_distances(masks, masks.flip(1), (float("inf"), 1.0))
