"""`mezzotint restore`: pictures in, restored pictures out, tile by tile, and one line for what cannot be."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mezzotint.cli.main import run
from mezzotint.core import X0Denoiser
from mezzotint.core.schedule import Cosine
from mezzotint.io.photo import Photo, read_photo, write_photo
from mezzotint.latent import Identity
from mezzotint.model import Model
from mezzotint.restore import DDNM, REDDiff
from mezzotint.restore.operators import Identity as Same
from mezzotint.restore.operators import ReflectBlur, Resize
from mezzotint.restore.picture import restore_picture, windows_of
from mezzotint.restore.tasks import TASKS, Given, find_task


class Smooth(torch.nn.Module):
    """x0 = alpha x_t / (alpha^2 + sigma^2 / 0.25), each pixel by itself: the denoiser of data of std 0.5."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))  # says where the model is

    def forward(self, x, time, c=None):
        t = time.to(torch.float64) / 1000
        alpha, sigma = Cosine().alpha(t), Cosine().sigma(t)
        return (0.25 * alpha / (0.25 * alpha**2 + sigma**2)).to(x.dtype).view(-1, 1, 1, 1) * x


@pytest.fixture
def model():
    return Model(X0Denoiser(Smooth(), Cosine()), Identity(3), size=(16, 16), name="pixelwise")


@pytest.fixture
def loaded(model, monkeypatch):
    monkeypatch.setattr("mezzotint.load", lambda name, device=None: model)
    return model


def picture(h=24, w=40):
    y, x = torch.meshgrid(torch.linspace(-0.8, 0.8, h), torch.linspace(-0.8, 0.8, w), indexing="ij")
    return torch.stack([x, y, x * y])


def test_tiles_cover_a_picture_and_keep_to_the_blocks_of_the_task(model):
    for size in ((16, 16), (24, 40), (36, 20)):
        for task in (find_task("denoise"), find_task("sr4")):
            seen = torch.zeros(size)
            for window in windows_of(size, model, task):
                assert window.top % task.multiple == 0 and window.left % task.multiple == 0
                seen[window.top : window.top + 16, window.left : window.left + 16] += 1
            assert float(seen.min()) >= 1


def test_what_a_pixelwise_prior_restores_does_not_depend_on_the_tiles(model):
    """The same as in one piece, up to the noise of each: a point estimate that has none."""
    y = picture()
    made = restore_picture(model, find_task("denoise"), DDNM(eta=0.0), y, Given(), steps=3)
    torch.testing.assert_close(made.samples[0], y, rtol=0, atol=1e-5)  # noiseless: the measurement itself
    assert made.tiles == 6 and made.nfe == 3 and made.misfit < 1e-5


