"""The folder of a run: whose it is, and that only one process writes to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mezzotint.io.atomic import write_text

RUN, LOG, CHECKPOINTS, AVERAGES = "run.json", "log.jsonl", "checkpoints", "averages"


@contextmanager
def run_folder(out: str | Path, identity: Mapping[str, Any]) -> Iterator[Path]:
    """Make or reopen a run's folder, and hold it until left.

    Args:
        out: the folder; made if absent.
        identity: JSON values that must be the same whenever the run is continued (recipe, seed, ...).

    Raises:
        ValueError: where the folder cannot be written, belongs to another run (the entries that differ are
            named), holds other files, or another process works in it.
    """
    out = Path(out)
    identity = json.loads(json.dumps(dict(identity)))
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise ValueError(
            f"cannot write to the run folder {out}: {error.strerror}; choose another, or change its permissions"
        ) from error
    with lock:
        hold(lock, out)
        if (out / RUN).exists():
            _check_owner(out, identity)
        elif others := sorted(p.name for p in out.iterdir() if not p.name.startswith(".")):
            raise ValueError(
                f"{out} is not a run folder (no {RUN}) and is not empty ({', '.join(others[:3])}); "
                "choose a new or empty folder"
            )
        else:
            write_text(out / RUN, json.dumps(identity, indent=1))
        yield out


def _check_owner(out: Path, identity: Mapping[str, Any]) -> None:
    try:
        owner = json.loads((out / RUN).read_text(encoding="utf-8"))
        keys = sorted({*owner, *identity})
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{out / RUN}: damaged ({error}); cannot tell which run this folder belongs to") from error
    differ = [f"{k}: {owner.get(k)!r} there, {identity.get(k)!r} now" for k in keys if owner.get(k) != identity.get(k)]
    if differ:
        more = f"; and {len(differ) - 5} more" if len(differ) > 5 else ""
        raise ValueError(
            f"{out} belongs to another run ({'; '.join(differ[:5])}{more}); "
            "choose another folder, or continue it with the same recipe and seed"
        )


def hold(lock: Any, out: Path) -> None:
    """Take an open file of a folder as the lock of this process until it ends or closes it.

    Raises:
        ValueError: where another process has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: no lock, as before
        return
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by worker processes; dies with this one
    except BlockingIOError as error:
        raise ValueError(f"another process works in {out}; wait for it, or choose another folder") from error
    except OSError:  # a file system without locks
        return
