"""FilterPrompt's image conditions, checks 1, 2, 3, 9 and 10 of the sheet (arXiv 2404.13263, section 6)."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mezzotint as mz
from mezzotint.attention import DecoupledAttention, image_prompt
from mezzotint.attention.places import cross_sites
from mezzotint.core import VP, Noise, VDenoiser
from mezzotint.edit import ConvTokens, FilterPrompt, ImageTokens, Picture, SoftEdge
from mezzotint.edit.filters import Filter, FilterChain, HueRotate, parse
from mezzotint.guide import CFG
from mezzotint.latent import Identity
from mezzotint.model import Model
from mezzotint.nn import UNet
from mezzotint.nn.site import find_sites
from mezzotint.sample import DDIM

_path = Path(__file__).parents[1] / "edit" / "small_models.py"
_spec = importlib.util.spec_from_file_location("_small_models", _path)
assert _spec is not None and _spec.loader is not None
_small = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_small)
loud, pipeline, words = _small.loud, _small.pipeline, _small.words

RUN = {"steps": 2, "sampler": "ddim", "guidance": 2.5, "seeds": [4, 9]}


def pictures(seed: int, b: int = 2, side: int = 8) -> torch.Tensor:
    return 1.6 * torch.rand(b, 3, side, side, generator=torch.Generator().manual_seed(seed)) - 0.8


class Counted(nn.Module):
    """An encoder that counts its calls and keeps what it saw."""

    def __init__(self, encoder) -> None:
        super().__init__()
        self.encoder, self.seen = encoder, []

    def forward(self, *args):
        self.seen.append(args[0])
        return self.encoder(*args)


def prompted(model: Model, structure=None, features: int = 6) -> FilterPrompt:
    tokens = ImageTokens(Counted(loud(ConvTokens(features))), loud(DecoupledAttention(model.denoiser.net, features)))
    return FilterPrompt(model, None if structure is None else Counted(structure), tokens)


@pytest.fixture(scope="module")
def pixel() -> Model:
    """In pixel space: words, a structure picture's channels, image tokens."""
    net = UNet(3, channels=16, mult=(1, 2), blocks=1, attention=(2,), head_dim=8, context=16, concat=3)
    return Model(VDenoiser(loud(net), VP()), Identity(3), words(), size=(8, 8))


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory) -> Model:
    """SD-1.5-shaped, in latents, of diffusers."""
    folder = tmp_path_factory.mktemp("sd")
    pipeline(folder, False).save_pretrained(folder / "pipe")
    return mz.load(folder / "pipe")


# 1. the identity chain


def test_the_identity_chain_is_the_unfiltered_pipeline(pixel):
    fp, s, a = prompted(pixel, Picture()), pictures(0), pictures(1)
    plain = fp(s, a, text="a red heart", **RUN)
    seen = [*fp.structure.seen, *fp.appearance.encoder.seen]
    again = fp(s, a, filters_s=FilterChain(), filters_a=FilterChain(), text="a red heart", **RUN)
    assert torch.equal(plain.structure, s) and torch.equal(plain.appearance, a)
    for first, second in zip(seen, [fp.structure.seen[1], fp.appearance.encoder.seen[1]], strict=True):
        assert torch.equal(first, second)
    assert torch.equal(plain.images, again.images)
    # the pipeline written out: the door opened around a sampler, null rows first
    tokens = fp.appearance.encoder(torch.cat([a, torch.zeros_like(a[:1])]))
    both = torch.cat([tokens[2:], tokens[2:], tokens[:2]])
    _, c = pixel.prior("a red heart")
    c = c.rows([0, 0]).updated({"concat": s})
    d, net = pixel.denoiser, pixel.denoiser.net
    with torch.no_grad(), image_prompt(net, fp.appearance.attention, both):
        x_T = float(d.schedule.sigma(torch.ones(1, dtype=torch.float64))) * Noise([4, 9])("x_T", 0, (3, 8, 8))
        z = DDIM()(CFG(2.5)(d), x_T, steps=2, c=c)
    assert torch.equal(z, plain.latents)
    assert plain.nfe == 4 and plain.filters_s == plain.filters_a == ""


def test_the_identity_chain_on_diffusers(diffusion):
    fp, a = prompted(diffusion), pictures(1, side=12)
    plain = fp(None, a, text="red fish", **RUN)
    assert torch.equal(fp(None, a, filters_a=FilterChain(), text="red fish", **RUN).images, plain.images)
    assert plain.images.shape == (2, 3, *diffusion.size)
    changed = fp(None, a, filters_a="invert", text="red fish", **RUN)
    assert float((changed.latents - plain.latents).abs().max()) > 1e-4


# 2. what a filter does not tell, the model does not know


