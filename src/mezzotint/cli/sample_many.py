"""`mezzotint sample --count 50000 --format png`: many images, by any number of processes, taken up where they stopped.

DIR/sampling.json        what was asked for: a folder belongs to one call, which may be repeated and made longer
DIR/0000012.png          the image of seed 12 (--format png), or
DIR/part-00003.parquet   the images of one part of the seeds, with columns image, seed and text (--format parquet)

Images are computed in blocks of `batch` neighbouring ones, always whole, so that an image does not depend on how many
processes there are, on what was there already, or on --count (with one prompt). Each file appears whole or not at all.
"""

from __future__ import annotations

import io
import json
import os
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from mezzotint.cli.options import find_device, print_json
from mezzotint.cli.rescale import rescaled, tell
from mezzotint.cli.sample_plan import FORMAT, RECORD, Plan, arrow, read_plan

__all__ = ["sample_many", "wanted"]

MANY = 4096  # from here on without a contact sheet
_ROWS = 1024  # images of a Parquet file
_WEEK = 7 * 24 * 60.0  # minutes: the processes wait for each other at the end alone
_LOCK = ".lock"
_OLDER = {"rescale": False}  # what records said nothing of
_SHOWN = 64  # numbers of each tensor that tell models apart


def wanted(told: Namespace, count: int) -> bool:
    """Whether a call is one for many images, or goes on with them."""
    if told.out is not None and (told.out / RECORD).is_file():
        return True
    return told.format is not None or count > MANY or int(os.environ.get("WORLD_SIZE", 1)) > 1


def sample_many(told: Namespace, prompts: list[str] | list[None], each: int) -> int:
    """Sample what is not there yet; returns the exit status."""
    from mezzotint.train.group import PeerFailed

    folder = told.out or Path("samples")
    if folder.suffix.lower() == ".png":
        raise ValueError(f"--out is a folder where many images are made, got {folder}")
    try:
        with _processes() as processes:
            return _sample(told, prompts, each, folder, processes)
    except PeerFailed:  # the process that failed has told why
        return 2


def _sample(told: Namespace, prompts: list[Any], each: int, folder: Path, processes: _Alone) -> int:
    import torch

    import mezzotint as mz
    from mezzotint.train.launch import local_device

    device = local_device(find_device(told.device))
    name = told.model or "emoji"
    model = mz.load(name, device)
    if model.conditioner is not None and prompts == [None]:
        raise ValueError("a prompt is missing: mezzotint sample 'a red heart' --count 50000 (or --prompts FILE)")
    plan = _plan(told, prompts, each, model, name, read_plan(folder))
    torch.set_num_threads(plan.threads)  # the order of a sum depends on it
    with ExitStack() as held:
        left, missing = processes.lead(lambda: _begin(folder, plan, device, held))
        mine = left[processes.rank :: processes.world]
        with _Bar(sum(len(plan.images(b)) for b in mine), quiet=told.json or processes.rank > 0) as bar:
            for block in mine:
                _make(model, plan, folder, block)
                bar.step(len(plan.images(block)))
        processes.all(lambda: None)
    if processes.rank == 0:
        found = {"folder": str(folder), "record": RECORD, "count": plan.count, "made": missing}
        found["skipped"] = plan.count - missing
        if told.json:
            print_json(found)
        else:
            if plan.rescale:
                tell(model)
            print(f"{folder}: {plan.count} images, {missing} of them made now; {folder / RECORD} tells how")
    return 0


