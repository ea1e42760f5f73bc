"""Projection is the inverse of the rays, and cameras of another convention are told by name."""

from __future__ import annotations

import pytest
import torch

from mezzotint.restore.forward_model import VolumeRender3D, check_cameras, look_at

CAMERA = VolumeRender3D(6, 10, view=1.0, samples=4, near=1.0, far=4.0)
F64 = torch.float64
EYES = torch.tensor([[2.5, 0.0, 0.3], [0.0, -2.5, 1.0], [-1.5, 1.5, -1.0]], dtype=F64)
POSES = look_at(EYES, torch.zeros(3, 3, dtype=F64), torch.tensor([0.0, 0.0, 1.0], dtype=F64))


def to_world_first(poses: torch.Tensor) -> torch.Tensor:
    """[R^T | -R^T o]: world to camera."""
    turn = poses[:, :, :3].transpose(1, 2)
    return torch.cat([turn, -turn @ poses[:, :, 3:]], -1)


def opencv(poses: torch.Tensor) -> torch.Tensor:
    return torch.cat([poses[:, :, :1], -poses[:, :, 1:3], poses[:, :, 3:]], -1)


def test_projection_is_the_inverse_of_the_rays():
    origins, directions = CAMERA.rays(POSES)
    pixels, ahead = CAMERA.project((origins + 1.7 * directions).flatten(1, 2), POSES)
    rows, columns = torch.meshgrid(torch.arange(6) + 0.5, torch.arange(10) + 0.5, indexing="ij")
    expected = torch.stack([rows, columns], -1).flatten(0, 1).double().expand(3, 60, 2)
    torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-12)
    assert bool((ahead > 0).all()) and bool((ahead <= 1.7).all())


def test_the_cube_is_in_the_middle_and_the_nearer_camera_sees_it_larger():
    seen = check_cameras(CAMERA, POSES)
    assert torch.allclose(seen.mean(1), torch.tensor([3.0, 5.0], dtype=F64).expand(3, 2), atol=0.02)
    aside = check_cameras(CAMERA, POSES[:1], centre=(0.0, 0.4, 0.0))  # the first camera's right is +y
    assert float(aside[..., 1].mean()) > 5.5 and float(aside[..., 0].mean()) == pytest.approx(3.0, abs=0.1)
    near = look_at(EYES[:1] / 2, torch.zeros(1, 3, dtype=F64), torch.tensor([0.0, 0.0, 1.0], dtype=F64))
    wide = [float((s.amax(1) - s.amin(1)).amax()) for s in (check_cameras(CAMERA, near), seen[:1])]
    assert wide[0] > 1.8 * wide[1]


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (to_world_first(POSES), "3 of 3 .* they are world to camera: invert them"),
        (opencv(POSES), "look along .z .OpenCV, COLMAP.: negate"),
        (to_world_first(opencv(POSES)), "world to camera and look along .z"),
        (torch.cat([2 * POSES[:, :, :3], POSES[:, :, 3:]], -1), "no rotation.*3; give"),
        (POSES * torch.tensor([-1.0, 1, 1, 1], dtype=F64), "camera 0 is mirrored"),
        (torch.cat([POSES[:, :, :3], POSES[:, :, 3:] + 50], -1), "no usual convention.*units"),
        (POSES * float("nan"), "finite"),
    ],
)
def test_other_conventions_are_told(poses, message):
    with pytest.raises(ValueError, match=message):
        check_cameras(CAMERA, poses)


def test_the_advice_is_right():
    for given in (to_world_first(POSES), opencv(POSES), to_world_first(opencv(POSES))):
        mended = [to_world_first(given), opencv(given), opencv(to_world_first(given))]
        assert sum(torch.allclose(m, POSES, atol=1e-12) for m in mended) == 1
