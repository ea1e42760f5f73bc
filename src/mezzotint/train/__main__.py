"""`python -m mezzotint.train RECIPE --out DIR [key=value ...]`: training with nothing but torch installed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import is_dataclass
from importlib import import_module
from inspect import signature

from mezzotint.train.group import PeerFailed
from mezzotint.train.launch import launched, process
from mezzotint.train.loop import Progress
from mezzotint.train.meter import NonFiniteError
from mezzotint.train.named import AnyRecipe
from mezzotint.train.overrides import leaves, with_overrides


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or resume a recipe; returns the exit status (2 for bad input, 3 where the run was interrupted)."""
    parser = argparse.ArgumentParser(prog="python -m mezzotint.train", description=__doc__)
    parser.add_argument("recipe", help="a name in mezzotint.train.recipes, or MODULE:FUNCTION")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="leaves of the recipe to replace")
    parser.add_argument("--out", help="the run's folder; resumed where it holds a run (default: runs/RECIPE)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--engine", choices=("single", "ddp", "fsdp"), help="default: ddp under torchrun")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the networks")
    parser.add_argument("--compile", metavar="BACKEND", help="compile the networks' blocks, as with inductor")
    parser.add_argument("--show", action="store_true", help="print the recipe's settings and stop")
    told = parser.parse_intermixed_args(arguments)  # key=value may follow options
    rank, _ = process()
    try:
        if told.show:
            recipe = with_overrides(find_recipe(told.recipe), _pairs(told.settings))
            print("\n".join(f"{key}={_value(recipe, key)}" for key in leaves(recipe)))
            return 0
        out = told.out or f"runs/{told.recipe.replace(':', '.')}"
        settings = {"threads": told.threads, "precision": told.precision, "compile": told.compile}
        with launched(told.engine, told.device, **settings) as engine:
            recipe = with_overrides(find_recipe(told.recipe), _pairs(told.settings))
            report = recipe.run(out, engine, on_step=_tell if rank == 0 else None)
    except PeerFailed:  # the process that failed has told why
        return 2
    except (ValueError, OSError, NonFiniteError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if rank == 0:
        print(json.dumps(report.to_dict()))
    return 3 if report.ended.startswith("SIG") else 0


def find_recipe(name: str) -> AnyRecipe:
    """Return a recipe by its name in `mezzotint.train.recipes`, or by "module:function".

    Raises:
        ValueError: for an unknown name (the known ones are listed), or a function that returns something else.
    """
    if ":" in name:
        module, _, function = name.partition(":")
        if "" not in sys.path and os.getcwd() not in sys.path:  # the installed command does not look here by itself
            sys.path.insert(0, os.getcwd())
        try:
            make = getattr(import_module(module), function)
        except (ImportError, AttributeError, TypeError, ValueError) as error:  # the last two: no name of a module
            raise ValueError(f"recipe {name!r}: {error}") from error
        try:
            signature(make).bind()
        except (TypeError, ValueError):  # no function, or one that needs arguments
            raise ValueError(f"recipe {name!r}: expected a function without arguments that returns a recipe") from None
        recipe = make()
        if isinstance(recipe, type) or not (is_dataclass(recipe) and isinstance(recipe, AnyRecipe)):
            raise ValueError(
                f"recipe {name!r} returns a {type(recipe).__name__}; expected a Recipe, or another dataclass with "
                "name, run and holds"
            )
        return recipe
    try:
        known = import_module("mezzotint.train.recipes").RECIPES
    except (ImportError, AttributeError):
        known = {}
    if name not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise ValueError(f"unknown recipe {name!r}; known: {listed}; or give MODULE:FUNCTION")
    return known[name]()


def _pairs(settings: Sequence[str]) -> dict[str, str]:
    for setting in settings:
        if "=" not in setting:
            raise ValueError(f"expected key=value, got {setting!r}")
    return dict(setting.split("=", 1) for setting in settings)


def _value(recipe: object, key: str) -> object:
    for name in key.split("."):
        recipe = getattr(recipe, name)
    return recipe


def _tell(progress: Progress) -> None:
    if progress.row is not None:
        print(json.dumps({"of": progress.steps, **progress.row}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
