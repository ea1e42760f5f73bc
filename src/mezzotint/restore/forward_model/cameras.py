"""Whether cameras mean what the renderer takes them for: a cube's corners, seen by each."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.forward_model.render import VolumeRender3D

__all__ = ["check_cameras"]

_ROUNDING = 1e-3  # what a pose read from a text file may be off


def _inverse(p: Tensor) -> Tensor:
    turn = p[:, :, :3].mT
    return torch.cat([turn, -turn @ p[:, :, 3:]], -1)


def _forwards(p: Tensor) -> Tensor:
    return p * p.new_tensor([1, -1, -1, 1])


# the ways in which data sets differ from `VolumeRender3D`: what to do, and the poses that it gives
_CONVENTIONS = {
    "they are world to camera: invert them": _inverse,
    "they look along +z (OpenCV, COLMAP): negate their second and third column": _forwards,
    "they are world to camera and look along +z (OpenCV, COLMAP): invert them, then negate the second and third "
    "column": lambda p: _forwards(_inverse(p)),
}


def check_cameras(
    model: VolumeRender3D,
    phi: Float[Tensor, "b 3 4"],
    *,
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
    side: float = 0.2,
) -> Float[Tensor, "b 8 2"]:
    """Pixels (row, column) at which each camera sees the corners of a cube that all of them should see.

    Draw them over the pictures: the cube must lie where the scene's middle is.

    Args:
        model: the renderer.
        phi: poses, camera to world [R | o], looking along their -z, x right, y up.
        centre: of the cube, in the world.
        side: of the cube, > 0: small against the scene.

    Returns:
        positions as of `VolumeRender3D.project`: pixel (i, j) covers [i, i + 1) x [j, j + 1).

    Raises:
        ValueError: for poses that are no rotation and place, and for cameras that do not see the cube; says which other
            convention would let all of them see it, if one does.

    Source: arXiv 2306.11719 speaks of conventions in its code only; the check is our choice.

    >>> from mezzotint.restore.forward_model import look_at
    >>> camera = VolumeRender3D(8, 8, view=1.0, samples=4, near=1.0, far=4.0)
    >>> pose = look_at(torch.tensor([[0.0, -2.5, 0.0]]), torch.zeros(1, 3), torch.tensor([0.0, 0.0, 1.0]))
    >>> check_cameras(camera, pose).mean((0, 1)).round().tolist()
    [4.0, 4.0]
    """
    if phi.ndim != 3 or phi.shape[1:] != (3, 4) or not bool(torch.isfinite(phi).all()):
        raise ValueError(f"cameras have shape {tuple(phi.shape)}; expected finite (b, 3, 4), camera to world [R | o]")
    if not side > 0:
        raise ValueError(f"the cube has side {side}; expected > 0")
    turn = phi[:, :, :3].double()
    skew = (turn @ turn.mT - torch.eye(3, dtype=turn.dtype, device=turn.device)).abs().amax((1, 2))
    if bool((skew > _ROUNDING).any()):
        k = int(skew.argmax())
        raise ValueError(
            f"camera {k} is no rotation: R R^T is off the identity by {float(skew[k]):.3g}; give [R | o] without "
            "scale, and intrinsics apart"
        )
    mirrored = torch.linalg.det(turn) < 0
    if bool(mirrored.any()):
        k = int(mirrored.float().argmax())
        raise ValueError(f"camera {k} is mirrored (det R = -1): one axis points the wrong way; expected x right, y up")
    half = torch.tensor([-0.5, 0.5], dtype=phi.dtype, device=phi.device) * side
    corners = torch.cartesian_prod(half, half, half) + phi.new_tensor(centre)
    unseen = _unseen(model, phi, corners)
    if bool(unseen.any()):
        told = next((hint for hint, to in _CONVENTIONS.items() if not _unseen(model, to(phi), corners).any()), None)
        hint = f"all would if {told}" if told else "no usual convention lets all of them; are centre and units right?"
        raise ValueError(
            f"{int(unseen.sum())} of {len(phi)} cameras, the first of them {int(unseen.float().argmax())}, do not see "
            f"the cube at {centre}: {hint}"
        )
    return model.project(corners.expand(len(phi), 8, 3), phi)[0]


def _unseen(model: VolumeRender3D, phi: Tensor, corners: Tensor) -> Tensor:
    """(b,) True where a corner is behind a camera, or the middle of the cube is outside its picture."""
    _, ahead = model.project(corners.expand(len(phi), -1, -1), phi)
    middle, _ = model.project(corners.mean(0).expand(len(phi), 1, 3), phi)
    size = middle.new_tensor([model.height, model.width])
    return (ahead <= 0).any(1) | ((middle < 0) | (middle >= size)).flatten(1).any(1)
