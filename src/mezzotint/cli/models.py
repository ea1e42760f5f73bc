"""`mezzotint models`, `models show NAME`; `models samplers` and `models grids` are in `samplers.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mezzotint.cli.options import Parser, print_json
from mezzotint.cli.samplers import LISTS


def main(arguments: Sequence[str]) -> int:
    """List the models that are shipped or lie in a folder, or show one's card."""
    if arguments and arguments[0] == "show":
        return _show(arguments[1:])
    if arguments and arguments[0] in LISTS:
        return LISTS[arguments[0]](arguments[1:])
    parser = Parser(
        "models",
        "Models that are shipped, or found in a folder. `models show NAME` shows a card, `models samplers` and "
        "`models grids` list what else a model can be sampled with.",
    )
    parser.add_argument("--folder", type=Path, default=Path("."), help="also look at the model folders in it")
    parser.json_option()
    told = parser.parse_args(arguments)
    rows = [_row(name, path, "shipped") for name, path in _shipped().items()]
    rows += [_row(str(path), path, "found") for path in _found(told.folder)]
    if told.json:
        print_json(rows)
        return 0
    for row in rows:
        size = "x".join(map(str, row["size"])) if row["size"] else "-"
        print(f"{row['name']:<24} {row['origin']:<8} {size}  {row['megabytes']:.1f} MB  {row['summary']}")
    if not rows:
        print(f"no model is shipped with this copy, and {told.folder.resolve()} holds none")
    return 0


def _show(arguments: Sequence[str]) -> int:
    parser = Parser("models show", "The card of one model.")
    parser.add_argument("name", help="a shipped model, or a folder: ours or of a diffusers pipeline")
    parser.json_option()
    told = parser.parse_args(arguments)
    shipped = _shipped()
    path = shipped.get(told.name, Path(told.name))
    if not path.is_dir():
        known = ", ".join(shipped) or "none"
        raise ValueError(f"no model {told.name!r}: neither shipped ({known}) nor a folder")
    if (index := _pipeline(path)) is not None:
        return _show_pipeline(told.name, path, index, told.json)
    row = _row(told.name, path, "shipped" if told.name in shipped else "found")
    if told.json:
        print_json({**row, "config": _config(path), "card": _card(path)})
    else:
        print(_card(path).rstrip() or f"{told.name} has no card")
        print(f"\n{path}  ({row['megabytes']:.1f} MB)")
    return 0


def _shipped() -> dict[str, Path]:
    from mezzotint.model import shipped

    return {name: path for name, path in shipped().items() if _is_ours(path)}  # metrics keep networks there too


def _found(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}")
    return [path for path in sorted(folder.glob("*/")) if _is_ours(path) or _pipeline(path) is not None]


def _is_ours(path: Path) -> bool:
    try:
        _config(path)
    except ValueError:  # somebody else's config.json
        return False
    return True


def _config(path: Path) -> dict[str, Any]:
    from mezzotint.io.folder import read_config

    return dict(read_config(path))


def _pipeline(path: Path) -> dict[str, Any] | None:
    """The index of a diffusers pipeline; None for another folder."""
    if not (path / "model_index.json").is_file() or (path / "config.json").is_file():
        return None
    try:
        index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return index if isinstance(index, dict) else {}


def _show_pipeline(name: str, path: Path, index: dict[str, Any], as_json: bool) -> int:
    """Its card and components; diffusers need not be installed."""
    from mezzotint.io.diffusers.families import family_of

    family_of(index.get("_class_name"), path / "model_index.json")  # refuses what could not be loaded
    row = _row(name, path, "found")
    if as_json:
        print_json({**row, "config": index, "card": _card(path)})
        return 0
    print(_card(path).rstrip() or f"{name}: a {row['summary']}")
    for part, entry in sorted(index.items()):
        if isinstance(entry, list) and len(entry) == 2 and entry[0]:
            print(f"  {part:<16} {entry[1]} of {entry[0]}")
    print(f"\n{path}  ({row['megabytes']:.1f} MB)")
    return 0


def _card(path: Path) -> str:
    card = path / "README.md"
    return card.read_text(encoding="utf-8") if card.is_file() else ""


def _row(name: str, path: Path, origin: str) -> dict[str, Any]:
    index = _pipeline(path)
    if index is not None:
        size = sum(file.stat().st_size for file in path.glob("*/*.safetensors"))
        return {
            "name": name,
            "origin": origin,
            "path": str(path),
            "size": None,
            "defaults": {},
            "megabytes": round(size / 1e6, 1),
            "summary": f"{index.get('_class_name')!s:.60} of diffusers",
        }
    config = _config(path)
    lines = [line.strip() for line in _card(path).splitlines()]
    summary = next((line for line in lines if line and not line.startswith(("#", "-", "|", "!", ">"))), "")
    size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    return {
        "name": name,
        "origin": origin,
        "path": str(path),
        "size": config["size"],
        "defaults": config["defaults"],
        "megabytes": round(size / 1e6, 1),
        "summary": summary,
    }
