"""Samplers of students: only the steps that were learned, and only the weights."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import Condition, Cosine, Flow, Gaussian, Noise, VDenoiser, WConditioned, uniform_t
from mezzotint.sample import DDIM, DistilledDDIM, DistilledStochastic, State, encode, sampler_named

NOISE = Noise([1, 2])
X = NOISE("x_T", 0, (3,))


def _student(steps: int | None = 4, schedule=None, **settings) -> WConditioned:
    return WConditioned(VDenoiser(lambda x, t, c: 0.3 * x, schedule or Cosine()), (1.0, 5.0), steps, **settings)


def _told(d: WConditioned, w=2.0) -> Condition:
    return d.told(None, w, batch=2)


def test_a_student_takes_its_steps():
    d = _student()
    got = DistilledDDIM()(d, X, steps=4, c=_told(d))
    assert torch.equal(got, DDIM()(d, X, steps=4, c=_told(d)))
    assert torch.equal(got, sampler_named("distilled")(d, X, grid=uniform_t, steps=4, c=_told(d)))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
def test_another_number_is_refused_and_told(steps):
    d = _student()
    with pytest.raises(ValueError, match="distilled to N = 4: take steps=4"):
        DistilledDDIM()(d, X, steps=steps, c=_told(d))


def test_the_last_of_its_steps_start_from_partial_noise():
    d = _student()
    last = torch.tensor([0.5, 0.25, 0.0])
    assert torch.equal(DistilledDDIM()(d, X, grid=last, c=_told(d)), DDIM()(d, X, grid=last, c=_told(d)))
    for grid in ([0.5, 0.25], [0.6, 0.3, 0.0], [1.0, 0.5, 0.0], [0.75, 0.25, 0.0]):
        with pytest.raises(ValueError, match="N = 4"):
            DistilledDDIM()(d, X, grid=torch.tensor(grid), c=_told(d))


def test_the_stochastic_sampler_takes_twice_as_many():
    d = _student(4, starts=8)
    assert DistilledStochastic()(d, X, steps=8, c=_told(d), noise=NOISE).isfinite().all()
    for steps in (4, 2, 16):
        with pytest.raises(ValueError, match="steps=8"):
            DistilledStochastic()(d, X, steps=steps, c=_told(d), noise=NOISE)
    with pytest.raises(ValueError, match="starts=8"):
        DistilledStochastic()(_student(4), X, steps=8, c=_told(d), noise=NOISE)
    # the same student is sampled without noise too
    assert DistilledDDIM()(d, X, steps=4, c=_told(d)).isfinite().all()


def test_the_stochastic_step_by_hand():
    """From t = 1 down to k and back to s, with the numbers of the formulas."""
    d, schedule = Gaussian(torch.zeros(3), std=0.5).denoiser(Flow()), Flow()
    n, noise = 4, Noise([1, 2])
    sampler = DistilledStochastic()
    x = X.double()
    plan = sampler.plan(schedule, torch.linspace(1, 0, n + 1, dtype=torch.float64))
    for k, (t, far, back) in enumerate([(1.0, 0.5, 0.75), (0.75, 0.25, 0.5), (0.5, 0.0, 0.25)]):
        x0 = d(x, torch.full((2,), t, dtype=torch.float64)).x0
        z = (1 - far) * x0 + far / t * (x - (1 - t) * x0)
        a = (1 - back) / (1 - far)
        xi = noise("step", k, (3,), dtype=torch.float64)
        expected = a * z + (back**2 - (a * far) ** 2) ** 0.5 * xi
        x = sampler.step(d, State(x), k, plan, noise=noise).x
        torch.testing.assert_close(x, expected, rtol=0, atol=1e-12)
    assert plan.rows[-1][1] == 0.0 and plan.nfe == n


def test_weights_outside_the_range_are_refused_before_any_call():
    calls = []
    d = WConditioned(VDenoiser(lambda x, t, c: calls.append(1) or x, Cosine()), (1.0, 5.0), 4)
    c = Condition({"guidance": torch.tensor([2.0, 7.0])})
    for run in (lambda: DistilledDDIM()(d, X, steps=4, c=c), lambda: encode(_student(None), X, steps=4, c=c)):
        with pytest.raises(ValueError, match=r"w=7 lies outside \[1, 5\]"):
            run()
    assert not calls


def test_encoding():
    free, coder = _student(None), _student(2, encoder=True)
    assert torch.equal(encode(free, X, steps=2, c=_told(free)), encode(coder, X, c=_told(coder)))
    told: list[int] = []
    encode(coder, X, c=_told(coder), on_step=lambda k, state: told.append(k))
    assert told == [0, 1]
    # v = 0.3 x, so a step is a turn by hand: x = alpha z - sigma v, eps = sigma z + alpha v
    z = X.double()
    for t, after in ((0.0, 0.5), (0.5, 1.0)):
        times = torch.tensor([t, after], dtype=torch.float64)
        (a, b), (s, r) = (f(times).tolist() for f in (Cosine().alpha, Cosine().sigma))
        z = b * (a * z - s * 0.3 * z) + r * (s * z + a * 0.3 * z)
    got = encode(_student(2, encoder=True), X.double(), c=_told(coder))
    torch.testing.assert_close(got, z, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: encode(_student(4), X, c=_told(_student())), "student of its own"),
        (lambda: encode(_student(4, encoder=True), X, steps=3, c=_told(_student())), "N = 4"),
        (lambda: encode(_student(None), X, c=_told(_student())), "needs steps"),
        (lambda: encode(_student(None), X[:1], steps=2, c=_told(_student())), "2 rows"),
        (lambda: DistilledDDIM()(_student(4, encoder=True), X, steps=4, c=_told(_student())), "encodes"),
    ],
)
def test_wrong_directions_and_numbers(call, words):
    with pytest.raises(ValueError, match=words):
        call()
