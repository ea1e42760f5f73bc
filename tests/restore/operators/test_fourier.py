"""Fourier samples, coils and masks: conventions, isometries, counts."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.restore.operators import (
    AsComplex,
    Fourier,
    MultiCoil,
    as_channels,
    as_complex,
    cartesian_mask,
    centred_fft,
    centred_ifft,
    coil_maps,
    normalised_maps,
    radial_mask,
    random_mask,
)

F64 = torch.float64


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (4, 7)])
def test_the_transform_is_centred_and_orthonormal(size, draw):
    h, w = size
    delta = torch.zeros(1, 1, h, w, dtype=torch.complex128)
    delta[..., h // 2, w // 2] = 1
    torch.testing.assert_close(centred_fft(delta), torch.full_like(delta, 1 / math.sqrt(h * w)))
    i, j = torch.arange(h, dtype=F64)[:, None] - h // 2, torch.arange(w, dtype=F64) - w // 2
    wave = torch.polar(torch.ones(h, w, dtype=F64), 2 * math.pi * (i / h - 2 * j / w))[None, None]
    k = torch.zeros_like(delta)
    k[..., h // 2 + 1, w // 2 - 2] = math.sqrt(h * w)  # frequency (1, -2)
    torch.testing.assert_close(centred_fft(wave), k, rtol=0, atol=1e-12)
    z = as_complex(draw(2, 4, h, w))
    torch.testing.assert_close(centred_fft(z).abs().square().sum(), z.abs().square().sum())
    torch.testing.assert_close(centred_ifft(centred_fft(z)), z, rtol=0, atol=1e-12)


def test_channel_pairs_are_real_and_imaginary_parts(draw):
    x = draw(2, 6, 3, 4)
    z = as_complex(x)
    assert torch.equal(z[:, 1].real, x[:, 2]) and torch.equal(z[:, 1].imag, x[:, 3])
    assert torch.equal(as_channels(z), x)


def test_what_is_sampled_is_kept_as_it_is(draw):
    a = Fourier(random_mask((6, 5), 2.0, Noise([0, 1])))
    y = a.keep(draw(2, 2, 6, 5))
    torch.testing.assert_close(a(a.adjoint(y)), y, rtol=0, atol=1e-13)
    assert bool((a.keep(torch.ones(2, 2, 6, 5)).sum((1, 2, 3)) == 2 * 15).all())


def test_a_real_image_needs_half_of_the_frequencies_only(draw):
    mask = torch.zeros(4, 4)
    mask[2:] = 1  # rows of frequency 0 and 1
    mask[0] = 1  # row of frequency -2, its own mirror; that of -1 is left out
    a = Fourier(mask, real=True)
    x = draw(1, 1, 4, 4)
    torch.testing.assert_close(a.pinv(a(x)), x, rtol=0, atol=1e-13)
    s = a.singulars(x)
    assert float(s[0, 0, 2, 0]) == 1 and float(s[0, 0, 1, 0]) == pytest.approx(math.sqrt(0.5))
    assert float((Fourier(mask).pinv(Fourier(mask)(AsComplex()(x))) - AsComplex()(x)).norm()) > 0.1


def test_normalised_maps_make_a_full_scan_an_isometry(draw):
    maps = coil_maps((6, 8), 5)
    torch.testing.assert_close(maps.square().sum(1), torch.ones(1, 6, 8))
    a = MultiCoil(maps.double(), torch.ones(6, 8))
    x = draw(2, 2, 6, 8)
    torch.testing.assert_close(a.adjoint(a(x)), x, rtol=0, atol=1e-6)
    assert maps.reshape(5, 2, -1)[:, 0].std(0).mean() > 0.05  # and the coils differ
    blind = torch.zeros(1, 4, 1, 2)
    blind[0, :, 0, 1] = 2.0
    torch.testing.assert_close(normalised_maps(blind)[0, :, 0], torch.tensor([[0.0, 0.5]] * 4))


def test_coils_fill_in_for_missing_lines(draw):
    mask = torch.zeros(8, 8)
    mask[:, ::2] = 1
    x = draw(1, 2, 8, 8)
    several = MultiCoil(coil_maps(8, 4, width=0.6).double(), mask)
    torch.testing.assert_close(several.pinv(several(x)), x, rtol=0, atol=1e-6)
    one = Fourier(mask)
    assert float((one.pinv(one(x)) - x).norm() / x.norm()) > 0.5


def test_the_guess_stops_before_the_noise_takes_over():
    a = MultiCoil(coil_maps(32, 4), cartesian_mask(32, 2.0, Noise([0])))
    i = torch.arange(32) / 16 - 1
    x = AsComplex(i[:, None] + i)(((i[:, None] ** 2 + i**2) < 0.6).float()[None, None])
    error = lambda z: float((z - x).norm() / x.norm())  # noqa: E731
    assert error(a.guess(a(x))) < 0.8 * error(a.adjoint(a(x)))
    y = a.keep(a(x) + 0.03 * Noise([1])("y", 0, (8, 32, 32)))
    assert error(a.guess(y)) < error(a.adjoint(y)) < 0.1 * error(a.pinv(y))


def test_cartesian_masks_have_their_lines():
    noise = Noise(range(40))
    mask = cartesian_mask((5, 32), 4.0, noise, centre=0.1)
    assert mask.shape == (40, 1, 5, 32) and bool((mask == mask[:, :, :1]).all())
    lines = mask[:, 0, 0]
    assert bool((lines.sum(1) == 8).all())
    assert bool(lines[:, 15:18].all()) and bool(lines[:, 16].all())  # 3 about zero frequency, 16
    others = torch.cat([lines[:, :15], lines[:, 18:]], 1).double().sum(0)
    assert bool((others > 0).all()) and float((others - 40 * 5 / 29).abs().max()) < 4.5 * math.sqrt(40 * 5 / 29)
    assert torch.equal(cartesian_mask((5, 32), 4.0, Noise([7]), centre=0.1), mask[7:8])
    assert bool(cartesian_mask(8, 1, Noise([0])).all())


def test_random_masks_have_their_points():
    mask = random_mask((16, 20), 5.0, Noise([0, 1]), centre=0.03)
    assert mask.flatten(1).sum(1).tolist() == [64, 64]
    assert bool(mask[:, :, 7:10, 9:12].all()) and not torch.equal(mask[0], mask[1])


def test_spokes_pass_the_centre():
    mask = radial_mask((9, 9), 4)[0, 0]  # at 0, 45, 90 and 135 degrees
    i, j = torch.arange(9)[:, None] - 4, torch.arange(9) - 4
    assert torch.equal(mask, (i == 0) | (j == 0) | (i.abs() == j.abs()))
    for spokes, fewest in ((1, 15), (2, 29), (8, 80)):
        mask = radial_mask((15, 15), spokes, start=0.3)[0, 0]
        assert bool(mask[7, 7]) and torch.equal(mask, mask.flip(0, 1))  # 15 is odd: -k mirrors about the middle
        assert fewest <= int(mask.sum()) <= 15 * spokes - (spokes - 1)


def test_bad_input_is_told(unchecked):
    a = Fourier(torch.ones(4, 4))
    with pytest.raises(ValueError, match="1 channels; expected pairs.*real=True"):
        a(torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="complex tensor; expected real ones"):
        a(torch.zeros(1, 1, 4, 4, dtype=torch.complex64))
    with pytest.raises(ValueError, match="images of 4 x 6 pixels; it was made for 4 x 4"):
        a(torch.zeros(1, 2, 4, 6))
    with pytest.raises(ValueError, match="complex whatever the image is"):
        Fourier(torch.ones(4, 4), real=True).adjoint(torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="samples nothing"):
        Fourier(torch.zeros(4, 4))
    with pytest.raises(ValueError, match="values other than 0 and 1"):
        Fourier(torch.full((4, 4), 0.5))
    with pytest.raises(ValueError, match=r"mask \(4,\); expected a tensor"):
        Fourier(torch.ones(4))
    with pytest.raises(ValueError, match="maps of .4, 4. pixels and a mask of .4, 5."):
        MultiCoil(coil_maps(4, 2), torch.ones(4, 5))
    b = MultiCoil(coil_maps(4, 2), torch.ones(4, 4))
    with pytest.raises(ValueError, match="images of 1 channels; expected 2.*AsComplex"):
        b(torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="measurements of 2 channels; expected 4, two for each of 2 coils"):
        b.adjoint(torch.zeros(1, 2, 4, 4))
    with pytest.raises(ValueError, match="acceleration=0.5; expected a number >= 1"):
        cartesian_mask(8, 0.5, Noise([0]))
    with pytest.raises(ValueError, match="centre alone has 4 of 8 columns but acceleration 4 leaves 2"):
        cartesian_mask(8, 4, Noise([0]), centre=0.5)
    with pytest.raises(ValueError, match="spokes=0; expected a whole number"):
        radial_mask(8, 0)
