from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mezzotint.data import Emoji
from mezzotint.metric import FeatureNet, augment, frechet_distance, load_features, retrieval, weights_hash


@pytest.fixture(scope="module")
def net() -> FeatureNet:
    return load_features()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return Emoji(split="val").batch(range(0, 255, 2))[0]


def test_shipped_network_is_the_one_of_its_card(net: FeatureNet) -> None:
    folder = Path(__file__).resolve().parents[2] / "src/mezzotint/weights/emoji-features"
    assert weights_hash(net) in (folder / "README.md").read_text()
    assert sum(p.numel() for p in net.parameters()) < 300_000 and 64 <= net.dim <= 128
    assert (folder / "weights.safetensors").stat().st_size < 2e6
    assert not net.training and not any(p.requires_grad for p in net.parameters())


def test_shipped_network_classifies_the_held_out_emoji(net: FeatureNet) -> None:
    val = Emoji(split="val")
    right = net(val.batch(range(len(val)))[0])[0].argmax(1) == val.labels
    assert right.float().mean().item() == pytest.approx(0.733, abs=0.01)  # what its card says


def test_features_find_an_image_again(net: FeatureNet, images: torch.Tensor) -> None:
    features = net.features(images)
    found = retrieval(net.features(augment(images, 5, 0, strength=0.5, flip=False)), features)
    assert found[1] > 0.85 and found[5] > 0.97
    assert retrieval(net.features(F.avg_pool2d(images, 2)), features)[1] > 0.95  # 32 px are scaled up


def test_features_do_not_depend_on_the_batch(net: FeatureNet, images: torch.Tensor) -> None:
    assert torch.allclose(net.features(images[:8])[3:4], net.features(images[3:4]), atol=1e-5)


def test_distance_grows_with_damage(net: FeatureNet, images: torch.Tensor) -> None:
    real, distances = net.features(images), []
    for level in (0.0, 0.25, 0.5, 1.0):
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        distances.append(frechet_distance(real, net.features(images + level * noise)))
    assert distances == sorted(distances) and distances[-1] > 10 * distances[1]


@pytest.mark.usefixtures("unchecked")
def test_bad_images(net: FeatureNet) -> None:
    with pytest.raises(ValueError, match="at least 8x8"):
        net.features(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="NaN"):
        net.features(torch.full((1, 3, 64, 64), torch.nan))


@pytest.mark.usefixtures("unchecked")
def test_broken_folders_are_named(tmp_path: Path, net: FeatureNet) -> None:
    from safetensors.torch import save_file

    with pytest.raises(ValueError, match=r"config\.json"):
        load_features(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(net.config))
    state = dict(net.state_dict())
    save_file(state, tmp_path / "weights.safetensors")
    assert weights_hash(load_features(tmp_path)) == weights_hash(net)
    blob = (tmp_path / "weights.safetensors").read_bytes()
    state.pop("heads.0.bias")
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"heads\.0\.bias"):
        load_features(tmp_path)
    for broken in (blob[:1000], b"\x80\x04pickle"):
        (tmp_path / "weights.safetensors").write_bytes(broken)
        with pytest.raises(ValueError, match=tmp_path.name):
            load_features(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(blob)
    (tmp_path / "config.json").write_text('{"depth": 3}')
    with pytest.raises(ValueError, match="depth"):
        load_features(tmp_path)
