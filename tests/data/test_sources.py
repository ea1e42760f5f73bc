from __future__ import annotations

import csv
import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mezzotint.data import (
    ArrayFile,
    ArraySource,
    BrokenImage,
    HFSource,
    ImageFolder,
    ImageSource,
    ParquetSource,
    Source,
    WebDatasetSource,
    as_images,
)


def picture(index: int, height: int = 12, width: int = 16) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    channels = [(7 * index + 10 * x) % 256, (31 * index + 9 * y) % 256, (5 * index + 3 * (x + y)) % 256]
    return np.stack(channels, -1).astype(np.uint8)


def png(index: int, **sides: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(index, **sides)).save(file, "PNG")
    return file.getvalue()


def check(source: ImageSource, count: int) -> None:
    """What every source of `count` pictures promises, also after a journey to another process."""
    assert isinstance(source, Source) and len(source) == count
    for one in (source, pickle.loads(pickle.dumps(source))):
        for i in range(count):
            assert np.array_equal(one.pixels(i).permute(1, 2, 0).numpy(), picture(i)), i
            assert one.size(i) == (12, 16)
        assert torch.equal(one[-1].image, one[count - 1].image)
        assert torch.equal((one[0].image + 1).mul(127.5).round().byte(), one.pixels(0))
        with pytest.raises(IndexError, match=f"{count} images"):
            one[count]
        assert one.identity() == source.identity()
    json.dumps(source.identity())


# folders


def test_a_folder_in_the_order_of_its_paths(folder) -> None:
    path = folder(5)
    (path / ".hidden.png").write_bytes(b"")
    (path / "notes.md").write_text("no image")
    source = ImageFolder(path)
    check(source, 5)
    assert source.files == [f"{i:03d}.png" for i in range(5)] and source.classes == () and source.label(0) is None


