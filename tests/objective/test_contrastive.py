"""Refusals, and keys of several processes."""

from __future__ import annotations

import pytest
import torch
import torch.multiprocessing as mp

from mezzotint.objective import (
    ECT,
    ConstantTau,
    CosineTau,
    ECTPairs,
    ResolutionLevels,
    SnappedLogNormal,
    all_ranks,
    nce,
    represent,
)


def test_alone_the_keys_are_ones_own() -> None:
    keys = torch.eye(3)
    found, first = all_ranks(keys)
    assert found is keys and first == 0


def _rank(rank: int, world: int, path: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    try:
        generator = torch.Generator().manual_seed(0)
        q, k = (torch.randn(8, 5, generator=generator, dtype=torch.float64) for _ in range(2))
        own = slice(4 * rank, 4 * rank + 4)
        loss = nce(q[own], k[own], 0.1, gather=all_ranks)
        torch.distributed.all_reduce(loss)
        assert abs(loss.item() / world - nce(q, k, 0.1).item()) < 1e-12
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_loss_of_the_whole_batch(tmp_path) -> None:
    mp.spawn(_rank, (2, str(tmp_path / "store")), nprocs=2)


def test_half_precision_networks_lose_nothing_in_the_loss() -> None:
    q = torch.eye(4)
    with torch.autocast("cpu", torch.bfloat16):
        found = nce(q + 0.01, q, 0.2)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(nce(q + 0.01, q, 0.2).item(), rel=1e-6)


@pytest.mark.parametrize(
    "call, told",
    [
        (lambda: nce(torch.zeros(2, 3), torch.zeros(3, 3), 0.1), "equal shapes"),
        (lambda: nce(torch.eye(2), torch.eye(2), 0.0), "temperature > 0"),
        (lambda: ConstantTau(0.0), "> 0"),
        (lambda: CosineTau(10, start=0.1, end=0.2), "end <= start"),
        (lambda: ResolutionLevels(0), "at least 1"),
        (lambda: SnappedLogNormal(ResolutionLevels(8), std=0.0), "> 0"),
        (lambda: ECTPairs(ResolutionLevels(8), stage=0), "stage >= 1"),
        (lambda: ECTPairs(ResolutionLevels(8)).probabilities(torch.ones(2).double()), "continuous"),
        (lambda: ECT(ResolutionLevels(8), every=0), "at least 1"),
        (lambda: represent(torch.nn.Identity(), torch.zeros(1, 3, 4, 4), 0.0), "noise level > 0"),
    ],
)
def test_wrong_calls(call, told, unchecked) -> None:
    with pytest.raises(ValueError, match=told):
        call()
