"""The picture book of docs/editing.md: what its rows count, and that the page has it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("editing_book", ROOT / "tools" / "editing_book.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["editing_book"] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


class Painted(torch.nn.Module):
    """A model whose network is counted, and whose sample calls it three times on two rows."""

    size = (8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.denoiser = torch.nn.Module()
        self.denoiser.net = torch.nn.Identity()

    def sample(self) -> torch.Tensor:
        for _ in range(3):
            self.denoiser.net(torch.zeros(2, 3, 8, 8))
        return torch.zeros(3, 8, 8)


def test_evaluations_are_those_of_the_edit_and_changes_are_told_inside_and_outside(tool, monkeypatch, tmp_path) -> None:
    def edited(model):
        before, mask = model.sample(), torch.zeros(8, 8, dtype=torch.bool)
        mask[:4] = True
        return tool.Entry("half", "edit half", before, mask, lambda: model.sample() + mask.float())

    def told(model):
        return tool.Entry("map", "explain", model.sample(), None, model.sample, explains=True)

    monkeypatch.setattr(tool, "book", lambda: [("a", edited, (Painted(),)), ("b", told, (Painted(),))])
    found = tool.rows()
    assert [row["nfe"] for row in found] == [6, 6]
    lines = tool.table(found).splitlines()
    assert lines[2].startswith("| 1 half | `edit half` | `a` | 6 |") and lines[2].endswith("| 0.500 | 0.000 |")
    assert lines[3].endswith("|  |  |")
    tool.draw(tmp_path / "book.png", found)
    assert Image.open(tmp_path / "book.png").size == (6 + 4 * 70, 16 + 2 * 86)
    assert tool.main(["--out", str(tmp_path / "other.png")]) == 0 and (tmp_path / "other.png").is_file()


def test_a_shrunk_picture_stands_on_white_under_its_mask(tool) -> None:
    class Red:
        def sample(self, prompt, seeds):
            return torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)

    image, mask = tool.shrunk(Red(), (32, 32), 14, (2, 9))
    assert int(mask.sum()) == 14 * 14 and bool(mask[9:23, 2:16].all())
    assert bool((image[:, ~mask] == 1).all()) and torch.allclose(image[1][mask], torch.tensor(-1.0), atol=1e-5)


def test_the_page_has_the_picture_and_a_row_for_every_edit(tool) -> None:
    page = (ROOT / "docs" / "editing.md").read_text(encoding="utf-8")
    inside = page.partition(tool.BEGIN)[2].partition(tool.END)[0]
    rows = [line for line in inside.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert len(rows) == len(tool.book())
    with Image.open(tool.PICTURE) as sheet:
        assert sheet.size == (6 + 4 * (tool.CELL + 6), 16 + len(rows) * (tool.CELL + 22))
    assert tool.PICTURE.stat().st_size < 30_000
