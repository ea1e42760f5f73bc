"""A checkpoint that several processes write, each its parts, and that any number of them reads.

shard-00000-of-00002.safetensors   the parts of process 0 of 2
index.json                         tensor -> dtype, shape, and its parts: offsets, sizes, file, key
state.json                         as for one process

The planning is torch.distributed.checkpoint's; its own storage is not used, as its metadata is a pickle, and pickles
are never read here. Tensors are named "<file of a checkpoint of one process>/<name in it>", so that both kinds of
checkpoint are read alike.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from mezzotint.io.atomic import write_text
from mezzotint.io.safe import read_header, save_state
from mezzotint.train.checkpoint import CheckpointError
from mezzotint.train.state import INDEX, STATE, fill_optimiser, parameter_names, tensors_of
from mezzotint.train.task import Task

__all__ = ["load_shards", "save_shards"]

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool", "U8": "uint8"}
_DTYPES |= {"I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64"}


def save_shards(task: Task, folder: Path) -> None:
    """Write a task's tensors into an existing folder that all processes see; each calls this.

    Raises:
        OSError: where one of them cannot write; all raise it, naming the process.
    """
    state = {f"{file}/{name}": t for file, tensors in tensors_of(task).items() for name, t in tensors.items()}
    try:
        dcp.save(state, storage_writer=_Writer(folder), planner=DefaultSavePlanner(flatten_state_dict=False))
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        message = f"process {rank} could not write its part of a checkpoint ({cause}); earlier ones are untouched"
        raise OSError(getattr(cause, "errno", None), message) from cause


def load_shards(task: Task, folder: Path) -> dict[str, Any]:
    """Fill a task, divided or whole, from a checkpoint of either kind, and return the facts saved with it.

    Raises:
        CheckpointError: naming file and tensor, where the checkpoint does not fit the task.
    """
    try:
        facts = json.loads((folder / STATE).read_text(encoding="utf-8"))
        reader = _Reader(folder)
        saved: dict[str, TensorStorageMetadata] = reader.read_metadata().state_dict_metadata  # type: ignore[assignment]
        goal: dict[str, Tensor] = {}
        for file, tensors in tensors_of(task).items():
            if not file.startswith("optimiser."):
                goal |= {f"{file}/{name}": tensor for name, tensor in tensors.items()}
        names = parameter_names(task.modules)
        by_name = dict(task.modules.named_parameters())
        entries: dict[str, dict[str, Any]] = {}
        for name in task.optimisers:
            entries[name] = dict(facts["optimiser_values"].get(name, {}))
            for place, told in _under(saved, f"optimiser.{name}/").items():
                entries[name][place] = _room(by_name.get(place.rpartition("/")[0]), told)
                goal[f"optimiser.{name}/{place}"] = entries[name][place]
        _check(goal, saved, folder)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # every process reads its own parts
            planner = DefaultLoadPlanner(flatten_state_dict=False)
            dcp.load(goal, storage_reader=reader, planner=planner, no_dist=True)
        for name, optimiser in task.optimisers.items():
            fill_optimiser(optimiser, entries[name], names, folder)
        for name, ema in task.ema.items():
            ema.updates = facts["ema_updates"][name]
    except CheckpointError:
        raise
    except CheckpointException as error:
        cause = min(error.failures.items())[1][0]
        raise CheckpointError(f"{folder}: does not fit this task: {cause}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: does not fit this task: {error}") from error
    return facts


class _Writer(StorageWriter):
    """One safetensors file a process, and the index of them all."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def reset(self, checkpoint_id: Any = None) -> None: ...

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None: ...

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        names = [f"shard-{i:05d}-of-{len(plans):05d}.safetensors" for i in range(len(plans))]
        return [_with_file(plan, name) for plan, name in zip(plans, names, strict=True)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        tensors, results = {}, []
        for item in plan.items:
            tensor = planner.resolve_data(item)
            assert isinstance(tensor, Tensor)
            key = f"{item.index.fqn}@{','.join(map(str, item.index.offset or ()))}"
            tensors[key] = tensor.detach()
            results.append(WriteResult(item.index, tensor.nbytes, {"file": plan.storage_data, "key": key}))
        save_state(tensors, self.folder / plan.storage_data)
        return _done(results)

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        where = {result.index: result.storage_data for found in results for result in found}
        index = {}
        for name, told in metadata.state_dict_metadata.items():
            assert isinstance(told, TensorStorageMetadata)
            parts = [
                {"offsets": list(c.offsets), "sizes": list(c.sizes), **where[MetadataIndex(name, c.offsets)]}
                for c in told.chunks
                if MetadataIndex(name, c.offsets) in where
            ]
            dtype = str(told.properties.dtype).removeprefix("torch.")
            index[name] = {"dtype": dtype, "shape": list(told.size), "parts": parts}
        write_text(self.folder / INDEX, json.dumps({"format": 1, "tensors": index}, indent=1))

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return True


class _Reader(StorageReader):
    """Reads parts of tensors as they are asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.where: dict[MetadataIndex, tuple[str, str]] = {}

    def reset(self, checkpoint_id: Any = None) -> None: ...

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        tensors = {}
        for name, told in _index(self.folder).items():
            chunks = []
            for part in told["parts"]:
                if Path(part["file"]).name != part["file"]:
                    raise CheckpointError(f"{self.folder / INDEX}: names a file outside its folder, {part['file']!r}")
                chunks.append(ChunkStorageMetadata(torch.Size(part["offsets"]), torch.Size(part["sizes"])))
                self.where[MetadataIndex(name, part["offsets"])] = part["file"], part["key"]
            if sum(math.prod(c.sizes) for c in chunks) != math.prod(told["shape"]):
                raise CheckpointError(f"{self.folder / INDEX}: the parts of {name} do not make up its shape")
            if told["dtype"] not in _DTYPES.values():
                raise CheckpointError(f"{self.folder / INDEX}: {name} has an unknown dtype, {told['dtype']!r}")
            properties = TensorProperties(dtype=getattr(torch, told["dtype"]))
            tensors[name] = TensorStorageMetadata(properties, torch.Size(told["shape"]), chunks)
        return Metadata(tensors)

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None: ...

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        from safetensors import safe_open

        with ExitStack() as stack:
            files: dict[str, Any] = {}
            for item in plan.items:
                file, key = self.where[item.storage_index]
                if file not in files:
                    files[file] = stack.enter_context(safe_open(self.folder / file, "pt"))
                if item.lengths:
                    bounds = zip(item.storage_offsets, item.lengths, strict=True)
                    value = files[file].get_slice(key)[tuple(slice(o, o + n) for o, n in bounds)]
                else:
                    value = files[file].get_tensor(key)
                room = planner.resolve_tensor(item).detach()
                room.copy_(value)
                planner.commit_tensor(item, room)
        return _done(None)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return True


def _index(folder: Path) -> dict[str, Any]:
    """What a checkpoint holds: of the index, or of the files of one process, where each tensor is one part."""
    if (folder / INDEX).is_file():
        return json.loads((folder / INDEX).read_text(encoding="utf-8"))["tensors"]
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, told in read_header(path).items():
            shape = told["shape"]
            part = {"offsets": [0] * len(shape), "sizes": shape, "file": path.name, "key": name}
            found[f"{path.stem}/{name}"] = {"dtype": _DTYPES[told["dtype"]], "shape": shape, "parts": [part]}
    return found


def _under(saved: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name[len(prefix) :]: told for name, told in saved.items() if name.startswith(prefix)}


def _room(parameter: Tensor | None, told: TensorStorageMetadata) -> Tensor:
    """A tensor for a value of the optimiser: laid out and divided as its parameter, where it has its shape."""
    if parameter is not None and parameter.shape == told.size:
        return torch.zeros_like(parameter, dtype=told.properties.dtype, requires_grad=False)
    return torch.zeros(told.size, dtype=told.properties.dtype)


def _check(goal: Mapping[str, Tensor], saved: Mapping[str, TensorStorageMetadata], folder: Path) -> None:
    missing, unknown = sorted(set(goal) - set(saved)), sorted(set(saved) - set(goal))
    other = [
        f"{name} {tuple(saved[name].size)}, expected {tuple(tensor.shape)}"
        for name, tensor in goal.items()
        if name in saved and saved[name].size != tensor.shape
    ]
    lists = (("missing", missing), ("unknown", unknown), ("of another shape", other))
    told = "; ".join(f"{what}: {', '.join(names[:5])}{' ...' * (len(names) > 5)}" for what, names in lists if names)
    if told:
        raise CheckpointError(f"{folder}: does not fit this task: {told}")


def _with_file(plan: SavePlan, name: str) -> SavePlan:
    return SavePlan(plan.items, name, plan.planner_data)


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future