@dataclass(frozen=True)
class Binomial(Filter):
    """[1, 2, 1] / 4 along both sides: it annihilates a checkerboard of single pixels."""

    name: ClassVar[str] = "binomial"

    def apply(self, x):
        k = x.new_tensor([0.25, 0.5, 0.25])
        kernel = (k[:, None] * k).expand(3, 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=3)


def changed_alike(model: Model, structure, x, gx, chain) -> None:
    """Bit-identical for both prompts where the filtered pictures are."""
    assert float((x - gx).abs().max()) > 0.2 and torch.equal(chain(x), chain(gx))
    fp, other = prompted(model, structure), pictures(5, side=8)
    pairs = [(None, x), (None, gx)] if structure is None else [(other, x), (other, gx), (x, other), (gx, other)]
    made = []
    for s, a in pairs:
        on_s = {"filters_s": chain} if s is x or s is gx else {"filters_a": chain}
        made.append((fp(s, a, **on_s, **RUN).images, fp(s, a, **RUN).images))
    for (filtered, plain), (filtered_too, plain_too) in zip(made[::2], made[1::2], strict=True):
        assert torch.equal(filtered, filtered_too) and not torch.equal(plain, plain_too)


def turned() -> tuple[torch.Tensor, torch.Tensor, FilterChain]:
    """A picture and its hues turned at equal luma, to rounding; 16 levels take the rounding away."""
    grey = pictures(2).mean(1, keepdim=True)
    level = ((grey + 1) / 2 * 15).round() / 15 * 2 - 1
    chroma = HueRotate(0.0)(0.2 * (pictures(3) - pictures(3).mean(1, keepdim=True))).clamp(-0.3, 0.3)
    w = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    x = 0.6 * level + chroma - (w * chroma).sum(1, keepdim=True)
    return x, HueRotate(100.0)(x), parse("desaturate|posterise:20")


@pytest.mark.parametrize("kind", ["pixel", "diffusion"])
def test_desaturation_hides_a_turn_of_the_hues(kind, request):
    x, gx, chain = turned()
    torch.testing.assert_close(parse("desaturate")(x), parse("desaturate")(gx), rtol=0, atol=1e-6)
    changed_alike(request.getfixturevalue(kind), Picture() if kind == "pixel" else None, x, gx, chain)


@pytest.mark.parametrize("kind", ["pixel", "diffusion"])
def test_a_binomial_blur_hides_a_checkerboard(kind, request):
    x = (pictures(4) * 16).round() / 32  # dyadic: exact in float32
    board = (-1.0) ** (torch.arange(8) + torch.arange(8)[:, None])
    gx = x + 0.25 * board
    changed_alike(
        request.getfixturevalue(kind), Picture() if kind == "pixel" else None, x, gx, FilterChain((Binomial(),))
    )


def test_edges_hide_the_sign_of_light(pixel):
    fp, s, a = prompted(pixel, lambda x, size: SoftEdge()(x, size).expand(-1, 3, -1, -1)), pictures(0), pictures(1)
    dyadic = (s * 16).round() / 16
    made, turned = fp(dyadic, a, **RUN).images, fp(-dyadic, a, **RUN).images
    torch.testing.assert_close(made, turned, rtol=0, atol=1e-5)


# 3. strengths of zero


@pytest.mark.parametrize("null", ["keep", "drop"])
def test_strengths_of_zero_leave_no_trace(pixel, null):
    fp, s, a = prompted(pixel, Picture()), pictures(0), pictures(1)
    for settings, others in (({"beta": 0}, (s, -a)), ({"alpha": 0}, (-s, a)), ({"beta": lambda t: 0.0}, (s, -a))):
        one, two = (fp(*p, **settings, null=null, text="a red heart", **RUN).images for p in ((s, a), others))
        assert torch.equal(one, two)
        if not callable(settings.get("beta")):
            assert not torch.equal(fp(s, a, null=null, **RUN).images, fp(*others, null=null, **RUN).images)
    plain = prompted_alone(pixel, s)
    assert torch.equal(fp(s, a, beta=0, text="a red heart", **RUN).images, plain)


def prompted_alone(model: Model, s: torch.Tensor) -> torch.Tensor:
    return FilterPrompt(model, Picture())(s, text="a red heart", **RUN).images


def test_strengths_of_zero_on_diffusers(diffusion):
    fp, a = prompted(diffusion), pictures(1)
    one, two = (fp(None, p, beta=0.0, text="red fish", **RUN) for p in (a, -a))
    assert torch.equal(one.images, two.images)
    assert torch.equal(
        one.images, diffusion.sample("red fish", **{k: v for k, v in RUN.items() if k != "seeds"}, seeds=[4, 9])
    )


