"""`mezzotint edit move` and `paste`: pictures in, pictures, masks and a record out, one line for what cannot be."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mezzotint.cli.main import run
from mezzotint.core import Cosine, X0Denoiser
from mezzotint.edit import plan_move, plan_paste
from mezzotint.io.photo import Photo, read_photo, write_photo
from mezzotint.latent import Identity
from mezzotint.model import Model
from mezzotint.nn import UNet

H, W = 16, 24


@pytest.fixture
def model() -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(3, channels=8, mult=(1, 2), blocks=1, attention=(2,), head_dim=8)
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    return Model(X0Denoiser(net, Cosine()), Identity(3), size=(16, 16), name="tiny")


class Pointwise(torch.nn.Module):
    """No attention."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, time, c=None):
        return self.factor * x


@pytest.fixture
def folder(model, tmp_path, monkeypatch):
    """Pictures to edit, in the current folder."""
    blind = Model(X0Denoiser(Pointwise(), Cosine()), Identity(3), size=(16, 16), name="blind")
    monkeypatch.setattr("mezzotint.load", lambda name, device=None: blind if name == "blind" else model)
    monkeypatch.chdir(tmp_path)
    write_photo("in.png", Photo(picture()))
    write_photo("mask.png", Photo(mask()))
    write_photo("black.png", Photo(torch.full((1, H, W), -1.0)))
    write_photo("white.png", Photo(torch.ones(1, H, W)))
    write_photo("small.png", Photo(torch.ones(1, 8, 8)))
    write_photo("odd.png", Photo(picture(H, 23)))
    write_photo("oddmask.png", Photo(mask(H, 23)))
    write_photo("clear.png", Photo(picture(), alpha=np.arange(H * W, dtype=np.uint8).reshape(H, W)))
    return tmp_path


def picture(h: int = H, w: int = W) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(-0.8, 0.8, h), torch.linspace(-0.8, 0.8, w), indexing="ij")
    return torch.stack([x, y, x * y])


def mask(h: int = H, w: int = W) -> torch.Tensor:
    made = torch.full((1, h, w), -1.0)
    made[:, 4:9, 3:9] = 1
    return made


