"""Image tokens beside the text: what is added, where, when, and that it undoes itself."""

from __future__ import annotations

import pytest
import torch

from mezzotint.attention import DecoupledAttention, ImagePrompted, image_prompt, reweight, save, tap
from mezzotint.core import VP, Condition, VDenoiser
from mezzotint.nn import DiT, UNet

SITE = "mid.1.block.cross"


def loud(module, seed=3):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (p[0].numel() ** -0.5 if p.ndim > 1 else 0.3))
    return module.double().eval()


@pytest.fixture(scope="module")
def net():
    return loud(UNet(3, channels=16, mult=(1, 2), blocks=1, attention=(2,), head_dim=8, context=8, concat=2))


@pytest.fixture(scope="module")
def attention(net):
    return loud(DecoupledAttention(net, 6))


def given(b=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"x": (3, 8, 8), "text": (5, 8), "concat": (2, 8, 8), "image": (4, 6)}
    made = {k: torch.randn(b, *s, generator=generator, dtype=torch.float64) for k, s in shapes.items()}
    return made.pop("x"), made.pop("image"), made


def run(net, x, c):
    return net(x, torch.full((len(x),), 300.0, dtype=torch.float64), c)


def test_beta_of_each_row_and_of_each_call(net, attention):
    x, image, c = given()
    plain = run(net, x, c)
    with image_prompt(net, attention, image, 0.7):
        whole = run(net, x, c)
    with image_prompt(net, attention, image, torch.tensor([0.0, 0.7], dtype=torch.float64)):
        half = run(net, x, c)
    torch.testing.assert_close(half, torch.stack([plain[0], whole[1]]), rtol=0, atol=1e-12)
    assert float((whole - plain).detach().abs().amax((1, 2, 3)).min()) > 1e-3
    with image_prompt(net, attention, image, lambda call: 0.7 if call.index else 0):
        assert torch.equal(run(net, x, c), plain) and torch.equal(run(net, x, c), whole)
    assert torch.equal(run(net, x, c), plain)


def test_rows_that_see_nothing(net, attention):
    x, image, c = given()
    plain = run(net, x, c)
    with image_prompt(net, attention, image[1:], 0.7, rows=slice(1, None)):
        made = run(net, x, c)
    with image_prompt(net, attention, image, 0.7):
        whole = run(net, x, c)
    torch.testing.assert_close(made, torch.stack([plain[0], whole[1]]), rtol=0, atol=1e-12)


def test_the_image_is_a_site_of_its_own(net, attention):
    x, image, c = given()
    with image_prompt(net, attention, image), tap(net, SITE) as text, tap(attention, "*mid*.image") as seen:
        tapped = run(net, x, c)
    assert seen.sites == (f"{SITE}.image",) and seen[f"{SITE}.image"].shape == (2, 16, 4)
    assert text[SITE].shape == (2, 16, 5) and seen.grids[f"{SITE}.image"] == (4, 4)
    with image_prompt(net, attention, image):
        torch.testing.assert_close(tapped, run(net, x, c), rtol=0, atol=1e-12)
    with image_prompt(net, attention, image), reweight(attention, torch.zeros(4), "*.image"):
        torch.testing.assert_close(run(net, x, c), run(net, x, c), rtol=0, atol=1e-12)


def test_two_images_at_once_add_up(net, attention):
    x, image, c = given()
    other = loud(DecoupledAttention(net, 6), seed=9)
    found = {}
    for name, opened in {"one": [attention], "two": [attention, other], "none": []}.items():
        found[name] = site_output(net, x, c, [(a, image) for a in opened])
    alone = site_output(net, x, c, [(other, image)])
    torch.testing.assert_close(
        found["two"] - found["none"], (found["one"] - found["none"]) + (alone - found["none"]), rtol=0, atol=1e-12
    )