def test_a_tile_of_a_blurred_picture_uses_what_it_can_explain():
    task, given = find_task("deblur"), Given(blur=1.0)
    x = picture()[None].double()
    y = ReflectBlur.gaussian(1.0).double()(x)[0]
    model = Model(X0Denoiser(Smooth(), Cosine()), Identity(3), size=(16, 16), name="m")
    for window in windows_of((24, 40), model, task):
        operator = task.build(given, window).double()
        inside = window.cut(x)
        torch.testing.assert_close(operator(inside)[0], task.cut(given, window, y), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_every_tasks_operator_makes_what_it_cuts(name):
    task = TASKS[name]
    mask = torch.zeros(48, 72, dtype=torch.bool)
    mask[4:9, 3:20] = True
    given = Given(mask=mask)
    x = picture(48, 72)[None]
    model = Model(X0Denoiser(Smooth(), Cosine()), Identity(3), size=(24, 24), name="m")
    window = windows_of((48, 72), model, task)[1]
    whole = type(window)(0, 0, 48, 72, (48, 72))
    y = task.build(given, whole)(x)[0]
    found = task.build(given, window)(window.cut(x))[0]
    atol = 0.5 if name == "jpeg" else 1e-5  # blocks are its own, colours rounded
    if name.startswith("sr"):  # a tile's border is resized by itself
        inside = (..., slice(1, -1), slice(1, -1))
        torch.testing.assert_close(found[inside], task.cut(given, window, y)[inside], rtol=0, atol=0.1)
    else:
        torch.testing.assert_close(found, task.cut(given, window, y), rtol=0, atol=atol)
    assert {*task.methods} and task.metrics and task.data


def test_the_command_writes_picture_record_and_spread(loaded, tmp_path, capsys):
    write_photo(tmp_path / "in.png", Photo(picture(), alpha=np.full((24, 40), 77, np.uint8)))
    call = ["restore", str(tmp_path / "in.png"), "--task", "denoise", "--noise", "0.1", "--steps", "3"]
    assert run([*call, "--uncertainty", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    out = read_photo(tmp_path / "in-restored.png")
    assert out.image.shape == (3, 24, 40) and out.alpha is not None and out.alpha.min() == 77
    assert Image.open(tmp_path / "in-restored-spread.png").size == (40, 24)
    record = json.loads((tmp_path / "in-restored.json").read_text())
    assert record["task"] == "denoise" and record["seeds"] == list(range(8)) and record["tiles"] == 6
    assert told["mean_spread"] > 0 and told["method"] == record["method"] == "ddrm"
    before = (tmp_path / "in-restored.png").read_bytes()
    assert run([*call, "--uncertainty"]) == 0  # the same seeds: the same picture
    assert (tmp_path / "in-restored.png").read_bytes() == before


def test_sixteen_bits_stay_sixteen(loaded, tmp_path):
    codecs = pytest.importorskip("imagecodecs")
    write_photo(tmp_path / "in.png", Photo(picture(16, 16), dtype="uint16", high=65535.0))
    assert run(["restore", str(tmp_path / "in.png"), "--task", "denoise", "--noise", "0", "--steps", "2"]) == 0
    a, b = (codecs.png_decode((tmp_path / name).read_bytes()) for name in ("in.png", "in-restored.png"))
    assert b.dtype == np.uint16 and int(np.abs(a.astype(int) - b.astype(int)).max()) < 65536 * 1e-3


def test_enlarging_and_grey_pictures(loaded, tmp_path):
    write_photo(tmp_path / "small.png", Photo(Resize(4)(picture(32, 48)[None])[0]))
    assert run(["restore", str(tmp_path / "small.png"), "--task", "sr4", "--steps", "2"]) == 0
    assert read_photo(tmp_path / "small-restored.png").image.shape == (3, 32, 48)
    write_photo(tmp_path / "grey.png", Photo(picture()[:1]))
    assert run(["restore", str(tmp_path / "grey.png"), "--task", "denoise", "--noise", "0.05", "--steps", "2"]) == 0
    assert read_photo(tmp_path / "grey-restored.png").image.shape[0] == 1
    assert run(["restore", str(tmp_path / "grey.png"), "--task", "colourise", "--steps", "2"]) == 0


def test_several_results_have_a_mean_and_a_spread(model):
    y = picture(16, 16)
    made = restore_picture(model, find_task("denoise"), REDDiff(), y, Given(), std=0.2, steps=3, seeds=(0, 1, 2))
    assert made.samples.shape == (3, 3, 16, 16) and bool(torch.isfinite(made.spread).all())
    one = restore_picture(model, find_task("denoise"), REDDiff(), y, Given(), std=0.2, steps=3, seeds=(1,))
    torch.testing.assert_close(one.samples[0], made.samples[1], rtol=0, atol=1e-5)
    assert bool(torch.isnan(one.spread).all())
    assert Same()(y[None]).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "an image and a task are needed"),
        (["in.png", "--task", "sharpen"], "unknown task 'sharpen'; the tasks are denoise"),
        (["in.png", "--task", "sr5"], "super-resolution is sr2"),
        (["in.png", "--task", "inpaint"], "needs --mask FILE"),
        (["in.png", "--task", "inpaint", "--mask", "small.png"], "is 8 x 8 but the picture 24 x 40"),
        (["in.png", "--task", "inpaint", "--mask", "white.png"], "all white: nothing is left"),
        (["in.png", "--task", "denoise", "--method", "magic"], "unknown method 'magic'; the methods are"),
        (["in.png", "--task", "jpeg", "--quality", "30", "--method", "pigdm"], "linear operator"),
        (["in.png", "--task", "jpeg"], "no JPEG file any more; give --quality"),
        (["in.png", "--task", "denoise", "--noise", "25"], "--noise 25"),
        (["nothing.png", "--task", "denoise"], "No such file"),
        (["small.png", "--task", "denoise"], "smaller than those of pixelwise, 16 x 16"),
        (["odd.png", "--task", "demosaic"], "multiples of 2; crop the picture to 24 x 40"),
        (["in.png", "--task", "denoise", "--out", "a.gif"], "unknown suffix '.gif'"),
        (["in.png", "--task", "denoise", "--out", "no/a.png"], "its folder does not exist"),
        (["in.png", "--task", "jpeg", "--quality", "101"], "from 1 to 100"),
        (["in.png", "--task", "deblur", "--blur", "9"], "too far for a tile of 16 x 16"),
    ],
)
def test_bad_calls_are_one_line_and_write_nothing(loaded, tmp_path, capsys, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "in.png", Photo(picture()))
    write_photo(tmp_path / "odd.png", Photo(picture(25, 41)))
    write_photo(tmp_path / "small.png", Photo(picture(8, 8)))
    write_photo(tmp_path / "white.png", Photo(torch.ones(1, 24, 40)))
    before = sorted(p.name for p in tmp_path.iterdir())
    assert run(["restore", *more]) == 2
    told = capsys.readouterr().err
    assert message in told and len(told.strip().splitlines()) == 1, told
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_the_list_names_all(capsys):
    assert run(["restore", "--list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {t["task"] for t in told["tasks"]} == {*TASKS, "mri", "ct"}
    known = {m["method"] for m in told["methods"]}
    assert all({*t["methods"]} <= known for t in told["tasks"])
