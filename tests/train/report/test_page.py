"""The page: whole by itself, escaped, and made of whatever the folder holds."""

from __future__ import annotations

import base64
import json
import math
from html.parser import HTMLParser

import pytest
import torch

from mezzotint.metric import MetricCard
from mezzotint.metric.result import MetricResult
from mezzotint.train.report import find_runs, read_run, write_page
from mezzotint.train.report.record import forget_after, write_metric, write_samples

HOSTILE = '"><script>alert(1)</script>&<img src=x onerror=y>'


_VOID = {"meta", "img", "line", "polyline", "circle"}


class _Reader(HTMLParser):
    """Elements with their attributes; refuses what is opened and not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def run(tmp_path):
    """A folder as a run leaves it."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"name": HOSTILE, "seed": 3, "budget.steps": 200, "optimiser.lr": 0.1}))
    rows = [
        {"step": n, "loss": 1 / n, HOSTILE: 2.0, "mse": 1 / n, "kl": n * 2.0, "rate_factor": 0.5, "seconds": n / 2}
        for n in range(10, 110, 10)
    ]
    rows[4]["loss"] = math.nan
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 110, "lo')
    return folder


def _page(folder):
    path = write_page(folder)
    return _Reader(path.read_text(encoding="utf-8"))


def test_nothing_is_loaded_and_nothing_runs(run):
    write_samples(run, 50, torch.zeros(4, 3, 8, 8))
    write_metric(run, 50, MetricResult(math.inf, MetricCard(HOSTILE, n=4, notes=HOSTILE)))
    page = _page(run)
    assert page.named("script") == [] and page.named("link") == [] and page.named("iframe") == []
    sources = [value for _, found in page.elements for key, value in found.items() if key in ("src", "href")]
    assert len(sources) == 1 and sources[0].startswith("data:image/png;base64,")
    assert all(not key.startswith("on") for _, found in page.elements for key in found)
    assert HOSTILE in "".join(page.text)  # told as text
    assert "url(" not in (run / "report.html").read_text() and "@import" not in (run / "report.html").read_text()


def test_a_run_of_an_older_version_still_shows_its_curves(run):
    page = _page(run)
    labels = [svg["aria-label"] for svg in page.named("svg")]
    assert [label.split(" by step")[0] for label in labels] == ["loss", HOSTILE, "mse", "kl", "learning rate"]
    assert "learning rate by step; 0.05 at step 100" in labels
    assert "step 100 of 200" in "".join(page.text)


def test_a_term_that_is_the_loss_is_not_drawn_twice(run):
    rows = [{"step": n, "loss": 1 / n, "mse": 1 / n} for n in range(1, 5)]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [svg["aria-label"].split()[0] for svg in _page(run).named("svg")] == ["loss"]


def test_pictures_are_inside_the_latest_first_and_evenly_chosen(run):
    for step in range(1, 41):
        write_samples(run, step, torch.full((1, 3, 4, 4), step / 20 - 1))
    images = _page(run).named("img")
    assert images[0]["alt"] == "samples at step 40" and 8 <= len(images) <= 13
    steps = [int(image["alt"].split()[-1]) for image in images[1:]]
    assert steps == sorted(steps) and len({b - a for a, b in zip(steps, steps[1:])}) == 1
    assert base64.b64decode(images[0]["src"].split(",")[1]) == (run / "samples" / "00000040.png").read_bytes()


def test_pictures_above_the_room_are_linked(run, monkeypatch):
    monkeypatch.setattr("mezzotint.train.report.page._ROOM", 100)
    write_samples(run, 5, torch.randn(4, 3, 16, 16))
    assert [image["src"] for image in _page(run).named("img")] == ["samples/00000005.png"]


def test_metrics_are_told_with_their_cards(run):
    for step, value in ((10, 30.0), (20, 20.0)):
        write_metric(run, step, MetricResult(value, MetricCard("frechet", "net-A", "abc123", n=64), error=0.5))
    page = _page(run)
    words = "".join(page.text)
    assert "frechet on net-A" in words and "20 ± 0.5" in words and "abc123" in words
    assert any("frechet on net-A by step" in svg["aria-label"] for svg in page.named("svg"))


def test_what_belongs_to_lost_steps_goes(run):
    for step in (10, 20, 30):
        write_samples(run, step, torch.zeros(1, 3, 4, 4))
        write_metric(run, step, MetricResult(step / 1, MetricCard("psnr", n=1)))
    (run / "samples" / "mine.png").write_bytes(b"not ours")
    forget_after(run, 20)
    record = read_run(run)
    assert [step for step, _ in record.samples] == [10, 20] == [row["step"] for row in record.metrics]
    assert (run / "samples" / "mine.png").exists()


def test_files_that_are_broken_count_as_empty(run):
    for name in ("facts.json", "recipe.json", "metrics.jsonl"):
        (run / name).write_bytes(b'{"a": \xff')
    (run / "log.jsonl").write_text(
        '[1]\n{"step": "x", "loss": 1}\n{"loss": 2}\n{"step": 4, "loss": ' + "9" * 400 + "}\n"
    )
    page = _page(run)
    assert page.named("svg") == [] and "step 4 of 200" in "".join(page.text)
    (run / "run.json").write_text("[]")
    (run / "log.jsonl").unlink()
    assert "no log row yet" in "".join(_page(run).text)


def test_stages_share_a_page(run, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    (second / "run.json").write_text('{"name": "two"}')
    assert {folder.name for folder in find_runs(tmp_path)} == {"run", "second"}
    page = _page(tmp_path)
    assert len(page.named("section")) == 2 and "two" in page.text


def test_no_run_is_one_line(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ValueError, match="no run there"):
            write_page(folder)
