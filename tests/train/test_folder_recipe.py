from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from mezzotint.core import Cosine, VDenoiser
from mezzotint.data import Scenes, TooManyBroken, cache_latents
from mezzotint.latent import AutoencoderKL, Identity
from mezzotint.nn import UNet
from mezzotint.nn.conditioner import TextConditioner
from mezzotint.objective import Denoise
from mezzotint.train import Single
from mezzotint.train.__main__ import main
from mezzotint.train.overrides import leaves
from mezzotint.train.recipe import AdamW, Budget, Recipe
from mezzotint.train.recipes.folder import FolderData, FolderImages
from mezzotint.train.recipes.parts import vocabulary
from mezzotint.train.share import Sharded, own_rows

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def images(tmp_path: Path) -> str:
    """Twelve images of three classes, half of them wide."""
    made = Scenes(16, 12)
    for i in range(12):
        folder = tmp_path / "images" / "abc"[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(made.images[i].permute(1, 2, 0).numpy())
        picture.crop((0, 0, 16, 8 if i % 2 else 16)).save(folder / f"{i:02d}_thing.png")
    return str(tmp_path / "images")


def _autoencoder() -> AutoencoderKL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoencoderKL(channels=8, mult=(1, 1), blocks=1, latent=4).eval()


def test_labels_and_captions_belong_to_their_images(images: str) -> None:
    labels = FolderData(images, 8, "labels")(Identity(3), 4, 0)
    samples = labels.samples(2, range(4))
    assert isinstance(labels, Sharded)
    assert labels(2).c["label"].tolist() == [i // 4 for i in samples.indices]  # four of each class, in order
    assert labels(2).c.null()["label"].tolist() == [3] * 4
    captions = FolderData(images, 8, "captions")(Identity(3), 4, 0)(2)
    words = TextConditioner(vocabulary(), 24, 2, 1, 1)
    assert torch.equal(captions.c["tokens"], words.prepare(samples.captions)["tokens"])
    assert torch.equal(captions.x, labels(2).x) and FolderData(images, 8)(Identity(3), 4, 0)(2).c is None


def test_cached_and_fresh_latents_agree_flips_and_draws_included(images: str, tmp_path: Path) -> None:
    net = _autoencoder()
    fresh = FolderData(images, 8, "labels", flip=0.5)(net, 6, 3)
    cached = FolderData(images, 8, "labels", flip=0.5, cache=str(tmp_path / "c"))(net, 6, 3)
    for step in (0, 5):
        a, b = fresh(step), cached(step)
        assert torch.allclose(a.x, b.x, atol=1e-5) and torch.equal(a.c["label"], b.c["label"])
        part, rows = own_rows(cached, step, 1, 2)
        assert torch.equal(part.x, b.x[rows.start : rows.stop])


def test_buckets_by_two_leaves(images: str) -> None:
    batches = FolderData(images, 16, ratio=2.5, step=4)(Identity(3), 3, 0)
    shapes = {tuple(batches(step).x.shape[2:]) for step in range(4)}
    assert len(shapes) == 2 and (16, 16) in shapes


def test_buckets_and_a_cache_together(images: str, tmp_path: Path) -> None:
    net, data = _autoencoder(), FolderData(images, 16, "labels", ratio=2.5, step=4, cache=str(tmp_path / "c"))
    first, again = data(net, 3, 0), data(net, 3, 0)
    fresh = FolderData(images, 16, "labels", ratio=2.5, step=4)(net, 3, 0)
    for step in range(4):
        assert torch.equal(first(step).x, again(step).x) and torch.equal(first(step).c["label"], fresh(step).c["label"])
        assert torch.allclose(first(step).x, fresh(step).x, atol=1e-5)
    assert (tmp_path / "c" / ".sizes.json").is_file()


def test_images_alone_for_an_autoencoder(images: str) -> None:
    batches = FolderImages(images, 8)(4, 0)
    assert batches(1).c is None and torch.equal(batches(1).x, FolderData(images, 8)(Identity(3), 4, 0)(1).x)


def test_faults_say_what_to_do(images: str, tmp_path: Path) -> None:
    for data, message in [
        (FolderData(str(tmp_path / "absent")), "no such file or folder"),
        (FolderData(images, 8, crop="random", cache="c"), "holds one crop"),
        (FolderData(str(Path(images) / "a"), 8, "labels"), "has no classes"),
    ]:
        with pytest.raises(ValueError, match=message):
            data(Identity(3), 4, 0)
    for path in Path(images).rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(TooManyBroken):
        FolderData(images, 8)(Identity(3), 4, 0)(0)


def test_leaves_can_be_replaced_and_workers_are_marked_as_no_part_of_the_run(images: str) -> None:
    data = FolderData(images)
    assert {"path", "size", "condition", "crop", "flip", "ratio", "cache", "workers"} <= set(leaves(data))
    assert data.__dataclass_fields__["workers"].metadata["identity"] is False


def labelled() -> Recipe:
    return Recipe(
        name="labelled",
        data=FolderData("images", 8, "labels", crop="random", flip=0.5),
        latent=Identity,
        net=lambda spec: UNet(spec.channels, channels=16, mult=(1,), blocks=1, attention=(), classes=3),
        denoiser=lambda net: VDenoiser(net, Cosine()),
        objective=Denoise("v", drop=0.1),
        optimiser=AdamW(lr=1e-2),
        ema=None,
        budget=Budget(steps=4, batch=4, log=2, save=2),
        seed=0,
    )


def test_a_run_over_a_folder_resumes_to_the_same_bits(images: str, tmp_path: Path, monkeypatch) -> None:
    from dataclasses import replace

    monkeypatch.chdir(tmp_path)
    whole = labelled().run("whole", Single("cpu"), reporting=None)
    replace(labelled(), budget=replace(labelled().budget, steps=2)).run("parts", Single("cpu"), reporting=None)
    assert labelled().run("parts", Single("cpu"), reporting=None).resumed == 2 and whole.finished
    a, b = (labelled().trained(out).modules.state_dict() for out in ("whole", "parts"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_pages_example_by_the_command(tmp_path: Path, capsys, monkeypatch) -> None:
    """docs/data.md: its folder, its recipe in a module of the user's, `train MODULE:FUNCTION` with leaves replaced."""
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    make, recipe = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[:2]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    exec(compile(make, "data.md", "exec"), {})
    (tmp_path / "mine_of_the_page.py").write_text(recipe)
    settings = ["budget.steps=2", "budget.batch=4", "net.channels=16", "data.size=16", "data.workers=1"]
    assert main(["mine_of_the_page:shapes", "--out", "run", "--device", "cpu", *settings]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told[-1]["ended"] == "finished" and told[-1]["step"] == 2
    assert main(["mine_of_the_page:shapes", "--out", "x", "--device", "cpu", *settings, "data.path=absent"]) == 2
    assert "absent: no such file or folder" in capsys.readouterr().err
    sys.modules.pop("mine_of_the_page", None)


def test_a_cache_made_by_hand_serves_the_recipe(images: str, tmp_path: Path) -> None:
    from mezzotint.data import Cover, open_source

    net = _autoencoder()
    cache_latents(open_source(images), net, Cover(8), tmp_path / "c")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "c").glob("latents*")}
    FolderData(images, 8, cache=str(tmp_path / "c"))(net, 4, 0)(0)
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "c").glob("latents*")}
