"""2210.05559, CycleDiffusion: the demonstration of the sheet's section 7.

Domains: two UNets, discs and squares of any colour, place and size. From disc to square by each arm at 2 n evaluations
over several starts; an arm's content error (colours, centre, size, over their spread) is read off where its share of
squares reaches what all arms reach, at most 0.9. Words: one UNet told red or blue. Where less than half was translated
nothing is compared: both sides are 0. Rare: latent Langevin towards one of ten icons, of 2 %, by a Bayes classifier of
pictures noised by 1, the denoiser exact. Cut to 20 minutes of one core: 16 x 16 pixels, three seeds, 60 s a net, 64
scenes, n = 30, 40 chains. After a first run, whose wider nets on VP drew no squares, nothing but the nets was changed.
"""

from __future__ import annotations

import time
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from mezzotint.core import VP, Condition, GaussianMixture, Noise, fold
from mezzotint.guide import CFG, LatentLangevin
from mezzotint.io.picture import grid, pixels, write_png
from mezzotint.metric import psnr
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.cycle_arms import (
    ARMS,
    DISC,
    SQUARE,
    apart,
    at_level,
    drawn,
    edited,
    measured,
    scenes,
    train_shapes,
)
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.setting import one_thread
from mezzotint.sample import DDIM, FromNoise

