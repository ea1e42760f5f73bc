"""`mezzotint edit prompt` and `translate`: a picture in, a picture, a record and noises out, one line for bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import mezzotint as mz
from mezzotint.edit import CycleDiffusion
from mezzotint.io.photo import Photo, read_photo, write_photo
from mezzotint.sample import DDIM, NoiseCode

FEW = ["--steps", "6", "--start", "0.67"]


@pytest.fixture
def here(tiny, tmp_path, monkeypatch):
    """A picture and a second model (the first with other weights) in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_photo("in.png", Photo(picture()))
    write_photo("grey.png", Photo(picture()[:1]))
    write_photo("odd.png", Photo(picture(16, 15)))
    write_photo("clear.png", Photo(picture(), alpha=np.arange(256, dtype=np.uint8).reshape(16, 16)))
    (tmp_path / "text.png").write_text("no picture")
    other = mz.load(tiny)
    with torch.no_grad():
        for p in other.denoiser.parameters():
            p.mul_(0.8)
    other.save("other")
    return tmp_path


def picture(h: int = 16, w: int = 16) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(-0.8, 0.8, h), torch.linspace(-0.8, 0.8, w), indexing="ij")
    return torch.stack([x, y, x * y])


def test_a_prompt_is_changed_and_the_record_tells_how(here, tiny, cli):
    words = ["--from", "a red heart", "--to", "a blue fish", "--model", tiny]
    status, out, err = cli("edit", "prompt", "in.png", *words, *FEW, "--seed", 5, "--code", "z.safetensors", "--json")
    assert status == 0 and not err
    told, record = json.loads(out), json.loads((here / "in-edited.json").read_text())
    assert {k: v for k, v in told.items() if k != "out"} == record
    assert (record["from"], record["to"], record["seed"], record["steps_run"]) == ("a red heart", "a blue fish", 5, 4)
    assert record["guidance"] == 3.0 and record["nfe"] == 12 and record["scores"] is None and record["eta"] == 0.1
    method = CycleDiffusion(steps=6, start=0.67, guidance=3.0)
    x = read_photo("in.png").image
    made = method(mz.load(tiny), x, [5], source="a red heart", target="a blue fish", keep=True)
    wanted = (made.images[0] + 1) * 127.5
    assert (((read_photo("in-edited.png").image + 1) * 127.5) - wanted).abs().max() < 0.51
    assert made.code is not None
    torch.testing.assert_close(NoiseCode.load("z.safetensors").eps, made.code.eps)
    assert record["psnr_to_image"] == pytest.approx(float(mz_psnr(made.images, x[None])), abs=2e-3)


