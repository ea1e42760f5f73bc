"""The algebra of the filters, their range and invariances, and the text form of chains (arXiv 2404.13263, sheet 6)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mezzotint.edit.filters import (
    FILTERS,
    Bands,
    Blur,
    Contrast,
    Desaturate,
    Edges,
    FilterChain,
    HighPass,
    HueRotate,
    Invert,
    Maximum,
    Minimum,
    Posterise,
    Rank,
    Recolour,
    Sharpen,
    luma,
    parse,
)

ALL = [
    Desaturate(), Invert(), Contrast(), Contrast(0.4, "half"), Recolour("#102030-#ff8800-#ffffff"), Posterise(3),
    HueRotate(70.0), Rank(3, 0.25), Rank(), Maximum(3), Minimum(5), Blur(1.2), HighPass(1.0), Sharpen(), Edges(),
    Bands(0.5, 1.5, 1.0, 0.3, 1.0),
]  # fmt: skip
NAMED = pytest.mark.parametrize("f", ALL, ids=[str(FilterChain((f,))) for f in ALL])


def images(b: int = 2, h: int = 20, w: int = 24, seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand(b, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 1


@NAMED
def test_range_flips_turns_and_rows(f):
    x = images(h=20, w=20)
    y = f(x)
    assert y.shape == x.shape and y.dtype == x.dtype and float(y.abs().max()) <= 1 + 1e-12
    torch.testing.assert_close(f(x.flip(3)), y.flip(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(f(x.rot90(1, (2, 3))), y.rot90(1, (2, 3)), atol=1e-6, rtol=0)
    torch.testing.assert_close(f(x[1:]), y[1:], atol=1e-12, rtol=0)  # a row knows nothing of the others


@pytest.mark.parametrize("f", [f for f in ALL if f != Contrast()], ids=str)  # the mean of another crop is another
def test_shifts_in_the_interior(f):
    x = images(h=40, w=40)
    a, b = f(x[..., 2:34, 3:35]), f(x[..., 4:36, 4:36])
    torch.testing.assert_close(a[..., 8:24, 8:24], b[..., 6:22, 7:23], atol=1e-6, rtol=0)


@pytest.mark.parametrize("f", [Blur(1.5), Rank(5, 0.3), Maximum(3), Minimum(3), Sharpen(2.0, 1.0), Bands(sigma=1.0)])
def test_constants_stay(f):
    x = torch.full((1, 3, 16, 16), -0.3, dtype=torch.float64)
    torch.testing.assert_close(f(x), x, atol=1e-6, rtol=0)


def test_the_empty_chain_is_the_identity():
    x = images()
    assert FilterChain()(x) is x


def test_desaturate_and_invert():
    x = images()
    grey = Desaturate()(x)
    torch.testing.assert_close(Desaturate()(grey), grey, atol=1e-6, rtol=0)
    torch.testing.assert_close(Invert()(Invert()(x)), x, atol=1e-7, rtol=0)
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)
    assert float(Desaturate()(red)[0, 0, 0, 0]) == pytest.approx(2 * 0.299 - 1)


def test_desaturate_forgets_turns_of_the_hue():
    x = 0.3 * images()  # so that no colour is clipped
    turned = HueRotate(50.0)(x)
    assert float((turned - x).abs().max()) > 0.05
    torch.testing.assert_close(luma((turned + 1) / 2), luma((x + 1) / 2), atol=1e-12, rtol=0)
    torch.testing.assert_close(Desaturate()(turned), Desaturate()(x), atol=1e-12, rtol=0)
    torch.testing.assert_close(HueRotate(-50.0)(turned), x, atol=1e-12, rtol=0)


def test_a_binomial_blur_forgets_a_checkerboard():
    x, kernel = images(), torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
    board = 0.2 * (1 - 2 * ((torch.arange(20)[:, None] + torch.arange(24)) % 2)).double()

    def blur(x):
        rows = F.conv2d(x.flatten(0, 1).unsqueeze(1), kernel.view(1, 1, 3, 1))
        return F.conv2d(rows, kernel.view(1, 1, 1, 3))

    torch.testing.assert_close(blur(x + board), blur(x), atol=1e-12, rtol=0)


def test_ranks():
    x = images()
    rows = F.unfold(F.pad(x, (1,) * 4, mode="reflect"), 3).view(2, 3, 9, 20, 24).sort(2).values
    for q, place in ((0.0, 0), (0.5, 4), (1.0, 8), (0.25, 2)):
        torch.testing.assert_close(Rank(3, q)(x), rows[:, :, place], atol=1e-12, rtol=0)
    assert torch.equal(Rank(3, 1.0)(x), Maximum(3)(x)) and torch.equal(Rank(3, 0.0)(x), Minimum(3)(x))
    once = Maximum(3)(x)
    assert bool((once >= x - 1e-12).all()) and bool((Maximum(3)(once) >= once).all())
    assert torch.equal(Maximum(3)(once)[..., 2:-2, 2:-2], Maximum(5)(x)[..., 2:-2, 2:-2])


@pytest.mark.parametrize("f", [Rank(3, 0.3), Maximum(5), Minimum(3)])
def test_ranks_commute_with_tone_curves(f):
    x = images()
    torch.testing.assert_close(f(x**3), f(x) ** 3, atol=1e-6, rtol=0)


def test_bands_add_up():
    x = images()
    torch.testing.assert_close(Bands(sigma=1.3)(x), x, atol=1e-6, rtol=0)
    torch.testing.assert_close(Bands(high=0.0, sigma=1.3)(x), Blur(1.3)(x), atol=1e-6, rtol=0)
    torch.testing.assert_close(Bands(chroma=0.0, sigma=1.3)(x), Desaturate()(x), atol=1e-6, rtol=0)
    torch.testing.assert_close(HighPass(1.3)(0.3 * x) + Blur(1.3)(0.3 * x), 0.3 * x, atol=1e-6, rtol=0)
    torch.testing.assert_close(Sharpen(0.7, 1.3)(0.3 * x), Bands(high=1.7, sigma=1.3)(0.3 * x), atol=1e-6, rtol=0)


def test_contrast():
    x = images()
    torch.testing.assert_close(Contrast(1.0)(x), x, atol=1e-6, rtol=0)
    small = 0.3 * x
    torch.testing.assert_close(Contrast(2.0)(small).mean((1, 2, 3)), small.mean((1, 2, 3)), atol=1e-9, rtol=0)
    for pivot in ("mean", "half"):
        f = Contrast(3.0, pivot)
        torch.testing.assert_close(f(Invert()(x)), Invert()(f(x)), atol=1e-6, rtol=0)


def test_the_order_is_kept():
    x = -torch.ones(1, 3, 17, 17, dtype=torch.float64)
    x[..., 8, 8] = 1.0
    first, last = parse("max:3|blur:0.5")(x), parse("blur:0.5|max:3")(x)
    weights = torch.exp(-(torch.arange(-2, 3.0, dtype=torch.float64) ** 2) / 0.5)
    centre = float((weights / weights.sum())[2] ** 2)
    inner = float((weights / weights.sum())[1:4].sum() ** 2)
    assert float((first[0, 0, 8, 8] + 1) / 2) == pytest.approx(inner, abs=1e-9)  # max spread it, blur keeps most of it
    assert float((last[0, 0, 8, 8] + 1) / 2) == pytest.approx(centre, abs=1e-9)


def test_the_scale_rule():
    t = torch.linspace(0, 6, 128, dtype=torch.float64)
    smooth = (torch.sin(t)[:, None] * torch.cos(1.3 * t)[None]).expand(1, 3, 128, 128)
    wide = F.interpolate(smooth, scale_factor=2, mode="bilinear", align_corners=False)
    for f in (Blur(), Rank()):
        a, b = f(wide), F.interpolate(f(smooth), scale_factor=2, mode="bilinear", align_corners=False)
        assert -10 * torch.log10(((a - b) / 2).square().mean()) > 35


def test_edges_are_one_at_a_step():
    x = -torch.ones(1, 3, 9, 9, dtype=torch.float64)
    x[..., 5:] = 1.0
    y = (Edges()(x) + 1) / 2
    expected = torch.tensor([0.0, 0, 0, 0, 1, 1, 0, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(y[0, 0, 4], expected, atol=1e-12, rtol=0)


def test_gradients_pass_where_it_is_said():
    for f in ALL:
        x = images(h=10, w=10).mul(0.5).requires_grad_()
        y = f(x)
        if f.differentiable:
            (grad,) = torch.autograd.grad(y.square().sum(), x)
            assert bool(torch.isfinite(grad).all()) and float(grad.abs().max()) > 0, f


def test_a_mask_says_where():
    x = images()
    mask = torch.zeros(1, 1, 20, 24, dtype=torch.float64)
    mask[..., :10, :] = 1.0
    mask[..., 10, :] = 0.5
    y = FilterChain((Invert(),))(x, mask)
    assert torch.equal(y[..., 11:, :], x[..., 11:, :])
    torch.testing.assert_close(y[..., :10, :], -x[..., :10, :])
    assert float(y[..., 10, :].abs().max()) < 1e-12


def test_masks_that_do_not_fit_are_told(unchecked):
    x, mask = images(), torch.ones(1, 1, 20, 24, dtype=torch.float64)
    with pytest.raises(ValueError, match="a mask of shape"):
        FilterChain((Invert(),))(x, mask[..., 1:])
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        FilterChain((Invert(),))(x, 2 * mask)


def test_chains_read_back_what_they_tell():
    for f in ALL:
        chain = f | Invert()
        assert parse(str(chain)) == chain
    assert parse("rank:,0.9") == FilterChain((Rank(None, 0.9),))
    assert (Blur() | Desaturate()).removes == {"texture", "detail", "colour"}
    assert not (Posterise() | Invert()).differentiable
    assert len(FILTERS) == 14


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty chain"),
        ("blurr", "no filter 'blurr'; there are desaturate"),
        ("invert|", "no filter ''"),
        ("blur:a", "'a' is no number"),
        ("rank:2.5", "'2.5' is no whole number"),
        ("invert:3", "1 values, but invert takes no values"),
        ("recolour", "recolour needs palette"),
        ("recolour:#12-#ffffff", "'#12' is no colour"),
        ("rank:4", "expected an odd number"),
        ("rank:3,1.5", "expected 0"),
        ("blur:-1", "expected a number of pixels > 0"),
        ("contrast:1.5,median", "expected 'mean' or 'half'"),
        ("posterise:1", "expected 2 or more"),
    ],
)
def test_texts_that_are_no_chain_are_told(text, told, unchecked):
    with pytest.raises(ValueError, match=told):
        parse(text)


def test_images_that_are_none_are_told():
    with pytest.raises(ValueError, match=r"from 0 to 255; expected \[-1, 1\]"):
        Invert()(255 * torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)]))
    with pytest.raises(ValueError, match="choose a smaller one"):
        Rank(41)(images())
    with pytest.raises(ValueError, match="reaches 60 pixels"):
        Blur(20.0)(images())


def test_shapes_that_are_none_are_told(unchecked):
    for bad, told in ((torch.zeros(1, 4, 8, 8), "no alpha"), (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "floating")):
        with pytest.raises(ValueError, match=told):
            Invert()(bad)


def test_a_blur_of_next_to_nothing_is_the_identity() -> None:
    x = torch.linspace(-1, 1, 3 * 36).view(1, 3, 6, 6)
    torch.testing.assert_close(Blur(1e-200)(x), x, rtol=0, atol=1e-6)
