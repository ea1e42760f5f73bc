"""Forward models: windows, warps, decoders, cameras in space, views one after the other, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import Condition, Cosine, Noise
from mezzotint.restore.forward_model import (
    CropModel,
    Decoded,
    ForwardModelDenoiser,
    LinearModel,
    MaskModel,
    ParallelBeam,
    VolumeRender2D,
    VolumeRender3D,
    Warp,
    autoregressive_views,
    check_forward,
    look_at,
    sample_signals,
)


def image(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_windows_are_cut_where_phi_says_and_coverage_counts_what_is_seen():
    x = image(2, 3, 6, 8)
    seen = CropModel(2, 3)(x, torch.tensor([[0, 0], [4, 5]]))
    assert torch.equal(seen[0], x[0, :, :2, :3]) and torch.equal(seen[1], x[1, :, 4:, 5:])
    corners = torch.tensor([[[0, 0], [0, 3]]]).expand(2, -1, -1)
    assert CropModel(2, 3).coverage(x, corners) == pytest.approx(12 / 48)
    masks = torch.zeros(2, 2, 1, 6, 8)
    masks[:, 0, :, :3], masks[:, 1, :, 3:] = 1, 1
    assert MaskModel().coverage(x, masks) == 1
    with pytest.raises(ValueError, match="leaves the image of 6 x 8"):
        CropModel(2, 3)(x, torch.tensor([[5, 0], [0, 0]]))


def test_beams_keep_the_mass_and_agree_with_sums_along_axes():
    x = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    x[..., 2:6, 3:7] = image(1, 1, 4, 4)
    beam = ParallelBeam(9)
    down, across = beam(x, torch.zeros(1)), beam(x, torch.full((1,), math.pi / 2))
    torch.testing.assert_close(down, x.sum(2), rtol=0, atol=1e-12)
    torch.testing.assert_close(across.sort().values, x.sum(3).sort().values, rtol=0, atol=1e-6)


def test_a_warp_by_whole_pixels_moves_the_picture():
    x = image(1, 3, 6, 6)
    flow = torch.zeros(2, 2, 6, 6, dtype=torch.float64)
    flow[:, 0] = 2.0  # x
    seen = Warp(x)(flow, torch.tensor([1.0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(seen[0, :, :, :4], x[0, :, :, 2:], rtol=0, atol=1e-12)
    torch.testing.assert_close(seen[1, :, :, :5], x[0, :, :, 1:], rtol=0, atol=1e-12)
    check_forward(Warp(x), image(1, 2, 6, 6) * 0.3, torch.ones(1))


def test_a_frozen_decoder_passes_gradients_and_learns_nothing():
    decoder = torch.nn.Linear(4, 6).double()
    model = Decoded(decoder, LinearModel())
    z = image(2, 4).requires_grad_()
    model(z, image(2, 3, 6)).sum().backward()
    assert z.grad is not None and decoder.weight.grad is None


def ball(centre):
    """An opaque ball of radius 0.3, red."""

    def field(p):
        inside = ((p - torch.tensor(centre, dtype=p.dtype)).norm(dim=-1) < 0.3).to(p)
        return 200 * inside, torch.tensor([1.0, -1.0, -1.0], dtype=p.dtype).expand(*p.shape[:2], 3)

    return field


def test_cameras_in_space_see_things_where_they_are():
    camera = VolumeRender3D(32, 32, view=1.0, samples=200, near=1.0, far=4.0)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    eyes = torch.tensor([[2.5, 0.0, 0.0], [0.0, -2.5, 0.0]], dtype=torch.float64)
    poses = look_at(eyes, torch.zeros(2, 3, dtype=torch.float64), up)
    torch.testing.assert_close(poses[:, :, :3].det(), torch.ones(2, dtype=torch.float64))  # no mirror
    seen = camera.render(ball([0.0, 0.5, 0.4]), poses)
    red = seen.opacity > 0.5
    rows, columns = (red.any(2).double(), red.any(1).double())
    place = torch.arange(32, dtype=torch.float64)
    # up in both; to the right of the first (its right is +y), and nearer the middle of the second, which looks along +y
    assert float((rows * place).sum() / rows.sum()) < 14
    middle = ((columns * place).sum(1) / columns.sum(1)).tolist()
    assert middle[0] > 18 and abs(middle[1] - 15.5) < 0.6
    assert float(seen.depth[1][red[1]].mean()) == pytest.approx(2.8, abs=0.15)  # 2.5 + 0.5, to the near side


def test_flatland_projection_is_the_inverse_of_its_rays():
    camera = VolumeRender2D(8, 2.5, 1.0, 4, 1.0, 4.0)
    phi = torch.tensor([0.3, 2.0], dtype=torch.float64)
    origins, directions = camera.rays(phi)
    across, ahead = camera.project(origins + 1.7 * directions, phi)
    expected = (torch.arange(8, dtype=torch.float64) + 0.5) / 4 - 1
    torch.testing.assert_close(across, expected.expand(2, 8), rtol=0, atol=1e-12)
    assert bool((ahead > 0).all())


def test_views_join_the_context_one_after_the_other():
    told: list[int] = []

    def net(y, t, c):
        told.append(c["context"].shape[1])
        return c["context"].sum(1) + 0 * y

    d = ForwardModelDenoiser(net, LinearModel(), Cosine())
    c = Condition({"context": torch.ones(2, 1, 3), "phi": torch.eye(3).expand(2, 3, 3)})

    def append(c, seen, phi):
        return Condition({**c, "context": torch.cat([c["context"], seen[:, None]], 1)})

    phis = torch.eye(3).expand(2, 3, 3, 3)
    _, seen = autoregressive_views(d, c, phis, append, Noise([0, 1]), (3,), steps=2)
    assert sorted(set(told)) == [1, 2, 3]
    assert seen[:, :, 0].tolist() == [[1.0, 2.0, 4.0]] * 2  # each is the sum of all before it


def test_bad_input_is_one_line():
    d = ForwardModelDenoiser(lambda y, t, c: y, LinearModel(), Cosine())
    with pytest.raises(ValueError, match="no 'phi'"):
        d(torch.zeros(1, 2), torch.tensor([0.5]))
    with pytest.raises(ValueError, match="temperature=-1"):
        sample_signals(d, Condition({"phi": torch.eye(2)[None]}), Noise([0]), (2,), temperature=-1.0)
    with pytest.raises(ValueError, match="0 <= near < far"):
        VolumeRender2D(4, 1.0, 1.0, 8, 3.0, 1.0)
    with pytest.raises(ValueError, match="looks along `up`"):
        look_at(torch.tensor([[0.0, 0, 1]]), torch.zeros(1, 3), torch.tensor([0.0, 0, 1]))


def test_matrices_that_do_not_fit_are_refused(unchecked):
    with pytest.raises(ValueError, match="expected matrices"):
        LinearModel()(torch.zeros(1, 3), torch.zeros(1, 2, 4))
