from __future__ import annotations

import pytest
import torch

from mezzotint.core.noise import Noise
from mezzotint.latent import AutoencoderKL, Identity
from mezzotint.objective.adversarial import PatchDiscriminator
from mezzotint.objective.autoencode import KLGenerator, PlainAutoencode
from mezzotint.objective.batch import Batch
from mezzotint.objective.perceptual import Perceptual, RandomFeatures
from mezzotint.train import AdversarialTask, AutoencodingTask, Single, fit


def _autoencoder():
    return AutoencoderKL(channels=8, mult=(1, 2), blocks=1, latent=2, groups=4)


def _batches(step):
    x = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(step % 2))
    return Batch(torch.nn.functional.interpolate(x, size=16, mode="bilinear").clamp(-1, 1))


def _seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def _plain():
    objective = PlainAutoencode(kl_weight=1e-3, perceptual=Perceptual(RandomFeatures()))
    return _seeded(lambda: AutoencodingTask(_autoencoder(), objective, lr=3e-3))


def _adversarial(start=3):
    def make():
        return KLGenerator(
            PatchDiscriminator(channels=4, layers=2), Perceptual(RandomFeatures()), disc_start=start, kl_weight=1e-3
        )

    return _seeded(lambda: AdversarialTask(_autoencoder(), make(), lr=1e-3))


def test_an_autoencoder_learns_to_reconstruct(tmp_path):
    task, first = _plain(), []
    report = fit(task, _batches, steps=60, seed=0, out=tmp_path / "run", engine=Single("cpu"), log_every=5,
                 on_step=lambda p: first.append(p.row) if p.row else None)  # fmt: skip
    assert set(report.metrics) == {"loss", "l1", "kl", "perceptual", "gradient"}
    assert report.metrics["l1"] < 0.6 * first[0]["l1"]


@pytest.mark.parametrize("make", [_plain, _adversarial])
def test_it_resumes_to_the_same_bits(make, tmp_path, everything):
    settings = dict(seed=0, save_every=2, engine=Single("cpu"))
    whole, part = make(), make()
    fit(whole, _batches, steps=6, out=tmp_path / "whole", **settings)
    fit(part, _batches, steps=4, out=tmp_path / "parts", **settings)
    part = make()
    assert fit(part, _batches, steps=6, out=tmp_path / "parts", **settings).resumed == 4
    a, b = everything(whole), everything(part)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_fixed_features_are_moved_with_the_task_but_not_saved():
    task = _plain()
    assert list(task.frozen) == ["perceptual"] and list(task.modules) == ["autoencoder"]
    assert list(_adversarial().frozen) == ["perceptual"]


def test_the_discriminator_learns_from_its_start_on_the_updated_reconstruction():
    task = _adversarial(start=1)
    d = task.modules["discriminator"]
    before = [p.detach().clone() for p in d.parameters()]
    noise = Noise([0, 1, 2, 3])
    early = task.step(_batches(0), 0, noise)
    assert "discriminator" not in early and early["lambda"] == 0 and not task.optimisers["discriminator"].state
    assert all(torch.equal(a, b) for a, b in zip(before, d.parameters(), strict=True))

    seen = []
    handle = d.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach().clone()))
    late = task.step(_batches(0), 1, noise)
    handle.remove()
    assert late["lambda"] > 0 and late["discriminator"] > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, d.parameters(), strict=True))
    by_generator, real, fake = seen
    assert torch.equal(real, _batches(0).x) and not torch.equal(by_generator, fake)
    with torch.no_grad():
        assert torch.equal(fake, task.autoencoder(_batches(0).x, noise))


def test_an_opponent_leaves_several_averages_to_choose_from(tmp_path):
    generator = KLGenerator(PatchDiscriminator(channels=4, layers=2), Perceptual(RandomFeatures()), disc_start=1)
    task = _seeded(lambda: AdversarialTask(_autoencoder(), generator, lr=1e-3, ema=(0.0, 0.1)))
    name, weights = "decoder.conv_out.weight", []

    def keep(progress=None):
        weights.append(task.autoencoder.state_dict()[name].clone())

    keep()
    fit(task, _batches, steps=2, seed=0, out=tmp_path / "run", engine=Single("cpu"), on_step=keep)
    assert list(task.ema) == ["autoencoder", "autoencoder@0.1"]
    last, longer = (ema.averages[name] for ema in task.ema.values())
    first, second, third = weights
    assert torch.equal(last, third) and not torch.equal(third, first)
    torch.testing.assert_close(longer, 0.01 * first + 0.09 * second + 0.9 * third, rtol=1e-5, atol=1e-8)
    files = {path.name for path in (tmp_path / "run").glob("checkpoints/step-00000002/ema*")}
    assert files == {"ema.autoencoder.safetensors", "ema.autoencoder@0.1.safetensors"}


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match="nothing to train"):
        AutoencodingTask(Identity(), PlainAutoencode())
    with pytest.raises(ValueError, match="clip is a gradient norm"):
        AutoencodingTask(_autoencoder(), PlainAutoencode(), clip=0.0)