def test_captions_from_metadata_then_text_then_name(folder) -> None:
    path = folder(4)
    (path / "000.png").rename(path / "red-crested_turaco.png")
    rows = [{"file_name": "001.png", "text": "one"}, {"file_name": "002.png", "text": ["two", "zwei", "deux"]}]
    (path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (path / "001.txt").write_text("not this")
    (path / "003.txt").write_text("three\n\n drei \n", encoding="utf-8-sig")
    source = ImageFolder(path)
    told = {source.files[i]: source.captions(i) for i in range(4)}
    assert told["001.png"] == ("one",) and told["002.png"] == ("two", "zwei", "deux")
    assert told["003.png"] == ("three", "drei") and told["red-crested_turaco.png"] == ("red crested turaco",)
    drawn = [source.caption(1, step, 7) for step in range(60)]
    assert set(drawn) == {"two", "zwei", "deux"} and drawn == [source.caption(1, step, 7) for step in range(60)]
    assert drawn != [source.caption(1, step, 8) for step in range(60)] and source[1].caption == "two"
    assert [ImageFolder(path, captions="txt").captions(i) for i in (0, 1)] == [("not this",), ()]
    assert (
        ImageFolder(path, captions="name").caption(0) == "001" and ImageFolder(path, captions="none").caption(0) == ""
    )


def test_captions_and_labels_from_csv(folder) -> None:
    path = folder(3)
    with (path / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerows([["file_name", "text", "label"], ["000.png", "a cat, asleep", "2"], ["002.png", "", "0"]])
    source = ImageFolder(path)
    assert source.caption(0) == "a cat, asleep" and [source.label(i) for i in range(3)] == [2, None, 0]
    assert source.classes == ("0", "1", "2")


def test_folders_are_classes(folder) -> None:
    path = folder(4)
    for i, name in enumerate(["2001", "10", "10", "zebra"]):
        (path / name).mkdir(exist_ok=True)
        (path / f"{i:03d}.png").rename(path / name / f"{i}.png")
    source = ImageFolder(path)
    assert source.classes == ("10", "2001", "zebra") and [source.label(i) for i in range(4)] == [0, 0, 1, 2]
    assert ImageFolder(path, labels="none").classes == ()
    (path / "alone.png").write_bytes(png(0))
    assert ImageFolder(path).classes == ()
    with pytest.raises(ValueError, match=r"alone\.png lies in no subfolder"):
        ImageFolder(path, labels="folder")


def test_linked_folders_are_entered_and_circles_end(folder) -> None:
    path = folder(2)
    other = path.parent / "other"
    other.mkdir()
    (other / "x.png").write_bytes(png(0))
    (path / "linked").symlink_to(other)
    (path / "circle").symlink_to(path)
    assert ImageFolder(path).files == ["000.png", "001.png", "linked/x.png"]


def test_a_listed_image_that_is_missing_is_broken_not_forgotten(folder) -> None:
    path = folder(2)
    (path / "metadata.jsonl").write_text(json.dumps({"file_name": "gone.png", "text": "gone"}))
    source = ImageFolder(path)
    assert len(source) == 3
    for read in (source.pixels, source.size):
        with pytest.raises(BrokenImage, match=r"gone\.png: cannot be read \(No such file"):
            read(2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file_name": "a.png"', "line 2: not JSON"),
        ('["a.png"]', "line 2: expected a JSON object"),
        ('{"text": "a"}', "line 2: names no image"),
        ('{"file_name": "../a.png"}', "line 2: '../a.png' is outside"),
        ('{"file_name": "/etc/a.png"}', "line 2: '/etc/a.png' is an absolute path"),
        ('{"file_name": "a.png", "text": 5}', "line 2: a caption is text"),
        ('{"file_name": "a.png", "label": 0.5}', "line 2: a label is an integer or a name"),
    ],
)
def test_bad_metadata_names_file_and_line(folder, line: str, message: str) -> None:
    path = folder(1)
    (path / "metadata.jsonl").write_text('{"file_name": "000.png"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"metadata\.jsonl, " + message):
        ImageFolder(path)


def test_identity_follows_the_files(folder) -> None:
    path = folder(3)
    before = ImageFolder(path).identity()
    assert ImageFolder(path).identity() == before
    os.utime(path / "001.png", (0, 0))
    touched = ImageFolder(path).identity()
    assert touched != before and ImageFolder(path, background=(0.0, 0.0, 0.0)).identity() != touched


def test_no_folder_and_no_image(tmp_path, unchecked) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        ImageFolder(tmp_path / "absent")
    with pytest.raises(ValueError, match="holds no image"):
        ImageFolder(tmp_path)
    (tmp_path / "a.png").write_bytes(png(0))
    with pytest.raises(ValueError, match="captions is 'all'"):
        ImageFolder(tmp_path, captions="all")
    with pytest.raises(ValueError, match="background is"):
        ImageFolder(tmp_path, background=(255, 255, 255))


# Parquet


def _parquet(path: Path, rows: range, kind: str, label: object = None, group: int = 2) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra [train])")
    import pyarrow.parquet as pq

    images: list[object] = [png(i) for i in rows]
    if kind == "struct":
        images = [{"bytes": data, "path": None} for data in images]
    if kind == "path":
        for i in rows:
            (path.parent / f"{i}.png").write_bytes(png(i))
        images = [f"{i}.png" for i in rows]
    columns = {"image": images, "text": [f"number {i}" for i in rows]}
    if label is not None:
        columns["label"] = [label(i) for i in rows]  # type: ignore[operator]
    pq.write_table(pa.table(columns), path, row_group_size=group)


@pytest.mark.parametrize("kind", ["bytes", "struct", "path"])
def test_parquet_files_row_by_row(tmp_path, kind: str) -> None:
    _parquet(tmp_path / "a.parquet", range(5), kind)
    _parquet(tmp_path / "b.parquet", range(5, 8), kind)
    source = ParquetSource(tmp_path)
    check(source, 8)
    assert source.captions(6) == ("number 6",) and source.name(6).endswith("b.parquet, row 1")
    assert source.classes == () and len(ParquetSource([tmp_path / "b.parquet"])) == 3


def test_parquet_keeps_only_so_many_bytes(tmp_path) -> None:
    _parquet(tmp_path / "a.parquet", range(12), "bytes")
    probe = ParquetSource(tmp_path / "a.parquet")
    probe.pixels(0)
    ((_, size),) = probe._kept.values()
    memory = size * 3 // 2
    source = ParquetSource(tmp_path / "a.parquet", memory=memory)
    reads, read = [], source._column

    def counted(group: int, column: str) -> list:
        reads.append((group, (group, column) in source._kept))
        return read(group, column)

    source._column = counted  # type: ignore[method-assign]
    for i in (0, 1, 10, 11, 0):
        assert np.array_equal(source.pixels(i).permute(1, 2, 0).numpy(), picture(i))
        assert sum(size for _, size in source._kept.values()) <= memory
    assert reads == [(0, False), (0, True), (5, False), (5, True), (0, False)]


def test_parquet_labels_of_numbers_and_names(tmp_path) -> None:
    _parquet(tmp_path / "n.parquet", range(4), "bytes", label=lambda i: 2 * i)
    _parquet(tmp_path / "t.parquet", range(4), "bytes", label=lambda i: ["zebra", "ant"][i % 2])
    numbers, names = ParquetSource(tmp_path / "n.parquet"), ParquetSource(tmp_path / "t.parquet")
    assert [numbers.label(i) for i in range(4)] == [0, 2, 4, 6] and len(numbers.classes) == 7
    assert names.classes == ("ant", "zebra") and [names.label(i) for i in range(4)] == [1, 0, 1, 0]


def test_parquet_faults_name_the_file(tmp_path) -> None:
    _parquet(tmp_path / "a.parquet", range(3), "bytes")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.parquet: not a readable Parquet"):
        ParquetSource(tmp_path / "cut.parquet")
    with pytest.raises(ValueError, match="no such file"):
        ParquetSource(tmp_path / "absent.parquet")
    with pytest.raises(ValueError, match=r"no column 'alt'; its columns are image, text"):
        ParquetSource(tmp_path / "a.parquet", caption="alt")
    with pytest.raises(ValueError, match=r"holds no \.parquet file"):
        (tmp_path / "empty").mkdir()
        ParquetSource(tmp_path / "empty")


def test_a_path_in_a_parquet_file_stays_inside(tmp_path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "secret.png").write_bytes(png(0))
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra [train])")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": ["../secret.png", None]}), inner / "a.parquet")
    source = ParquetSource(inner)
    with pytest.raises(BrokenImage, match=r"row 0: its path '\.\./secret\.png' leads out"):
        source.pixels(0)
    with pytest.raises(BrokenImage, match="row 1: its image is None"):
        source.pixels(1)


