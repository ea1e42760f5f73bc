"""Spatial-temporal attention control on models: ours and diffusers', in pixels and in latents; and what cannot be."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor

import mezzotint as mz
from mezzotint.attention import cross_sites, tap
from mezzotint.core import VP, Condition, Noise, VDenoiser, uniform_t
from mezzotint.edit import SpaceTimeAttention, faithfulness_loss
from mezzotint.edit.spacetime_places import placed
from mezzotint.guide import Box, Disc, SpaceTime
from mezzotint.latent import Identity
from mezzotint.metric import TextScore
from mezzotint.model import Model
from mezzotint.nn import UNet
from mezzotint.sample import DDIM, DDPM

_spec = importlib.util.spec_from_file_location("_small_models", Path(__file__).with_name("small_models.py"))
assert _spec is not None and _spec.loader is not None
_small = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_small)
latent = _small.latent
loud = _small.loud
pipeline = _small.pipeline
pixel = _small.pixel
transformer = _small.transformer


CAPTION, LAYOUT = "a red heart a blue heart", {"a red heart": (0.25, 0.5), "a blue heart": Box(0.5, 0, 1, 1)}


def redness(x: Tensor, captions) -> Tensor:
    """A differentiable score: how red, or how blue where the caption says so."""
    sign = torch.tensor([-1.0 if "blue" in words else 1.0 for words in captions], device=x.device)
    return sign * (x[:, 0] - x[:, 2]).mean((1, 2)) / 2


def holds_on(model: Model, caption: str = CAPTION, layout=LAYOUT) -> None:
    """Weights of zero are plain sampling, others are not; the loss falls, and rows depend on their seed alone."""
    calls: list[int] = []
    hook = model.denoiser.net.register_forward_hook(lambda *_: calls.append(1))
    run = {"steps": 3, "guidance": 3.0, "sampler": "ddim"}
    plain = model.sample(caption, seeds=[0, 5], **run)
    calls.clear()
    none = SpaceTimeAttention(mode="boost", init=0.0, rounds=1, template="{}")(
        model, caption, layout, seeds=[0, 5], **run
    )
    assert torch.equal(none.images, plain) and len(calls) == 3 + 2 and none.nfe == 6 + 2
    for mode in ("convex", "boost"):
        method = SpaceTimeAttention(redness, mode=mode, init=0.5, rounds=3, lr=0.3, template="{}")
        made = method(model, caption, layout, seeds=[0, 5], **run)
        assert made.images.shape == plain.shape and made.weights.shape == (2, 2, 3) and made.losses.shape == (3, 2)
        assert (made.images - plain).abs().amax((1, 2, 3)).min() > 1e-4
        assert bool((made.losses[-1] < made.losses[0]).all())
        assert made.nfe == 3 * 6 + 2 and not made.images.requires_grad
    alone = method(model, caption, layout, seeds=[5], **run)
    torch.testing.assert_close(alone.images[0], made.images[1], rtol=0, atol=2e-3)
    hook.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.denoiser.modules())
    assert all(p.grad is None for p in model.parameters())


def told_v() -> Model:
    """The transformer, whose random eps would give pictures beyond every pixel's range, where no gradient is."""
    model = transformer()
    model.denoiser = VDenoiser(model.denoiser.net, VP())
    return model


@pytest.mark.parametrize("build", [pixel, told_v, latent], ids=lambda build: build.__name__)
def test_it_holds_on_our_models(build) -> None:
    holds_on(build())


@pytest.mark.parametrize("xl", [False, True], ids=["sd-1.5", "sdxl"])
def test_it_holds_on_diffusers_models(xl, tmp_path) -> None:
    pipeline(tmp_path, xl).save_pretrained(tmp_path / "pipe")
    holds_on(mz.load(tmp_path / "pipe"), "red blue", {"red": (0.3, 0.5), "blue": (0.7, 0.5)})


with torch.random.fork_rng(devices=[]):  # made at import, before any test's seed
    torch.manual_seed(0)
    MODEL = pixel()