def mz_psnr(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return 10 * torch.log10(4 / (a - b).square().mean())


def test_noises_that_were_kept_are_drawn_again(here, tiny, cli):
    words = ["--to", "a blue fish", "--model", tiny, *FEW]
    assert cli("edit", "prompt", "in.png", "--from", "a red heart", *words, "--code", "z.safetensors")[0] == 0
    status, out, _ = cli("edit", "prompt", "in.png", *words, "--replay", "z.safetensors", "--out", "again.png")
    assert status == 0 and out.splitlines()[0] == "again.png"
    assert (here / "again.png").read_bytes() == (here / "in-edited.png").read_bytes()
    record = json.loads((here / "again.json").read_text())
    assert record["nfe"] == 8 and record["steps"] is None and record["steps_run"] == 4
    same = cli("edit", "prompt", "in.png", "--to", "a red heart", "--guidance", 1, "--model", tiny,
               "--replay", "z.safetensors", "--out", "same.png")  # fmt: skip
    assert same[0] == 0 and (read_photo("same.png").image - read_photo("in.png").image).abs().max() < 0.005
    status, _, err = cli(
        "edit", "prompt", "in.png", *words, "--eta", 0.5, "--replay", "z.safetensors", "--out", "no.png"
    )
    assert status and "decode with the sampler and eta" in err and not (here / "no.png").exists()


def test_one_model_to_another(here, tiny, cli):
    call = ["edit", "translate", "in.png", "--source", tiny, "--target", "other", *FEW, "--eta", 0.5]
    status, out, err = cli(*call)
    assert status == 0 and not err and out.splitlines()[0] == "in-translated.png" and "8 evaluations" in out
    a, b = mz.load(tiny), mz.load("other")
    method = CycleDiffusion(steps=6, start=0.67, sampler=DDIM(0.5))
    made = method(a, read_photo("in.png").image, onto=b)
    assert (read_photo("in-translated.png").image - made.images[0]).abs().max() < 0.005
    assert (made.images - method(a, read_photo("in.png").image).images).abs().max() > 0.02
    before = (here / "in-translated.png").read_bytes()
    assert cli(*call)[0] == 0 and (here / "in-translated.png").read_bytes() == before
    assert cli(*call, "--seed", 1)[0] == 0 and (here / "in-translated.png").read_bytes() != before
    assert cli(*call, "--refine", 0.34, "--json")[0] == 0
    assert json.loads((here / "in-translated.json").read_text())["nfe"] == 10


def test_the_same_on_both_sides_gives_the_picture_back_grey_or_not(here, tiny, cli):
    for name in ("in.png", "grey.png"):
        assert cli("edit", "translate", name, "--source", tiny, "--target", tiny, *FEW, "--out", "b.png")[0] == 0
        made, given = read_photo("b.png").image, read_photo(name).image
        assert made.shape == given.shape and (made - given).abs().max() < 0.005


def test_another_size_than_in_training_is_told(here, tiny, cli):
    write_photo("wide.png", Photo(picture(16, 24)))
    status, _, err = cli("edit", "translate", "wide.png", "--source", tiny, "--target", tiny, *FEW)
    assert status == 0 and "trained on pictures of 16 x 16" in err


def test_a_clip_chooses(here, tiny, cli, monkeypatch):
    class Colours:
        name, resize = "colours", "none"
        features = staticmethod(lambda x: x.mean((2, 3)))
        text = staticmethod(lambda words: torch.eye(3)[[2 if "blue" in w else 0 for w in words]])

    monkeypatch.setattr("mezzotint.metric.load_clip", lambda name: Colours())
    words = ["--from", "a red heart", "--to", "a blue fish", "--model", tiny, "--clip", "c", "--trials", 3]
    assert cli("edit", "prompt", "in.png", *words, *FEW, "--code", "z.safetensors")[0] == 0
    record = json.loads((here / "in-edited.json").read_text())
    assert len(set(record["scores"])) == 3 and record["nfe"] == 36 and record["trials"] == 3
    before = read_photo("in-edited.png").image
    words = ["--to", "a blue fish", "--model", tiny, "--replay", "z.safetensors", "--out", "again.png"]
    assert cli("edit", "prompt", "in.png", *words)[0] == 0  # the noises are those of the chosen one
    assert (read_photo("again.png").image - before).abs().max() < 0.005


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.png", "--to", "b"], "--from is needed"),
        (["in.png", "--from", "a"], "--to"),
        (["none.png", "--from", "a", "--to", "b"], "cannot read none.png"),
        (["text.png", "--from", "a", "--to", "b"], "text.png"),
        (["clear.png", "--from", "a", "--to", "b"], "transparent in places"),
        (["odd.png", "--from", "a", "--to", "b"], "16 x 15; tiny needs multiples of 2"),
        (["in.png", "--from", " ", "--to", "b"], "the prompt is empty"),
        (["in.png", "--from", "a", "--to", "b", "--eta", "0"], "draws no noise"),
        (["in.png", "--from", "a", "--to", "b", "--eta", "2"], "eta=2"),
        (["in.png", "--from", "a", "--to", "b", "--start", "0"], "start=0"),
        (["in.png", "--from", "a", "--to", "b", "--steps", "0"], "--steps"),
        (["in.png", "--from", "a", "--to", "b", "--refine", "1"], "refine=1"),
        (["in.png", "--from", "a", "--to", "b", "--guidance", "-1"], "w=-1"),
        (["in.png", "--from", "a", "--to", "b", "--trials", "2"], "--trials 2 needs --clip"),
        (["in.png", "--to", "b", "--replay", "in.png"], "in.png"),
        (["in.png", "--to", "b", "--replay", "z", "--code", "y"], "leave out --trials and --code"),
        (["in.png", "--from", "a", "--to", "b", "--out", "nowhere/a.png"], "its folder does not exist"),
        (["in.png", "--from", "a", "--to", "b", "--out", "a.gif"], "unknown suffix"),
        (["in.png", "--from", "a", "--to", "b", "--code", "in-edited.json"], "files of their own"),
        (["in.png", "--from", "a", "--to", "b", "--out", "in.png"], "files of their own"),
        (["in.png", "--from", "a", "--to", "b", "--device", "tpu"], "device"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(here, tiny, cli, arguments, message):
    before = {p.name for p in here.iterdir()}
    status, out, err = cli("edit", "prompt", *arguments, "--model", tiny)
    assert status and not out and message in err and err.count("\n") == 1 and "Traceback" not in err
    assert {p.name for p in here.iterdir()} == before


def test_models_that_do_not_belong_together(here, tiny, cli):
    before = {p.name for p in here.iterdir()}
    for source, target, message in (
        (tiny, "emoji", "do not share a state space: 3 and 8 channels"),
        (tiny, "emoji-pixel", "different noise schedules"),
        (tiny, "nowhere", "no model 'nowhere'"),
    ):
        status, _, err = cli("edit", "translate", "in.png", "--source", source, "--target", target)
        assert status and message in err and err.count("\n") == 1
    assert {p.name for p in here.iterdir()} == before