# arrays


def test_arrays_in_all_layouts(tmp_path) -> None:
    images = np.stack([picture(i) for i in range(4)])
    np.save(tmp_path / "last.npy", images)
    np.save(tmp_path / "second.npy", images.transpose(0, 3, 1, 2))
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([1, 0, 2, 1]), captions=np.array(list("abcd")))
    for name in ("last.npy", "second.npy", "a.npz"):
        check(ArrayFile(tmp_path / name), 4)
    assert isinstance(ArrayFile(tmp_path / "last.npy")._images, np.memmap)
    told = ArrayFile(tmp_path / "a.npz")
    assert told.caption(2) == "c" and told.label(2) == 2 and told.classes == ("0", "1", "2")
    np.save(tmp_path / "grey.npy", images[..., 0])
    assert torch.equal(ArrayFile(tmp_path / "grey.npy").pixels(1)[2], torch.from_numpy(images[1, ..., 0].copy()))


def test_a_mapped_array_travels_as_its_path(tmp_path) -> None:
    np.save(tmp_path / "big.npy", np.zeros((500, 16, 16, 3), np.uint8))
    assert len(pickle.dumps(ArrayFile(tmp_path / "big.npy"))) < 2000


def test_arrays_that_will_not_do(tmp_path) -> None:
    for name, array, message in [
        ("f.npy", np.zeros((2, 4, 4, 3), np.float32), "of float32; expected uint8"),
        ("s.npy", np.zeros((2, 5, 4, 6), np.uint8), r"\(2, 5, 4, 6\)"),
        ("o.npy", np.array([None]), "not a readable NumPy file"),
        ("e.npy", np.zeros((0, 4, 4, 3), np.uint8), "at least one"),
    ]:
        np.save(tmp_path / name, array)
        with pytest.raises(ValueError, match=message):
            ArrayFile(tmp_path / name)
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(ValueError, match=r"text\.npy: not a readable NumPy file"):
        ArrayFile(tmp_path / "text.npy")
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="2 images came with 1 captions"):
        ArrayFile(tmp_path / "a.npy", captions=["one"])


