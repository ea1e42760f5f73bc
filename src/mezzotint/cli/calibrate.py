"""`mezzotint calibrate MODEL --out FILE`: the statistics that `--sampler dpm-v3:FILE` reads."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mezzotint.cli.options import Parser, count, find_device, print_json


def main(arguments: Sequence[str]) -> int:
    """Draw the model's own samples, calibrate on them, write the file."""
    parser = Parser("calibrate", "Statistics of a model for DPM-Solver-v3, made once: sample with dpm-v3:FILE after.")
    parser.add_argument("model", help="a shipped model or a folder")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write")
    parser.add_argument("--levels", type=count, default=120, help="noise levels")
    parser.add_argument("--per-level", type=count, default=1024, help="samples a level; counts more than levels")
    parser.add_argument("--t-end", type=float, default=1e-3, help="the cleanest time, above 0")
    parser.add_argument("--l", choices=("fit", "ones"), default="fit", help="ones: the linear part of DPM-Solver++")
    parser.add_argument("--samples", type=count, default=512, help="the model's own samples that serve as data")
    parser.add_argument("--sample-steps", type=count, default=50, help="steps of these (dpmpp-2m)")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="draw them for these prompts, one a line")
    parser.add_argument("--guidance", type=float, default=1.0, help="guidance of these, with --prompts")
    parser.add_argument("--batch", type=count, default=64, help="samples computed at once")
    parser.seed_option(help="seed of the samples, the noise and the probes")
    parser.device_option()
    parser.json_option()
    told = parser.parse_args(arguments)
    if told.out.exists():
        raise ValueError(f"{told.out} exists already; choose another --out, or remove it")
    if not told.out.parent.is_dir():
        raise ValueError(f"there is no folder {told.out.parent}; make it first")
    if told.guidance != 1 and told.prompts is None:
        raise ValueError("--guidance needs --prompts: without them the samples are unconditional")
    return _calibrate(told)


def _calibrate(told: Any) -> int:
    import mezzotint as mz
    from mezzotint.sample import calibrate_ems
    from mezzotint.sample.ems import ems_grid

    model = mz.load(told.model, find_device(told.device))
    ems_grid(model.denoiser.schedule, told.levels, None, told.t_end)  # refuses before minutes of sampling
    begun = time.monotonic()
    null = None
    if model.conditioner is not None:
        if model.conditioner.example is None:
            raise ValueError(f"{model.name} is conditioned on images; calibrate it from Python with calibrate_ems")
        raw = model.conditioner.prepare([model.conditioner.example]).null()
        null = model.conditioner(raw.to(model.device))
    _say(told, f"drawing {told.samples} samples of {model.name} in {told.sample_steps} steps")
    data = _samples(told, model, null)
    _say(
        told, f"calibrating: {told.levels + 1} levels of {told.per_level} samples; an interrupted run goes on from here"
    )

    def tell(done: int, total: int) -> None:
        if done % max(1, total // 20) == 0 or done == total:
            _say(told, f"level {done} of {total}, {time.monotonic() - begun:.0f} s")

    ems = calibrate_ems(
        model.denoiser,
        data,
        levels=told.levels,
        per_level=told.per_level,
        t_end=told.t_end,
        seed=told.seed,
        l=told.l,
        c=null,
        batch=told.batch,
        out=told.out,
        on_level=tell,
    )
    row = {"file": str(told.out), "model": model.name, "shape": list(ems.shape), "t": [ems.t_start, ems.t_end]}
    row |= {"schedule": ems.schedule, "prediction": ems.prediction, **ems.about}
    row["seconds"] = round(time.monotonic() - begun, 1)
    if told.json:
        print_json(row)
    else:
        print(f"{told.out}: samples of {tuple(ems.shape)}, {row['seconds']:.0f} s")
        print(f"use it: mezzotint sample PROMPT --model {told.model} --sampler dpm-v3:{told.out} --steps 8")
    return 0


def _samples(told: Any, model: Any, null: Any) -> Any:
    import torch

    from mezzotint.core import Noise, fold
    from mezzotint.guide import CFG
    from mezzotint.sample import DPMSolverPP

    denoiser, c = model.denoiser, null
    if told.prompts is not None:
        if model.conditioner is None:
            raise ValueError(f"{model.name} is unconditional and takes no prompts")
        prompts = [line.strip() for line in told.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not prompts:
            raise ValueError(f"{told.prompts} holds no prompt; write one on each line")
        denoiser = CFG(told.guidance)(model.denoiser)
        c = model.conditioner(model.conditioner.prepare(prompts).to(model.device))
    spec = model.autoencoder.spec
    shape = (spec.channels, model.size[0] // spec.factor, model.size[1] // spec.factor)
    level = float(model.denoiser.schedule.sigma(torch.ones((), dtype=torch.float64)))
    made = []
    with torch.no_grad():
        for a in range(0, told.samples, told.batch):
            rows = range(a, min(a + told.batch, told.samples))
            x_T = level * Noise([fold(told.seed, "ems data", i) for i in rows])("x_T", 0, shape, device=model.device)
            part = None if c is None else c.rows([i % c.batch for i in rows])
            made.append(DPMSolverPP(order=2)(denoiser, x_T, steps=told.sample_steps, c=part))
    return torch.cat(made)


def _say(told: Any, line: str) -> None:
    if not told.json:
        print(line, file=sys.stderr, flush=True)