def _plan(told: Namespace, prompts: list[Any], each: int, model: Any, name: str, before: dict[str, Any]) -> Plan:
    """The call with its defaults; a folder that is taken up again has its own batch."""
    import torch

    batch = told.batch or before.get("batch") or min(64, each * len(prompts))
    if batch > MANY:  # computed whole even for few images, so that these do not depend on --count
        raise ValueError(f"--batch {batch} images at once; expected at most {MANY}")
    kind = told.format or before.get("format") or "png"
    rows = 1 if kind == "png" else max(1, _ROWS // batch) * batch
    return Plan(
        prompts=None if prompts == [None] else list(prompts),
        each=each,
        first=told.seed or 0,
        model=str(Path(name).resolve()) if Path(name).is_dir() else name,
        weights=_fingerprint(model),
        sampler=told.sampler or model.defaults["sampler"],
        grid=told.grid,
        steps=told.steps or model.defaults["steps"],
        guidance=float(model.defaults["guidance"] if told.guidance is None else told.guidance),
        size=list(told.size or model.size),
        batch=batch,
        format=kind,
        rows=rows,
        threads=before.get("threads") or torch.get_num_threads(),
        rescale=rescaled(told, model, tuple(told.size or model.size)),
    )


def _begin(folder: Path, plan: Plan, device: str, held: ExitStack) -> tuple[list[int], int]:
    """Take a folder for a plan; returns the blocks that are not there yet, and how many images that is."""
    from mezzotint.io.atomic import clear_temporary, write_text
    from mezzotint.papers.setting import versions
    from mezzotint.train.folder import hold

    folder.mkdir(parents=True, exist_ok=True)
    hold(held.enter_context((folder / _LOCK).open("a")), folder)
    before, now = read_plan(folder), asdict(plan)
    if before and not any(folder.glob(f"*.{plan.format}")) and not any(folder.glob(f"*.{before.get('format')}")):
        before = {}  # a call that made nothing, such as one with a wrong setting, does not own the folder
        (folder / RECORD).unlink()
    longer = len(plan.prompts or [None]) == 1 and plan.each >= before.get("each", 0)
    differ = [k for k in now if before and before.get(k, _OLDER.get(k, now[k] if k == "threads" else None)) != now[k]]
    differ = [k for k in differ if not (longer and k == "each")]
    if differ:
        told = "; ".join(f"{k}: {before.get(k)!r} there, {now[k]!r} now" for k in differ[:5])
        raise ValueError(
            f"{folder} holds other images ({told}); choose another --out, or repeat the call that began it"
        )
    if not before and (others := [p.name for p in sorted(folder.iterdir()) if not p.name.startswith(".")]):
        raise ValueError(f"{folder} is not empty ({', '.join(others[:3])}); choose a new folder for --out")
    clear_temporary(folder)
    if before != now:
        record = {"format": FORMAT, "plan": now, "device": device, "versions": versions()}
        write_text(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False))
    left = [block for block in range(plan.blocks) if not plan.done(folder, block)]
    return left, sum(plan.missing(folder, block) for block in left)


def _make(model: Any, plan: Plan, folder: Path, block: int) -> None:
    """Compute a block, in whole batches, and write what is asked for."""
    from mezzotint.cli.picture import pixels, write_png
    from mezzotint.cli.sample import understood

    images, made = plan.images(block), []
    for start in range(images.start, images.stop, plan.batch):
        batch = range(start, start + plan.batch)
        prompts = [plan.prompt(i) for i in batch]
        same = len(set(prompts)) == 1
        drawn = model.sample(
            understood(prompts[0] if same else tuple(p or "" for p in prompts), model),
            count=len(batch) if same else 1,
            steps=plan.steps,
            sampler=plan.sampler,
            grid=plan.grid,
            guidance=plan.guidance,
            seeds=[plan.seed(i) for i in batch],
            size=(plan.size[0], plan.size[1]),
            batch=plan.batch,
            rescale=plan.rescale,
        )
        made += list(pixels(drawn))[: images.stop - start]
    if plan.format == "png":
        for image, picture in zip(images, made, strict=True):
            if not plan.holds(folder, image):
                write_png(plan.file(folder, image), picture)
        return
    _write_parquet(plan.file(folder, images[0]), plan, images, made)


def _write_parquet(path: Path, plan: Plan, images: range, made: list[Any]) -> None:
    """Columns as datasets of images have them: image (bytes and path), seed, and text."""
    from PIL import Image

    from mezzotint.io.atomic import atomic_file

    parquet, pyarrow = arrow()
    rows = []
    for image, picture in zip(images, made, strict=True):
        data = io.BytesIO()
        Image.fromarray(picture.numpy()).save(data, format="PNG")
        rows.append({"bytes": data.getvalue(), "path": f"{plan.seed(image):07d}.png"})
    columns = {"image": rows, "seed": [plan.seed(i) for i in images], "text": [plan.prompt(i) or "" for i in images]}
    features = {"image": {"_type": "Image"}, "seed": {"dtype": "int64", "_type": "Value"}}
    features["text"] = {"dtype": "string", "_type": "Value"}
    table = pyarrow.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    with atomic_file(path) as temporary:
        parquet.write_table(table, temporary)


def _fingerprint(model: Any) -> str:
    """A digest of some numbers of every tensor: tells a model from the same one trained on."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        some = flat[:: max(1, flat.numel() // _SHOWN)].double().cpu().numpy()
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + some.tobytes())
    return digest.hexdigest()[:32]


class _Alone:
    """One process; what `Group` is to several."""

    rank, world = 0, 1

    def lead(self, action: Callable[[], Any]) -> Any:
        return action()

    def all(self, action: Callable[[], Any]) -> Any:
        return action()


@contextmanager
def _processes() -> Iterator[Any]:
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield _Alone()
        return
    import torch

    from mezzotint.train.group import Group

    group = Group(torch.device("cpu"), timeout=_WEEK)  # the images themselves are not sent
    with group.together():
        yield group
    group.leave()


class _Bar:
    """Progress on stderr."""

    def __init__(self, count: int, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), disable=quiet or count == 0)
        self._task = self._bar.add_task("images", total=count)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def step(self, count: int) -> None:
        self._bar.advance(self._task, count)
