"""Pack the Noto and Fluent 3D emoji into data/emoji_*.parquet: 64x64 RGBA as lossless WebP.

    python tools/pack_emoji.py [SOURCE_FOLDER] [OUT_FOLDER]

SOURCE_FOLDER (else $MEZZOTINT_SHARED, else ../shared/data) holds emoji_noto_64.parquet and emoji_fluent3d_64.parquet,
whose `png` column is packed pixel for pixel (alpha included) with its labels. Run once; the result is committed.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

FILES = {"emoji_noto_64.parquet": "emoji_noto.parquet", "emoji_fluent3d_64.parquet": "emoji_fluent.parquet"}
COLUMNS = ("hexcode", "base_hexcode", "emoji", "name", "group", "subgroup", "keywords", "skin_tones", "split")


def to_webp(png: bytes) -> bytes:
    """The same RGBA pixels as lossless WebP; `exact` keeps colour under zero alpha too."""
    from PIL import Image

    out = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGBA").save(out, "WEBP", lossless=True, exact=True, method=6, quality=75)
    return out.getvalue()


def pack(source: Path, target: Path) -> None:
    """Write `source`'s labels and re-encoded images to `target`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(source, columns=[*COLUMNS, "png"])
    images = [to_webp(png) for png in table.column("png").to_pylist()]
    packed = table.select(list(COLUMNS)).append_column("image", pa.array(images, pa.binary()))
    labels = [*COLUMNS[:6], "keywords.list.element", "split"]
    options: dict[str, Any] = {
        "compression": dict.fromkeys([*labels, "skin_tones.list.element"], "zstd") | {"image": "none"},
        "use_dictionary": labels,
        "write_statistics": False,
    }
    pq.write_table(packed, target, **options)
    print(f"{target}: {len(images)} images, {target.stat().st_size / 1e6:.1f} MB")


def main(arguments: list[str]) -> int:
    root = Path(__file__).resolve().parents[1]
    default = os.environ.get("MEZZOTINT_SHARED") or root.parent / "shared" / "data"
    source = Path(arguments[0] if arguments else default)
    out = Path(arguments[1]) if len(arguments) > 1 else root / "data"
    missing = [name for name in FILES if not (source / name).is_file()]
    if missing:
        print(
            f"no {', '.join(missing)} in {source}: give the folder of the source parquet files",
            file=sys.stderr,
        )
        return 1
    out.mkdir(parents=True, exist_ok=True)
    for name, packed in FILES.items():
        pack(source / name, out / packed)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
