"""Our solvers against the same solvers of other libraries, on the same steps of a flow that is known."""

from __future__ import annotations

import pytest
import torch

from mezzotint.bench.ours import solved
from mezzotint.bench.peers import load_peer
from mezzotint.bench.problem import Problem, known_mixture, levels
from mezzotint.bench.theirs import THEIRS, PeerSolver
from mezzotint.sample import DPMSolverPP

pytestmark = pytest.mark.peers
EQUAL = [solver for solver in THEIRS if solver.equals]


@pytest.fixture(scope="module")
def problem() -> Problem:
    return known_mixture(64)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("steps", [12, 25])
@pytest.mark.parametrize("solver", EQUAL, ids=lambda solver: f"{solver.library} {solver.solver}".replace(" ", "-"))
def test_same_numbers(solver: PeerSolver, steps: int, problem: Problem) -> None:
    """1e-5 at values around 1: diffusers keeps its state in float32."""
    load_peer(solver.library, missing=pytest.skip)
    theirs = solver.solve(problem, levels(problem, steps))
    torch.testing.assert_close(theirs.double(), solved(solver.equals, problem, steps), atol=1e-5, rtol=0)


def test_azulas_third_order_is_ours_with_the_taylor_form_of_the_second_step_and_a_plain_start(problem: Problem) -> None:
    load_peer("azula", missing=pytest.skip)
    (theirs,) = (s for s in THEIRS if s.solver == "xEAB 3")
    ours = solved(DPMSolverPP(order=3, form="taylor", start="plain"), problem, 12)
    torch.testing.assert_close(theirs.solve(problem, levels(problem, 12)), ours, atol=1e-8, rtol=0)