# data sets of others


class _Feature:
    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class _Labels:
    names = ("cat", "dog")


class _Dataset:
    """What a `datasets.Dataset` offers, as far as a source needs it."""

    def __init__(
        self, count: int, decode: bool = True, columns: tuple[str, ...] = ("picture", "words", "kind")
    ) -> None:
        self.count, self.decode, self.column_names = count, decode, list(columns)
        self.features = {"picture": _Feature(decode), "kind": _Labels()}
        self._fingerprint = f"{count}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> dict:
        image = Image.fromarray(picture(i)) if self.decode else {"bytes": png(i), "path": None}
        row = {"picture": image, "words": f"number {i}", "kind": i % 2}
        return {name: row[name] for name in self.column_names}

    def cast_column(self, name: str, feature: _Feature) -> _Dataset:
        assert name == "picture" and isinstance(feature, _Feature)
        return _Dataset(self.count, feature.decode)

    def select_columns(self, names: list[str]) -> _Dataset:
        return _Dataset(self.count, self.decode, tuple(names))


def test_a_look_alike_of_datasets() -> None:
    source = HFSource(_Dataset(4), "picture", "words", "kind")
    check(source, 4)
    assert isinstance(source.encoded(0), bytes)  # cast, so that we decode
    assert source.caption(3) == "number 3" and source.label(3) == 1 and source.classes == ("cat", "dog")


def test_rows_of_pillow_images_and_paths(tmp_path) -> None:
    (tmp_path / "1.png").write_bytes(png(1))
    rows = [{"image": Image.fromarray(picture(0))}, {"image": str(tmp_path / "1.png")}, {"image": None}]
    source = HFSource(rows)
    assert all(np.array_equal(source.pixels(i).permute(1, 2, 0).numpy(), picture(i)) for i in (0, 1))
    with pytest.raises(BrokenImage, match="row 2 of the data set: its image is empty"):
        source.pixels(2)
    with pytest.raises(ValueError, match="no fingerprint"):
        source.identity()


def test_data_sets_that_will_not_do() -> None:
    with pytest.raises(ValueError, match="without streaming"):
        HFSource(iter([1]))
    with pytest.raises(ValueError, match="no column 'image'; its columns are picture, words, kind"):
        HFSource(_Dataset(2))


# tar shards


def _tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def _shards(folder: Path) -> None:
    for shard in range(2):
        members: list[tuple[str, bytes]] = []
        for i in range(3 * shard, 3 * shard + 3):
            members += [(f"sub/{i:03d}.png", png(i)), (f"sub/{i:03d}.txt", f"number {i}".encode())]
            members += [(f"sub/{i:03d}.cls", str(i % 4).encode())]
        members.append((f"sub/only-{shard}.txt", b"words without an image"))
        _tar(folder / f"train-{shard:03d}.tar", members)


