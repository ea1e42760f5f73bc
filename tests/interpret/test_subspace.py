"""Jacobians, directions and edits on every kind of denoiser: ours, guided, latent, of diffusers."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import (
    VP,
    Condition,
    Discrete,
    EpsDenoiser,
    Flow,
    Gaussian,
    LowRankMixture,
    Noise,
    VDenoiser,
    X0Denoiser,
)
from mezzotint.guide import CFG
from mezzotint.interpret import (
    Jacobian,
    LowRankDenoiser,
    SubspaceIteration,
    edit_along,
    edit_strip,
    half_point,
    intrinsic_dimension,
    jacobian_rank,
    local_directions,
    nearest,
    novelty,
    numerical_rank,
    rank_curve,
    semantic_directions,
    state_at,
    without,
)
from mezzotint.latent import AutoencoderKL
from mezzotint.nn import DiT, UNet
from mezzotint.sample import DDIM, DDPM

D = torch.float64
MIX = LowRankMixture.orthogonal(16, 3, 2, seed=0, shape=(1, 4, 4))


def adjoint_and_slope(j: Jacobian, again, rtol: float = 1e-6) -> None:
    """<J v, w> = <v, J^T w>, and J v is the central difference of `again`(x_t)."""
    b = len(j.x_t)
    v = Noise(range(b))("v", 0, (2, *j.shape), dtype=j.x_t.dtype)
    w = Noise(range(b))("w", 0, (2, *j.output_shape), dtype=j.x_t.dtype)
    jv, jw = j.times(v), j.transposed(w)
    left, right = (jv * w).flatten(2).sum(2), (v * jw).flatten(2).sum(2)
    assert torch.allclose(left, right, rtol=1e-8, atol=1e-10)
    with torch.no_grad():
        slope = (again(j.x_t + 1e-5 * v[:, 1]) - again(j.x_t - 1e-5 * v[:, 1])) / 2e-5
    assert float((jv[:, 1] - slope).norm() / slope.norm()) < rtol
    assert float(slope.abs().max()) > 1e-3  # it says something


@pytest.mark.parametrize("name", ["unet", "dit"])
def test_products_are_the_derivative_of_our_backbones(name, alive):
    """Attention, norms and convolutions, in forward and in backward mode; also with checkpointing."""
    if name == "unet":
        net = UNet(3, channels=8, mult=(1, 2), blocks=1, attention=(2,), head_dim=8)
    else:
        net = DiT(3, patch=2, width=16, depth=2, heads=2)
    d = EpsDenoiser(alive(net).eval(), VP())
    x = Noise([0, 1])("x", 0, (3, 8, 8), dtype=D)
    t = torch.full((2,), 0.6, dtype=D)
    adjoint_and_slope(Jacobian(d, x, 0.6), lambda x: d(x, t).x0)
    assert all(p.grad is None for p in d.parameters())


def test_guided_and_masked():
    """The Jacobian of guidance is the guided Jacobian; a mask keeps its rows."""
    d = MIX.denoiser(VP())
    x, t = Noise(range(2))("x", 0, (1, 4, 4), dtype=D), 0.5
    told = Condition({"label": torch.tensor([0, 1])}, {"label": torch.tensor([2])})
    null, one, guided = (Jacobian(*pair).dense() for pair in ((d, x, t), (d, x, t, told), (CFG(3.0)(d), x, t, told)))
    assert torch.allclose(guided, null + 3 * (one - null), atol=1e-12)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[:2] = True
    j = Jacobian(d, x, t, mask=mask)
    assert torch.allclose(j.dense(), null * mask.flatten()[:, None], atol=1e-14)
    w = Noise(range(2))("w", 0, (3, 1, 4, 4), dtype=D)
    expected = torch.einsum("bmn,brm->brn", null, (w * mask).flatten(2)).reshape(w.shape)
    assert torch.allclose(j.transposed(w), expected, atol=1e-12)


def test_latents_seen_in_pixels(alive):
    """Through a decoder the output, and the mask, are the picture's; the direction is the latent's."""
    coder = alive(AutoencoderKL(channels=8, mult=(1, 2), latent=2, attention=True)).eval()
    d = VDenoiser(alive(UNet(2, channels=8, mult=(1,), blocks=1, attention=(), head_dim=8)).eval(), VP())
    z = Noise([0])("x", 0, (2, 4, 4), dtype=D)
    t = torch.full((1,), 0.5, dtype=D)
    side = 4 * coder.spec.factor
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[:, : side // 2] = True
    j = Jacobian(d, z, 0.5, mask=mask, output=coder.decode)
    assert j.output_shape == (3, side, side)
    adjoint_and_slope(j, lambda x: coder.decode(d(x, t).x0) * mask)
    found = semantic_directions(d, z, 0.5, 2, mask=mask, output=coder.decode)
    assert found.vectors.shape == (1, 2, 2, 4, 4)
    s = torch.linalg.svdvals(j.dense())[:, :2]
    assert torch.allclose(found.values, s, rtol=1e-3)
    with pytest.raises(ValueError, match="output=autoencoder.decode"):
        Jacobian(d, z, 0.5, mask=mask)


@pytest.mark.parametrize("family", ["ddpm", "sd", "sdxl"])
def test_networks_of_diffusers(family, alive):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (extra [diffusers])")
    from mezzotint.io.diffusers.autoencoder import DiffusersKL
    from mezzotint.io.diffusers.denoiser import denoiser_of
    from mezzotint.io.diffusers.sdxl import _Net as _XL
    from mezzotint.io.diffusers.stable_diffusion import ConditionalUNet
    from mezzotint.io.diffusers.unet2d import _Net

    shared = {"block_out_channels": (4, 8), "layers_per_block": 1, "sample_size": 8, "norm_num_groups": 2}
    cross = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
             "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "attention_head_dim": 2}  # fmt: skip
    c, channels = Condition({"text": Noise([0, 1])("text", 0, (5, 8), dtype=D)}), 4
    if family == "ddpm":
        net = _Net(diffusers.UNet2DModel(down_block_types=("DownBlock2D", "AttnDownBlock2D"), attention_head_dim=4,
                                         up_block_types=("AttnUpBlock2D", "UpBlock2D"), **shared), 3)  # fmt: skip
        c, channels = None, 3
    elif family == "sd":
        net = ConditionalUNet(diffusers.UNet2DConditionModel(cross_attention_dim=8, **shared, **cross), 4)
    else:
        more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4,
                "projection_class_embeddings_input_dim": 32, "transformer_layers_per_block": (1, 2),
                "use_linear_projection": True, "cross_attention_dim": 8}  # fmt: skip
        net = _XL(diffusers.UNet2DConditionModel(**more, **shared, **cross), 4, 2)
        c = c.updated({"pooled": Noise([0, 1])("pooled", 0, (8,), dtype=D)})
    d = denoiser_of(alive(net).eval(), Discrete(torch.linspace(1e-4, 0.02, 1000, dtype=D)), "eps")
    x, t = Noise([0, 1])("x", 0, (channels, 8, 8), dtype=D), torch.full((2,), 0.6, dtype=D)
    adjoint_and_slope(Jacobian(d, x, 0.6, c), lambda x: d(x, t, c).x0)
    if family == "sd":  # guided, in latents, seen through the decoder
        coder = DiffusersKL(alive(diffusers.AutoencoderKL(
            block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=2,
            up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16,
        ))).double().eval()  # fmt: skip
        c = Condition(dict(c), {"text": torch.zeros(1, 5, 8, dtype=D)})
        guided = CFG(3.0)(d)

        def decode(z):  # in float64; the autoencoder's own decode gives float32
            return coder.module.decode(z * coder.latent_std + coder.latent_mean, return_dict=False)[0]

        j = Jacobian(guided, x, 0.6, c, output=decode)
        adjoint_and_slope(j, lambda x: decode(guided(x, t, c).x0))
        v = Noise([0, 1])("v", 0, (1, 4, 8, 8), dtype=D)
        seen = Jacobian(guided, x, 0.6, c, output=coder.decode).times(v)
        assert float((seen - j.times(v)).norm() / seen.norm()) < 1e-5
        few = SubspaceIteration(extra=0, least=2, most=2)
        found = semantic_directions(guided, x, 0.6, 1, c=c, settings=few)
        with torch.no_grad():
            edited = edit_strip(guided, x, 0.6, found.vectors[:, 0], [0, 2], c=c, steps=2)
        assert float((edited[1] - edited[0]).norm()) > 1e-3


def test_a_sample_comes_out_as_it_would_alone():
    """Other rows, other sizes of the network's batch, other states of convergence."""
    d = LowRankDenoiser(MIX.bases, VP())
    x = Noise(range(3))("x", 0, (1, 4, 4), dtype=D)
    noise = Noise([4, 5, 6])
    together = semantic_directions(d, x, 0.4, 2, noise=noise)
    for i in range(3):
        alone = semantic_directions(d, x[i : i + 1], 0.4, 2, noise=noise.rows([i]), rows=3)
        assert torch.allclose(alone.vectors[0], together.vectors[i], atol=1e-9)
        assert torch.allclose(alone.values[0], together.values[i], atol=1e-12)


