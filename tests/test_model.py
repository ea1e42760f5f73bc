"""Model: saving and loading, seeds, guidance, sizes; with random weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import mezzotint as mz
from mezzotint.core import Discrete as DiscreteBetas
from mezzotint.core import EDMDenoiser, EpsDenoiser, Flow, FlowDenoiser, Noise, Shifted, VDenoiser
from mezzotint.guide import CFG
from mezzotint.latent import AutoencoderKL, AutoencoderVQ, Identity
from mezzotint.model import Model
from mezzotint.nn import DiT, UNet
from mezzotint.nn.conditioner import ClassConditioner, TextConditioner, train_vocabulary
from mezzotint.sample import DDIM, DPMSolverPP


def _stir(module: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere: zero-initialised layers would hide what a test looks for."""
    for i, p in enumerate(module.parameters()):
        p.data = 0.2 * Noise([i])("w", 0, p.shape)[0]
    return module.eval()


def text_model(**options) -> Model:
    text = TextConditioner(train_vocabulary(["red heart", "a cat"], size=60), length=8, width=8, depth=1, heads=2)
    net = UNet(4, channels=8, mult=(1, 2), blocks=1, context=8, pooled=8)
    autoencoder = AutoencoderKL(channels=8, mult=(1,), blocks=1, latent=4, patch=2, groups=4)
    model = Model(
        FlowDenoiser(net, Shifted(Flow(), 2.0)), autoencoder, text, size=(16, 16), card="# a card\n", **options
    )
    return _stir(model)  # type: ignore[return-value]


def class_model() -> Model:
    net = DiT(3, patch=4, width=16, depth=1, heads=2, classes=5)
    denoiser = EpsDenoiser(net, DiscreteBetas.scaled_linear(20))
    return _stir(Model(denoiser, Identity(3), ClassConditioner(5), size=(16, 16)))  # type: ignore[return-value]


def plain_model() -> Model:
    net = UNet(3, channels=8, mult=(1,), blocks=1, attention=())
    autoencoder = AutoencoderVQ(channels=8, mult=(1,), blocks=1, latent=3, patch=2, codes=16, groups=4)
    return _stir(Model(EDMDenoiser(net, Flow(), 0.7), autoencoder, size=(8, 8)))  # type: ignore[return-value]


MAKE = {"text": (text_model, "red heart"), "class": (class_model, 3), "plain": (plain_model, None)}
every = pytest.mark.parametrize(("make", "prompt"), MAKE.values(), ids=MAKE)


@every
def test_a_saved_model_samples_the_same_bits(make, prompt, tmp_path):
    model = make()
    model.defaults["steps"] = 3
    again = mz.load(model.save(tmp_path / "m"))
    a, b = (m.sample(prompt, count=2, guidance=2.0) for m in (model, again))
    assert torch.equal(a, b) and a.shape == (2, 3, *model.size)
    assert again.defaults == model.defaults and again.card == model.card
    assert again.denoiser.schedule == model.denoiser.schedule
    assert sorted(p.name for p in (tmp_path / "m").iterdir() if p.suffix == ".pt") == []


def test_saving_again_replaces_the_folder_and_half_precision_is_read_as_float32(tmp_path):
    model = text_model()
    model.save(tmp_path / "m")
    model.card = "# another\n"
    model.save(tmp_path / "m", torch.float16)
    again = mz.load(tmp_path / "m")
    assert again.card == "# another\n"
    pairs = zip(again.parameters(), model.parameters(), strict=True)
    assert all(a.dtype == torch.float32 and torch.equal(a, b.half().float()) for a, b in pairs)


@every
def test_an_image_depends_on_its_seed_alone(make, prompt):
    model = make()
    together = model.sample(prompt, seeds=[5, 9, 2], steps=3, guidance=2.0)
    for seed, image in zip((5, 9, 2), together, strict=True):
        assert torch.allclose(model.sample(prompt, seeds=[seed], steps=3, guidance=2.0)[0], image, atol=2e-5)
    split = model.sample(prompt, seeds=[5, 9, 2], steps=3, guidance=2.0, batch=2)
    assert torch.allclose(split, together, atol=2e-5)


def test_several_prompts_come_in_order_each_with_its_images():
    model = text_model()
    both = model.sample(["red heart", "cat"], count=2, seeds=[0, 1, 2, 3], steps=2)
    assert torch.allclose(both[2:], model.sample("cat", seeds=[2, 3], steps=2), atol=2e-5)
    assert float((both[:2] - model.sample("cat", seeds=[0, 1], steps=2)).abs().max()) > 1e-3


