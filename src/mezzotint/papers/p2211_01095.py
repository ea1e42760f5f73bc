"""2211.01095, DPM-Solver++: demonstrations A and B of the sheet.

A: clusters whose denoiser is known, guided by known predictions; errors against a fine run of the same ODE, paired by
seed (a bed of clusters each). B: the shipped text-to-image models, in latents and in pixels; errors against a fine run,
paired by sample. Steps of lower order at the end are "auto" (below 10 steps, the official code's test) unless said.
Our choices: clusters, prompts, numbers of evaluations.
"""

from __future__ import annotations

import math
import time
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from mezzotint.core import VP, Condition, Denoiser, GaussianMixture, Noise, fold, uniform_lambda
from mezzotint.core.exact import probability_flow
from mezzotint.guide import CFG, DynamicThreshold
from mezzotint.model import load
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.setting import one_thread
from mezzotint.sample import DDIM, DPMSolverPP, DPMSolverSingle, Sampler, sampler_named

PAPER, F64, TOY_NFE = "2211.01095", torch.float64, (6, 10, 16, 20, 25, 30, 50)
TOY: dict[str, Sampler] = {
    "DDIM": DDIM(), "noise 2S": DPMSolverSingle(order=2), "2S": sampler_named("dpmpp-2s"), "2M": DPMSolverPP(order=2),
    "2M low": DPMSolverPP(order=2, lower_order_final=True),
}  # fmt: skip
NAMES = ("ddim", "dpm-2s", "dpm-3s", "dpmpp-2m", "dpmpp-3m", "dpmpp-3m-published", "dpmpp-2m-sde")
PROMPTS = ("a red heart", "a slice of pizza", "a green apple, noto", "the sun", "a blue car, fluent 3d", "a cat face",
           "a yellow star", "a cup of coffee, noto")  # fmt: skip
Errors = dict[tuple[str, int], list[float]]  # (solver, evaluations) -> one number a seed
# A: beds, draws in each, steps of the fine run. B: samples, evaluations, guidance weights, steps of the fine run.
Budget = namedtuple("Budget", "beds draws fine samples nfe weights fine_model")
QUICK = Budget(2, 32, 400, 2, (10, 20), (1.0, 8.0), 50)
FULL = Budget(3, 128, 4000, 8, (5, 10, 20, 40), (1.0, 4.0, 8.0), 500)


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Run A and B and state what they showed."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration runs on one thread of the cpu, not on {device!r}")
    begun, budget = time.monotonic(), QUICK if quick else FULL
    beds = tuple(range(seed, seed + budget.beds))
    samples = tuple(fold(seed, "sample", i) for i in range(budget.samples))
    with one_thread(), torch.no_grad():
        toy = {w: _toy(w, False, beds, budget, say) for w in ((1.0, 7.5) if quick else (1.0, 3.0, 7.5, 12.0))}
        even = _toy(1.0, True, beds, budget, say)
        second, third = _slope("published"), _slope("exact")
        latent = {w: _model("emoji", w, False, samples, budget, say) for w in budget.weights}
        pixel = {w: _model("emoji-pixel", w, False, samples, budget, say) for w in budget.weights}
        clipped = _model("emoji-pixel", 8.0, True, samples, budget, say)
    strong, plain, limited = toy[7.5], pixel[8.0]["dpmpp-2m", 10], clipped["dpmpp-2m", 10]
    near = {k: [n for n in TOY_NFE if _less(strong, k, "DDIM", n)] for k in TOY}
    spaces, easy = (("latents", latent), ("pixels", pixel)), [w for w in budget.weights if w <= 4]
    both = [[[mean(e) for e in zip(*(space[w][name, 20] for w in easy))] for name in ("ddim", "dpmpp-2m")]
            for _, space in spaces]  # fmt: skip
    wins = [f"{name} w={w:g} {'t' if n > 0 else 'lambda'}" for name, space in spaces for w in space for n in (20, -20)
            if _less(space[w], "dpmpp-2m", "ddim", n)]  # fmt: skip
    rms, mse = "RMSE to the fine run", "MSE to the fine run, over its variance"
    toys, model = partial(Claim, seeds=beds), partial(Claim, seeds=samples, scale="cpu-small")
    claims = [
        toys("A: at w=7.5 noise-form 2S (baseline) is worse than DDIM (ours) at every even NFE from 6 to 50",
             f"{rms}, at 50", strong["noise 2S", 50], strong["DDIM", 50], all(n % 2 for n in near["noise 2S"]),
             f"2S nearer at {near['noise 2S']}: an odd budget ends with a short step of DDIM"),
        toys("A: at w=7.5 on uniform t ++2M is nearer than DDIM at 10 and at 20 evaluations", f"{rms}, at 20",
             strong["DDIM", 20], strong["2M", 20], {10, 20} <= set(near["2M"]), f"nearer at {near['2M']} of {TOY_NFE}"),
        toys("A: the same for ++2M whose last step is of first order at any number of steps", f"{rms}, at 20",
             strong["DDIM", 20], strong["2M low", 20], {10, 20} <= set(near["2M low"]), f"nearer at {near['2M low']}"),
        toys("A: at w=1 on uniform lambda ++2M is nearer than DDIM at least 10x at 10 evaluations", rms,
             even["DDIM", 10], even["2M", 10], mean(even["DDIM", 10]) >= 10 * mean(even["2M", 10]), _line(even, 10)),
        Claim("A: the third-order multistep formula measures as second order as published, as third with our factor 2",
              "slope of log error, 160 to 320 steps", [second], [third], abs(second - 2) < 0.15 > abs(third - 3),
              "1-D mixture", direction="higher"),
        *(model(f"B: in {name} at 20 steps and w <= 4 ++2M has at most half of DDIM's error", mse, ddim, ours,
                mean(ours) <= 0.5 * mean(ddim), f"at w=8: {_line(space[8.0], 20)}; ++2M nearer than DDIM in: {wins}")
          for (name, space), (ddim, ours) in zip(spaces, both)),
        model("B: in latents at w=8 and 10 evaluations noise-form 2S (baseline) is worse than DDIM (ours)", mse,
              latent[8.0]["dpm-2s", 10], latent[8.0]["ddim", 10], _less(latent[8.0], "ddim", "dpm-2s", 10),
              _line(latent[8.0], 10)),
        model("B: in pixels at w=8 and 10 steps a threshold lowers ++2M's error to the solution with the same guides",
              mse, plain, limited, mean(limited) < mean(plain),
              f"plain {_line(pixel[8.0], 10)}; thresholded {_line(clipped, 10)}"),
    ]  # fmt: skip
    return entries_of(PAPER, claims, quick=quick, device=device, seconds=time.monotonic() - begun, setting=f"{budget}")