def test_rank_without_the_matrix_is_the_rank_with_it(monkeypatch):
    """Eleven equal values and a tail whose power decides: 8 values do not do, 16 do."""
    s = torch.cat([torch.ones(11, dtype=D), torch.full((29,), 0.1, dtype=D)])
    q = torch.linalg.qr(Noise([0])("q", 0, (40, 40), dtype=D)[0])[0]
    d = X0Denoiser(lambda x, t, c: x @ (q * s) @ q.T, VP())
    x = Noise(range(2))("x", 0, (40,), dtype=D)
    # 11 of 11.29: sqrt(0.974) = 0.987; with seven of the tail sqrt(11.07 / 11.29) = 0.990
    dense = jacobian_rank(Jacobian(d, x, 0.9))
    monkeypatch.setattr("mezzotint.interpret.subspace_rank.DENSE_LIMIT", 4)
    j = Jacobian(d, x, 0.9)
    got = jacobian_rank(j)
    assert dense.tolist() == [18, 18] and float((got - dense).abs().max()) <= 4  # 16 probes know a tail to a tenth
    assert jacobian_rank(j, 0.98).tolist() == [11, 11]
    assert jacobian_rank(j, most=8).tolist() == [9, 9]  # "more than 8"
    monkeypatch.setattr("mezzotint.interpret.subspace_jacobian.DENSE_LIMIT", 4)
    with pytest.raises(ValueError, match="40 elements"):
        j.dense()


