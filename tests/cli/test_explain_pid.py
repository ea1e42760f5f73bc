"""`mezzotint explain pid`: a sheet of maps and its record, and one line for what cannot be."""

from __future__ import annotations

import json
import re

import pytest
import torch
from PIL import Image

from mezzotint.io.photo import Photo, write_photo

LINE = ["explain", "pid", "a red heart and a blue fish", "--concepts", "red,fish", "--levels", 4, "--steps", 2]


def test_a_sheet_and_its_record(cli, tiny, tmp_path):
    out = tmp_path / "sheet.png"
    status, text, error = cli(*LINE, "--model", tiny, "--count", 2, "--seed", 5, "--out", out)
    assert status == 0 and not error
    facts = json.loads((tmp_path / "sheet.json").read_text())
    assert facts["prompts"] == ["a heart and a blue", "a red heart and a blue", "a heart and a blue fish", LINE[2]]
    assert [k["seed"] for k in facts["images"]] == [5, 6] and facts["evaluations"] == 4 * 4 * 2
    for kept in facts["images"]:
        nats = {name: kept[name]["nats"] for name in ("r", "u1", "u2", "s", "i1", "i2", "i12")}
        assert nats["r"] + nats["u1"] + nats["u2"] + nats["s"] == pytest.approx(nats["i12"], abs=1e-9)
        assert nats["i1"] > 0 and kept["i1"]["error"] > 0
        assert sum(map(sum, kept["i1"]["map"])) == pytest.approx(nats["i1"], abs=1e-3)
        assert f"only red {nats['u1']:.3g} +- " in text and f"synergy {nats['s']:.3g} +- " in text
    with Image.open(out) as sheet:
        assert sheet.size == (8 * 96, 4 * (96 + 14))
        assert sheet.crop((0, 14, 96, 110)).tobytes() != sheet.crop((96, 14, 192, 110)).tobytes()
    again = tmp_path / "again.png"
    status, text, _ = cli(*LINE, "--model", tiny, "--count", 2, "--seed", 5, "--out", again, "--json")
    assert status == 0 and json.loads(text)["images"] == facts["images"]
    assert again.read_bytes() == out.read_bytes()


def test_a_picture_of_ones_own_and_words_alone(cli, tiny, tmp_path):
    write_photo(tmp_path / "in.png", Photo(torch.linspace(-0.5, 0.5, 256).reshape(1, 16, 16).expand(3, -1, -1).clone()))
    status, text, error = cli(*LINE, "--model", tiny, "--image", tmp_path / "in.png", "--alone", "--form", "standard",
                              "--json", "--out", tmp_path / "a.png")  # fmt: skip
    assert status == 0, error
    facts = json.loads(text)
    assert facts["prompts"][:3] == ["", "red", "fish"] and facts["form"] == "standard" and len(facts["images"]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--concepts", "red,cow"], "'cow' is not in the prompt"),
        (["--concepts", "red"], "two words of the prompt"),
        (["--concepts", "red,"], "two words of the prompt"),
        (["--concepts", "red,red heart"], "overlap"),
        (["--levels", 3], "even number"),
        (["--out", "sheet.jpg"], "ends in .png"),
        (["--out", "nowhere/sheet.png"], "its folder does not exist"),
        (["--image", "small.png", "--out", "small.png"], "small.png: it is read .* files of their own"),
        (["--image", "missing.png"], "missing.png"),
        (["--image", "small.png"], "8 x 8 but .* 16 x 16"),
        (["--image", "small.png", "--count", 2], "with --image there is one"),
    ],
)
def test_bad_input_is_one_line(cli, tiny, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "small.png", Photo(torch.zeros(3, 8, 8)))
    status, _, error = cli(*LINE, "--model", tiny, *options)
    assert status == 2 and len(error.splitlines()) == 1 and re.search(message, error)
    assert not list(tmp_path.glob("*.json"))


def test_models_without_words_are_refused(cli, tmp_path):
    from mezzotint.core import Cosine, VDenoiser
    from mezzotint.latent import Identity
    from mezzotint.model import Model
    from mezzotint.nn import UNet
    from mezzotint.nn.conditioner import ClassConditioner

    for name, conditioner, classes in (("mute", None, 0), ("numbers", ClassConditioner(3), 3)):
        net = UNet(3, channels=16, mult=(1, 2), blocks=1, attention=(2,), head_dim=8, classes=classes)
        Model(VDenoiser(net, Cosine()), Identity(3), conditioner, size=(16, 16), name=name).save(tmp_path / name)
        status, _, error = cli(*LINE, "--model", tmp_path / name, "--out", tmp_path / "a.png")
        assert status == 2 and len(error.splitlines()) == 1 and "reads no words" in error
