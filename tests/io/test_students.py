"""Students in model folders: what a file may say of them, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch

import mezzotint as mz
from mezzotint.core import Cosine, VDenoiser, WConditioned
from mezzotint.io.parts import build, describe
from mezzotint.latent import Identity
from mezzotint.model import Model
from mezzotint.nn import DiT, GuidedNetwork, guided_student, halved_student
from mezzotint.nn.conditioner import ClassConditioner


@pytest.fixture
def folder(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = VDenoiser(DiT(3, patch=4, width=16, depth=1, heads=2, classes=4), Cosine())
        d = halved_student(guided_student(plain, (1.0, 5.0)), 2, 4, parent="0123abcd")
        for p in d.parameters():
            torch.nn.init.normal_(p, std=0.1)
    words = ClassConditioner(4)
    defaults = {"sampler": "distilled", "steps": 2, "guidance": 3.0}
    model = Model(d, Identity(3), words, size=(8, 8), defaults=defaults)
    return model, model.save(tmp_path / "fast")


def test_a_student_comes_back_as_it_was(folder):
    model, path = folder
    back = mz.load(path)
    d = back.denoiser
    assert isinstance(d, WConditioned) and isinstance(d.net, GuidedNetwork) and isinstance(d.net.base, DiT)
    assert {k: v for k, v in d.config.items() if k != "base"} == {
        k: v for k, v in model.denoiser.config.items() if k != "base"
    }
    assert torch.equal(back.sample(1, seeds=[4]), model.sample(1, seeds=[4]))
    stochastic = back.sample(1, seeds=[4], sampler="distilled-stochastic", steps=4)
    assert stochastic.isfinite().all()
    assert describe("denoiser", d) == json.loads((path / "config.json").read_text())["denoiser"]


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("denoiser", {"w_range": [5, 1]}, "w_range"),
        ("denoiser", {"w_range": "wide"}, "w_range"),
        ("denoiser", {"steps": 2.5}, "steps"),
        ("denoiser", {"starts": 3}, "starts"),
        ("denoiser", {"base": {"type": "os.system", "config": {}}}, "unknown denoiser"),
        ("denoiser", {"base": "EpsDenoiser"}, "denoiser should be"),
        ("denoiser", {"base": {"type": "VDenoiser", "config": {"sigma_data": 1}}}, "does not take"),
        ("network", {"base": {"type": "subprocess.Popen", "config": {}}}, "unknown network"),
        ("network", {"w_range": [1, 1]}, "low < high"),
        ("network", {"extra": 1}, "does not take"),
    ],
)
def test_a_damaged_description_is_refused_by_name(folder, part, change, words, unchecked):
    path = folder[1]
    config = json.loads((path / "config.json").read_text())
    config[part]["config"] |= change
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"config\.json: .*{words}"):
        mz.load(path)


def test_students_of_students_are_refused(folder, unchecked):
    path = folder[1]
    config = json.loads((path / "config.json").read_text())
    entry = config["denoiser"]
    config["denoiser"] = {"type": "WConditioned", "config": {**entry["config"], "base": entry}}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="inside already"):
        mz.load(path)


def test_a_tower_of_parts_ends():
    entry: dict = {"type": "Flow", "config": {}}
    for _ in range(40):
        entry = {"type": "Shifted", "config": {"base": entry, "shift": 2.0}}
    with pytest.raises(ValueError, match="lies over more than 8"):
        build("schedule", entry)