def test_numerical_rank_by_hand():
    values = torch.tensor([[3.0, 1.0, 0.1], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert numerical_rank(values).tolist() == [2, 1, 0]  # sqrt(9 / 10.01) = 0.948, sqrt(10 / 10.01) = 0.9995
    assert numerical_rank(values, 0.9).tolist() == [1, 1, 0]
    assert numerical_rank(values, power=torch.tensor([20.0, 1.0, 1.0])).tolist() == [4, 1, 4]


def test_ranks_along_a_run_and_the_dimension_of_what_comes_out():
    """At the end each sample sees its own subspace, at the start all of them."""
    d = MIX.denoiser(VP())
    curve = rank_curve(d, Noise(range(4))("x_T", 0, (1, 4, 4), dtype=D), steps=30)
    assert curve.times.shape == (30,) and curve.ranks.shape == (30, 4)
    assert curve.ranks[0].tolist() == [6] * 4 and curve.ranks[-1].tolist() == [3] * 4
    assert curve.lowest()[1] == 3.0
    data = MIX.sample(Noise(range(600)))
    told = intrinsic_dimension(d, data, Noise(range(8)), 0.03)
    assert told.jacobian == pytest.approx(3, abs=0.5) and told.neighbours == pytest.approx(3, abs=0.4)


def test_local_directions_leave_the_outside_alone():
    """A Gaussian whose left and right halves share one of three directions: what is local is found."""
    n = 16
    cov = torch.zeros(n, n, dtype=D)
    left, right, both = (torch.zeros(n, dtype=D) for _ in range(3))
    left[:4], right[12:], both[4:12] = 0.5, 0.5, 8**-0.5
    for v, s in ((both, 3.0), (left, 2.5), (right, 2.5)):
        cov += s**2 * torch.outer(v, v)
    d = Gaussian(torch.zeros(n), cov=cov + 1e-4 * torch.eye(n, dtype=D)).denoiser(VP())
    mask = torch.arange(n) < 8
    x = Noise([0])("x", 0, (n,), dtype=D)
    whole = semantic_directions(d, x, 0.5, 1).vectors[0, 0]
    assert float((whole @ both).abs()) > 0.999
    inside = semantic_directions(d, x, 0.5, 1, mask=mask)
    local = local_directions(d, x, 0.5, mask, rank=1, removed=2)
    assert float(local.vectors.norm()) == pytest.approx(1)
    spill = []
    for v in (inside.vectors, local.vectors):
        change = Jacobian(d, x, 0.5).times(v)[0, 0]
        spill.append(float(change[8:].norm() / change[:8].norm()))
    assert spill[1] < 1e-2 and spill[1] < 0.1 * spill[0]
    assert float((local.vectors[0, 0] @ left).abs()) > 0.999
    with pytest.raises(ValueError, match="lies within"):
        local_directions(d, x, 0.5, mask, rank=2, removed=2)
    with pytest.raises(ValueError, match="lies within"):
        without(local.vectors, local.vectors)


def test_an_edit_moves_along_its_direction_and_no_other():
    """On one subspace DDIM is linear: an edit along a basis vector changes that coordinate, by what the flow says."""
    one = LowRankMixture.orthogonal(8, 3, 1)
    d, x = one.denoiser(VP()), Noise(range(2))("x", 0, (8,), dtype=D)
    strip = edit_strip(d, x, 0.6, one.bases[0, :, :1].T, [-1, 0, 2], steps=40)
    plain = DDIM()(d, x, grid=torch.linspace(0.6, 0, 41, dtype=D))
    assert torch.allclose(strip[1], plain, atol=1e-12)
    moved = (strip[2] - strip[1]) @ one.bases[0]
    assert torch.allclose(moved[:, 1:], torch.zeros(2, 2, dtype=D), atol=1e-12)
    level = x.norm(dim=1) / 8**0.5
    assert torch.allclose(moved[:, 0], 2 * level, rtol=0.05)  # the flow of VP keeps coordinates of variance 1
    assert torch.allclose(strip[0] - strip[1], -0.5 * (strip[2] - strip[1]), atol=1e-12)
    assert torch.equal(edit_along(d, x, 0.6, one.bases[0, :, :1].T, 2.0, steps=40), strip[2])
    off = torch.linalg.qr(torch.cat([one.bases[0], torch.randn(8, 5, dtype=D)], 1))[0][:, -1]
    assert float((edit_along(d, x, 0.6, off[None], 2.0, steps=40) - plain).abs().max()) < 1e-12


def test_leading_directions_move_and_random_ones_do_not():
    d, x = MIX.denoiser(VP()), 2 * MIX.sample(Noise(range(4)))
    found = semantic_directions(d, x, 0.3, 1)
    random = Noise(range(4))("random", 0, (1, 4, 4), dtype=D)
    random = random / random.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    moves = []
    for v in (found.vectors[:, 0], random):
        strip = edit_strip(d, x, 0.3, v, [0, 1.0], steps=5)
        moves.append(float((strip[1] - strip[0]).flatten(1).norm(dim=1).mean()))
    assert moves[0] > 1.5 * moves[1]


def test_state_of_an_image_gives_the_image_back():
    known = Gaussian(torch.zeros(50), std=0.3)
    d, x0 = known.denoiser(VP()), known.sample(Noise(range(2)))
    x_t = state_at(d, x0, 0.7, steps=200)
    same = edit_along(d, x_t, 0.7, torch.zeros(1, 50, dtype=D), 3.0, steps=200)
    assert float((same - x0).abs().max()) < 0.03
    assert float(x_t.std()) == pytest.approx(float(x0.std()) / 0.3, rel=0.05)  # the noise of this very picture


def test_noise_of_a_sampler_that_draws_is_the_same_along_a_strip():
    d, x = MIX.denoiser(VP()), Noise(range(2))("x", 0, (1, 4, 4), dtype=D)
    zero = torch.zeros_like(x)
    strip = edit_strip(d, x, 0.5, zero, [-1, 1], steps=4, sampler=DDPM(), noise=Noise([3, 4]))
    assert torch.equal(strip[0], strip[1])
    assert not torch.equal(strip[0], edit_along(d, x, 0.5, zero, 1.0, steps=4, sampler=DDPM(), noise=Noise([5, 6])))


def test_copies_are_told_from_new_samples():
    mix = LowRankMixture.orthogonal(12, 3, 2, seed=1)
    train, fresh = mix.sample(Noise(range(100))), mix.sample(Noise(range(1000, 1200)))
    assert novelty(train[:40] + 1e-3, train, fresh) == 0.0
    assert novelty(mix.sample(Noise(range(2000, 2100))), train, fresh) > 0.85
    assert nearest(train[:5], train).tolist() == pytest.approx([0.0] * 5, abs=1e-6)


def test_half_points_and_their_intervals():
    x = [4, 8, 16, 32, 64]
    curve = [1 / (1 + math.exp(-1.5 * (math.log2(r) - math.log2(20)))) for r in x]
    told = half_point(x, curve)
    assert told.point == pytest.approx(20, rel=0.01) and told.slope == pytest.approx(1.5, rel=0.02)
    noisy = half_point(x, [0.05, 0.1, 0.45, 0.65, 0.99])
    assert noisy.interval[0] < noisy.point < noisy.interval[1]
    assert all(math.isnan(v) for v in half_point([2, 4], [0, 1]).interval)
    assert told.bracketed and not half_point(x, [0.9, 1, 1, 1, 1]).bracketed and not half_point(x, [0.0] * 5).bracketed


class _NoForward(torch.autograd.Function):
    """An operation with a backward and no forward mode, as fused kernels are."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()


def test_networks_without_forward_mode_take_double_backward():
    d = X0Denoiser(lambda x, t, c: _NoForward.apply(x), Flow())
    x = Noise([0])("x", 0, (5,), dtype=D)
    j = Jacobian(d, x, 0.5)
    assert torch.allclose(j.dense()[0], torch.diag(x[0].cos()), atol=1e-14)


def test_channels_last_weights_keep_forward_mode(alive):
    """As training leaves them; the net itself stays as it is."""
    net = alive(UNet(3, channels=8, mult=(1,), blocks=1, attention=(), head_dim=8)).eval()
    d, x = VDenoiser(net, VP()), Noise([0])("x", 0, (3, 8, 8), dtype=D)
    v = Noise([1])("v", 0, (2, 3, 8, 8), dtype=D)
    plain = Jacobian(d, x, 0.5).times(v[None, 0])
    net.to(memory_format=torch.channels_last)
    j = Jacobian(d, x, 0.5)
    assert torch.allclose(j.times(v[None, 0]), plain, atol=1e-10) and j._forward_mode
    assert not all(p.is_contiguous() for p in net.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d, x: Jacobian(d, x, 0.0), "0 < t <= 1"),
        (lambda d, x: Jacobian(d, x.half(), 0.5), "float32 or float64"),
        (lambda d, x: Jacobian(d, x, 0.5, mask=torch.zeros(4, 4, dtype=torch.bool)), "mask is empty"),
        (lambda d, x: Jacobian(d, x, 0.5, mask=torch.ones(3, 4)), "does not spread"),
        (lambda d, x: Jacobian(d, x, 0.5, Condition({"label": torch.zeros(5).long()})), "5 rows but x_t has 2"),
        (lambda d, x: Jacobian(d, x, 0.5).times(x), "expected .2, r"),
        (lambda d, x: semantic_directions(d, x, 0.5, 17), "1 to 16"),
        (lambda d, x: semantic_directions(d, x, 0.5, noise=Noise([0])), "1 seeds for 2 samples"),
        (lambda d, x: SubspaceIteration(least=5, most=2), "least <= most"),
        (lambda d, x: local_directions(d, x, 0.5, torch.ones(4, 4)), "torch.bool"),
        (lambda d, x: local_directions(d, x, 0.5, torch.ones(4, 4).bool()), "mask is everything"),
        (lambda d, x: edit_along(d, x, 1.5, x, 1.0), "0 < t <= 1"),
        (lambda d, x: edit_along(d, x, 0.5, x, math.nan), "finite"),
        (lambda d, x: edit_along(d, x, 0.5, x[:, :, :2], 1.0), "directions have shape"),
        (lambda d, x: edit_along(d, x, 0.5, x, 1.0, steps=0), "steps=0"),
        (lambda d, x: state_at(d, x, 0.5, sampler=DDPM()), "draws noise"),
        (lambda d, x: intrinsic_dimension(d, x, Noise(range(3))), "3 seeds for 2 samples"),
        (lambda d, x: numerical_rank(torch.ones(1, 2), 1.5), "share=1.5"),
        (lambda d, x: novelty(x, x, x, 0.0), "factor=0.0"),
        (lambda d, x: half_point([1, 2], [0.5]), "2 ratios, 1 shares"),
    ],
)
def test_bad_input_is_named(make, message, unchecked):
    x = torch.zeros(2, 1, 4, 4, dtype=D)
    with pytest.raises(ValueError, match=message):
        make(MIX.denoiser(VP()), x)


def test_networks_that_cannot_be_differentiated_are_named(unchecked):
    x = torch.zeros(1, 4)
    half = X0Denoiser(torch.nn.Linear(4, 4).half(), Flow())
    with pytest.raises(ValueError, match=r"convert with .float"):
        Jacobian(half, x, 0.5)
    drops = torch.nn.Sequential(torch.nn.Dropout(0.5))
    with pytest.raises(ValueError, match=r"call .eval"):
        Jacobian(X0Denoiser(drops, Flow()), x, 0.5)
    with pytest.raises(RuntimeError, match="no gradient reaches"):
        Jacobian(X0Denoiser(lambda x, t, c: x.detach(), Flow()), x, 0.5).transposed(x[:, None])
    bad = Gaussian(torch.zeros(4), std=1.0).denoiser(VP())
    with pytest.raises(FloatingPointError, match="not finite"):
        semantic_directions(bad, x * math.nan, 0.5, 1)
