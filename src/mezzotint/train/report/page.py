"""One HTML page of a run: curves, pictures, settings, metric cards. It holds everything it shows."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any

from mezzotint.io.atomic import write_text
from mezzotint.train.report.curve import Line, Number, Points, compact, curve, smoothed
from mezzotint.train.report.record import PAGE, RunRecord, find_runs, read_run
from mezzotint.train.report.style import STYLE

__all__ = ["render", "write_page"]

_STRIP = 12  # pictures of earlier steps
_ROOM = 12 * 2**20  # bytes of pictures inside the page; those above are linked
_FINITE = 1e300  # what is larger is no measurement, and an integer may not fit a float
_TOLD = {
    "gradient": "gradient norm",
    "samples_per_second": "samples a second",
    "utilisation": "utilisation of the machine's measured peak",
    "memory_mib": "peak memory, MiB",
    "skipped": "steps skipped",
}
_NO_CURVE = {"step", "window", "seconds", "seconds_left", "rate_factor", "loss"}
_LAST = ("gradient", "rate", "samples_per_second", "utilisation", "memory_mib", "skipped")


def write_page(folder: str | Path) -> Path:
    """Make (or make again) FOLDER/report.html from what the folder holds, and return its path.

    Args:
        folder: of a run, also one that goes on; or one whose subfolders are runs (the stages of a recipe).

    Raises:
        ValueError: where there is no run.
    """
    runs = [read_run(run) for run in find_runs(folder)]
    path = Path(folder) / PAGE
    write_text(path, render(runs, path.parent))
    return path


def render(runs: Sequence[RunRecord], base: Path | None = None) -> str:
    """The page of one run, or of several in order.

    Args:
        runs: as read.
        base: folder the page will lie in; pictures too large to be inside are linked from there.
    """
    title = escape(" and ".join(run.name for run in runs))
    body = "\n".join(_run(run, base or run.folder) for run in runs)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}: training</title><style>{STYLE}</style></head>\n<body><main>\n{body}\n"
        f'<p class="quiet">Written {now} by mezzotint {escape(_version())} from the folder of the run; '
        "<code>mezzotint report FOLDER</code> writes it anew.</p>\n</main></body></html>\n"
    )


def _run(run: RunRecord, base: Path) -> str:
    last = run.rows[-1] if run.rows else {}
    parts = [f'<section class="run"><h1>{escape(run.name)}</h1><p>{escape(_state(run, last))}</p>']
    steps = _number(_steps(run))
    if steps and _number(last.get("step")) is not None:
        share = min(100.0, 100 * last["step"] / steps)
        parts.append(f'<div class="bar"><i style="width:{share:.2f}%"></i></div>')
    parts.append(_tiles(run, last))
    parts += [_pictures(run, base), _curves(run), _metrics(run), _tables(run), "</section>"]
    return "\n".join(part for part in parts if part)


def _state(run: RunRecord, last: Mapping[str, Any]) -> str:
    steps, ended = _steps(run), run.facts.get("ended")
    where = f"step {last['step']:,}" if last else "no log row yet"
    if last and _number(steps):
        where += f" of {int(steps):,}"
    return f"{where}, {ended}" if isinstance(ended, str) else f"{where}; going on, or killed" if run.facts else where


def _steps(run: RunRecord) -> Any:
    return run.facts.get("steps") or run.recipe.get("budget.steps")


def _tiles(run: RunRecord, last: Mapping[str, Any]) -> str:
    values = {key: _number(value) for key, value in last.items()}
    told: list[tuple[str, str | None]] = [
        ("loss", _told(values.get("loss"))),
        ("samples a second", _told(values.get("samples_per_second"))),
        ("time trained", _duration(values.get("seconds"))),
        ("time left", None if run.facts.get("ended") else _duration(values.get("seconds_left"))),
        ("of the machine's peak", _percent(values.get("utilisation"))),
        ("peak memory", _told(values.get("memory_mib"), " MiB")),
        ("parameters", _told(_number(run.facts.get("parameters")))),
        ("seed", str(seed) if (seed := run.recipe.get("seed", run.facts.get("seed"))) is not None else None),
    ]
    tiles = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in told if v is not None)
    return f'<dl class="tiles">{tiles}</dl>' if tiles else ""


def _pictures(run: RunRecord, base: Path) -> str:
    if not run.samples:
        return ""
    *earlier, latest = run.samples
    every = max(1, math.ceil(len(earlier) / _STRIP))
    shown, room = [], _ROOM
    for step, path in [latest, *earlier[::-1][::every][::-1]]:
        source, taken = _source(path, base, room)
        room -= taken
        caption = f"<figcaption>step {step:,}</figcaption>"
        shown.append(f'<figure>{caption}<img src="{source}" alt="samples at step {step}" loading="lazy"></figure>')
    strip = f'<div class="strip">{"".join(shown[1:])}</div>' if shown[1:] else ""
    return f'<h2>Samples at fixed seeds</h2><div class="latest">{shown[0]}</div>{strip}'


def _source(path: Path, base: Path, room: int) -> tuple[str, int]:
    """A picture inside the page, or where it lies if it is larger than `room`; and the bytes it takes."""
    try:
        if path.stat().st_size <= room:
            data = path.read_bytes()
            return f"data:image/png;base64,{base64.b64encode(data).decode()}", len(data)
    except OSError:
        return "", 0
    try:
        return escape(path.relative_to(base).as_posix()), 0
    except ValueError:
        return escape(path.resolve().as_uri()), 0


def _curves(run: RunRecord) -> str:
    series = {name: _points(run.rows, name) for name in dict.fromkeys(key for row in run.rows for key in row)}
    base = _number(run.recipe.get("optimiser.lr"))
    rate = [(x, y * (base or 1.0)) for x, y in series.get("rate_factor", [])]
    series["rate"] = rate
    told = {**_TOLD, "rate": "learning rate" if base else "learning rate over its base"}
    terms = [n for n in series if n not in _NO_CURVE and n not in _LAST and series[n] != series.get("loss")]
    figures = []
    if series.get("loss"):
        figures.append(_figure("loss", series["loss"], wide=True, smooth=True))
    figures += [_figure(name, series[name], smooth=True) for name in terms if series[name]]
    figures += [_figure(told[n], series[n], smooth=n == "gradient") for n in _LAST if series.get(n)]
    return f'<h2>Curves</h2><div class="curves">{"".join(figures)}</div>' if figures else ""


def _figure(name: str, points: Points, *, wide: bool = False, smooth: bool = False, kind: str = "line") -> str:
    lines = [Line(points, "raw"), Line(smoothed(points))] if smooth and len(points) > 10 else [Line(points, kind)]
    side = ' class="wide"' if wide else ""
    log = False if name.startswith("learning rate") else None
    last = f"{compact(points[-1][1])} at step {points[-1][0]:,.0f}"
    caption = f"<figcaption><b>{escape(name)}</b><span>{escape(last)}</span></figcaption>"
    drawn = curve(lines, f"{name} by step; {last}", 1000 if wide else 480, log)
    return f"<figure{side}>{caption}{drawn}</figure>"


def _metrics(run: RunRecord) -> str:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in run.metrics:
        by_name.setdefault(str(row.get("name", "?")), []).append(row)
    if not by_name:
        return ""
    figures = [
        _figure(name, points, kind="dots")
        for name, rows in by_name.items()
        if len(points := _points(rows, "value")) > 1
    ]
    cards = []
    for name, rows in by_name.items():
        row = rows[-1]
        card = row.get("card") if isinstance(row.get("card"), dict) else {}
        value, error = _number(row.get("value")), _number(row.get("error"))
        told = _told(value) or str(row.get("value"))
        told += f" ± {compact(error)} (standard error)" if error is not None else ""
        entries = {"value": told, "step": row["step"], **{k: v for k, v in (card or {}).items() if v not in ("", None)}}
        cards.append(f"<div><h3>{escape(name)}</h3>{_table(entries.items())}</div>")
    curves = f'<div class="curves">{"".join(figures)}</div>' if figures else ""
    return f'<h2>Metrics</h2>{curves}<div class="tables">{"".join(cards)}</div>'


def _tables(run: RunRecord) -> str:
    facts = {k: v for k, v in run.facts.items() if not isinstance(v, dict) and v is not None}
    versions = run.facts.get("versions")
    if isinstance(versions, dict):
        facts |= {f"version of {name}": number for name, number in versions.items()}
    parts = []
    if run.recipe:
        parts.append(f"<div><h2>Recipe</h2>{_table(run.recipe.items())}</div>")
    if facts:
        parts.append(f"<div><h2>Machine and versions</h2>{_table(facts.items())}</div>")
    return f'<div class="tables">{"".join(parts)}</div>' if parts else ""


def _table(entries: Iterable[tuple[str, Any]]) -> str:
    rows = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(_value(v))}</td></tr>" for k, v in entries)
    return f'<div class="scroll"><table>{rows}</table></div>'


def _value(value: Any) -> str:
    if isinstance(value, float) and abs(value) >= 1e6:
        return compact(value)
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _points(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), value) for row in rows if (value := _number(row.get(name))) is not None]


def _number(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or abs(value) > _FINITE:
        return None
    return float(value)


def _told(value: float | None, unit: str = "") -> str | None:
    return None if value is None else compact(value) + unit


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f} %"


def _duration(seconds: Number | None) -> str | None:
    """Hours and minutes.

    >>> _duration(3725), _duration(42.4)
    ('1 h 02 min', '42 s')
    """
    if seconds is None or not math.isfinite(seconds):
        return None
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _version() -> str:
    from mezzotint import __version__

    return __version__
