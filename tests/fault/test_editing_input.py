"""What an edit or an explanation cannot do is told in one line, and nothing is half done: no file, no open handle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mezzotint import load
from mezzotint.attention import Contexts, add_mask, features, mix_contexts, save, save_contexts, swap, tap
from mezzotint.cli.main import run
from mezzotint.edit import PixelMan, SpaceTimeAttention, plan_move
from mezzotint.nn import UNet
from mezzotint.nn.site import any_opened

PICTURE, MASK = ["a.png"], ["--mask", "m.png"]
CALLS = {
    "an empty mask": (["edit", "move", "a.png", "--mask", "empty.png", "--shift", "4,0"], "the mask is empty"),
    "a mask of most": (["edit", "move", "a.png", "--mask", "big.png", "--shift", "4,0"], "more than 60 %"),
    "out of frame": (["edit", "move", *PICTURE, *MASK, "--shift", "400,0"], "nothing of the object would be inside"),
    "pasted out of frame": (["edit", "paste", *PICTURE, "--from", *PICTURE, *MASK, "--at", "99,99"], "nothing of the"),
    "sizes that differ": (["edit", "move", "a.png", "--mask", "tall.png", "--shift", "4,0"], "40 x 32 but the image"),
    "another picture's mask": (["edit", "paste", "a.png", "--from", "tall.png", *MASK], "but the reference 40 x 32"),
    "nothing to do": (["edit", "move", *PICTURE, *MASK], "nothing to do"),
    "not a picture": (["edit", "move", "text.png", *MASK, "--shift", "4,0"], "cannot read text.png"),
    "no self-attention": (
        ["edit", "move", *PICTURE, *MASK, "--shift", "4,0", "--model", "photo"],
        "no self-attention",
    ),
    "two state spaces": (
        ["edit", "translate", *PICTURE, "--source", "emoji-pixel", "--target", "emoji"],
        "do not share a state space",
    ),
    "a picture of another size": (
        ["edit", "prompt", "odd.png", "--from", "a heart", "--to", "a star"],
        "needs multiples of 16",
    ),
    "a concept not in the prompt": (
        ["explain", "pid", "a red heart", "--concepts", "red,star"],
        "'star' is not in the",
    ),
    "a concept twice": (["explain", "pid", "a red heart", "--concepts", "red,red"], "overlap"),
    "a model without words": (
        ["explain", "pid", "a red heart", "--concepts", "red,heart", "--model", "photo"],
        "reads no words",
    ),
    "a mask for another model": (["explain", "subspace", "--mask", "tall.png"], "the mask is 40 x 32"),
    "a size that is none": (["sample", "a heart", "--size", "33x31"], "multiples of 16"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = np.full((32, 32, 3), 255, np.uint8)
    picture[8:20, 4:16] = (200, 20, 20)
    mask = (picture[:, :, 1] < 100).astype(np.uint8) * 255
    big = np.zeros((32, 32), np.uint8)
    big[:26] = 255
    for name, array in (
        ("a", picture), ("m", mask), ("empty", 0 * mask), ("big", big), ("tall", np.full((40, 32), 255, np.uint8)),
        ("odd", np.full((31, 33, 3), 255, np.uint8)),
    ):  # fmt: skip
        Image.fromarray(array).save(f"{name}.png")
    (tmp_path / "text.png").write_text("hello")
    return tmp_path


@pytest.mark.parametrize("what", CALLS)
def test_one_line_and_nothing_written(what, folder, capsys) -> None:
    call, message = CALLS[what]
    before = sorted(folder.rglob("*"))
    assert run(call) == 2
    told = capsys.readouterr()
    assert message in told.err and told.err.count("\n") == 1 and not told.out
    assert sorted(folder.rglob("*")) == before


@pytest.fixture
def net(alive):
    return alive(UNet(3, channels=8, mult=(1, 2), blocks=1, attention=(2,), context=6))


def clean(net) -> bool:
    return not any_opened() and not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize(
    "opens",
    [
        lambda net: tap(net, "attic.*"),
        lambda net: save(net, "attic.*"),
        lambda net: add_mask(net, torch.zeros(1, 1), "attic.*"),
        lambda net: save_contexts(net, "attic.*cross"),
        lambda net: features(net, "attic.*"),
    ],
)
def test_sites_that_do_not_exist(net, opens) -> None:
    with pytest.raises(ValueError, match="attic"), opens(net):
        pass
    assert clean(net)


def test_two_swaps_that_collide(net) -> None:
    x, time, c = torch.zeros(1, 3, 8, 8).double(), torch.zeros(1).double(), {"text": torch.ones(1, 2, 6).double()}
    with save(net, "mid.*") as kept:
        net(x, time, c)
    with pytest.raises(ValueError, match="two swaps collide at 'mid.1.block.self'"):
        with swap(net, kept, "mid.*"), swap(net, kept, "mid.*self"):
            pass
    assert clean(net)


def test_a_model_without_cross_attention() -> None:
    deaf = UNet(3, channels=8, mult=(1, 2), blocks=1)
    ways = (
        lambda: tap(deaf, "*cross"),
        lambda: save_contexts(deaf),
        lambda: mix_contexts(deaf, [Contexts()], lambda call, own, others: own),
    )
    for opens in ways:
        with pytest.raises(ValueError, match="no cross-attention"), opens():
            pass
    assert clean(deaf)


def test_a_run_that_breaks_leaves_no_handle_open(folder) -> None:
    model = load("emoji-pixel")
    image, mask = torch.ones(3, 32, 32), torch.zeros(32, 32)
    mask[8:20, 4:16] = 1
    seen = []

    def breaks(module, args):
        seen.append(1)
        if len(seen) == 5:
            raise RuntimeError("the machine is tired")

    hook = model.denoiser.net.register_forward_pre_hook(breaks)
    with pytest.raises(RuntimeError, match="tired"):
        PixelMan(steps=8)(model, plan_move(image, mask, (14, 0)), [0])
    hook.remove()
    assert clean(model.denoiser)
    made = PixelMan(steps=8)(model, plan_move(image, mask, (14, 0)), [0])
    assert torch.equal(made.images, PixelMan(steps=8)(load("emoji-pixel"), plan_move(image, mask, (14, 0)), [0]).images)


def test_more_regions_than_words() -> None:
    layout = [("heart", (0.2, 0.5)), ("red", (0.5, 0.5)), ("heart", (0.8, 0.5))]
    with pytest.raises(ValueError, match="3 regions for the 2 words"):
        SpaceTimeAttention(rounds=1)(load("emoji"), "red heart", layout)
