from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from mezzotint.nn.conditioner import WordPieces

ROOT = Path(__file__).resolve().parents[3]
VOCAB = json.loads((ROOT / "src/mezzotint/train/recipes/emoji_vocab.json").read_text(encoding="utf-8"))


def _tool():
    pytest.importorskip("pyarrow.parquet")
    spec = importlib.util.spec_from_file_location("train_tokenizer", ROOT / "tools" / "train_tokenizer.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    missing = [path.name for path in module.DATA if not path.exists()]
    if missing:
        pytest.skip(f"data/{missing} is not in this checkout")
    return module


def test_the_tool_rebuilds_the_shipped_vocabulary() -> None:
    assert _tool().build() == VOCAB


def test_every_training_name_fits_beside_its_style_without_unknown_pieces() -> None:
    import pyarrow.parquet as pq

    tool, pieces = _tool(), WordPieces(VOCAB)
    for style, path in zip(("noto", "fluent 3d"), tool.DATA):
        for row in pq.read_table(path, columns=["name", "split"]).to_pylist():
            got = pieces.encode(f"{row['name']} {style}")
            assert len(got) < 16, row["name"]  # and the start piece
            assert row["split"] != "train" or 1 not in got, row["name"]


def test_style_words_are_single_pieces() -> None:
    pieces = WordPieces(VOCAB)
    assert [len(pieces.encode(word)) for word in ("noto", "Fluent", "3D")] == [1, 1, 1]
