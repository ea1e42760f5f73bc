"""The test bed of latents with outliers: exact, with as many as it says, normalised."""

from __future__ import annotations

import pytest
import torch

from mezzotint.data import Scenes
from mezzotint.papers.impulsive import ImpulsiveLatents

X = Scenes(16, 200, seed=1).batch(range(200))[0]


@pytest.mark.parametrize("factor", [1.0, 15.0])
def test_decoding_undoes_encoding(factor):
    latent = ImpulsiveLatents(X, factor=factor)
    z = latent.encode(X)
    assert z.shape == (200, 48, 4, 4)
    assert float((latent.decode(z) - X).abs().max()) < 1e-5
    assert float(z.std()) == pytest.approx(0.5, abs=0.01) and abs(float(z.mean())) < 1e-3


def test_the_share_and_size_of_the_outliers():
    plain, loud = (ImpulsiveLatents(X, factor=f, share=0.005) for f in (1.0, 15.0))
    before, after = plain.raw_encode(X), loud.raw_encode(X)
    changed = after != before
    assert float(changed.double().mean()) == pytest.approx(0.005, abs=1e-4)
    torch.testing.assert_close(after[changed], 15 * before[changed])
    assert float(before[changed].abs().min()) > float(before[~changed].abs().max()) - 1e-6
    torch.testing.assert_close(plain.turn @ plain.turn.T, torch.eye(48), atol=1e-5, rtol=0)


def test_what_was_never_encoded_decodes_to_the_nearest_that_was():
    latent = ImpulsiveLatents(X, factor=15.0)
    q = latent.most
    z = torch.tensor([0.5 * q, q, 2 * q, 14 * q, 15 * q, 30 * q])
    inner = latent.raw_decode(z.view(-1, 1, 1, 1).expand(-1, 48, 4, 4))
    told = torch.tensor([0.5 * q, q, q, q, q, 2 * q]).view(-1, 1, 1, 1).expand(-1, 48, 4, 4)
    expected = ImpulsiveLatents(X, factor=1.0, share=0.001)
    expected.most = 1e9
    torch.testing.assert_close(inner, expected.raw_decode(told), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="factor=0.5"):
        ImpulsiveLatents(X, factor=0.5)
