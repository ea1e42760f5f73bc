"""Make the vocabulary of the emoji text encoder from the names and keywords of the training split.

    python tools/train_tokenizer.py            writes src/mezzotint/train/recipes/emoji_vocab.json

The vocabulary is a function of the packed data alone; tests/nn/conditioner/test_vocabulary.py rebuilds it.
Validation and test captions are not read, so their words are as unseen as a user's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from mezzotint.nn.conditioner.tokenizer import train_vocabulary

ROOT = Path(__file__).resolve().parent.parent
DATA = (ROOT / "data" / "emoji_noto.parquet", ROOT / "data" / "emoji_fluent.parquet")
OUT = ROOT / "src" / "mezzotint" / "train" / "recipes" / "emoji_vocab.json"
SIZE = 2400
WHOLE = 2  # a word of two different emoji is worth a piece of its own
STYLES = ("noto", "fluent", "3d")


def captions(paths: tuple[Path, ...]) -> Iterator[str]:
    """Each distinct name and keyword list of the training split once, so skin tones do not outvote everything."""
    import pyarrow.parquet as pq

    seen = set()
    for path in paths:
        for row in pq.read_table(path, columns=["name", "keywords", "split"]).to_pylist():
            keywords = row["keywords"]
            text = f"{row['name']} {keywords if isinstance(keywords, str) else ' '.join(keywords)}"
            if row["split"] == "train":
                seen.add(text)
    yield from sorted(seen)


def build(paths: tuple[Path, ...] = DATA) -> list[str]:
    """The vocabulary of the packed emoji sets."""
    return train_vocabulary(captions(paths), SIZE, whole=WHOLE, keep=STYLES)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the vocabulary of the emoji text encoder.")
    parser.add_argument("--data", type=Path, nargs="+", default=DATA, help="Parquet files with name, keywords, split")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    vocab = build(tuple(args.data))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(vocab, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    print(f"{len(vocab)} pieces in {args.out}")


if __name__ == "__main__":
    main()
