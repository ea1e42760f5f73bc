"""The demonstration of PixelMan runs at the smallest sizes, its scenes are what they say, and idleness wins nothing."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import VP, Noise, VDenoiser
from mezzotint.latent import Identity
from mezzotint.metric import edit_regions, ghosts, windows
from mezzotint.model import Model
from mezzotint.nn import UNet
from mezzotint.papers import p2412_14283 as paper
from mezzotint.papers.claim import entries_of
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict
from mezzotint.papers.pixelman_arms import ARMS, SIDE, drawn, edited, plan_of, sprites, train_seer

NFE = {"paste": 0, "inversion": 32, "no energy": 48}


def untrained(scale: float = 1.0) -> Model:
    """With something to say, or a prediction of 0."""
    net = UNet(3, channels=8, mult=(1, 2), blocks=1, attention=(1, 2), head_dim=4, patch=2)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=generator) * p[0].numel() ** -0.5)
        for p in net.head.parameters():
            p.mul_(scale)
    return Model(VDenoiser(net.eval(), VP()), Identity(3), size=(SIDE, SIDE))


@pytest.fixture(scope="module")
def model() -> Model:
    return untrained()


@pytest.mark.slow
def test_it_measures_every_claim(monkeypatch, tmp_path):
    monkeypatch.setattr(paper, "QUICK", paper.Budget(0.01, 2, 2, 16))
    lines: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=tmp_path, say=lines.append)
    assert len(entries) == 8 and len(lines) == 1 + len(ARMS) + 2 and (tmp_path / "arms.png").is_file()
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry
        assert entry.verdict == strongest_verdict(entry) and "Budget(seconds=0.01" in entry.notes
        assert math.isfinite(entry.ours) and entry.scale == "cpu-small" and entry.seeds == (3, 4)
    assert all(f"{arm}: object" in entries[0].notes for arm in ARMS)


def test_scenes_are_seen_and_move_whole():
    f = sprites(0, 200, "test")
    (x, at), (truth, there) = drawn(f, f.place), drawn(f, f.goal)
    assert torch.equal(at.sum((1, 2)), there.sum((1, 2))) and int(at.sum((1, 2)).min()) >= 20
    assert not bool((at & there).any()) and {0, 1, 2, 3} == set(f.kind.tolist())
    assert float(torch.maximum(x.abs(), truth.abs()).max()) <= 1
    contrast = ((x - f.ground).abs() * at[:, None]).sum((1, 2, 3)) / (3 * at.sum((1, 2)))
    assert float(contrast.min()) > 0.25, "a sprite can be told from its ground"
    assert torch.equal(torch.where((at | there)[:, None], 0.0, x), torch.where((at | there)[:, None], 0.0, truth))
    again = sprites(0, 3, "test")
    assert torch.equal(again.ground, f.ground[:3]) and not torch.equal(sprites(1, 3, "test").ground, again.ground)


def test_the_plan_of_a_move_leads_to_the_truth():
    f = sprites(1, 20, "test")
    (x, at), (truth, there) = drawn(f, f.place), drawn(f, f.goal)
    for i in range(20):
        plan = plan_of(x[i], at[i], f.goal[i] - f.place[i])
        assert torch.equal(plan.gen, there[i]) and torch.equal(plan.ipt, at[i]) and plan.lost == 0
        assert torch.equal(torch.where(plan.ipt, f.ground[i], plan.image), truth[i])
        made = edit_regions(truth[i : i + 1], plan.source, plan.image, plan.masks(), truth[i])
        assert made.object_psnr.item() == math.inf == made.background_psnr.item() and made.hole_error.item() == 0
        # the window around the hole does not show the new place
        assert not bool(windows(there[i, None, None].float(), at[i, None], size=SIDE).any())


def test_the_classifier_tells_a_sprite_from_its_absence():
    f = sprites(2, 60, "test")
    (x, at), (truth, _) = drawn(f, f.place), drawn(f, f.goal)
    seer, sprite = train_seer(30, 0, 256), torch.ones(60, dtype=torch.long)
    hits, alarms = (ghosts(lambda w: seer(w)[0], y, at, sprite).double().mean() for y in (x, truth))
    assert float(hits) > 0.9 and float(alarms) < 0.1


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_costs_what_it_is_said_to_and_keeps_to_its_seed(arm, model):
    f = sprites(0, 1, "test")
    x, at = drawn(f, f.place)
    plan = plan_of(x[0], at[0], (f.goal - f.place)[0])
    seen = []
    hook = model.denoiser.register_forward_hook(lambda net, args, result: seen.append(len(args[0])))
    made = edited(arm, model, plan, 5)
    hook.remove()
    assert sum(seen) == NFE.get(arm, 64)
    assert made.shape == (1, 3, SIDE, SIDE) and float(made.abs().max()) <= 1
    if arm == "paste":
        assert torch.equal(made[0], plan.image)
    elif arm in ("inversion", "SDEdit 0.3"):
        assert torch.equal(made, edited(arm, model, plan, 5)) and not torch.equal(made, edited(arm, model, plan, 6))


def test_inversion_moves_the_object_and_fills_its_place_anew():
    """Where v = 0 is predicted, D(x_t) = alpha x_t: each step is a factor, the same at every place."""
    f = sprites(0, 1, "test")
    x, at = drawn(f, f.place)
    plan = plan_of(x[0], at[0], (f.goal - f.place)[0])
    one, two = (edited("inversion, 64", untrained(0.0), plan, seed)[0] for seed in (1, 2))
    steps = torch.linspace(1, 0, 33, dtype=torch.float64)
    angle = torch.atan2(VP().sigma(steps), VP().alpha(steps))
    up = angle[:-1] - angle[1:]
    # DDIM keeps the cosine of the angle between two steps, both ways; but the first step from the data, where no noise
    # is known yet, makes 2 alpha x - alpha D(alpha x) of it
    kept = float(up.cos().prod() ** 2 * (2 - VP().alpha(steps[-2]) ** 2))
    assert kept == pytest.approx(float(one[:, plan.share][0, 0] / x[0][:, plan.share][0, 0]), abs=1e-4)
    here = plan.gen | plan.share
    torch.testing.assert_close(one[:, here], kept * plan.image[:, here], rtol=0, atol=1e-4)
    assert torch.equal(one[:, here], two[:, here]) and float((one - two)[:, plan.ipt].abs().mean()) > 0.1


def _rows(change: dict[str, float]) -> dict[str, list[float]]:
    """Figures of the paste in every arm, but for what is told."""
    idle = {"object": 60.0, "background": 60.0, "hole": 1.0, "ghost": 1.0, "NFE": 64.0, "seconds": 1.0}
    noise = Noise([1]).uniform("jitter", 0, (6,))[0].tolist()
    rows = {f"{name} {arm}": [value] * 6 for arm in ARMS for name, value in idle.items()}
    rows |= {"ghost truth": [0.0] * 6, "ghost source": [1.0] * 6}
    return rows | {key: [value + 0.01 * u for u in noise] for key, value in change.items()}


def _verdicts(rows: dict[str, list[float]]) -> list[str]:
    claims = paper._claims(rows, tuple(range(6)))
    return [e.verdict for e in entries_of("2412.14283", claims, quick=True, device="cpu", seconds=1.0, setting="s")]


def test_an_edit_that_does_nothing_wins_nothing():
    worse = {f"{name} inversion{more}": 20.0 for name in ("object", "background") for more in ("", ", 64")}
    assert _verdicts(_rows(worse))[:4] == ["not shown"] * 4, "it only left everything as it was"
    done = _rows(worse | {"ghost full": 0.1, "hole full": 0.2, "hole inversion, 64": 0.4})
    assert _verdicts(done) == ["shown"] * 8
    assert _verdicts(done | _rows({"object inversion": 58.0}))[1] == "not shown"


def test_it_runs_on_the_cpu_and_knows_its_arms(model):
    with pytest.raises(ValueError, match="runs on the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)
    f = sprites(0, 1, "test")
    x, at = drawn(f, f.place)
    with pytest.raises(ValueError, match="unknown arm 'magic'"):
        edited("magic", model, plan_of(x[0], at[0], (f.goal - f.place)[0]), 0)
