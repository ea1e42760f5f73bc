"""Attention scaled to the size that is drawn: by default, with a note, recorded, and turned off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import mezzotint as mz
from mezzotint.attention import attention_scaling, token_counts
from mezzotint.cli.main import run as main
from mezzotint.core import Flow, FlowDenoiser
from mezzotint.latent import Identity
from mezzotint.nn import UNet


@pytest.fixture
def folder(tmp_path, alive) -> Path:
    torch.manual_seed(0)
    net = alive(UNet(3, channels=16, mult=(1, 2), blocks=1))
    model = mz.Model(FlowDenoiser(net, Flow()), Identity(3), size=(8, 8), defaults={"sampler": "euler", "steps": 2})
    return model.save(tmp_path / "model")


def sample(folder: Path, out: Path, *options: str) -> dict:
    assert main(["sample", "--model", str(folder), "--count", "2", "--seed", "3", "--out", str(out), *options]) == 0
    (record,) = out.glob("*.json")
    return json.loads(record.read_text())


def test_the_model_is_sampled_under_the_scaling(folder):
    model = mz.load(folder)
    plain = model.sample(count=2, size=(12, 16))
    assert torch.equal(model.sample(count=2, rescale=True), model.sample(count=2))  # at its own size
    scaled = model.sample(count=2, size=(12, 16), rescale=True)
    with attention_scaling(model.denoiser, token_counts(model.denoiser, (3, 8, 8))):
        assert torch.equal(model.sample(count=2, size=(12, 16)), scaled)
    assert not torch.equal(scaled, plain) and torch.equal(model.sample(count=2, size=(12, 16)), plain)
    with pytest.raises(ValueError, match="rescale watches the attention layers"):
        model.sample(size=(12, 16), rescale=True, compile=True)


def test_by_default_with_a_note_and_repeated_from_the_record(folder, tmp_path, capsys):
    told = sample(folder, tmp_path / "a", "--size", "12x16")
    assert "attention was scaled to the new size" in capsys.readouterr().err and told["rescale"] is True
    (record,) = (tmp_path / "a").glob("*.json")
    assert main(["sample", "--from", str(record)]) == 0
    assert "bit for bit" in capsys.readouterr().out
    off = sample(folder, tmp_path / "b", "--size", "12x16", "--no-rescale")
    assert "scaled" not in capsys.readouterr().err and off["rescale"] is False
    assert set(off["images"].values()) != set(told["images"].values())


def test_older_records_were_not_rescaled(folder, tmp_path, capsys):
    sample(folder, tmp_path / "a", "--size", "12x16", "--no-rescale")
    (record,) = (tmp_path / "a").glob("*.json")
    row = json.loads(record.read_text())
    del row["rescale"]
    record.write_text(json.dumps(row))
    assert main(["sample", "--from", str(record)]) == 0
    assert "bit for bit" in capsys.readouterr().out


def test_many_images_and_their_folder(folder, tmp_path, capsys):
    def many(*options: str) -> int:
        call = ["sample", "--model", str(folder), "--count", "3", "--format", "png", "--out", str(tmp_path / "many")]
        return main([*call, "--size", "12x16", *options])

    assert many() == 0 and json.loads((tmp_path / "many" / "sampling.json").read_text())["plan"]["rescale"] is True
    capsys.readouterr()
    assert many("--no-rescale") != 0
    assert "rescale: True there, False now" in capsys.readouterr().err
