from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mezzotint.data import GROUPS, Emoji
from mezzotint.data.emoji import emoji_folder

ROOT = Path(__file__).resolve().parents[2]
ORIGINALS = Path(os.environ.get("MEZZOTINT_SHARED") or ROOT.parent / "shared" / "data")


def _packed(style: str) -> list[dict]:
    pq = pytest.importorskip("pyarrow.parquet")
    return pq.read_table(ROOT / "data" / f"emoji_{style}.parquet").to_pylist()


def _rgba(blob: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(blob)).convert("RGBA"))


@pytest.fixture(scope="module")
def val() -> Emoji:
    return Emoji(split="val")


@pytest.mark.parametrize(("style", "original"), [("noto", "emoji_noto_64"), ("fluent", "emoji_fluent3d_64")])
def test_packing_keeps_every_pixel_and_label(style: str, original: str) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    path = ORIGINALS / f"{original}.parquet"
    if not path.is_file():
        pytest.skip(f"the original {path.name} is not in {ORIGINALS}")
    packed, kept = _packed(style), pq.read_table(path).to_pylist()
    assert len(packed) == len(kept)
    for mine, theirs in zip(packed, kept, strict=True):
        assert all(mine[key] == theirs[key] for key in mine if key != "image")
    for row in range(0, len(kept), 9):
        assert np.array_equal(_rgba(packed[row]["image"]), _rgba(kept[row]["png"]))


def test_packer_keeps_colour_under_zero_alpha() -> None:
    import importlib.util

    from PIL import Image

    spec = importlib.util.spec_from_file_location("pack_emoji", ROOT / "tools" / "pack_emoji.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    pixels = np.random.Generator(np.random.Philox(0)).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    pixels[:32, :, 3] = 0
    png = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(png, "PNG")
    assert np.array_equal(_rgba(tool.to_webp(png.getvalue())), pixels)


def test_files_stay_small_and_carry_their_licences() -> None:
    for style in ("noto", "fluent"):
        assert (ROOT / "data" / f"emoji_{style}.parquet").stat().st_size < 20e6
    notices = {path.name: path.read_text() for path in (ROOT / "data" / "licences").iterdir()}
    assert "Apache License" in notices["noto-emoji-Apache-2.0.txt"]
    assert "Microsoft Corporation" in notices["fluentui-emoji-MIT.txt"]


def test_compositing_is_over_the_background() -> None:
    rows = [row for row in _packed("fluent") if row["split"] == "val"]
    emoji = Emoji(split="val", styles=("fluent",), background=(0.2, 0.4, 1.0))
    for i in (0, 7):
        rgba = _rgba(rows[i]["image"]).astype(np.float64)
        alpha, behind = rgba[..., 3:] / 255, np.array([51.0, 102.0, 255.0])
        want = rgba[..., :3] * alpha + behind * (1 - alpha)
        assert np.abs(emoji.images[i].permute(1, 2, 0).numpy() - want).max() <= 0.51
        assert rows[i]["name"] == emoji.names[i]


def test_half_size_is_the_mean_of_areas(val: Emoji) -> None:
    small = Emoji(size=32, split="val")
    want = val.images.float().view(len(val), 3, 32, 2, 32, 2).mean((3, 5))
    assert (small.images.float() - want).abs().max() <= 1.01  # both are rounded to whole pixels
    assert Emoji(size=24, split="val", styles=("fluent",)).images.shape[1:] == (3, 24, 24)


def test_splits_share_no_concept_and_are_the_sizes_documented() -> None:
    everything = Emoji(size=4, split="all")
    packed = [row for style in ("noto", "fluent") for row in _packed(style)]
    assert [row["name"] for row in packed] == everything.names and len(everything) == 5393
    concepts = {
        split: {row["base_hexcode"] for row in packed if row["split"] == split} for split in ("train", "val", "test")
    }
    assert not (
        concepts["train"] & concepts["val"]
        or concepts["train"] & concepts["test"]
        or concepts["val"] & concepts["test"]
    )
    val, test = Emoji(size=4, split="val"), Emoji(size=4, split="test")
    assert (len(val), len(test)) == (255, 247) and set(val.base_hexcodes) == concepts["val"]


def test_labels_agree_with_each_other(val: Emoji) -> None:
    assert len(set(val.captions)) == len(val)
    assert val.labels is not None and [GROUPS[i] for i in val.labels] == val.groups
    i = val.names.index("grinning face with big eyes")
    assert val.captions[i] == "grinning face with big eyes, noto" and "teeth" in val.keywords[i]
    assert val.styles[i] == "noto" and val[i].label == GROUPS.index("smileys-emotion")


def test_batch_is_a_function_of_seed_and_step(val: Emoji) -> None:
    rows = list(range(40))
    x, first = val.batch(rows, seed=0, step=3)
    y, again = val.batch(rows[::-1], seed=0, step=3)
    assert torch.equal(x, y.flip(0)) and first == again[::-1]
    assert val.batch(rows, seed=0, step=4)[1] != first
    assert x.min() >= -1 and x.max() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "unknown split 'dev'"),
        ({"size": 65}, "from 4 to 64"),
        ({"styles": ("twemoji",)}, "styles"),
        ({"styles": "noto"}, "sequence"),
        ({"styles": ()}, "styles"),
        ({"background": (0.0, 0.0, 255.0)}, r"\[0, 1\]"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Emoji(**arguments)


def test_missing_and_broken_files_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEZZOTINT_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="MEZZOTINT_DATA"):
        emoji_folder()
    (tmp_path / "emoji_noto.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        Emoji(styles=("noto",))
    with pytest.raises(ValueError, match=r"no emoji_fluent\.parquet"):
        Emoji(styles=("fluent",))
