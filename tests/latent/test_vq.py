"""Check 3 of the sheet of 2112.10752 (straight-through), codebooks, tokens and usage."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.latent import AutoencoderVQ, AutoencoderVQEMA, EMACodebook, GradientCodebook, Usage
from mezzotint.objective.autoencode import LegacyVQLoss, VQLoss

SMALL = {"channels": 4, "mult": (1, 2), "latent": 2, "codes": 6, "groups": 2}


def _latents() -> torch.Tensor:
    return Noise([0, 1])("z", 0, (2, 4, 4), dtype=torch.float64)


def _book(codes: int = 5) -> GradientCodebook:
    book = GradientCodebook(codes, 2).double()
    with torch.no_grad():
        book.entries.copy_(Noise(range(codes))("entries", 0, (2,), dtype=torch.float64))
        book.entries[-1] = 100.0  # never the nearest
    return book


def test_nearest_is_the_brute_force_argmin() -> None:
    z, book = _latents(), _book()
    distance = (z.movedim(1, -1)[..., None, :] - book.entries).square().sum(-1)
    q = book(z)
    assert torch.equal(q.index, distance.argmin(-1))
    torch.testing.assert_close(q.z.movedim(1, -1), book.entries[q.index], atol=1e-12, rtol=0)


def test_straight_through_gradient_is_exactly_one_and_spares_the_codebook() -> None:
    z, book = _latents().requires_grad_(), _book()
    book(z).z.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z)) and book.entries.grad is None


def test_codebook_learns_from_its_loss_alone_and_untouched_codes_not_at_all() -> None:
    z, book, beta = _latents().requires_grad_(), _book(), 0.25
    q = book(z)
    VQLoss(beta)(q).backward()
    used = torch.bincount(q.index.flatten(), minlength=5)
    assert used[-1] == 0 and torch.equal(book.entries.grad[used == 0], torch.zeros_like(book.entries)[used == 0])
    flat, index = z.detach().movedim(1, -1).flatten(0, -2), q.index.flatten()
    for code in range(5):
        expected = 2 * (book.entries[code] - flat[index == code]).sum(0) / z.numel()
        torch.testing.assert_close(book.entries.grad[code], expected.detach(), atol=1e-12, rtol=0)
    toward = 2 * beta * (z.detach() - q.z.detach()) / z.numel()
    torch.testing.assert_close(z.grad, toward, atol=1e-12, rtol=0)


def test_legacy_loss_has_beta_on_the_other_term() -> None:
    z, book = _latents().requires_grad_(), _book()
    plain = torch.autograd.grad(VQLoss(0.25)(book(z)), [z, book.entries])
    legacy = torch.autograd.grad(LegacyVQLoss(0.25)(book(z)), [z, book.entries])
    torch.testing.assert_close(legacy[0], 4 * plain[0], atol=1e-12, rtol=0)
    torch.testing.assert_close(legacy[1], plain[1] / 4, atol=1e-12, rtol=0)


def test_averaged_codebook_follows_the_recursion() -> None:
    z, decay = _latents(), 0.7
    book = EMACodebook(5, 2, decay).double()
    start = _book().entries.detach()
    book.entries.copy_(start), book.total.copy_(start)
    index = book.nearest(z)
    flat = z.movedim(1, -1).flatten(0, -2)
    for _ in range(2):
        book.update(z, index)
    for code in range(5):
        mine = flat[index.flatten() == code]
        count, total = 1.0, start[code]
        for _ in range(2):
            count, total = decay * count + 0.3 * len(mine), decay * total + 0.3 * mine.sum(0)
        torch.testing.assert_close(book.entries[code], total / count, atol=1e-12, rtol=0)
    torch.testing.assert_close(book.entries[4], start[4], atol=1e-12, rtol=0)  # unused: stays


def test_without_memory_an_average_is_the_centroid_and_a_faded_code_keeps_its_place() -> None:
    z, book = _latents(), EMACodebook(2, 2, 0.0).double()
    with torch.no_grad():
        book.entries.copy_(torch.tensor([[0.0, 0.0], [50.0, 50.0]]))
    book.update(z, book.nearest(z))
    torch.testing.assert_close(book.entries[0], z.mean((0, 2, 3)), atol=1e-12, rtol=0)
    assert book.entries[1].tolist() == [50.0, 50.0]
    with pytest.raises(ValueError, match="decay"):
        EMACodebook(2, 2, 1.0)


def test_averaged_codebook_learns_in_training_mode_only(build: Callable) -> None:
    net = build(AutoencoderVQEMA, **SMALL, decay=0.5)
    x = Noise([0]).uniform("image", 0, (3, 8, 8), dtype=torch.float64)
    before = net.quantiser.entries.clone()
    net.eval().quantised(x), net.train().decode(net.encode(x))
    assert torch.equal(net.quantiser.entries, before)
    net.quantised(x)
    assert not torch.equal(net.quantiser.entries, before)
    assert not any(name.startswith("quantiser") for name, _ in net.named_parameters())
    with torch.no_grad():
        q = net.quantised(x)
    assert float(q.codebook_error) == 0 and float(VQLoss(0.25)(q)) == 0.25 * float(q.commitment_error) > 0
    assert net.config["decay"] == 0.5


def test_encode_is_before_quantisation_and_decode_quantises(build: Callable) -> None:
    net = build(AutoencoderVQ, **SMALL).eval()
    x = Noise([0, 1]).uniform("image", 0, (3, 8, 8), dtype=torch.float64)
    net.fit_statistics([x])
    z, q = net.encode(x), net.quantised(x)
    torch.testing.assert_close(net.denormalise(z), net.features(x), atol=1e-10, rtol=0)
    images = net.decode(z)
    torch.testing.assert_close(images, net.decode_quantised(q.z), atol=1e-10, rtol=0)
    torch.testing.assert_close(images, net.decode_tokens(net.tokens(x)), atol=1e-10, rtol=0)
    torch.testing.assert_close(net.denormalise(net.snap(z)), q.z, atol=1e-10, rtol=0)
    torch.testing.assert_close(net.decode(net.snap(z)), images, atol=1e-10, rtol=0)
    assert torch.equal(net.usage(net.tokens(x)).counts, torch.bincount(q.index.flatten(), minlength=6))
    for bad in (torch.full((1, 2, 2), 6), torch.full((1, 2, 2), -1)):
        with pytest.raises(ValueError, match=r"\[0, 6\)"):
            net.decode_tokens(bad)


def test_new_entries_lie_within_one_over_their_number() -> None:
    entries = GradientCodebook(64, 16).entries.detach()
    assert float(entries.abs().max()) <= 1 / 64 and float(entries.std()) == pytest.approx(
        1 / 64 / math.sqrt(3), rel=0.1
    )


def test_usage_of_known_codes() -> None:
    usage = Usage.of(torch.tensor([0, 0, 1]), 4) + Usage.of(torch.tensor([1, 2, 2]), 4)
    assert float(usage.perplexity) == pytest.approx(3.0, abs=1e-12) and usage.dead.tolist() == [False] * 3 + [True]
    skewed = Usage.of(torch.tensor([0, 0, 0, 1]), 2)
    assert float(skewed.perplexity) == pytest.approx(math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)), abs=1e-12)
