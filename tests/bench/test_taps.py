"""What handles cost: the runs are the same run, the handles close, and the table is written whole."""

from __future__ import annotations

import json

import pytest
import torch

from mezzotint.bench import taps
from mezzotint.cli.main import run
from mezzotint.core import VP, Condition, VDenoiser
from mezzotint.nn import UNet
from mezzotint.nn.site import any_opened


@pytest.fixture
def small(monkeypatch) -> taps.Case:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(3, channels=8, mult=(1, 2), blocks=1, attention=(1, 2), context=6)
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.2)
    text = torch.ones(1, 3, 6)
    made = taps.Case("small", VDenoiser(net, VP()), Condition({"text": text}, {"text": 0 * text}), (3, 8, 8), 2)
    monkeypatch.setattr(taps, "MODELS", {"small": lambda: made})
    monkeypatch.setattr(taps, "told", lambda module, arguments: 1.5)
    return made


def test_every_handle_is_run_in_turn_and_only_edits_could_change_anything(small) -> None:
    rows = taps.measure(["small"], steps=2, rounds=3)
    assert [row.handle for row in rows] == list(taps.cases(small))
    by = {row.handle: row for row in rows}
    assert by["nothing"].ratio == (1, 1, 1) and by["nothing, again"].changed == 0
    assert all(row.changed < 1e-4 and row.seconds > 0 and row.memory == 1.5 for row in rows)
    assert by["features, two places"].changed == 0 == by["save keys and values, two self-attentions"].changed
    assert not any_opened() and not any(m._forward_hooks for m in small.denoiser.modules())


def test_two_sites_are_those_of_the_largest_maps(small) -> None:
    handles = taps.cases(small)
    both = [handles[f"tap, two {kind}-attentions"][1] for kind in ("cross", "self")]
    assert [len(sites) for sites in both] == [2, 2] and all(site.endswith("cross") for site in both[0])
    assert not set(both[0]) & set(both[1])
    with taps.tap(small.denoiser, "*") as seen:
        small.run(1)
    largest = max(seen[site].shape[-2] for site in seen)
    assert all(seen[site].shape[-2] == largest == 64 for sites in both for site in sites)


def test_the_command_prints_the_goal_and_writes_the_table(small, tmp_path, capsys) -> None:
    out = tmp_path / "a" / "taps.json"
    assert run(["bench", "taps", "--models", "small", "--steps", "1", "--rounds", "1", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "tap, two self-attentions: " in said and "goal" in said
    kept = json.loads(out.read_text())
    assert kept["goal"] == 1.15 and len(kept["rows"]) == 8 and kept["versions"]["torch"]


def test_wrong_settings(small, capsys) -> None:
    with pytest.raises(ValueError, match="unknown model 'large'"):
        taps.measure(["large"])
    with pytest.raises(ValueError, match="steps=0"):
        taps.measure(["small"], steps=0)
    assert run(["bench", "taps", "--models", "large"]) != 0
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