def optimised(method: SpaceTimeAttention, noise: Noise | None = None, sampler=None, uphill: int | None = None):
    """On a denoiser, its loss the redness of the left half; one row may be given the gradient's negative."""
    c, *told = (MODEL.prior(words)[1] for words in (CAPTION, "a red heart"))
    x = Noise([1, 2])("x_T", 0, (3, 8, 8))

    def loss(z: Tensor) -> Tensor:
        made = faithfulness_loss(redness, z, [CAPTION] * 2, [["red"]] * 2, [[Box(0, 0, 0.5, 1)]] * 2)
        return made if uphill is None else torch.where(torch.arange(2) == uphill, 2 * made.detach() - made, made)

    grid = uniform_t(MODEL.denoiser.schedule, 4)
    return method.optimised(
        MODEL.denoiser, x, sampler or DDIM(), grid, c=c.rows([0, 0]), locals=told, regions=[Disc(0.25, 0.5)], w=3.0,
        loss=loss, noise=noise,
    )  # fmt: skip


def test_the_first_update_is_adams_and_the_image_is_the_last_rounds() -> None:
    one, two = (optimised(SpaceTimeAttention(redness, mode="boost", rounds=r, lr=0.01)) for r in (1, 2))
    assert torch.equal(one.losses[0], two.losses[0]) and bool((one.weights == 5).all())
    assert torch.allclose((two.weights - 5).abs(), torch.tensor(0.01), atol=1e-6)  # Adam's first step is lr sign(g)
    assert not torch.equal(one.latents, two.latents)
    assert bool((two.losses[1] < two.losses[0]).all())


def test_convex_weights_stay_shares_whatever_the_rate() -> None:
    made = optimised(SpaceTimeAttention(redness, rounds=3, lr=5.0))
    assert bool(((made.weights > 0) & (made.weights < 1)).all()) and float((made.weights - 0.5).abs().max()) > 0.3


def test_one_weight_over_all_steps() -> None:
    made = optimised(SpaceTimeAttention(redness, mode="boost", over="objects", lr=0.1))
    assert bool((made.weights == made.weights[..., :1]).all()) and bool((made.weights != 5).all())


def test_gradients_through_the_last_steps_only_leave_the_earlier_weights() -> None:
    made = optimised(SpaceTimeAttention(redness, mode="boost", through=2, lr=0.1))
    assert bool((made.weights[..., :2] == 5).all()) and bool((made.weights[..., 2:] != 5).all())
    whole, all_ = (optimised(SpaceTimeAttention(redness, mode="boost", through=n, lr=0.1)) for n in (None, 4))
    assert torch.equal(whole.weights, all_.weights)


def test_the_best_round_is_kept_a_row() -> None:
    steep = {"mode": "boost", "rounds": 4, "lr": 0.1}
    last, best = (optimised(SpaceTimeAttention(redness, keep=keep, **steep), uphill=0) for keep in ("last", "best"))
    assert torch.equal(last.losses, best.losses)
    assert best.losses.argmin(0).tolist() == [0, 3]
    for row, r in ((0, 0), (1, 3)):
        again = optimised(SpaceTimeAttention(redness, **{**steep, "rounds": r + 1}), uphill=0)
        assert torch.equal(again.latents[row], best.latents[row])
        assert torch.equal(again.weights[row], best.weights[row])
    assert not torch.equal(last.latents[0], best.latents[0]) and torch.equal(last.latents[1], best.latents[1])


def test_rounds_share_the_samplers_noise() -> None:
    noise = Noise([1, 2])
    one = optimised(SpaceTimeAttention(redness, mode="boost", rounds=1), noise, DDPM())
    three = optimised(SpaceTimeAttention(redness, mode="boost", rounds=3, lr=1e-12), noise, DDPM())
    torch.testing.assert_close(one.latents, three.latents, rtol=0, atol=1e-4)


def test_the_loss_scores_the_image_and_each_crop() -> None:
    x = torch.zeros(2, 3, 8, 8)
    x[0, 0, :, :4], x[1, 2, :, 4:] = 1.0, 1.0
    left, right = Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)
    loss = faithfulness_loss(redness, x, ["red", "blue"], [["red"], ["blue", "blue"]], [[left], [right, left]], 2.0)
    wanted = [1 - 0.25 + 2 * (1 - 0.5), 1 - 0.25 + 2 * (1 - 0.5) + 2]
    torch.testing.assert_close(loss, torch.tensor(wanted), rtol=1e-5, atol=1e-5)
    edge = faithfulness_loss(redness, x, ["red", "red"], [["red"]] * 2, [[Disc(0, 0, 0.01)], [Disc(1, 1, 0.01)]], 1.0)
    assert bool(torch.isfinite(edge).all())  # a crop at a corner has a pixel


