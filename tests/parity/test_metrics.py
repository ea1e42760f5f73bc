"""Our measures against those of other libraries, on the same features, images and weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mezzotint.bench.peers import load_peer
from mezzotint.core import Noise
from mezzotint.metric import (
    GaussianKernel,
    InceptionV3,
    PolynomialKernel,
    Trunk,
    frechet_distance,
    kernel_distance,
    load_inception,
    load_lpips,
    precision_recall,
    ssim,
)
from mezzotint.metric.resize import resize_clean, resize_tensorflow

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
F64 = torch.float64


def sets() -> tuple[Tensor, Tensor]:
    """Features of two sets that overlap in part, of different sizes and scales in each direction."""
    scale = torch.linspace(0.2, 2.0, 24, dtype=F64)
    made = Noise(range(300))("made", 0, (24,), dtype=F64) * scale
    real = 1.2 * Noise(range(400))("real", 0, (24,), dtype=F64) * scale + 0.3
    return made, real


def images(count: int, height: int, width: int, name: str) -> Tensor:
    """Smooth random colour, within [-1, 1]."""
    coarse = Noise(range(count))(name, 0, (3, 6, 6))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(-1, 1)


def randomised(net: nn.Module) -> nn.Module:
    """Weights that keep the scale of what passes, and statistics of normalisation that are not those of a new one."""
    generator = torch.Generator().manual_seed(0)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            draw = torch.randn(value.shape, generator=generator)
            if value.ndim > 1:
                draw *= (2 / value[0].numel()) ** 0.5
            elif name.endswith(("bn.weight", "running_var")):
                draw = (0.1 * draw).exp()
            else:
                draw *= 0.1
            value.copy_(draw)
    return net.eval()


def test_frechet_distance_of_torch_fidelity() -> None:
    load_peer("torch-fidelity", missing=pytest.skip)
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    made, real = sets()
    theirs = fid_statistics_to_metric(fid_features_to_statistics(made), fid_features_to_statistics(real), False)
    assert frechet_distance(made, real) == pytest.approx(theirs["frechet_inception_distance"], abs=1e-6)


@pytest.mark.parametrize("kernel", [PolynomialKernel(), PolynomialKernel(2, 0.1, 0.5), GaussianKernel(4.0)])
def test_kernel_distance_of_torch_fidelity(kernel: PolynomialKernel | GaussianKernel) -> None:
    """On all rows at once, and on the subsets that its generator draws."""
    load_peer("torch-fidelity", missing=pytest.skip)
    from torch_fidelity.metric_kid import kid_features_to_metric

    made, real = sets()
    settings = {"kid_kernel": "rbf", "kid_kernel_rbf_sigma": getattr(kernel, "width", None)}
    if isinstance(kernel, PolynomialKernel):
        settings = {
            "kid_kernel": "poly",
            "kid_kernel_poly_degree": kernel.degree,
            "kid_kernel_poly_gamma": kernel.scale,
            "kid_kernel_poly_coef0": kernel.offset,
        }
    common = {"verbose": False, "rng_seed": 2020, **settings}
    whole = kid_features_to_metric(made, real[:300], kid_subsets=1, kid_subset_size=300, **common)
    ours = kernel_distance(made, real[:300], kernel).value
    assert ours == pytest.approx(whole["kernel_inception_distance_mean"], abs=1e-6)
    some = kid_features_to_metric(made, real, kid_subsets=7, kid_subset_size=100, **common)
    draw, values = np.random.RandomState(2020), []
    for _ in range(7):
        rows = [torch.from_numpy(draw.choice(len(f), 100, replace=False)) for f in (made, real)]
        values.append(kernel_distance(made[rows[0]], real[rows[1]], kernel).value)
    assert np.mean(values) == pytest.approx(some["kernel_inception_distance_mean"], abs=1e-6)
    assert np.std(values) == pytest.approx(some["kernel_inception_distance_std"], abs=1e-6)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_of_torch_fidelity(k: int) -> None:
    load_peer("torch-fidelity", missing=pytest.skip)
    from torch_fidelity.metric_prc import prc_features_to_metric

    made, real = sets()
    made, real = made[:, -5:], real[:, -5:]  # few directions, or all balls of one set hold all of the other
    theirs = prc_features_to_metric(
        made, real, prc_neighborhood=k, prc_batch_size=1000, save_cpu_ram=False, verbose=False
    )
    ours = precision_recall(made, real, k)
    assert 0.1 < ours.recall.value < 1 and 0.1 < ours.precision.value <= 1
    assert ours.precision.value == pytest.approx(theirs["precision"], abs=1e-6)
    assert ours.recall.value == pytest.approx(theirs["recall"], abs=1e-6)


def test_inception_of_torch_fidelity_by_name_and_number(tmp_path: Path) -> None:
    """Random weights, written as a .pth and read by both under the published names; float64, all four taps."""
    load_peer("torch-fidelity", missing=pytest.skip)
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.save(randomised(InceptionV3()).state_dict(), tmp_path / "weights.pth")
    names = ["64", "192", "768", "2048", "logits"]
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", names, str(tmp_path / "weights.pth")).double()
    theirs.feature_extractor_internal_dtype = torch.float64  # by its argument it stays in float32
    ours = load_inception(tmp_path / "weights.pth", allow_pickle=True).double()
    for size in ((299, 299), (40, 64)):  # as it is, and through the resize
        pixels = ((images(1, *size, "inception") + 1) * 127.5).round().to(torch.uint8)
        x = pixels.double() / 127.5 - 1
        with torch.no_grad():
            want = theirs(pixels)
            got = [*(h.mean((2, 3)) for h in ours.maps(x)), ours.logits(x)]
        for name, a, b in zip(names, got, want, strict=True):
            assert float(b.std()) > 1e-3, name
            torch.testing.assert_close(a.float(), b, atol=1e-6, rtol=1e-6, msg=lambda text, tap=name: f"{tap}: {text}")


def test_resize_of_torch_fidelity() -> None:
    load_peer("torch-fidelity", missing=pytest.skip)
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    for height, width in ((32, 32), (299, 299), (333, 410)):
        x = images(1, height, width, "resize").double()
        theirs = interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False)
        torch.testing.assert_close(resize_tensorflow(x, 299), theirs, atol=1e-4, rtol=0)  # its places are float32


def test_resize_of_clean_fid() -> None:
    resizer = load_peer("clean-fid", missing=pytest.skip).make_resizer("PIL", False, "bicubic", (299, 299))
    for height, width in ((64, 64), (500, 333)):
        x = ((images(1, height, width, "clean") + 1) * 127.5).round()
        theirs = torch.from_numpy(resizer(x[0].permute(1, 2, 0).numpy())).permute(2, 0, 1)[None]
        torch.testing.assert_close(resize_clean(x, 299), theirs, atol=2e-3, rtol=0)  # of 255, in float32


@pytest.mark.parametrize("net", ["alex", "vgg", "squeeze"])
def test_lpips(net: str, tmp_path: Path) -> None:
    """Its linear weights as it ships them, on a random trunk that is handed over under torchvision's names."""
    library = load_peer("lpips", missing=pytest.skip)
    from safetensors.torch import save_file

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = library.LPIPS(net=net, pnet_rand=True, verbose=False)
    state = {f"features.{name.split('.', 1)[1]}": value for name, value in theirs.net.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "trunk.safetensors")
    linear = Path(library.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
    ours = load_lpips(tmp_path / "trunk.safetensors", linear, net, allow_pickle=True)  # type: ignore[arg-type]
    a, b = images(3, 64, 80, "a"), images(3, 64, 80, "b")
    with torch.no_grad():
        want = theirs(a, b).flatten()
    assert float(want.min()) > 1e-3
    torch.testing.assert_close(ours.distances(a, b), want, atol=1e-6, rtol=1e-5)
    assert isinstance(ours.extractor, Trunk) and ours(a, b)[0].name == f"LPIPS on {net}"


def test_ssim_of_scikit_image() -> None:
    library = load_peer("scikit-image", missing=pytest.skip)
    a = images(3, 40, 33, "ssim").double()
    b = (a + 0.2 * Noise([0, 1, 2])("grain", 0, (3, 40, 33), dtype=F64)).clamp(-1, 1)
    for x, y, y_hat in zip(a, b, ssim(a, b), strict=True):
        theirs = library.structural_similarity(
            x.numpy(), y.numpy(), channel_axis=0, data_range=2.0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )  # fmt: skip
        assert 0.1 < theirs < 0.99 and float(y_hat) == pytest.approx(theirs, abs=1e-10)
