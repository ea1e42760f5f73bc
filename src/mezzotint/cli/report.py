"""`mezzotint report RUN`: the page of a run, made from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mezzotint.cli.options import Parser, print_json


def main(arguments: Sequence[str]) -> int:
    """Write RUN/report.html, also while the run goes on and for runs of older versions."""
    parser = Parser("report", "Curves, pictures, settings and metrics of a training run, as one HTML page.")
    parser.add_argument("run", type=Path, help="the run's folder (the --out of train); with stages, the one above them")
    parser.json_option()
    told = parser.parse_args(arguments)
    from mezzotint.train.report import find_runs, read_run, write_page

    page = write_page(told.run)
    if told.json:
        runs = [read_run(folder) for folder in find_runs(told.run)]
        rows = [{"name": r.name, "folder": str(r.folder), "last": r.rows[-1] if r.rows else None} for r in runs]
        print_json({"page": str(page), "runs": rows})
    else:
        print(page)
    return 0