def test_a_score_of_two_encoders_can_be_descended() -> None:
    score = TextScore(lambda x: x.mean((2, 3)), lambda words: torch.eye(3)[["red green blue".split().index(w) for w in words]], "colours")  # noqa: E501  # fmt: skip
    x = torch.full((2, 3, 4, 4), 0.2, requires_grad=True)
    cosine = score.cosine(x, ["red", "blue"])
    assert torch.allclose(100 * cosine.double(), score.scores(x.detach(), ["red", "blue"]), atol=1e-4)
    (g,) = torch.autograd.grad(cosine.sum(), x)
    assert bool((g[0, 0] > 0).all()) and bool((g[1, 0] < 0).all())


def test_no_objects_is_plain_sampling_with_a_notice() -> None:
    model = MODEL
    with pytest.warns(UserWarning, match="no objects: this is plain sampling"):
        made = SpaceTimeAttention(redness)(model, CAPTION, {}, steps=4, guidance=3.0, sampler="ddim", seeds=[2])
    assert torch.equal(made.images, model.sample(CAPTION, steps=4, guidance=3.0, sampler="ddim", seeds=[2]))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"a green heart": (0.5, 0.5)}, "'a green heart' is not in the caption"),
        ([("a red heart", (0.2, 0.5)), ("a red heart", (0.8, 0.5))], "comes 1 times in the caption"),
        ([("heart", (0.2, 0.5))] * 7, "7 regions for the 4 words"),
        ({"a red heart": (1.2, 0.5)}, r"centre \(1.2, 0.5\) is outside the image"),
        ({"": (0.2, 0.5)}, "'' is not in the caption"),
        ([("a red heart", (0.2, 0.5)), ("A  Red heart", (0.8, 0.5))], "comes 1 times in the caption"),
    ],
)
def test_layouts_that_cannot_be(layout, message) -> None:
    with pytest.raises(ValueError, match=message):
        SpaceTimeAttention(redness)(MODEL, CAPTION, layout, steps=2)


