from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mezzotint.core import Noise
from mezzotint.metric import FeatureNet, PerceptualDistance, Trunk, compare, load_features, load_lpips, weights_hash
from mezzotint.objective.perceptual import Perceptual, RandomFeatures


def _pair(count: int = 3, side: int = 32) -> tuple[Tensor, Tensor]:
    noise = Noise(range(count))
    return noise("a", 0, (3, side, side)).clamp(-1, 1), noise("b", 0, (3, side, side)).clamp(-1, 1)


def test_zero_on_identity_symmetric_and_independent_of_the_batch() -> None:
    d, (a, b) = PerceptualDistance(load_features(), batch=2), _pair()
    assert d.distances(a, a).tolist() == [0, 0, 0] and bool((d.distances(a, b) > 0.1).all())
    torch.testing.assert_close(d.distances(a, b), d.distances(b, a), atol=1e-6, rtol=0)
    torch.testing.assert_close(d.distances(a, b)[2:], d.distances(a[2:], b[2:]), atol=1e-6, rtol=0)


def test_it_is_the_formula_with_weights_on_the_maps_of_an_extractor() -> None:
    net, (a, b) = FeatureNet(width=8, dim=32, size=32).eval(), _pair()
    maps = [m.double() for m in net.maps(a)], [m.double() for m in net.maps(b)]
    weights = [torch.linspace(0, 1, m.shape[1]) for m in maps[0]]
    want = torch.zeros(3, dtype=torch.float64)
    for f, g, w in zip(*maps, weights, strict=True):
        f, g = f / (f.norm(dim=1, keepdim=True) + 1e-10), g / (g.norm(dim=1, keepdim=True) + 1e-10)
        want += ((f - g).square() * w.double()[:, None, None]).sum(1).mean((1, 2))
    got = PerceptualDistance(net, weights).distances(a, b)
    torch.testing.assert_close(got.double(), want, atol=1e-5, rtol=1e-5)
    assert len(maps[0]) == 5 and torch.allclose(maps[0][-1].mean((2, 3)).float(), net.features(a))


def test_the_card_names_the_network_and_its_bits() -> None:
    a, b = _pair()
    net = load_features()
    (result,) = compare(a, b, [PerceptualDistance(net)])
    assert result.name == "perceptual distance on emoji-features" and "LPIPS" not in result.name
    assert result.card.extractor_hash == weights_hash(net) and result.card.n == 3
    assert result.card.resize == "bilinear, antialiased, to 64" and result.card.dtype == "float32"
    values = PerceptualDistance(net).distances(a, b).double()
    assert result.value == pytest.approx(float(values.mean()))
    assert result.error == pytest.approx(float(values.std()) / 3**0.5)
    weighed = PerceptualDistance(net, [torch.ones(m.shape[1]) for m in net.maps(a)])
    assert weighed(a, b)[0].value == pytest.approx(result.value)
    assert not weighed(a, b)[0].card.comparable(result.card)


def test_the_users_network_is_left_as_it_is() -> None:
    net, (a, b) = FeatureNet(size=32).train(), _pair()
    PerceptualDistance(net).distances(a, b)
    assert net.training and all(p.requires_grad for p in net.parameters())


def test_any_module_of_maps_will_do_and_agrees_with_the_training_loss() -> None:
    (a, b), net = _pair(), RandomFeatures()
    torch.testing.assert_close(PerceptualDistance(net).distances(a, b), Perceptual(net)(a, b), atol=1e-5, rtol=1e-5)
    assert PerceptualDistance(net)(a, b)[0].card.extractor == "RandomFeatures"


@pytest.mark.parametrize(
    ("net", "count", "shapes"),
    [  # parameters of torchvision's `features` of each, and the maps of a 64 px image
        ("alex", 2_469_696, [(64, 15), (192, 7), (384, 3), (256, 3), (256, 3)]),
        ("vgg", 14_714_688, [(64, 64), (128, 32), (256, 16), (512, 8), (512, 4)]),
        ("squeeze", 722_496, [(64, 31), (128, 15), (256, 7), (384, 3), (384, 3), (512, 3), (512, 3)]),
    ],
)
def test_trunks_are_the_published_ones(net: str, count: int, shapes: list[tuple[int, int]]) -> None:
    with torch.device("meta"):
        trunk = Trunk(net)  # type: ignore[arg-type]
    assert sum(p.numel() for p in trunk.parameters()) == count
    if net != "vgg":  # many multiplications for a shape
        with torch.random.fork_rng(devices=[]):
            maps = Trunk(net).maps(torch.zeros(1, 3, 64, 64))  # type: ignore[arg-type]
        assert [(m.shape[1], m.shape[2]) for m in maps] == shapes


def _files(folder: Path) -> tuple[Path, Path, Trunk, list[Tensor]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk = Trunk("squeeze")
    weights = [torch.rand(width, generator=torch.Generator().manual_seed(width)) for width in (64, 128, 256)]
    weights += [torch.full((width,), 0.1) for width in (384, 384, 512, 512)]
    state = {f"features.{name}": value for name, value in trunk.features.state_dict().items()}
    save_file({**state, "classifier.1.bias": torch.zeros(3)}, folder / "trunk.safetensors")
    linear = {f"lin{i}.model.1.weight": w.view(1, -1, 1, 1) for i, w in enumerate(weights)}
    torch.save(linear, folder / "linear.pth")
    return folder / "trunk.safetensors", folder / "linear.pth", trunk, weights


def test_lpips_from_two_files_is_its_trunk_with_its_weights(tmp_path: Path) -> None:
    trunk, linear, net, weights = _files(tmp_path)
    a, b = _pair(2, 64)
    lpips = load_lpips(trunk, linear, "squeeze", allow_pickle=True)
    torch.testing.assert_close(lpips.distances(a, b), PerceptualDistance(net, weights).distances(a, b))
    assert lpips(a, b)[0].name == "LPIPS on squeeze"


@pytest.mark.usefixtures("unchecked")
def test_files_that_will_not_do(tmp_path: Path) -> None:
    trunk, linear, _, _ = _files(tmp_path)
    with pytest.raises(ValueError, match="pass allow_pickle=True only if you trust"):
        load_lpips(trunk, linear, "squeeze")
    with pytest.raises(ValueError, match=r"trunk\.safetensors.*do not fit"):
        load_lpips(trunk, linear, "alex", allow_pickle=True)
    with pytest.raises(ValueError, match=r"no lin0\.model\.1\.weight"):
        load_lpips(trunk, trunk, "squeeze")
    with pytest.raises(ValueError, match="no such file"):
        load_lpips(tmp_path / "gone.safetensors", linear, "squeeze")

    class _Runs:
        def __reduce__(self) -> tuple:
            return (exec, ("raise SystemExit('this ran')",))

    torch.save({"lin0.model.1.weight": _Runs()}, linear)
    with pytest.raises(ValueError, match=r"linear\.pth: cannot be read"):  # refused, not run
        load_lpips(trunk, linear, "squeeze", allow_pickle=True)
    with pytest.raises(ValueError, match="unknown trunk"):
        Trunk("resnet")  # type: ignore[arg-type]
    a, b = _pair()
    with pytest.raises(ValueError, match="two equal"):
        PerceptualDistance(RandomFeatures()).distances(a, b[:1])
    with pytest.raises(ValueError, match="NaN"):
        PerceptualDistance(nn.Identity())
        PerceptualDistance(RandomFeatures()).distances(a, b * torch.nan)