def test_guidance_negative_prompt_and_no_prompt_are_what_they_say():
    model = text_model()
    options = {"seeds": [0, 1], "steps": 3}
    null = model.sample(None, **options)
    assert torch.allclose(model.sample("cat", guidance=0.0, **options), null, atol=2e-5)
    assert torch.allclose(model.sample("cat", guidance=5.0, negative="cat", **options),
                          model.sample("cat", guidance=1.0, **options), atol=1e-4)  # fmt: skip
    c = model.conditioner(model.conditioner.prepare(["cat", "cat"]))
    x_T = Noise([0, 1])("x_T", 0, (4, 8, 8))
    with torch.no_grad():
        z = DPMSolverPP(order=2)(CFG(3.0)(model.denoiser), x_T, steps=3, c=c)
        by_hand = model.autoencoder.decode(z).clamp(-1, 1)
    assert torch.equal(by_hand, model.sample("cat", guidance=3.0, **options))


def test_other_sizes_samplers_and_callbacks():
    model = text_model()
    seen = []
    images = model.sample("cat", size=(16, 24), steps=4, sampler=DDIM(), on_step=lambda k, state: seen.append(k))
    assert images.shape == (1, 3, 16, 24) and seen == [0, 1, 2, 3]
    assert float(images.abs().max()) <= 1
    assert torch.equal(model.sample("cat", steps=4, sampler="ddim"), model.sample("cat", steps=4, sampler=DDIM()))


def test_library_leaves_no_gradient_and_no_global_randomness():
    model = text_model()
    before = torch.get_rng_state()
    assert not model.sample("cat", steps=2).requires_grad
    assert torch.equal(before, torch.get_rng_state())


def test_kinds_of_denoiser_survive_the_folder(tmp_path):
    model = plain_model()
    again = mz.load(model.save(tmp_path / "m"))
    assert isinstance(again.denoiser, EDMDenoiser) and again.denoiser.sigma_data == 0.7
    model = Model(VDenoiser(model.denoiser.net, Flow()), model.autoencoder, size=(8, 8))
    assert isinstance(mz.load(model.save(tmp_path / "m")).denoiser, VDenoiser)


WRITER = """
import sys; sys.path.insert(0, {tests!r})
from test_model import text_model
model = text_model()
print("ready", flush=True)
for i in range(10**6):
    model.card = f"# {{i}}\\n"
    model.save({path!r})
"""


@pytest.mark.fault
def test_a_killed_save_leaves_a_whole_folder(tmp_path):
    path = tmp_path / "m"
    text_model().save(path)
    for wait in (0.05, 0.21, 0.4):
        code = WRITER.format(tests=str(Path(__file__).parent), path=str(path))
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert json.loads((path / "config.json").read_text())["format"] == "mezzotint-1"
        mz.load(path).sample("cat", steps=1)


def _weird() -> list[tuple[tuple[str, ...], object]]:
    values = [None, True, "x", -1, 0, 1.5, 10**12, 10**400, [], {}, [[1]], [1, "a"], float("nan"), float("inf"), "../x"]
    places = [("size",), ("schedule",), ("schedule", "type"), ("denoiser",), ("network",), ("autoencoder",)]
    places += [
        ("conditioner",),
        ("defaults",),
        ("defaults", "steps"),
        ("defaults", "sampler"),
        ("defaults", "guidance"),
    ]
    places += [("network", "config", key) for key in ("channels", "mult", "blocks", "attention", "head_dim", "context")]
    places += [("autoencoder", "config", key) for key in ("channels", "mult", "blocks", "latent", "attention")]
    places += [("conditioner", "config", key) for key in ("vocab", "length", "width", "depth", "heads")]
    return [(place, value) for place in places for value in values]


def test_a_hostile_configuration_is_one_error_that_names_its_file(tmp_path, unchecked):
    path = text_model().save(tmp_path / "m")
    good = (path / "config.json").read_text()
    loaded = []
    for place, value in _weird():
        config = json.loads(good)
        inner = config
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        (path / "config.json").write_text(json.dumps(config))
        try:
            mz.load(path)
        except ValueError as error:
            assert str(path) in str(error), (place, value)
            assert len(str(error)) < 1500, (place, value)
        else:
            loaded.append((".".join(place), value))
    # what is valid all the same; a sampler's name is looked up where it is used
    valid = {
        "conditioner": [None],
        "defaults": [{}],
        "defaults.guidance": [0, 1.5],
        "defaults.sampler": ["x", "../x"],
        "autoencoder.config.attention": [True],
    }
    assert [(place, value) for place, value in loaded if value not in valid.get(place, [])] == []


def test_a_deeply_nested_configuration_is_an_error(tmp_path):
    path = plain_model().save(tmp_path / "m")
    (path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"config\.json"):
        mz.load(path)


def test_weights_that_are_not_numbers_never_become_images(tmp_path):
    model = plain_model()
    with torch.no_grad():
        next(model.denoiser.parameters()).fill_(float("nan"))
    with pytest.raises((ValueError, ArithmeticError), match="finite|NaN"):
        mz.load(model.save(tmp_path / "m")).sample(steps=2)


def test_defaults_that_no_folder_can_hold_are_refused_when_saving(tmp_path):
    model = plain_model()
    model.defaults["sampler"] = DDIM()
    with pytest.raises(ValueError, match="name of a sampler"):
        model.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()