PAPER, MOST, HALF, WEIGHT = "2210.05559", 0.9, 0.5, 3.0
Budget = namedtuple("Budget", "trials seconds scenes steps starts chains iterations")
QUICK = Budget(2, 3.0, 12, 8, (0.5, 0.8), 20, 20)
FULL = Budget(3, 60.0, 64, 30, (0.4, 0.55, 0.7, 0.85, 1.0), 40, 200)
Row = dict[str, float]


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Run the three parts for each trial."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration counts processor seconds and runs on the cpu, not on {device!r}")
    begun, budget, rows = time.monotonic(), QUICK if quick else FULL, []
    trials = tuple(range(seed, seed + budget.trials))
    with one_thread():
        for trial in trials:
            row = _domains(trial, budget, out if trial == seed else None)
            rows.append(row | _words(trial, budget) | _rare(trial, budget))
            say(f"seed {trial}: " + ", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()))
    return entries_of(PAPER, _claims(rows, trials), quick=quick, device=device, setting=f"{budget}, one thread",
                      seconds=time.monotonic() - begun)  # fmt: skip


def _domains(trial: int, budget: Budget, out: Path | None) -> Row:
    """From discs to squares: accuracy, content error and PSNR of each arm and start, and the error where they match."""
    a, b = (train_shapes(shape, budget.seconds, trial) for shape in (DISC, SQUARE))
    f = scenes(trial, budget.scenes, "test", DISC)
    x, noise = drawn(f), Noise([fold(trial, "edit", i) for i in range(budget.scenes)])
    row, found, shown = Row(), {}, [x[:8]]
    for arm in ARMS:
        made = []
        for start in (1.0,) if arm == "random" else budget.starts:
            y = edited(arm, a, b, x, noise, budget.steps, start)
            m = measured(y)
            parts = (apart(m.colour, f.colour), apart(m.ground, f.ground), apart(m.centre, f.centre),
                     apart(m.size[:, None], f.size[:, None]))  # fmt: skip
            made.append((float((m.shape == SQUARE).double().mean()), mean(parts)))
            row[f"A PSNR {arm} {start:g}"] = float(psnr(y.clamp(-1, 1), x).mean())
            row |= {f"A accuracy {arm} {start:g}": made[-1][0], f"A error {arm} {start:g}": made[-1][1]}
            shown += [y[:8]] if start in (0.7, 0.8, 1.0) else []
        found[arm] = made
    level = min(MOST, *(max(share for share, _ in made) for arm, made in found.items() if arm != "random"))
    matched = {f"A matched {arm}": at_level(level, made) if level >= HALF else 0.0 for arm, made in found.items()}
    if out is not None:
        write_png(out / "discs-to-squares.png", grid(pixels(torch.cat(shown))))
    return row | {"A level": level} | matched


def _words(trial: int, budget: Budget) -> Row:
    """From red to blue: how often it turned, and what that did to the rest; the floor is the estimator's own error."""
    d, row = train_shapes(None, budget.seconds, trial), Row()
    f = scenes(trial, budget.scenes, "words", None, torch.ones(budget.scenes, dtype=torch.bool))
    x, noise = drawn(f), Noise([fold(trial, "words", i) for i in range(budget.scenes)])
    c, to = (Condition({"label": torch.full((len(x),), k)}, {"label": torch.tensor([2])}) for k in (1, 0))
    for name, y in (
        ("floor", x),
        ("cycle", edited("cycle, eta 0.1", d, CFG(WEIGHT)(d), x, noise, budget.steps, 0.85, c, to)),
        ("SDEdit", edited("SDEdit", d, CFG(WEIGHT)(d), x, noise, budget.steps, 0.85, c, to)),
    ):
        m = measured(y)
        away = float((m.centre - f.centre).norm(dim=1).mean()), float((m.size - f.size).abs().mean())
        turned = float((m.colour[:, 2] > m.colour[:, 0]).double().mean())
        row |= {f"B turned {name}": turned, f"B centre {name}": away[0], f"B size {name}": away[1]}
    both = min(row["B turned cycle"], row["B turned SDEdit"]) >= HALF
    return row | {f"{key}, turned": value if both else 0.0 for key, value in row.items() if key[2] in "cs"}


def _rare(trial: int, budget: Budget) -> Row:
    """How often the rare icon is drawn, with and without an energy that asks for it."""
    icons = drawn(scenes(trial, 10, "icons")).double()
    weights = torch.tensor([0.02, *[0.98 / 9] * 9], dtype=torch.float64)
    d = GaussianMixture(icons, torch.full((10,), 0.1, dtype=torch.float64), weights).denoiser(VP())
    G, noise = FromNoise(DDIM(), d, steps=10), Noise([fold(trial, "rare", i) for i in range(budget.chains)])
    logits = lambda x: -0.5 * (x[:, None] - icons).square().flatten(2).sum(2)  # noqa: E731
    energy, row = lambda x: -logits(x).log_softmax(1)[:, 0], Row()
    for name, weight, keep in (("none", 0.0, "last"), ("asked", 5.0, "last"), ("best", 5.0, "best")):
        run = LatentLangevin(weight, 0.05, budget.iterations, keep)  # type: ignore[arg-type]
        try:
            z = run(G, energy, noise, G.shape(icons.shape[1:]), dtype=torch.float64).z
            with torch.no_grad():
                row[f"C rare {name}"] = float((logits(G(z)).argmax(1) == 0).double().mean())
        except FloatingPointError:
            row[f"C rare {name}"] = 0.0  # diverged
    return row


def _claims(rows: list[Row], trials: tuple[int, ...]) -> list[Claim]:
    small, exact = (partial(Claim, seeds=trials, scale=scale) for scale in ("cpu-small", "exact"))

    def claim(text: str, measure: str, ours: str, base: str | float, times: float = 1.0, lower: bool = True) -> Claim:
        made = [row[ours] for row in rows]
        other = [times * row[base] if isinstance(base, str) else base for row in rows]
        holds = mean(made) <= mean(other) if lower else mean(made) >= mean(other)
        note = "; ".join(f"{key} {mean([row[key] for row in rows]):.4g}" for key in rows[0] if key[0] == text[0])
        make, way = exact if text[0] == "C" else small, "lower" if lower else "higher"
        return make(text, measure, other, made, holds, f"Means: {note}", direction=way)

    error, px, share, ours = "content error at matched accuracy", "pixels", "share of pictures", f"A matched {ARMS[0]}"
    return [
        claim("A: content error at least 25 % below SDEdit's at equal accuracy", error, ours, "A matched SDEdit", 0.75),
        claim("A: with eta = 1 too", error, f"A matched {ARMS[1]}", "A matched SDEdit", 0.75),
        claim("A: no more than that of deterministic inversion", error, ours, "A matched inversion"),
        claim("A: less than half that of a random latent", error, ours, "A matched random", 0.5),
        claim("B: a prompt turns the colour in 80 % of the pictures", share, "B turned cycle", 0.8, lower=False),
        claim("B: the centre moves less than under SDEdit", px, "B centre cycle, turned", "B centre SDEdit, turned"),
        claim("B: the size changes less than under SDEdit", px, "B size cycle, turned", "B size SDEdit, turned"),
        claim("C: a classifier's energy draws the rare icon 80 % of the time", share, "C rare asked", 0.8, lower=False),
    ]  # fmt: skip
