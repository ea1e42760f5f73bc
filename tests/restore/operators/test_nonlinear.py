"""Operators that are not linear: values, gradients against differences away from kinks, guesses, ranges."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from mezzotint.latent import Identity
from mezzotint.restore.operators import JPEG, Clip, Decode, LowLight, Mask, PhaseRetrieval, Quantise, Radon

F64 = torch.float64


def slope(a, x, direction, h=1e-6):
    """The derivative of sum(w A(x)) along a direction, by differences and by autograd."""
    x = x.clone().requires_grad_()
    y = a(x)
    w = torch.linspace(-1, 1, y.numel(), dtype=F64).reshape(y.shape)
    (grad,) = torch.autograd.grad(y, x, w)
    apart = (w * (a(x.detach() + h * direction) - a(x.detach() - h * direction))).sum() / (2 * h)
    return float(apart), float((grad * direction).sum())


@pytest.mark.parametrize(
    "a",
    [Clip(), Clip(1.5, -0.5, 0.25), PhaseRetrieval((6, 5)), PhaseRetrieval((6, 5), 0), LowLight(0.3, 2.2)],
    ids=lambda a: f"{type(a).__name__}{getattr(a, 'gain', '')}",
)
def test_gradients_are_those_of_differences(a, draw):
    x = 0.4 * draw(2, 2, 6, 5)
    apart, exact = slope(a, x, draw(2, 2, 6, 5))
    assert exact == pytest.approx(apart, rel=1e-6, abs=1e-7) and abs(exact) > 1e-3


def test_gradients_are_finite_where_a_magnitude_or_the_light_is_zero():
    for a in (PhaseRetrieval(4), LowLight(0.5, 1.0), LowLight(0.5, 3.0)):
        x = torch.full((1, 1, 4, 4), 0.0 if isinstance(a, PhaseRetrieval) else -1.0, requires_grad=True)
        (grad,) = torch.autograd.grad(a(x).sum(), x)
        assert bool(torch.isfinite(grad).all())


def test_clipping_keeps_the_range_and_its_projection_explains():
    a = Clip(2.0)
    x = torch.tensor([[-0.9, -0.3, 0.0, 0.4, 0.8]], dtype=F64)
    y = a(x)
    torch.testing.assert_close(y, torch.tensor([[-1.0, -0.6, 0.0, 0.8, 1.0]], dtype=F64))
    torch.testing.assert_close(a.guess(y), y / 2)
    other = torch.tensor([[0.2, 0.2, 0.2, 0.2, 0.2]], dtype=F64)
    torch.testing.assert_close(a.project(other, y), torch.tensor([[-0.5, -0.3, 0.0, 0.4, 0.5]], dtype=F64))
    torch.testing.assert_close(a.project(x, y), x)
    torch.testing.assert_close(a(a.project(other, y)), y)


def test_few_levels():
    a = Quantise(2)
    x = torch.tensor([[-1.4, -0.7, -0.6, 0.2, 0.9]], dtype=F64, requires_grad=True)
    y = a(x)
    third = 1 / 3
    torch.testing.assert_close(y.detach(), torch.tensor([[-1.0, -1.0, -third, third, 1.0]], dtype=F64))
    assert len(Quantise(5)(torch.linspace(-1, 1, 2000)[None]).unique()) == 32
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert grad.tolist() == [[0.0, 1.0, 1.0, 1.0, 1.0]]  # straight-through, but where it is cut
    near = a.project(torch.full_like(y, 0.1), y.detach())
    torch.testing.assert_close(near, torch.tensor([[-2 * third, -2 * third, 0.0, 0.1, 2 * third]], dtype=F64))
    torch.testing.assert_close(a.guess(y), y)


def test_magnitudes_do_not_know_sign_turn_or_shift(draw):
    a = PhaseRetrieval((8, 6))
    x = draw(1, 1, 8, 6)
    y = a(x)
    assert y.shape == (1, 1, 12, 8) and bool((y >= 0).all())  # floor(6 / 4) = 1 a side
    torch.testing.assert_close(y.square().sum(), x.square().sum())  # orthonormal
    torch.testing.assert_close(a(-x), y)
    torch.testing.assert_close(a(x.flip(-2, -1)), y)
    x[..., -1, :] = 0
    torch.testing.assert_close(a(x.roll(1, -2)), a(x))
    assert a.guess(y).shape == x.shape
    delta = torch.zeros(1, 1, 8, 6, dtype=F64)
    delta[..., 4, 3] = 1
    torch.testing.assert_close(a.guess(a(delta)), delta)  # flat and without phases: the one that comes back


def test_low_light_and_its_inverse(draw):
    a = LowLight(torch.tensor([[0.2, 0.5]], dtype=F64), 2.0)
    x = draw(2, 3, 4, 2).clamp(-1, 1)
    y = a(x)
    torch.testing.assert_close((y + 1) / 2, a.gain * ((x + 1) / 2) ** 2)
    torch.testing.assert_close(a.guess(y), x)
    assert float(LowLight(0.3)(torch.full((1, 1, 1, 1), -1.0))) == -1  # black stays black


def picture(n: int, channels: int) -> torch.Tensor:
    """Waves, an edge and noise, in bytes."""
    i = torch.arange(n, dtype=F64) / n
    g = torch.Generator().manual_seed(0)
    x = torch.stack([torch.sin(9 * i[:, None] + 5 * i * k) + 0.5 * (i[:, None] > 0.4) - 0.2 for k in range(channels)])
    noisy = 0.8 * x + 0.1 * torch.randn(channels, n, n, generator=g, dtype=F64)
    return (127.5 * noisy.clamp(-1, 1) + 127.5).round()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [5, 10, 25, 50, 75, 90, 95])
def test_jpeg_is_near_that_of_pillow(quality, channels):
    byte = picture(61, channels)
    shown = byte.permute(1, 2, 0).numpy().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(shown.squeeze()).save(file, "JPEG", quality=quality, subsampling=0)
    theirs = torch.from_numpy(np.array(Image.open(file))).double().reshape(61, 61, channels).permute(2, 0, 1)
    ours = 127.5 * (JPEG(quality)(byte[None] / 127.5 - 1)[0] + 1)
    psnr = lambda a, b: -10 * math.log10(float((a - b).square().mean()) / 255**2 + 1e-16)  # noqa: E731
    assert psnr(ours, theirs) > (47 if channels == 3 else 53)
    assert psnr(ours, theirs) > psnr(theirs, byte) + 8  # far nearer to each other than to the image


@pytest.mark.parametrize(("sampling", "code"), [("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)])
@pytest.mark.parametrize("size", [64, 61])
def test_jpeg_of_a_file_is_how_it_was_made(sampling, code, size, tmp_path):
    byte = picture(size, 3)
    path = tmp_path / "a.jpg"
    Image.fromarray(byte.permute(1, 2, 0).numpy().astype(np.uint8)).save(path, quality=40, subsampling=code)
    operator = JPEG.of_file(path)
    assert operator.quality is None and torch.equal(operator.tables, JPEG(40).tables)
    theirs = torch.from_numpy(np.array(Image.open(path))).double().permute(2, 0, 1)
    psnr = lambda y: -10 * math.log10(float((127.5 * (y[0] + 1) - theirs).square().mean()) / 255**2)  # noqa: E731
    x = byte[None] / 127.5 - 1
    assert psnr(operator(x)) > 42 and torch.equal(operator(x), JPEG(40, sampling)(x))
    for other in {"4:4:4", "4:2:2", "4:2:0"} - {sampling}:
        assert psnr(operator(x)) > psnr(JPEG(40, other)(x)) + 5


def test_jpeg_of_what_is_no_colour_jpeg(tmp_path):
    picture = Image.new("L", (16, 16), 100)
    picture.save(tmp_path / "grey.jpg", quality=70)
    one, three = (JPEG.of_file(tmp_path / "grey.jpg")(torch.linspace(-1, 1, 16).expand(1, c, 16, 16)) for c in (1, 3))
    torch.testing.assert_close(one.expand_as(three), three, rtol=0, atol=1.01 / 127.5)  # colours are rounded
    picture.save(tmp_path / "grey.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.convert("RGB").save(tmp_path / "turned.jpg", exif=turned)
    with pytest.raises(ValueError, match="turned by its EXIF tag.*give the quality"):
        JPEG.of_file(tmp_path / "turned.jpg")
    picture.convert("CMYK").save(tmp_path / "ink.jpg")
    for name in ("grey.png", "ink.jpg"):
        with pytest.raises(ValueError, match="no JPEG of grey or of RGB"):
            JPEG.of_file(tmp_path / name)


def test_jpeg_does_nothing_to_what_it_can_say_exactly():
    grey = torch.full((1, 1, 16, 8), 2 * 144 / 255 - 1, dtype=F64)  # 16 above the middle: DC of 128, a multiple of 16
    torch.testing.assert_close(JPEG(50)(grey), grey, rtol=0, atol=1e-12)
    wave = torch.cos(math.pi * (2 * torch.arange(8, dtype=F64) + 1) * 1 / 16)
    x = (0.5 + 55 * wave * math.sqrt(2) / 8).expand(1, 1, 8, 8) / 127.5  # one coefficient of 55: five times 11
    torch.testing.assert_close(JPEG(50)(x), x, rtol=0, atol=0.51 / 127.5)  # pixels are rounded
    assert float((JPEG(50)(x) - x).abs().mean()) < 0.3 / 127.5


def test_jpegs_gradient_is_straight_through(draw):
    x = (0.3 * draw(1, 3, 9, 11)).requires_grad_()
    w = draw(1, 3, 9, 11)
    (grad,) = torch.autograd.grad(JPEG(30)(x), x, w)
    torch.testing.assert_close(grad, w, rtol=0, atol=1e-6)
    loss = lambda q: float((JPEG(q)(x.detach()) - x.detach()).square().mean())  # noqa: E731
    assert loss(10) > loss(50) > loss(90) > 0
    assert float(JPEG(1)(torch.ones(1, 3, 8, 8)).max()) <= 1


def test_latents_are_measured_through_their_decoder(draw):
    ae = Identity(1)
    ae.fit_statistics([0.5 * draw(4, 1, 8, 8).clamp(-1.5, 1.5).float() + 0.1])
    mask = torch.ones(1, 1, 8, 8)
    mask[..., :4] = 0
    a = Mask(mask) @ Decode(ae)
    assert not a.linear
    z = draw(2, 1, 8, 8).float().requires_grad_()
    y = a(z)
    torch.testing.assert_close(y, mask * ae.decode(z))
    (grad,) = torch.autograd.grad(y.sum(), z)
    torch.testing.assert_close(grad, mask.expand(2, 1, 8, 8) * ae.latent_std)
    assert all(p.grad is None for p in ae.parameters())
    image = (0.3 * draw(2, 1, 8, 8)).clamp(-1, 1).float()
    torch.testing.assert_close(Decode(ae).guess(image), ae.encode(image))
    assert bool(torch.isfinite(a.guess(9 * y.detach())).all())  # a noisy measurement may leave the range


def test_bad_input_is_told(unchecked):
    for make, said in (
        (lambda: Clip(0), "gain=0"),
        (lambda: Clip(2, 1, -1), "low=1, high=-1; expected gain > 0 and low < high"),
        (lambda: Quantise(0), "bits=0; expected a whole number from 1 to 16"),
        (lambda: Quantise(2, 1.0, 1.0), "expected low < high"),
        (lambda: JPEG(0), "quality=0; expected a whole number from 1 to 100"),
        (lambda: JPEG(101), "quality=101; expected"),
        (lambda: JPEG(50, "4:1:1"), "sampling='4:1:1'; choose"),  # type: ignore[arg-type]
        (lambda: PhaseRetrieval(8, -1), "oversample=-1"),
        (lambda: LowLight(1.5), "a gain from 1.5 to 1.5; expected values in"),
        (lambda: LowLight(0.5, 0.5), "gamma=0.5; expected a number from 1 to 10"),
        (lambda: Decode(torch.nn.Identity()), "Decode got Identity; expected an Autoencoder"),
        (lambda: JPEG(50)(torch.zeros(1, 2, 8, 8)), r"2 channels; expected 3 \(RGB\) or 1"),
        (lambda: JPEG(50)(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), "uint8 tensor"),
        (lambda: Clip()(torch.zeros(1, 2, dtype=torch.uint8)), r"expected real floats, for 8 bits x.float\(\) / 127.5"),
        (lambda: PhaseRetrieval(8)(torch.zeros(1, 1, 8, 9)), "images of 8 x 9 pixels; it was made for 8 x 8"),
        (lambda: PhaseRetrieval(8).guess(torch.zeros(1, 1, 8, 8)), "it was made for 12 x 12"),
        (lambda: Radon([0.0], 8) @ 3, "unsupported operand"),
    ):
        with pytest.raises(TypeError if "operand" in said else ValueError, match=said):
            make()
