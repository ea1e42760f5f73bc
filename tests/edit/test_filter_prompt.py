"""FilterPrompt as a user meets it: reports and tables, latents, prompts of one or many, and what cannot be."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from mezzotint.attention import DecoupledAttention
from mezzotint.core import VP, VDenoiser
from mezzotint.edit import ConvTokens, FilterPrompt, ImageTokens, Picture, SoftEdge
from mezzotint.edit.filters import Desaturate, Invert
from mezzotint.latent import AutoencoderKL, Identity
from mezzotint.metric import leaks
from mezzotint.model import Model
from mezzotint.nn import UNet

_spec = importlib.util.spec_from_file_location("_small_models", Path(__file__).with_name("small_models.py"))
assert _spec is not None and _spec.loader is not None
_small = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_small)
loud = _small.loud

RUN = {"steps": 2, "sampler": "ddim", "guidance": 2.0}


def built(channels: int = 3, concat: int = 3, context: int = 8, **more) -> FilterPrompt:
    net = loud(UNet(channels, channels=8, mult=(1, 2), blocks=1, attention=(2,), context=context, concat=concat))
    coder = Identity(3) if channels == 3 else loud(AutoencoderKL(channels=8, mult=(1, 2), blocks=1, latent=4))
    model = Model(VDenoiser(net, VP()), coder, size=(8, 8) if channels == 3 else (16, 16))
    tokens = ImageTokens(loud(ConvTokens(6)), loud(DecoupledAttention(net, 6)))
    return FilterPrompt(model, **{"structure": Picture() if concat == 3 else SoftEdge(), "appearance": tokens} | more)


def picture(seed: int, *shape: int) -> torch.Tensor:
    return 1.8 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.9


@pytest.fixture(scope="module")
def fp() -> FilterPrompt:
    return built()


def test_a_report_is_of_the_unfiltered_prompts(fp):
    s, a = picture(0, 3, 8, 8), picture(1, 3, 12, 10)
    made = fp(s, a, filters_s="desaturate|invert", filters_a=Invert(), alpha=0.8, beta=lambda t: t, seeds=[1, 2], **RUN)
    told = fp.report(made, s, a)
    by_hand = leaks(made.images, s.expand(2, 3, 8, 8), a.expand(2, 3, 12, 10))
    for name, value in vars(by_hand).items():
        assert torch.equal(getattr(told.leaks, name), value)
    words = str(told)
    assert "desaturate|invert" in words and " 0.8 " in words and "f(t)" in words
    assert f"{float(by_hand.colour_leak.mean()):.3f}" in words
    torch.testing.assert_close(made.structure, (Desaturate() | Invert())(s.expand(2, 3, 8, 8)))


def test_the_table_has_the_unfiltered_row_first(fp):
    s, a = picture(0, 2, 3, 8, 8), picture(1, 2, 3, 8, 8)
    found = fp.compare(s, a, [("desaturate", None), (None, "blur:2")], seeds=[1, 2], chance="batch", **RUN)
    lines = str(found).splitlines()
    assert len(lines) == 4 and lines[1].startswith("none ") and lines[2].startswith("desaturate ")
    assert "blur:2.0" in lines[3] and len({len(line) for line in lines}) == 1
    assert torch.equal(found.results[0].images, fp(s, a, seeds=[1, 2], **RUN).images)
    assert not torch.equal(found.results[0].images, found.results[1].images)


def test_in_latents_a_structure_is_brought_to_their_size():
    fp = built(4, 1)
    s, a = picture(0, 2, 3, 16, 24), picture(1, 3, 9, 9)
    made = fp(s, a, filters_s="contrast", seeds=[3, 4], **RUN)
    assert made.images.shape == (2, 3, 16, 24) and made.latents.shape == (2, 4, 8, 12)
    alone = fp(s[1], a, filters_s="contrast", seeds=[4], **RUN)
    torch.testing.assert_close(alone.images[0], made.images[1], rtol=0, atol=1e-4)
    assert not torch.allclose(fp(s, a, seeds=[3, 4], **RUN).images, made.images, atol=1e-3)


def test_evaluations_are_counted(fp):
    calls: list[int] = []
    hook = fp.model.denoiser.net.register_forward_hook(lambda *_: calls.append(1))
    s, a = picture(0, 3, 8, 8), picture(1, 3, 8, 8)
    assert fp(s, a, **RUN).nfe == 4 and len(calls) == 2  # two rows a call
    assert fp(s, a, **{**RUN, "guidance": 1}).nfe == 2 and len(calls) == 4
    hook.remove()


def test_a_structure_alone_needs_no_null():
    fp = built(appearance=None)
    assert fp(picture(0, 3, 8, 8), **RUN).nfe == 2
    assert fp(picture(0, 3, 8, 8), null="drop", **RUN).nfe == 4  # something to be guided away from


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be(fp):
    s, a = picture(0, 3, 8, 8), picture(1, 3, 8, 8)
    for message, prompts, settings in (
        ("no appearance prompt, but there is an encoder", (s, None), {}),
        ("no structure prompt", (None, a), {}),
        ("needs multiples of 2", (picture(0, 3, 7, 8), a), {}),
        ("2 pictures for 1 seeds", (picture(0, 2, 3, 8, 8), a), {}),
        ("for 1 seeds; expected", (s, picture(0, 2, 3, 8, 8)), {}),
        ("no filter 'polish'", (s, a), {"filters_s": "polish"}),
        ("filters=3; expected a text", (s, a), {"filters_s": 3}),
        ("an empty chain", (s, a), {"filters_a": ""}),
        ("expected \\[-1, 1\\]", (s, 255 * a), {"filters_a": "invert"}),
        ("expected 'keep' or 'drop'", (s, a), {"null": "both"}),
        ("is unconditional", (s, a), {"text": "a red heart"}),
    ):
        with pytest.raises(ValueError, match=message):
            fp(*prompts, **settings, **RUN)
    with pytest.raises(ValueError, match="an encoder of the structure, the appearance or both"):
        FilterPrompt(fp.model)
    with pytest.raises(ValueError, match="but no encoder for it"):
        built(appearance=None)(s, a, **RUN)
    with pytest.raises(ValueError, match=r"expected \(b, m, 6\)"):
        built(appearance=ImageTokens(ConvTokens(5), fp.appearance.attention))(s, a, **RUN)


@pytest.mark.parametrize("w", [1.0, 2.0])
def test_strengths_of_each_sample_are_its_own_with_guidance_too(fp, w):
    run = {**RUN, "guidance": w}
    s, a = picture(0, 2, 3, 8, 8), picture(1, 2, 3, 8, 8)
    beta, alpha = torch.tensor([0.0, 0.7]), torch.tensor([0.4, 1.0])
    both = fp(s, a, alpha=alpha, beta=beta, seeds=[3, 7], **run).images
    for i, seed in enumerate((3, 7)):
        alone = fp(s[i], a[i], alpha=float(alpha[i]), beta=float(beta[i]), seeds=[seed], **run).images
        torch.testing.assert_close(both[i], alone[0], rtol=0, atol=1e-4)
    assert (both[0] - both[1]).abs().max() > 1e-2
    if w == 2:  # three samples run as six rows
        with pytest.raises(ValueError, match="strengths of 4 samples for 6 rows"):
            fp(s[0], a[0], beta=torch.ones(4), seeds=[1, 2, 3], **run)


def test_prompts_in_double_precision_are_taken(fp):
    s, a = picture(0, 3, 8, 8), picture(1, 3, 8, 8)
    assert torch.equal(fp(s.double(), a.double(), **RUN).images, fp(s, a, **RUN).images)
