"""The comparison of solvers: the truth it stands on, what it counts, and what it says when peers are missing."""

from __future__ import annotations

import json
import math

import pytest
import torch

from mezzotint.bench.accuracy import Measured, measure, report, slopes
from mezzotint.bench.ours import OURS, deterministic, solved, steps_within
from mezzotint.bench.peers import Peer
from mezzotint.bench.problem import known_mixture, levels, of_denoiser
from mezzotint.core import Flow, Gaussian, Noise


def test_the_known_truth_is_what_solvers_converge_to() -> None:
    problem = known_mixture(16)
    assert problem.error(solved("dpmpp-3m", problem, 640)) < 2e-7
    assert problem.error(torch.full_like(problem.start, math.nan)) == math.inf


def test_a_denoisers_own_truth_agrees_with_the_exact_flow() -> None:
    """On N(0, 1) the flow of y from s to r is y sqrt((1 + r^2) / (1 + s^2)), whatever the schedule."""
    denoiser = Gaussian(torch.zeros(3), std=1.0).denoiser(Flow())
    problem = of_denoiser(denoiser, Noise(range(8)), (3,), None, "gaussian", steps=400)
    exact = problem.start * math.sqrt((1 + problem.low**2) / (1 + problem.high**2))
    assert problem.high == pytest.approx(80)
    assert float((problem.truth - exact).abs().max()) < 1e-4


def test_levels_are_uniform_in_the_logarithm() -> None:
    problem = known_mixture(1)
    nodes = levels(problem, 7)
    ratios = [b / a for a, b in zip(nodes, nodes[1:])]
    assert nodes[0] == problem.high and nodes[-1] == problem.low
    assert max(ratios) / min(ratios) == pytest.approx(1, abs=1e-12)


def test_every_solver_is_given_the_evaluations_it_says() -> None:
    problem = known_mixture(1)
    assert steps_within("heun", problem, 10) == 5 and steps_within("heun", problem, 5) is None
    assert steps_within("dpmpp-2m", problem, 5) == 5
    assert {"ddim", "heun", "dpmpp-3m"} <= set(deterministic()) and "ddpm" not in deterministic()


def test_slopes_are_orders() -> None:
    line = [Measured(OURS, "p", n, n, 3.0 * n**-2.0) for n in (10, 15, 20, 40)]
    assert slopes(line)[OURS, "p"] == pytest.approx(2)
    assert slopes([line[0]]) == {}


def test_a_missing_peer_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mezzotint.bench.accuracy.find_peer", lambda name: Peer(name, None, None, f"no {name}"))
    said: list[str] = []
    problem = known_mixture(4)
    rows = measure(problem, (8, 16), (OURS, "azula"), said.append)
    assert "left out: no azula" in said and {row.library for row in rows} == {OURS}
    found = json.loads(json.dumps(report(problem, rows)))
    assert found["samples"] == 4 and len(found["rows"]) == len(rows) and "azula" not in found["versions"]


@pytest.mark.peers
def test_peers_are_compared_with_our_result_on_the_same_steps() -> None:
    from mezzotint.bench.peers import load_peer

    load_peer("k-diffusion", missing=pytest.skip)
    rows = measure(known_mixture(8), (12,), (OURS, "k-diffusion"))
    apart = {row.solver: row.apart for row in rows if row.library == "k-diffusion"}
    assert apart["DPM++ 2M"] is not None and apart["DPM++ 2M"] < 1e-7 and apart["DPM-2"] is None


def test_chart(tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (the bench extra) draws the chart")
    from mezzotint.bench.chart import draw

    rows = [Measured(OURS, "p", n, n, 1 / n) for n in (10, 20)] + [Measured("azula", "q", 10, 10, 0.3)]
    assert draw(known_mixture(1), rows, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
