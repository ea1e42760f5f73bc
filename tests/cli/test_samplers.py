"""`models samplers`, `models grids`, and `sample --grid`."""

from __future__ import annotations

import json

import pytest
import torch

import mezzotint as mz
from mezzotint.cli.picture import pixels
from mezzotint.core import GRIDS, VE, Noise, VDenoiser, explicit, uniform_t
from mezzotint.latent import Identity
from mezzotint.model import Model
from mezzotint.sample import DDIM, NAMED, sampler_named


def test_every_sampler_is_listed_with_what_it_declares(cli):
    status, out, _ = cli("models", "samplers", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0 and list(rows) == list(NAMED)
    for name, row in rows.items():
        sampler = sampler_named(name)
        assert (row["order"], row["stochastic"]) == (NAMED[name].order, sampler.stochastic)
        assert row["paper"] and row["about"] and row["nfe"]
        if row["nfe"] == "steps":
            assert sampler.nfe(7) == 7
    status, out, _ = cli("models", "samplers")
    head, *lines = out.splitlines()
    assert status == 0 and head.split() == ["name", "order", "nfe", "stochastic", "paper", "about"]
    assert [line.split()[0] for line in lines] == list(NAMED)
    assert next(line for line in lines if line.startswith("unipc-2 ")).split()[1:5] == [
        "3",
        "steps",
        "no",
        "2302.04867",
    ]


def test_every_grid_is_listed(cli):
    status, out, _ = cli("models", "grids", "--json")
    assert status == 0 and [row["name"] for row in json.loads(out)] == list(GRIDS)
    status, out, _ = cli("models", "grids")
    assert status == 0 and [line.split()[0] for line in out.splitlines()[1:]] == list(GRIDS)
    status, _, err = cli("models", "grids", "--size", "3")
    assert status == 2 and err.count("\n") == 1


def test_a_grid_by_name_is_recorded_and_regenerated(cli, tiny, tmp_path):
    out = tmp_path / "a"
    call = ("sample", "a red heart", "--model", tiny, "--count", 2, "--sampler", "ddim")
    assert cli(*call, "--grid", "uniform-lambda", "--out", out)[0] == 0
    record = json.loads((out / "a-red-heart-0.json").read_text())
    assert (record["time_grid"], record["grid"]) == ("uniform-lambda", "a-red-heart-0.png")
    status, told, _ = cli("sample", "--from", out / "a-red-heart-0.json", "--out", tmp_path / "b")
    assert status == 0 and "bit for bit" in told
    assert cli(*call, "--out", tmp_path / "c")[0] == 0
    plain = json.loads((tmp_path / "c" / "a-red-heart-0.json").read_text())
    assert plain["time_grid"] is None and plain["images"] != record["images"]
    status, _, err = cli("sample", "--from", out / "a-red-heart-0.json", "--grid", "karras")
    assert status == 2 and "leave out --grid" in err


def test_a_record_of_before_is_read(cli, tiny, tmp_path):
    assert cli("sample", "x", "--model", tiny, "--count", 1, "--out", tmp_path / "x.png")[0] == 0
    path = tmp_path / "x.json"
    record = json.loads(path.read_text())
    del record["time_grid"]
    path.write_text(json.dumps(record))
    status, told, _ = cli("sample", "--from", path)
    assert status == 0 and "bit for bit" in told
    path.write_text(json.dumps(record | {"time_grid": 3}))
    status, _, err = cli("sample", "--from", path)
    assert status == 2 and "'time_grid'" in err


@pytest.mark.parametrize(
    ("name", "message"), [("karas", "unknown time grid 'karas'"), ("leading", "Cosine is continuous")]
)
def test_a_wrong_grid_is_one_line_and_draws_nothing(cli, tiny, tmp_path, name, message):
    status, _, err = cli("sample", "x", "--model", tiny, "--grid", name, "--out", tmp_path / "x.png")
    assert status == 2 and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_grid_by_name_function_or_times(tiny, unchecked):
    model = mz.load(tiny)

    def drawn(**options):
        return pixels(model.sample("x", sampler="ddim", guidance=1.0, seeds=[3], **options))[0]

    named = drawn(grid="uniform-t", steps=4)
    times = uniform_t(model.denoiser.schedule, 4)
    for same in (
        drawn(steps=4),
        drawn(grid=uniform_t, steps=4),
        drawn(grid=times),
        drawn(grid=explicit(times), steps=4),
    ):
        assert torch.equal(same, named)
    assert not torch.equal(drawn(grid="quadratic", steps=4), named)
    with pytest.raises(ValueError, match="steps=5"):
        drawn(grid=times, steps=5)


def test_noise_is_that_of_the_first_time():
    """On a schedule whose noise grows a grid that starts below t = 1 starts with less of it."""
    schedule = VE()

    class Zero(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, t, c=None):
            return torch.zeros_like(x)

    model = Model(VDenoiser(Zero(), schedule), Identity(3), size=(4, 4))
    times = torch.tensor([0.6, 0.3], dtype=torch.float64)
    x = []
    model.sample(grid=times, sampler=DDIM(), seeds=[1], on_step=lambda k, state: x.append(state))
    sigma = schedule.sigma(times)
    x_T = float(sigma[0]) * Noise([1])("x_T", 0, (3, 4, 4))
    expected = DDIM()(model.denoiser, x_T, grid=times)
    torch.testing.assert_close(x[-1].x, expected)