def test_the_null_branch_keeps_or_drops_the_structure(pixel):
    fp, s, a = prompted(pixel, Picture()), pictures(0), pictures(1)
    null_of = lambda net, into: net.register_forward_hook(lambda _, args, out: into.append(args[2]["concat"]))  # noqa: E731
    for null in ("keep", "drop"):
        seen: list[torch.Tensor] = []
        hook = null_of(pixel.denoiser.net, seen)
        fp(s, a, null=null, alpha=0.5, **RUN)
        hook.remove()
        assert len(seen) == 2
        for concat in seen:  # null rows first
            assert torch.equal(concat[2:], 0.5 * s)
            assert torch.equal(concat[:2], 0.5 * s if null == "keep" else torch.zeros_like(s))


# 9. decoupled attention


@pytest.mark.parametrize("kind", ["pixel", "diffusion"])
def test_image_tokens_that_are_the_texts_double_what_it_gives(kind, request):
    model = request.getfixturevalue(kind)
    net = model.denoiser.net
    site = cross_sites(net)[0]  # the first that runs: what comes before it knows no prompt
    _, c = model.prior("a red heart" if kind == "pixel" else "red fish")
    given = {"text": torch.cat([c["text"], c["text"]])[:, :3]}
    if kind == "pixel":
        given["concat"] = pictures(0)
    x, t = (
        torch.randn(2, model.autoencoder.spec.channels, 8, 8, generator=torch.Generator().manual_seed(0)),
        torch.ones(2),
    )
    attention = DecoupledAttention(net, given["text"].shape[2], start="text")
    door, out = find_sites(net, site)[site], {}
    layer = door if kind == "pixel" else next(m for m in net.modules() if getattr(m, "processor", None) is door)
    bias = (layer.to_out if kind == "pixel" else layer.to_out[0]).bias

    def run(name, *prompt) -> None:
        with image_prompt(net, attention, *prompt):
            hook = door.register_forward_hook(lambda _, __, y: out.__setitem__(name, y))
            net(x, 300 * t, mz.core.Condition(given))
            hook.remove()

    beta = torch.ones((), requires_grad=True)
    run("none", given["text"], 0)
    run("same", given["text"], beta)
    run("other", given["text"].flip(1) * 0.5, beta)
    alone = out["none"] - bias
    torch.testing.assert_close(out["same"] - bias, 2 * alone, rtol=0, atol=1e-6)
    weight = torch.randn(alone.shape, generator=torch.Generator().manual_seed(1))
    for name in ("same", "other"):  # d out / d beta is the image's term
        term = (out[name] - out["none"]).detach()
        assert float(term.abs().max()) > 1e-3
        (grad,) = torch.autograd.grad((weight * out[name]).sum(), beta)
        torch.testing.assert_close(grad, (weight * term).sum(), rtol=1e-4, atol=1e-5)
    q, k, v = (
        w(y).unflatten(-1, (door_heads(layer), -1)).transpose(1, 2)
        for w, y in (
            (layer.to_q, query_of(net, door, x, t, given)),
            (layer.to_k, given["text"].flip(1) * 0.5),
            (layer.to_v, given["text"].flip(1) * 0.5),
        )
    )
    maps = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    by_hand = F.linear(
        (maps @ v).transpose(1, 2).flatten(2), (layer.to_out if kind == "pixel" else layer.to_out[0]).weight
    )
    torch.testing.assert_close(by_hand, out["other"] - out["none"], rtol=0, atol=1e-5)


def door_heads(layer) -> int:
    return layer.heads


def query_of(net, door, x, t, given) -> torch.Tensor:
    """What the layer's queries are made of."""
    seen = []
    place = 0 if hasattr(door, "to_q") else 1
    hook = door.register_forward_pre_hook(lambda _, args: seen.append(args[place]))
    net(x, 300 * t, mz.core.Condition(given))
    hook.remove()
    return seen[0]


# 10. no hidden state


@dataclass(frozen=True)
class Tallied(Filter):
    """The identity, counted."""

    calls: tuple[list[int], ...] = ()
    name: ClassVar[str] = "tallied"

    def apply(self, x):
        self.calls[0].append(len(x))
        return x


@pytest.mark.parametrize("kind", ["pixel", "diffusion"])
def test_filters_and_encoders_run_once_a_generation(kind, request):
    model = request.getfixturevalue(kind)
    fp, s, a = prompted(model, Picture() if kind == "pixel" else None), pictures(0), pictures(1)
    calls: list[int] = []
    chain = FilterChain((Tallied((calls,)),))
    for n in (1, 2):
        structure = {"structure": s, "filters_s": chain} if kind == "pixel" else {}
        fp(appearance=a, filters_a=chain, **structure, **{**RUN, "steps": 2 * n})
        assert len(fp.appearance.encoder.seen) == n
        if kind == "pixel":
            assert len(fp.structure.seen) == n
        assert len(calls) == (2 if kind == "pixel" else 1) * n
    shared = fp(s[0] if kind == "pixel" else None, a[0], filters_a=chain, **RUN)
    assert calls[-1] == 1 and len(shared.images) == 2  # one picture for all seeds is filtered once
