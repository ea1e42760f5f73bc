"""`mezzotint edit filter`: a picture in, its filtered self out, one line for bad input."""

from __future__ import annotations

import json

import pytest
import torch

from mezzotint.edit.filters import parse
from mezzotint.io.photo import Photo, read_photo, write_photo


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    y, x = torch.meshgrid(torch.linspace(-0.8, 0.8, 12), torch.linspace(-0.8, 0.8, 16), indexing="ij")
    write_photo("in.png", Photo(torch.stack([x, y, x * y])))
    write_photo("grey.png", Photo(x[None]))
    return tmp_path


def test_the_picture_is_filtered_in_order(here, cli):
    status, out, err = cli("edit", "filter", "in.png", "--filters", "max:3|desaturate|contrast:1.5", "--json")
    told = json.loads(out)
    assert status == 0 and not err and told["out"] == "in-filtered.png"
    assert told["filters"] == "max:3|desaturate|contrast:1.5,mean" and "colour" in told["removes"]
    wanted = parse(told["filters"])(read_photo("in.png").image[None])[0]
    assert float((read_photo("in-filtered.png").image - wanted).abs().max()) <= 0.51 / 127.5
    other = parse("desaturate|contrast:1.5|max:3")(read_photo("in.png").image[None])[0]
    assert float((other - wanted).abs().max()) > 0.02


def test_grey_pictures_stay_grey_until_they_are_coloured(here, cli):
    for filters, channels in (("invert", 1), ("recolour:#000000-#ff8800", 3)):
        status, out, _ = cli("edit", "filter", "grey.png", "--filters", filters, "--out", "made.png")
        assert status == 0 and "made.png" in out and read_photo("made.png").image.shape[0] == channels


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["in.png", "--filters", "polish"], "no filter 'polish'; there are desaturate"),
        (["in.png", "--filters", " "], "an empty chain"),
        (["in.png", "--filters", "rank:4"], "4"),
        (["in.png", "--filters", "invert", "--out", "in.png"], "is the picture itself"),
        (["in.png", "--filters", "invert", "--out", "none/x.png"], "folder does not exist"),
        (["gone.png", "--filters", "invert"], "gone.png"),
    ],
)
def test_bad_input_is_one_line(here, cli, arguments, says):
    before = sorted(p.name for p in here.iterdir())
    status, _, err = cli("edit", "filter", *arguments)
    assert status != 0 and says in err and len(err.strip().splitlines()) == 1
    assert sorted(p.name for p in here.iterdir()) == before