def test_a_phrase_that_comes_twice_has_two_places_and_many_are_warned_of() -> None:
    pairs = placed("a cup and a cup", [("a cup", (0.2, 0.5)), ("a cup", (0.8, 0.5))])
    assert [region.x for _, region in pairs] == [0.2, 0.8]
    six = "one two three four five six"
    with pytest.warns(UserWarning, match="6 objects"):
        placed(six, [(word, (0.5, 0.5)) for word in six.split()])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scorer": None}, "give a scorer, or rounds=1"),
        ({"rounds": 0}, "rounds=0"),
        ({"lr": 0.0}, "lr=0"),
        ({"mode": "mean"}, "mode='mean'"),
        ({"over": "heads"}, "over='heads'"),
        ({"keep": "first"}, "keep='first'"),
        ({"through": 0}, "through=0"),
        ({"init": 1.5}, "init=1.5"),
        ({"template": "a photo"}, "needs one {}"),
    ],
)
def test_settings_out_of_range(unchecked, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        SpaceTimeAttention(**{"scorer": redness, **settings})


def test_models_that_do_not_suit() -> None:
    blind = Model(VDenoiser(loud(UNet(3, channels=8, blocks=1)), VP()), Identity(3), size=(8, 8))
    with pytest.raises(ValueError, match="unconditional and takes no prompt"):
        SpaceTimeAttention(redness)(blind, CAPTION, LAYOUT, steps=2)
    deaf = pixel()
    deaf.denoiser.net = loud(UNet(3, channels=8, mult=(1, 2), blocks=1, pooled=16))
    with pytest.raises(ValueError, match="no cross-attention"):
        SpaceTimeAttention(redness)(deaf, CAPTION, LAYOUT, steps=2, guidance=3.0)
    with pytest.raises(ValueError, match="needs multiples of 2"):
        SpaceTimeAttention(redness)(MODEL, CAPTION, LAYOUT, steps=2, size=(7, 8))
    with pytest.raises(ValueError, match="another w than 1"):
        SpaceTimeAttention(redness, mode="boost")(MODEL, CAPTION, LAYOUT, steps=2, guidance=1)


def test_scores_that_cannot_be_used() -> None:
    for scorer, message in (
        (lambda x, words: x.mean(), "gave .* for 1 images; expected one number each"),
        (lambda x, words: torch.zeros(len(x)), "must be differentiable"),
    ):
        with pytest.raises(ValueError, match=message):
            SpaceTimeAttention(scorer)(MODEL, CAPTION, LAYOUT, steps=2, guidance=3.0)
    with pytest.raises(FloatingPointError, match="the loss is NaN"):
        SpaceTimeAttention(lambda x, words: x.mean((1, 2, 3)) / 0)(MODEL, CAPTION, LAYOUT, steps=2, guidance=3.0)


def test_guidance_of_zero_is_the_null_half_at_its_cost() -> None:
    model, rows = pixel(), []
    run = {"steps": 3, "guidance": 0.0, "sampler": "ddim"}
    plain = model.sample(CAPTION, seeds=[0, 5], **run)
    hook = model.denoiser.net.register_forward_hook(lambda _, args, out: rows.append(len(args[0])))
    made = SpaceTimeAttention(mode="boost", rounds=1)(model, CAPTION, LAYOUT, seeds=[0, 5], **run)
    hook.remove()
    assert torch.equal(made.images, plain) and rows == [1, 1, 2, 2, 2] and made.nfe == len(rows)
    with pytest.raises(ValueError, match="in which weights have no part"):
        SpaceTimeAttention(redness)(model, CAPTION, LAYOUT, **run)


def test_weights_of_a_model_in_half_precision_still_move() -> None:
    def half(c: Condition) -> Condition:
        values, null = (
            {k: v.bfloat16() if v.is_floating_point() else v for k, v in x.items()} for x in (c, c.null_rows)
        )
        return Condition(values, null)

    model = pixel()
    c, *told = (half(model.prior(words)[1]) for words in (CAPTION, *LAYOUT))
    d = model.denoiser.bfloat16()
    x_T = Noise([0])("x_T", 0, (3, 8, 8)).bfloat16()
    made = SpaceTimeAttention(redness, mode="boost", rounds=2).optimised(
        d, x_T, DDIM(), uniform_t(d.schedule, 2), c=c, locals=told, regions=[Disc(0.2, 0.5), Disc(0.8, 0.5)], w=3.0,
        loss=lambda z: redness(z.float(), [CAPTION]),
    )  # fmt: skip
    assert made.latents.dtype == torch.bfloat16
    torch.testing.assert_close((made.weights - 2.5).abs(), torch.full((1, 2, 2), 5e-3), rtol=0, atol=1e-5)


def test_a_score_in_double_precision_stays_so() -> None:
    x = torch.full((1, 3, 4, 4), 0.3, dtype=torch.float64)
    loss = faithfulness_loss(lambda x, words: x.mean((1, 2, 3)), x, ["a"], [["a"]], [[Box(0, 0, 0.5, 1)]])
    assert loss.dtype == torch.float64 and abs(float(loss) - 6 * 0.7) < 1e-12


@pytest.mark.parametrize("place", [(0.1, 0.2, 0.6, 0.8), (0.5,), None, "ab"])
def test_a_place_that_is_neither_a_centre_nor_a_region(unchecked, place) -> None:
    with pytest.raises(ValueError, match=r"expected a centre \(x, y\), or a region"):
        placed("a cat", {"a cat": place})


def test_a_tap_of_the_run_does_not_see_the_captions_being_read() -> None:
    model = pixel()
    d, (c, *told) = model.denoiser, (model.prior(words)[1] for words in (CAPTION, *LAYOUT))
    times, x = uniform_t(d.schedule, 2), Noise([0, 1])("x_T", 0, (3, 8, 8))
    guide = SpaceTime(told, [Disc(0.2, 0.5), Disc(0.8, 0.5)], torch.full((2, 2), 0.5), times, 3.0)
    with torch.no_grad(), tap(d, "*cross") as seen:
        DDIM()(guide(d), x, grid=times, c=c.rows([0, 0]))
    assert set(seen.calls) == set(cross_sites(d)) and set(seen.calls.values()) == {2}
