"""The split of a sampler's error into the solver's and the network's, where both are known."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import VP, Flow, Gaussian, GaussianMixture, Noise
from mezzotint.core.denoiser import Denoiser
from mezzotint.core.exact import probability_flow
from mezzotint.sample import DDIM, DDPM, DPMSolverPP, error_split
from mezzotint.sample.error_split import sliced_w2

MIXTURE = GaussianMixture(
    torch.tensor([[-1.0], [0.4], [1.2]]), torch.tensor([0.35, 0.5, 0.4]), torch.tensor([0.3, 0.4, 0.3])
)
NARROW = GaussianMixture(MIXTURE.means * 0.75, MIXTURE.stds * 0.75, MIXTURE.weights)
DATA = MIXTURE.sample(Noise(range(2000)))  # half of it is carried, half compared with


def rms(x: torch.Tensor) -> float:
    return float(x.square().mean().sqrt())


@pytest.fixture(scope="module")
def exact():
    d = MIXTURE.denoiser(VP())
    return error_split(d, DATA, [5], fine=100, fine_whole=300, reference=d)[0]


def test_an_exact_denoiser_has_no_approximation_error(exact):
    for part in (*exact.steps, exact.whole):
        assert part.network == 0.0
        assert part.transport < 1e-3
        assert part.approximation < 1.5 * part.floor + 1e-3  # sampling explains it


def test_the_solver_s_part_is_the_solver_s_error(exact):
    """One step with the same network, from other draws: the same mean square within their spread."""
    d, grid = MIXTURE.denoiser(VP()), torch.linspace(1, 0, 6, dtype=torch.float64)
    z = Noise([7])("z", 0, (1000, 1), dtype=torch.float64)[0]
    for k, part in enumerate((*exact.steps, exact.whole)):
        times = grid[k : k + 2] if k < 5 else grid
        start = part.start.alpha * DATA[:1000] + part.start.sigma * z
        error = rms(DDIM()(d, start, grid=times) - probability_flow(MIXTURE, VP(), start, part.start.t, part.end.t))
        assert part.discretization == pytest.approx(error, rel=0.1, abs=1e-3)
    assert exact.whole.discretization > 0.1  # five steps of DDIM are far off


def test_a_narrow_network_has_one_that_no_solver_removes():
    split = error_split(
        NARROW.denoiser(VP()), DATA, [5, 20], fine=10, fine_whole=100, reference=MIXTURE.denoiser(VP()),
        sampler=DPMSolverPP(order=2),
    )  # fmt: skip
    few, many = (s.whole for s in split)
    assert many.discretization < 0.2 * few.discretization
    assert many.approximation == few.approximation  # the same start, the same fine solution
    assert many.approximation > 1.3 * many.floor and many.excess > 0.05
    assert many.network > 0 and many.transport == pytest.approx(many.excess, rel=0.3)


def test_the_network_s_error_is_found_where_it_is():
    """eps off by 0.1 below t = 0.5 only."""

    class Off(Denoiser):
        def forward(self, x_t, t, c=None):
            p = MIXTURE.denoiser(self.schedule)(x_t, t)
            return p.with_eps(p.eps + 0.1 * (t < 0.5).to(x_t.dtype).view(-1, 1))

    (split,) = error_split(Off(VP()), DATA[:200], [4], fine=20, fine_whole=40, reference=MIXTURE.denoiser(VP()))
    assert [round(part.network, 6) for part in split.steps] == [0, 0, 0, 0.1]
    assert split.steps[0].transport < 0.01 < split.steps[-1].transport


def test_from_alpha_zero_with_a_numerical_reference():
    """A mixture over two numbers has no closed flow: the reference is solved; nothing is infinite at alpha = 0."""
    known = GaussianMixture(torch.eye(2), torch.tensor([0.3, 0.2]))
    d = known.denoiser(Flow())
    (split,) = error_split(d, known.sample(Noise(range(40))), [3], fine=10, fine_whole=20, reference=d)
    assert split.whole.start.alpha == 0 and split.whole.transport == 0.0
    text = str(split)
    assert len(text.splitlines()) == 5 and "whole" in text


def test_sliced_distance_of_a_shift_and_of_a_scale():
    z = Noise([0])("z", 0, (4000, 3), dtype=torch.float64)[0]
    shift = torch.tensor([0.3, -0.6, 0.2], dtype=torch.float64)
    assert sliced_w2(z, z + shift, 128) == pytest.approx(float(shift.norm()) / 3**0.5, rel=0.1)
    assert sliced_w2(z, 1.2 * z, 64) == pytest.approx(0.2, rel=0.03)
    assert sliced_w2(z, z.flip(0)) == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": DATA[:3]}, "3 samples"),
        ({"sampler": DDPM()}, "draws noise"),
        ({"steps": []}, "no number of steps"),
        ({"reference": MIXTURE.denoiser(Flow())}, "schedule"),
    ],
)
def test_refusals(change, message):
    arguments = {"denoiser": Gaussian(torch.zeros(1), std=1.0).denoiser(VP()), "data": DATA[:8], "steps": [2], **change}
    with pytest.raises(ValueError, match=message):
        error_split(**arguments)
