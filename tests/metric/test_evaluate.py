from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import Noise
from mezzotint.metric import (
    Density,
    Extractor,
    FeatureNet,
    Features,
    Frechet,
    GaussianKernel,
    KernelDistance,
    MetricCard,
    MetricResult,
    Precision,
    compare,
    density_coverage,
    evaluate,
    extract,
    frechet_distance,
    frechet_error,
    kernel_distance,
    load_features,
    mean_of,
    precision_recall,
    psnr,
    ssim,
    weights_hash,
)


class _Means(nn.Module):
    """Six numbers an image."""

    name, resize = "means", "none"

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def features(self, x: Tensor) -> Tensor:
        return self.scale * torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)


def _images(count: int, name: str, side: int = 8) -> Tensor:
    noise = Noise(range(count))
    return (0.3 * noise(name, 0, (3, side, side)) + 0.4 * noise(name, 1, (3, 1, 1))).clamp(-1, 1)


def test_one_call_gives_every_number_with_its_card_and_error() -> None:
    made, real, net = _images(40, "made"), _images(50, "real"), _Means()
    results = evaluate(made, real, net)
    a, b = (net.features(x).detach() for x in (made, real))
    (precision, recall), (density, coverage) = precision_recall(a, b), density_coverage(a, b)
    kernel = kernel_distance(a, b)
    want = {
        "frechet": (frechet_distance(a, b), frechet_error(a, b)),
        "kernel (1/d x.y + 1)^3": kernel,
        "precision, k=3": precision,
        "recall, k=3": recall,
        "density, k=5": density,
        "coverage, k=5": coverage,
    }
    assert [r.card.metric for r in results] == list(want)
    for result in results:
        value, error = want[result.card.metric]
        assert (result.value, result.error) == (pytest.approx(value), pytest.approx(error))
        assert result.card == MetricCard(result.card.metric, "means", weights_hash(net), "none", 40, 50)
        assert result.name == f"{result.card.metric} on means"
    assert results[0].interval == pytest.approx((want["frechet"][0] - 1.96 * want["frechet"][1],
                                                 want["frechet"][0] + 1.96 * want["frechet"][1]))  # fmt: skip


def test_batches_streams_and_kept_features_are_the_same_numbers() -> None:
    made, real, net = _images(40, "made"), _images(50, "real"), _Means()
    base = [r.value for r in evaluate(made, real, net)]
    for images, reference in (
        (iter(made.split(7)), extract(real, net)),
        (extract(made.split(11), net), iter(real.split(50))),
        (made, list(real.split(3))),
    ):
        assert [r.value for r in evaluate(images, reference, net, batch=16)] == pytest.approx(base, rel=1e-4)


def test_a_frechet_distance_alone_keeps_no_rows() -> None:
    made, real, net = _images(40, "made"), _images(50, "real"), _Means()
    whole, (streamed,) = evaluate(made, real, net, ["frechet"])[0], evaluate(made, real, net, [Frechet()], batch=9)
    assert streamed.value == pytest.approx(whole.value, rel=1e-9) and streamed.error is None
    seen = extract(made, net, keep=False)
    assert seen.rows is None and seen.n == 40
    with pytest.raises(ValueError, match="keep=True"):
        evaluate(seen, real, net, ["precision"])


def test_settings_are_on_the_card_so_that_unlike_numbers_do_not_compare() -> None:
    made, real, net = extract(_images(30, "made"), _Means()), extract(_images(30, "real"), _Means()), _Means()
    measures = [Precision(k=2), Density(k=2), KernelDistance(GaussianKernel(3.0)), KernelDistance(subsets=4, size=20)]
    names = [r.card.metric for r in evaluate(made, real, net, measures)]
    assert names == [
        "precision, k=2",
        "recall, k=2",
        "density, k=2",
        "coverage, k=2",
        "kernel exp(-|x - y|^2 / (2 3^2))",
        "kernel (1/d x.y + 1)^3, 4 subsets of 20",
    ]
    subset = evaluate(made, real, net, measures)[-1]
    assert subset.error is None and "seed 0; standard deviation over the subsets" in subset.card.notes
    assert evaluate(made, real, net, [KernelDistance(subsets=4, size=20, seed=1)])[0].value != subset.value


def test_the_shipped_network_tells_damage_and_dropped_images() -> None:
    from mezzotint.data import Emoji

    net, x = load_features(), Emoji(split="val").batch(range(0, 240, 2))[0]
    real = extract(x[::2], net)
    noisy = x[1::2] + 1.0 * Noise(range(60))("n", 0, (3, 64, 64))
    few = x[1::2][:6].repeat(10, 1, 1, 1)
    clean, damaged, dropped = (
        {r.card.metric.split(",")[0].split()[0]: r.value for r in evaluate(y, real, net)} for y in (x[1::2], noisy, few)
    )
    for worse in (damaged, dropped):  # strong noise makes images look alike to this network
        assert worse["frechet"] > 1.5 * clean["frechet"] and worse["kernel"] > clean["kernel"] + 0.1
        assert worse["coverage"] < 0.9 * clean["coverage"] and worse["recall"] < 0.9 * clean["recall"]
    assert dropped["recall"] == 0 and dropped["coverage"] < 0.5


def test_pairs() -> None:
    a = _images(5, "a", 16)
    b = (a + 0.1 * Noise(range(5))("n", 0, (3, 16, 16))).clamp(-1, 1)
    first, second = compare(a, b)
    assert (first.value, first.error) == mean_of(psnr(a, b)) and first.name == "psnr"
    assert (second.value, second.error) == mean_of(ssim(a, b)) and second.card.n == 5
    perfect = compare(a, a)[0]
    assert perfect.value == float("inf") and perfect.error is None
    assert json.loads(json.dumps(perfect.to_dict()))["value"] == "inf"
    assert json.loads(json.dumps(first.to_dict()))["card"]["metric"] == "psnr"


def test_networks_are_extractors_and_gradients_are_left_out() -> None:
    assert isinstance(_Means(), Extractor) and isinstance(FeatureNet(), Extractor)
    rows = extract(_images(4, "made"), _Means()).rows
    assert rows is not None and not rows.requires_grad
    assert torch.equal(extract(_images(4, "made") * 99, _Means()).all_rows(),
                       extract((_images(4, "made") * 99).clamp(-1, 1), _Means()).all_rows())  # fmt: skip


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments() -> None:
    x, net = _images(8, "made"), _Means()
    with pytest.raises(ValueError, match="unknown metric 'fid'; expected one of frechet, kernel"):
        evaluate(x, x, net, ["fid"])
    with pytest.raises(ValueError, match="metrics is empty"):
        evaluate(x, x, net, [])
    with pytest.raises(ValueError, match="different networks: means .* and other"):
        evaluate(x, Features(torch.zeros(9, 6), extractor="other"), net)
    with pytest.raises(ValueError, match="no images"):
        evaluate([], x, net)
    with pytest.raises(ValueError, match="uint8"):
        evaluate(x.to(torch.uint8), x, net)
    with pytest.raises(ValueError, match="the features of means has NaN"):
        evaluate(x * torch.nan, x, net)
    with pytest.raises(ValueError, match="unknown metric 'mse'"):
        compare(x, x, ["mse"])
    with pytest.raises(ValueError, match="expected equal"):
        compare(x, x[:2])
    with pytest.raises(ValueError, match="either the rows"):
        Features()
    with pytest.raises(ValueError, match="batch=0"):
        extract(x, net, batch=0)
    assert MetricResult(1.0, MetricCard("psnr")).interval is None
