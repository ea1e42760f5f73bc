"""A task's whole state as files: safetensors for tensors, JSON for the rest, no pickle.

module.<name>.safetensors      the module's state
ema.<name>.safetensors         the averaged parameters
optimiser.<name>.safetensors   "<parameter>/<key>" -> tensor, e.g. "denoiser.net.out.weight/exp_avg"
state.json                     step, EMA counts, optimiser values that are not tensors

Where several processes wrote their parts (`mezzotint.train.sharded`), shards and index.json take the place of the
first three.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mezzotint.io.safe import check_state, load_into, read_state, save_state
from mezzotint.train.checkpoint import CheckpointError, newest_checkpoint
from mezzotint.train.task import Task

STATE, INDEX = "state.json", "index.json"


def save_task(task: Task, folder: str | Path, **facts: Any) -> None:
    """Write a task's modules, averages and optimiser states into an existing folder.

    Args:
        task: what to save.
        folder: an empty folder, usually the temporary one of `write_checkpoint`.
        facts: JSON values kept beside them (step, seconds).
    """
    folder = Path(folder)
    for file, tensors in tensors_of(task).items():
        save_state(tensors, folder / f"{file}.safetensors")
    (folder / STATE).write_text(json.dumps(facts_of(task, facts), indent=1), encoding="utf-8")


def tensors_of(task: Task) -> dict[str, dict[str, Tensor]]:
    """Every tensor of a task's state: "module.<name>", "ema.<name>", "optimiser.<name>" -> name -> tensor."""
    found: dict[str, dict[str, Tensor]] = {f"module.{name}": m.state_dict() for name, m in task.modules.items()}
    found |= {f"ema.{name}": ema.averages for name, ema in task.ema.items()}
    for name, entries in _entries(task).items():
        found[f"optimiser.{name}"] = {place: value for place, value in entries.items() if isinstance(value, Tensor)}
    return found


def facts_of(task: Task, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What is no tensor: facts of the run, counts of the averages, numbers that optimisers keep."""
    values = {
        name: {place: value for place, value in entries.items() if not isinstance(value, Tensor)}
        for name, entries in _entries(task).items()
    }
    return {**facts, "ema_updates": {n: e.updates for n, e in task.ema.items()}, "optimiser_values": values}


def load_task(task: Task, folder: str | Path) -> dict[str, Any]:
    """Fill a task from a checkpoint folder, and return the facts saved with it.

    Raises:
        CheckpointError: naming file and tensor, where the checkpoint does not fit the task.
    """
    folder = Path(folder)
    if is_sharded(folder):
        from mezzotint.train.sharded import load_shards

        return load_shards(task, folder)
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        for name, module in task.modules.items():
            load_into(module, folder / f"module.{name}.safetensors")
        for name, ema in task.ema.items():
            path = folder / f"ema.{name}.safetensors"
            averages = read_state(path)
            check_state(averages, ema.averages, path)
            for key, average in ema.averages.items():
                average.copy_(averages[key])
            ema.updates = state["ema_updates"][name]
        for name, optimiser in task.optimisers.items():
            path = folder / f"optimiser.{name}.safetensors"
            entries = {**read_state(path), **state["optimiser_values"].get(name, {})}
            fill_optimiser(optimiser, entries, parameter_names(task.modules), path)
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: does not fit this task: {error}") from error
    return state


def load_newest(task: Task, out: str | Path) -> dict[str, Any]:
    """Fill a task from the newest whole checkpoint of a run folder.

    Raises:
        ValueError: where the folder holds none.
    """
    folder = newest_checkpoint(Path(out) / "checkpoints")
    if folder is None:
        raise ValueError(f"{out}: no checkpoint there; expected the folder of a training run")
    return load_task(task, folder)


def is_sharded(folder: Path) -> bool:
    """Whether several processes have written a checkpoint, each its parts."""
    return (folder / INDEX).is_file()


def fill_optimiser(
    optimiser: torch.optim.Optimizer, entries: Mapping[str, Any], names: Mapping[int, str], path: Path
) -> None:
    """Give an optimiser its state: "<parameter>/<key>" -> tensor or number; `path` is named in errors."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    places = {_name_of(p, names): (i, p) for i, p in enumerate(parameters)}
    state: dict[int, dict[str, Any]] = {}
    for place, value in entries.items():
        name, _, key = place.rpartition("/")
        if name not in places:
            raise CheckpointError(f"{path}: state for {name!r}, which this optimiser does not train")
        index, parameter = places[name]
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            # the memory format of the parameter, as the optimiser made it: same kernels, same bits
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        elif isinstance(value, Tensor):
            value = value.clone()  # off the mapped file
        state.setdefault(index, {})[key] = value
    # hyper-parameters are the recipe's, not the checkpoint's
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _entries(task: Task) -> dict[str, dict[str, Any]]:
    names = parameter_names(task.modules)
    return {
        name: {
            f"{_name_of(parameter, names)}/{key}": value
            for parameter, entries in optimiser.state.items()
            for key, value in entries.items()
        }
        for name, optimiser in task.optimisers.items()
    }


def parameter_names(modules: nn.Module) -> dict[int, str]:
    """id -> name of every parameter."""
    return {id(p): name for name, p in modules.named_parameters()}


def _name_of(parameter: Tensor, names: Mapping[int, str]) -> str:
    if id(parameter) not in names:
        raise ValueError("an optimiser trains a parameter that is in none of the task's modules; add its module")
    return names[id(parameter)]
