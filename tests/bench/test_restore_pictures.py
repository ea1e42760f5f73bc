"""The sheet of docs/restoration-pictures.md: what stands on it, and that the page has it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from PIL import Image

from mezzotint.bench.restore_case import CASES
from mezzotint.core import Flow, Gaussian
from mezzotint.restore.names import METHODS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("restore_pictures", ROOT / "tools" / "restore_pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(tool):
    class Known:
        device = torch.device("cpu")

        def prior(self):
            return Gaussian(torch.zeros(3, 16, 16), std=0.4).denoiser(Flow()), None

    x = 0.4 * torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return tool.rows(Known(), x, 20)


def test_every_task_is_shown_by_a_method_that_draws_samples(tool):
    assert set(tool.ROWS) == set(CASES)
    assert all(METHODS[method].make().spread for method in tool.ROWS.values())


def test_rows_are_what_they_say(found):
    """PSNR again from what is shown; the truth is last, the spread is 0 where the samples agree."""
    for row in found:
        seen, mean, one, spread, truth = row["shown"]
        for shown, told in zip((seen, mean, one), row["psnr"], strict=True):
            assert told == pytest.approx(float(10 * torch.log10(4 / (shown - truth).square().mean())), abs=1e-3)
        assert float(spread.max()) == pytest.approx(1.0) and float(spread.min()) >= -1.0
    denoised = next(row for row in found if row["task"] == "denoise")
    assert denoised["psnr"][1] > denoised["psnr"][0] + 0.3 and denoised["psnr"][1] > denoised["psnr"][2]


def test_the_sheet_holds_every_picture(tool, found, tmp_path):
    tool.draw(tmp_path / "sheet.png", found, 2)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (6 + 5 * 38, 16 + 6 * 54)
        assert sheet.getpixel((6 + 4 * 38, 16)) == tuple(
            ((found[0]["shown"][4][:, 0, 0] + 1) * 127.5).round().clamp(0, 255).int().tolist()
        )


def test_the_page_has_the_picture_and_a_row_a_task(tool):
    page = tool.PAGE.read_text(encoding="utf-8")
    inside = page.partition(tool.BEGIN)[2].partition(tool.END)[0]
    assert all(f"| {task} | `{method}` |" in inside for task, method in tool.ROWS.items())
    assert "images/restored-emoji.png" in page and tool.PICTURE.stat().st_size < 150_000