def _less(errors: Errors, a: str, b: str, n: int) -> bool:
    return mean(errors[a, n]) < mean(errors[b, n])


def _line(errors: Errors, n: int) -> str:
    return ", ".join(f"{name} {mean(values):.3g}" for (name, of), values in errors.items() if of == n)


def _toy(w: float, even: bool, beds: tuple[int, ...], budget: Budget, say: Callable[[str], None]) -> Errors:
    errors: Errors = {(name, n): [] for n in TOY_NFE for name in TOY}
    noise, ends = Noise(range(budget.draws)), {"t_end": 1e-3, "to_zero": False}
    x_T = float(VP().sigma(torch.ones(()))) * noise("x_T", 0, (16,), dtype=F64)
    c = Condition({"label": (8 * noise.uniform("label", 0)).long()}, null={"label": torch.tensor([8])})
    for bed in beds:
        means = 1.6 * Noise([bed]).uniform("means", 0, (8, 16), dtype=F64)[0] - 0.8
        d = CFG(w)(GaussianMixture(means, torch.full((8,), 0.15)).denoiser(VP()))
        fine = DPMSolverPP(order=2)(d, x_T, grid=uniform_lambda(VP(), budget.fine, **ends), c=c)
        for name, n in errors:
            times = uniform_lambda(VP(), n, **ends) if even else torch.linspace(1, 1e-3, n + 1, dtype=F64)
            errors[name, n].append(float((TOY[name](d, x_T, grid=times, c=c) - fine).square().mean().sqrt()))
    for n in TOY_NFE:
        say(f"A w={w:g} uniform {'lambda' if even else 't'} N={n}: {_line(errors, n)}")
    return errors


def _slope(third: str) -> float:
    bed = GaussianMixture(
        torch.tensor([[-1.0], [0.4], [1.2]]), torch.tensor([0.35, 0.5, 0.4]), torch.tensor([3.0, 4, 3])
    )
    x_T = float(VP().sigma(torch.ones(()))) * Noise(range(128))("x_T", 0, (1,), dtype=F64)
    solver = DPMSolverPP(order=3, third=third, lower_order_final=False)  # type: ignore[arg-type]
    got = (solver(bed.denoiser(VP()), x_T, grid=uniform_lambda(VP(), n, t_end=0.01, to_zero=False)) for n in (160, 320))
    coarse, fine = (float((x - probability_flow(bed, VP(), x_T, 1.0, 0.01)).norm()) for x in got)
    return math.log2(coarse / fine)


def _model(
    name: str, w: float, limit: bool, samples: tuple[int, ...], budget: Budget, say: Callable[[str], None]
) -> Errors:
    model, noise = load(name), Noise(samples)
    assert model.conditioner is not None
    c, spec = model.conditioner(model.conditioner.prepare(list(PROMPTS[: len(samples)]))), model.autoencoder.spec
    guided: Denoiser = CFG(w)(model.denoiser)
    d = DynamicThreshold()(guided) if limit else guided
    x_T = noise("x_T", 0, (spec.channels, *(side // spec.factor for side in model.size)))
    fine, errors = DPMSolverPP(order=2)(d, x_T, steps=budget.fine_model, c=c), {}
    for n in (*budget.nfe, -20):  # -20: 20 steps uniform in lambda
        for solver in NAMES if n > 0 else ("ddim", "dpmpp-2m"):
            got = sampler_named(solver)(d, x_T, steps=abs(n), c=c, noise=noise, grid=None if n > 0 else uniform_lambda)
            errors[solver, n] = ((got - fine).square().flatten(1).mean(1) / fine.flatten(1).var(1)).tolist()
        say(f"B {name} w={w:g}{' thresholded' if limit else ''} N={n}: {_line(errors, n)}")
    return errors
