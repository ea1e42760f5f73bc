"""`mezzotint train RECIPE`: run or resume a recipe, with progress."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mezzotint.cli.options import Parser, count, find_device, print_json

if TYPE_CHECKING:
    from mezzotint.train.engine import Engine
    from mezzotint.train.named import AnyRecipe
    from mezzotint.train.report import Reporting

FAILED = 2


def main(arguments: Sequence[str]) -> int:
    """Train; the run's folder holds the log and the checkpoints."""
    parser = Parser("train", "Run or resume a training recipe.")
    parser.add_argument("recipe", help="a name in mezzotint.train.recipes, or MODULE:FUNCTION")
    parser.add_argument("--out", type=Path, help="the run's folder (default: runs/RECIPE)")
    parser.add_argument("--resume", action="store_true", help="go on with the run that --out holds")
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="key=value", help="replace a leaf; repeatable"
    )
    parser.add_argument("--show", action="store_true", help="print the recipe's settings and stop")
    parser.add_argument("--threads", type=count, help="CPU threads")
    parser.add_argument("--engine", choices=("single", "ddp", "fsdp"), help="how processes share the work")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the networks")
    parser.add_argument("--compile", metavar="BACKEND", help="compile the networks' blocks, as with inductor")
    parser.add_argument("--pictures", type=count, metavar="STEPS", help="steps between pictures in the report")
    parser.add_argument("--tensorboard", action="store_true", help="also write events to OUT/tensorboard")
    parser.seed_option(default=None, help="seed of the run; none keeps the recipe's")
    parser.device_option()
    parser.json_option()
    rank = int(os.environ.get("RANK", 0))  # torchrun starts this once a process
    try:
        told = parser.parse_args(arguments)
    except ValueError:
        if rank > 0:  # process 0 tells
            return FAILED
        raise
    if told.show:
        return _show(told) if rank == 0 else 0
    from mezzotint.train.group import PeerFailed
    from mezzotint.train.launch import launched

    settings = {"threads": told.threads, "precision": told.precision, "compile": told.compile}
    try:
        with launched(told.engine, find_device(told.device), **settings) as engine:
            return _train(told, engine)
    except PeerFailed:  # the process that failed has told why
        return FAILED


def _recipe(told: Namespace) -> AnyRecipe:
    from mezzotint.train.__main__ import find_recipe
    from mezzotint.train.overrides import leaves, with_overrides

    overrides = _pairs(told.settings)
    recipe = find_recipe(told.recipe)
    if told.seed is not None:  # a recipe of several stages has a seed in each
        overrides |= {leaf: str(told.seed) for leaf in leaves(recipe) if leaf.split(".")[-1] == "seed"}
    return with_overrides(recipe, overrides)


def _show(told: Namespace) -> int:
    from mezzotint.train.overrides import describe

    settings = describe(_recipe(told))
    if told.json:
        print_json(settings)
    else:
        print("\n".join(f"{key} = {value}" for key, value in settings.items()))
    return 0


def _train(told: Namespace, engine: Engine) -> int:
    from mezzotint.train.staged import trained_model

    recipe = _recipe(told)
    out = told.out or Path("runs") / told.recipe.replace(":", ".")
    holds = engine.lead(lambda: recipe.holds(out))
    if holds and not told.resume:
        raise ValueError(f"{out} holds a run already; add --resume to go on with it, or choose another --out")
    if told.resume and not holds:
        raise ValueError(f"{out} holds no run to resume; leave --resume out to start one there")
    with _Bar(recipe.name, quiet=told.json or engine.rank > 0) as bar:
        report = recipe.run(out, engine, on_step=bar.step, reporting=_reporting(told))
    failed = FAILED if report.ended.startswith("SIG") else 0
    if engine.rank > 0:
        return failed
    model = trained_model(recipe, out) if report.finished else None
    saved = None if model is None else str(model.save(out / "model"))
    if told.json:
        print_json({**report.to_dict(), "model": saved})
    else:
        how = "finished" if report.finished else f"{report.ended}; `--resume` goes on"
        print(f"{how}: step {report.step} of {report.steps}, {report.seconds:.0f} s, checkpoint {report.checkpoint}")
        if saved:
            print(f"the model: mezzotint sample PROMPT --model {saved}")
    return failed


def _reporting(told: Namespace) -> Reporting:
    from mezzotint.train.report import Reporting, TensorBoard

    if told.tensorboard:
        TensorBoard.check()  # before hours of training, not after
    return Reporting(
        every=told.pictures,
        reporters=[lambda folder: TensorBoard(folder / "tensorboard")] if told.tensorboard else [],
    )


def _pairs(settings: Sequence[str]) -> dict[str, str]:
    for setting in settings:
        key, equals, _ = setting.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"--set expects key=value, got {setting!r}")
    return {key.strip(): value for key, _, value in (setting.partition("=") for setting in settings)}


class _Bar:
    """A rich progress bar on stderr: steps, speed, time left, and the last log row's loss."""

    def __init__(self, name: str, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn(name),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[told]}"),
            console=Console(stderr=True),
            disable=quiet,
        )
        self._task = self._bar.add_task(name, total=None, told="")

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def step(self, progress) -> None:
        if self._bar.disable:
            return
        if not self._bar.live.is_started:  # at the first step, so that a refused run leaves one line
            self._bar.start()
        self._bar.update(self._task, completed=progress.step, total=progress.steps)
        if progress.row is not None:
            self._bar.update(self._task, told=told_of(progress.row))


def told_of(row: Mapping[str, Any]) -> str:
    """What a log row says in a few words.

    >>> told_of({"loss": 0.25, "samples_per_second": 812.4, "utilisation": 0.41, "memory_mib": 900.0})
    'loss 0.25, 812 a second, 41 % of peak, 900 MiB'
    """
    told = [f"loss {row['loss']:.4g}"] if "loss" in row else []
    told.append(f"{row['samples_per_second']:.3g} a second")
    if "utilisation" in row:
        told.append(f"{100 * row['utilisation']:.0f} % of peak")
    if "memory_mib" in row:
        told.append(f"{row['memory_mib']:.0f} MiB")
    return ", ".join(told)
