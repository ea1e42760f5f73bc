"""DPM-Encoder against the sheet of 2210.05559, section 6: exact Gaussians, and networks of random weights.

As the residual makes any encoding reconstruct, the noises themselves are checked too: the trajectory they make, how
little is left for the residual, and their moments.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import VE, VP, Cosine, Denoiser, Discrete, EpsDenoiser, Flow, Gaussian, Noise, Schedule, X0Denoiser
from mezzotint.sample import DDIM, DDPM, Sampler, SDEDPMSolverPP, dpm_decode, dpm_encode, encoded_steps, nodes_of

F64 = torch.float64
MANY = 20000
SAMPLERS: dict[str, Sampler] = {
    "ddpm": DDPM(),
    "ddim 0.1": DDIM(0.1),
    "ddim 0.5": DDIM(0.5),
    "ddim 1": DDIM(1.0),
    "sde-1": SDEDPMSolverPP(1),
    "sde-2": SDEDPMSolverPP(2),
    "sde-3": SDEDPMSolverPP(3),
    "sde-2, half": SDEDPMSolverPP(2, eta=0.5),
}
SCHEDULES = {"vp": VP(), "cosine": Cosine(), "ve": VE(), "flow": Flow()}


class Rough(nn.Module):
    """No denoiser at all: wild, and of any input."""

    def forward(self, x: Tensor, time: Tensor, c: object = None) -> Tensor:
        return torch.sin(4 * x) + 0.7 * x.flip(-1)


def exact(mean: float, std: float, size: int = MANY, schedule: Schedule | None = None) -> Denoiser:
    return Gaussian(torch.full((size,), mean, dtype=F64), std=std).denoiser(schedule or VP())


def published(steps: int) -> tuple[Discrete, Tensor]:
    """The sheet's numbers are those of DDPM's table of betas, entries 1000 k / steps counted from 0."""
    entries = torch.linspace(1000, 0, steps + 1, dtype=F64).clamp(max=999)
    return Discrete.linear(1000), torch.where(entries > 0, (entries + 1) / 1000, 0.0)


def batch(count: int = 1, size: int = MANY, mean: float = 0.0, std: float = 0.5) -> tuple[Tensor, Noise]:
    """Draws of one number each: `size` of them a seed, which is quicker than as many seeds."""
    noise = Noise(range(count))
    return mean + std * noise("x", 0, (size,), dtype=F64), noise


# check 1: any network, also a random one; to the rounding of r = x0 - x and of x + r, half a unit each
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_round_trip(name, schedule):
    for dtype, most in ((F64, 1e-10), (torch.float32, 1e-4)):
        d = X0Denoiser(Rough(), SCHEDULES[schedule])
        x = Noise([3, 4, 5])("x", 0, (4,), dtype=dtype)
        for steps in (1, 2, 10, 25):
            code = dpm_encode(SAMPLERS[name], d, x, noise=Noise([3, 4, 5]), steps=steps)
            again = dpm_decode(SAMPLERS[name], d, code)
            assert again.dtype == dtype == code.eps.dtype
            largest = max(float(x.abs().max()), float(code.residual.abs().max()))
            assert float((again - x).abs().max()) <= min(most, torch.finfo(dtype).eps * largest)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_noises_make_the_trajectory_and_leave_the_last_step_alone_to_the_residual(name):
    """Without the residual: the states are draws of q(x_t | x0), and what is missing at the end is x0 - D(x_1)."""
    sampler, d, (x, noise) = SAMPLERS[name], X0Denoiser(Rough(), VP()), batch(3, 4)
    code = dpm_encode(sampler, d, x, noise=noise, steps=12)
    states = [state.x for state in sampler.trajectory(d, code.x_T, grid=code.times, noise=code.noise())]
    steps = list(encoded_steps(sampler, d, x, noise=noise, steps=12))
    assert [s.k for s in steps] == list(range(12))
    for state, made in zip(states, steps, strict=True):
        assert torch.equal(state, made.after.x)
    last = steps[-1].before.x
    seen = d(last, code.times[-2:-1].expand(3).to(F64)).x0
    if name in ("ddpm", "ddim 0.1", "ddim 0.5", "ddim 1", "sde-1"):
        assert torch.allclose(code.residual, x - seen, atol=1e-12, rtol=0)
    assert not code.eps[-1].any() and code.eps[:-1].abs().amin() > 0


def test_the_trajectory_is_a_draw_of_noised_data():
    x, noise = batch()
    d = exact(0.0, 0.5)
    for sampler in (DDIM(0.5), SDEDPMSolverPP(2)):
        made = list(encoded_steps(sampler, d, x, noise=noise, steps=10))
        nodes = nodes_of(VP(), torch.linspace(1, 0, 11, dtype=F64))
        for k in (0, 4, 8):
            node = nodes[k + 1]
            z = (made[k].after.x - node.alpha * x) / node.sigma
            assert abs(float(z.mean())) < 0.03 and abs(float(z.std()) - 1) < 0.02
            assert abs(float((z * x).mean())) < 0.02  # independent of the data


def test_where_the_last_step_draws_the_residual_is_rounding():
    x, noise = batch(5, 4)
    grid = torch.linspace(1.0, 0.05, 9, dtype=F64)
    for sampler in SAMPLERS.values():
        code = dpm_encode(sampler, X0Denoiser(Rough(), VP()), x, noise=noise, grid=grid)
        assert code.residual.abs().max() < 1e-13 and code.eps[-1].abs().amin() > 0
        assert torch.allclose(dpm_decode(sampler, X0Denoiser(Rough(), VP()), code), x, atol=1e-14, rtol=0)


# check 2; Sheet: 0.0466 at n = 100, 0.283 at n = 10, both within 1 %
@pytest.mark.parametrize(("steps", "sheet"), [(100, 0.0466), (10, 0.283)])
def test_what_the_published_last_step_costs(steps, sheet):
    x, noise = batch()
    schedule, grid = published(steps)
    d = exact(0.0, 0.5, schedule=schedule)
    code = dpm_encode(DDIM(1.0), d, x, noise=noise, grid=grid, final="denoise")
    rms = float((dpm_decode(DDIM(1.0), d, code) - x).square().mean().sqrt())
    node = nodes_of(schedule, grid[-2:])[0]
    wanted = math.sqrt(0.25 * node.sigma**2 / (node.alpha**2 * 0.25 + node.sigma**2))
    assert abs(rms / wanted - 1) < 0.02 and abs(wanted / sheet - 1) < 0.01
    assert not code.residual.any()


# check 3; n = 50, eta = 0.5: 1.008 at step 25 and 2.75 at step 3, counted from the data
@pytest.mark.parametrize(("step", "sheet"), [(25, 1.008), (3, 2.75)])
def test_encoded_noise_is_wider_than_normal_where_data_is(step, sheet):
    x, noise = batch()
    schedule, grid = published(50)
    code = dpm_encode(DDIM(0.5), exact(0.0, 0.5, schedule=schedule), x, noise=noise, grid=grid)
    t, s = nodes_of(schedule, grid[[50 - step, 51 - step]])
    sig = 0.5 * s.sigma / t.sigma * math.sqrt(1 - (t.alpha / s.alpha) ** 2)
    c = math.sqrt(s.sigma**2 - sig**2)
    left = 0.25 * t.sigma**2 / (t.alpha**2 * 0.25 + t.sigma**2)
    wanted = 1 + (s.alpha - c * t.alpha / t.sigma) ** 2 * left / sig**2
    eps = code.eps[50 - step]
    assert abs(wanted / sheet - 1) < 0.01
    assert abs(float(eps.var()) / wanted - 1) < 0.03 and abs(float(eps.mean())) < 0.04


# check 4
def test_the_seed_changes_the_code_and_not_the_reconstruction():
    x, _ = batch(4, 4)
    d = X0Denoiser(Rough(), VP())
    codes = [dpm_encode(DDIM(0.3), d, x, noise=Noise([s + i for i in range(4)]), steps=8) for s in (0, 100)]
    assert (codes[0].x_T - codes[1].x_T).abs().min() > 1e-6 and (codes[0].eps - codes[1].eps)[:-1].abs().amax() > 0.1
    for code in codes:
        assert torch.allclose(dpm_decode(DDIM(0.3), d, code), x, atol=1e-13, rtol=0)


# check 5: N(-2, 0.25) to N(3, 1), n = 100, eta = 1
def test_two_gaussians_share_a_code():
    x, noise = batch(mean=-2.0)
    code = dpm_encode(DDIM(1.0), exact(-2.0, 0.5), x, noise=noise, steps=100)
    y = dpm_decode(DDIM(1.0), exact(3.0, 1.0), code)
    assert abs(float(y.mean()) - 3.00) < 0.03 and abs(float(y.var()) - 0.97) < 0.04
    assert abs(float(torch.corrcoef(torch.cat([x, y]))[0, 1]) - 0.92) < 0.01
    apart = DDIM(1.0)(exact(3.0, 1.0), noise("x_T", 0, (MANY,), dtype=F64), grid=code.times, noise=noise)
    assert abs(float(torch.corrcoef(torch.cat([x, apart]))[0, 1])) < 0.03  # the same seeds, drawn apart


# check 9: advancing both runs together is encoding and then decoding
@pytest.mark.parametrize("name", ["ddim 0.1", "sde-2"])
def test_lock_step_is_two_passes(name):
    sampler, (x, noise) = SAMPLERS[name], batch(3, 2, mean=-2.0)
    a, b = exact(-2.0, 0.5, 2), exact(3.0, 1.0, 2)
    code = dpm_encode(sampler, a, x, noise=noise, steps=20, skip=6)
    wanted = dpm_decode(sampler, b, code)
    from mezzotint.sample.noise_code import Replayed

    plan, state, source = sampler.plan(VP(), code.times), None, None
    for step in encoded_steps(sampler, a, x, noise=noise, steps=20, skip=6):
        state = step.before if state is None else state
        state = sampler.step(b, state, step.k, plan, None, Replayed(noise.seeds, {step.k: step.eps}))
        source = step.after
    assert state is not None and source is not None
    assert torch.allclose(state.x + (x - source.x), wanted, atol=1e-10, rtol=0)
    assert code.steps == 14 and float(code.times[0]) == pytest.approx(0.7)


# check 10
def test_flipped_data_with_flipped_draws_gives_the_flipped_code():
    class Flipped(Noise):
        def __call__(self, *args, **options):
            return super().__call__(*args, **options).flip(-1)

    d = X0Denoiser(Rough(), VP())  # commutes with a flip
    x = Noise([1, 2])("x", 0, (6,), dtype=F64)
    code = dpm_encode(DDIM(0.4), d, x, noise=Noise([1, 2]), steps=9)
    from mezzotint.sample import dpm_encoder

    class Apart(dpm_encoder._Apart):
        def __call__(self, *args, **options):
            return super().__call__(*args, **options).flip(-1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dpm_encoder, "_Apart", Apart)
        mirrored = dpm_encode(DDIM(0.4), d, x.flip(-1), noise=Noise([1, 2]), steps=9)
    assert torch.allclose(mirrored.eps, code.eps.flip(-1), atol=1e-9, rtol=1e-9)
    assert torch.allclose(dpm_decode(DDIM(0.4), d, mirrored), x.flip(-1), atol=1e-13, rtol=0)


# check 7: eta -> 0 with the same x_T is DDIM
def test_little_eta_with_the_noises_set_to_zero_is_ddim():
    x, noise = batch(2, 4)
    d = exact(0.0, 0.5, 4)
    code = dpm_encode(DDIM(1e-8), d, x, noise=noise, steps=20)
    still = code.edited(eps=torch.zeros_like(code.eps), residual=torch.zeros_like(x))
    assert torch.allclose(dpm_decode(DDIM(1e-8), d, still), DDIM()(d, code.x_T, steps=20), atol=1e-6, rtol=0)


# check 8
def test_rows_of_replayed_noises_are_replayed():
    from mezzotint.sample.noise_code import Replayed

    eps = torch.arange(6.0).reshape(3, 2)
    replayed = Replayed([7, 8, 9], {4: eps})
    for index in (slice(1, None), [2, 0]):
        assert torch.equal(replayed.rows(index)("step", 4, (2,)), eps[index])


def test_evaluations_are_counted():
    seen = []

    class Counted(Rough):
        def forward(self, x: Tensor, time: Tensor, c: object = None) -> Tensor:
            seen.append(len(x))
            return super().forward(x, time, c)

    d, (x, noise) = EpsDenoiser(Counted(), VP()), batch(2, 4)
    for sampler in SAMPLERS.values():
        code = dpm_encode(sampler, d, x, noise=noise, steps=7)
        assert len(seen) == 7
        seen.clear()
        dpm_decode(sampler, d, code)
        assert len(seen) == 7
        seen.clear()