def test_an_object_is_moved_and_the_record_tells_how(folder, capsys):
    call = ["edit", "move", "in.png", "--mask", "mask.png", "--shift", "-2,5", "--steps", "4", "--masks"]
    assert run([*call, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    record = json.loads((folder / "in-moved.json").read_text())
    assert (
        record["edit"] == "move"
        and record["shift"] == [-2, 5]
        and record["steps"] == 4
        and record["nfe"] == told["nfe"]
    )
    assert record["areas"]["gud"] == 30 and record["areas"]["gen"] == 30 and record["lost"] == 0
    plan = plan_move(read_photo("in.png").image, mask()[0], (-2, 5))
    for name, expected in plan.masks().items():
        assert torch.equal(read_photo(f"in-moved-{name}.png").image[0] > 0, expected)
    before = read_photo("in-moved-before.png").image
    torch.testing.assert_close(before, plan.image, rtol=0, atol=1e-6)
    out = read_photo("in-moved.png").image
    assert out.shape == (3, H, W) and not torch.equal(out, before)
    bytes_before = (folder / "in-moved.png").read_bytes()
    assert run(call) == 0  # the same seed: the same picture
    assert (folder / "in-moved.png").read_bytes() == bytes_before
    assert "nothing" not in capsys.readouterr().err
    assert run([*call, "--seed", "1"]) == 0
    assert (folder / "in-moved.png").read_bytes() != bytes_before


def test_without_masks_there_are_two_files_and_what_fell_out_is_told(folder, capsys):
    before = {p.name for p in folder.iterdir()}
    assert run(["edit", "move", "in.png", "--mask", "mask.png", "--shift", "18,0", "--steps", "2"]) == 0
    assert {p.name for p in folder.iterdir()} - before == {"in-moved.png", "in-moved.json"}
    assert "50 % of the object fell out of the frame" in capsys.readouterr().err


def test_an_object_of_another_picture_is_pasted(folder):
    write_photo("grey.png", Photo(picture()[:1]))
    call = ["edit", "paste", "grey.png", "--from", "in.png", "--mask", "mask.png", "--at", "16,10", "--scale", "0.8"]
    assert run([*call, "--steps", "2", "--out", "done.png", "--masks"]) == 0
    record = json.loads((folder / "done.json").read_text())
    assert record["edit"] == "paste" and record["at"] == [16, 10] and record["areas"]["ipt"] == 0
    assert read_photo("done.png").image.shape[0] == 1
    grey = read_photo("grey.png").image.expand(3, -1, -1)
    plan = plan_paste(grey, read_photo("in.png").image, mask()[0], (16, 10), 0.8)
    assert torch.equal(read_photo("done-gen.png").image[0] > 0, plan.gen)
    rows, columns = plan.gen.nonzero().double().mean(0).tolist()
    assert abs(columns - 16) <= 0.5 and abs(rows - 10) <= 0.5


MOVE = ["move", "in.png", "--mask"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stretch"], "unknown edit 'stretch'; the edits are filter, move, paste"),
        (["move", "in.png", "--shift", "1,1"], "--mask"),
        ([*MOVE, "mask.png"], "nothing to do: give --shift DX,DY, or --scale"),
        ([*MOVE, "mask.png", "--shift", "4"], "expected two whole numbers of pixels as 40,-10"),
        ([*MOVE, "mask.png", "--scale", "0"], "scale=0; expected a factor from 1/16 to 16"),
        ([*MOVE, "mask.png", "--scale", "nan"], "scale=nan"),
        ([*MOVE, "black.png", "--shift", "1,1"], "the mask is empty"),
        ([*MOVE, "white.png", "--shift", "1,1"], "the mask covers 100 % of the image, more than 60 %"),
        ([*MOVE, "small.png", "--shift", "1,1"], "the mask is 8 x 8 but the image 16 x 24; give one size"),
        ([*MOVE, "mask.png", "--shift", "100,0"], "nothing of the object would be inside the frame"),
        ([*MOVE, "mask.png", "--shift", "-100,0"], "nothing of the object would be inside the frame"),
        ([*MOVE, "mask.png", "--shift", "1,1", "--model", "blind"], "this model has no self-attention"),
        ([*MOVE, "mask.png", "--shift", "1,1", "--steps", "600"], "steps=600; expected a whole number from 1 to 500"),
        ([*MOVE, "mask.png", "--shift", "1,1", "--prompt", "a cat"], "is unconditional and takes no prompt"),
        (["move", "odd.png", "--mask", "oddmask.png", "--shift", "1,1"], "tiny needs multiples of 2"),
        (["move", "clear.png", "--mask", "mask.png", "--shift", "1,1"], "transparent in places"),
        (["move", "none.png", "--mask", "mask.png", "--shift", "1,1"], "No such file"),
        ([*MOVE, "mask.png", "--shift", "1,1", "--out", "a.gif"], "unknown suffix '.gif'"),
        ([*MOVE, "mask.png", "--shift", "1,1", "--out", "no/a.png"], "its folder does not exist"),
        ([*MOVE, "mask.png", "--shift", "1,1", "--out", "mask.png"], "files of their own"),
        ([*MOVE, "mask.png", "--shift", "1,1", "--out", "./in.png"], "files of their own"),
        (["paste", "in.png", "--mask", "mask.png"], "--from"),
        (
            ["paste", "in.png", "--from", "small.png", "--mask", "mask.png"],
            "the mask is 16 x 24 but the reference 8 x 8",
        ),
        (["paste", "in.png", "--from", "in.png", "--mask", "mask.png", "--at", "99,99"], "nothing of the object"),
        (["paste", "white.png", "--from", "in.png", "--mask", "mask.png", "--out", "in.png"], "in.png: it is read"),
    ],
)
def test_bad_calls_are_one_line_and_write_nothing(folder, capsys, arguments, message):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert run(["edit", *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told and len(told.strip().splitlines()) == 1, told
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_help_lists_the_edits(capsys):
    assert run(["edit", "--help"]) == 0
    told = capsys.readouterr().out
    assert "move" in told and "paste" in told
    assert run(["edit"]) == 2