def test_shards_by_index(tmp_path) -> None:
    _shards(tmp_path)
    source = WebDatasetSource(tmp_path)
    check(source, 6)
    assert source.caption(4) == "number 4" and source.label(3) == 3 and len(source.classes) == 4
    assert source.name(4).endswith("train-001.tar, sample sub/004")
    assert len(WebDatasetSource(tmp_path / "train-{000..001}.tar")) == 6


def test_the_index_is_built_once_and_again_for_another_shard(tmp_path, monkeypatch) -> None:
    _shards(tmp_path)
    WebDatasetSource(tmp_path)
    index = tmp_path / "train-000.tar.index.json"
    assert index.is_file()
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", lambda *a: pytest.fail("walked again"))
        check(WebDatasetSource(tmp_path), 6)
    for content in ("{", "[]", index.read_text().replace('"bytes": ', '"bytes": 1')):
        index.write_text(content)
        check(WebDatasetSource(tmp_path), 6)
    _tar(tmp_path / "train-000.tar", [("a.jpg", png(5)), ("a.json", json.dumps({"caption": ["x", "y"]}).encode())])
    source = WebDatasetSource(tmp_path)
    assert len(source) == 4 and source.captions(0) == ("x", "y") and source.label(0) is None


def test_damaged_shards_name_themselves(tmp_path) -> None:
    _shards(tmp_path)
    whole = (tmp_path / "train-000.tar").read_bytes()
    cases = {"cut.tar": whole[:700], "gz.tar": b"\x1f\x8b" + whole[:100], "text.tar": b"no tar at all" * 90}
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}: not a whole, uncompressed tar file"):
            WebDatasetSource(tmp_path / name)
    with pytest.raises(ValueError, match="no such shard"):
        WebDatasetSource(tmp_path / "absent.tar")
    with pytest.raises(ValueError, match="holds no image"):
        WebDatasetSource(_tar(tmp_path / "words.tar", [("a.txt", b"x")]))
    with pytest.raises(ValueError, match=r"a\.cls: b'cat' is no class index"):
        WebDatasetSource(_tar(tmp_path / "named.tar", [("a.png", png(0)), ("a.cls", b"cat")]))
    ends = whole.rstrip(b"\0")
    (tmp_path / "open.tar").write_bytes(ends + b"\0" * (-len(ends) % 512))
    with pytest.warns(UserWarning, match="no end mark"):
        assert len(WebDatasetSource(tmp_path / "open.tar")) == 3


def test_a_shard_cut_after_its_index_was_made_gives_broken_images(tmp_path) -> None:
    _shards(tmp_path)
    source = WebDatasetSource(tmp_path)
    with (tmp_path / "train-001.tar").open("r+b") as file:
        file.truncate(560)
    with pytest.raises(BrokenImage, match=r"train-001\.tar, sample sub/003: the shard ends after 48 of its"):
        source.pixels(3)


# in memory


def test_arrays_in_memory_as_images() -> None:
    images = torch.stack([torch.from_numpy(picture(i)).permute(2, 0, 1) for i in range(3)])
    source = as_images(ArraySource(images, ["a", "b", "c"], torch.tensor([2, 0, 1])))
    check(source, 3)
    assert source.caption(1, 5, 6) == "b" and source.label(0) == 2 and as_images(source) is source
    other = images.clone()
    other[2, 0, 0, 0] += 1
    assert as_images(ArraySource(other, ["a", "b", "c"])).identity() != source.identity()


def test_listing_opens_no_image(folder, monkeypatch) -> None:
    path = folder(30)
    with monkeypatch.context() as patch:
        patch.setattr(io, "open", lambda *a, **k: pytest.fail("opened"))
        source = ImageFolder(path)
        assert len(source) == 30 and source.identity()["images"] == 30 and source.label(3) is None
        with pytest.raises(pytest.fail.Exception):
            source.pixels(0)