def site_output(net, x, c, prompts):
    """Of the first cross-attention that runs, whose input is the same with and without prompts."""
    from contextlib import ExitStack

    first = next(m for m in net.modules() if getattr(m, "context", 0))
    seen = []
    with ExitStack() as stack:
        for attention, image in prompts:
            stack.enter_context(image_prompt(net, attention, image, 0.5))
        hook = first.register_forward_hook(lambda _, __, out: seen.append(out))
        run(net, x, c)
        hook.remove()
    return seen[0]


def test_gradients_flow_and_recomputation_agrees():
    found = []
    for checkpoint in (False, True):
        net = loud(UNet(3, channels=8, mult=(1,), blocks=1, attention=(1,), context=8, concat=2, checkpoint=checkpoint))
        attention = loud(DecoupledAttention(net, 6))
        x, image, c = given()
        image.requires_grad_()
        with image_prompt(net, attention, image):
            y = run(net, x, c).square().sum()
        y.backward()
        grads = [image.grad, *(p.grad for p in attention.parameters())]
        assert all(g is not None and float(g.abs().max()) > 1e-9 for g in grads)
        found.append(grads)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_it_undoes_itself_also_on_error(net, attention):
    x, image, c = given()
    with pytest.raises(RuntimeError, match="stop"), image_prompt(net, attention, image):
        raise RuntimeError("stop")
    assert not any(m._forward_hooks for m in net.modules())
    with save(net, SITE) as saved:
        run(net, x, c)
    assert saved.values  # handlers of others are unharmed


def test_a_start_from_the_texts_keys(net):
    attention = DecoupledAttention(net, 8, start="text")
    layer = net.get_submodule(SITE)
    assert torch.equal(attention.at(SITE).to_k.weight.double(), layer.to_k.weight.float().double())
    with pytest.raises(ValueError, match="text tokens have 8 features, image tokens 6"):
        DecoupledAttention(net, 6, start="text")


def test_strengths_are_functions_of_the_time(net, attention):
    x, image, c = given()
    t = torch.tensor([0.2, 0.9], dtype=torch.float64)
    full = Condition({**c, "image": image})
    d = VDenoiser(net, VP())
    beta = ImagePrompted(d, attention, beta=lambda t: (t > 0.5).double())(x, t, full).x0
    plain, seen = (ImagePrompted(d, attention, beta=b)(x, t, full).x0 for b in (0, 1))
    torch.testing.assert_close(beta, torch.stack([plain[0], seen[1]]), rtol=0, atol=1e-12)
    alpha = ImagePrompted(d, attention, alpha=lambda t: t, beta=0)(x, t, full).x0
    by_hand = d(x, t, Condition({**c, "concat": c["concat"] * t.view(2, 1, 1, 1)})).x0
    torch.testing.assert_close(alpha, by_hand, rtol=0, atol=1e-12)
    assert torch.equal(ImagePrompted(d)(x, t, Condition(c)).x0, d(x, t, Condition(c)).x0)


def test_what_cannot_be(net, attention):
    x, image, c = given()
    with pytest.raises(ValueError, match=r"expected \(b, m, 6\)"), image_prompt(net, attention, image[..., :5]):
        pass
    with pytest.raises(ValueError, match="1 or as many"), image_prompt(net, attention, image.repeat(2, 1, 1)):
        run(net, x, c)
    with pytest.raises(ValueError, match="is no cross-attention"):
        DecoupledAttention(net, 6, "*self")
    with pytest.raises(ValueError, match="no cross-attention"):
        DecoupledAttention(UNet(3, channels=8, mult=(1,), blocks=1, attention=()), 6)
    with pytest.raises(ValueError, match="got no attention to read it with"):
        ImagePrompted(VDenoiser(net, VP()))(x, torch.ones(2).double(), Condition({**c, "image": image}))


def test_on_a_transformer():
    net = loud(DiT(3, patch=2, width=16, depth=2, heads=2, context=8))
    attention = loud(DecoupledAttention(net, 6))
    x, image, c = given()
    c.pop("concat")
    plain = run(net, x, c)
    with image_prompt(net, attention, image):
        assert float((run(net, x, c) - plain).detach().abs().max()) > 1e-4
