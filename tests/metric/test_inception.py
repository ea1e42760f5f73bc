from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mezzotint.metric import InceptionV3, extract, load_inception, weights_hash
from mezzotint.metric.resize import eight_bits, resize_centre, resize_clean, resize_tensorflow


@pytest.fixture(scope="module")
def even() -> InceptionV3:
    """Each convolution is the mean of its channels at the centre of the kernel, normalisation does nothing."""
    with torch.random.fork_rng(devices=[]):
        net = InceptionV3()
    for name, p in net.named_parameters():
        with torch.no_grad():
            p.zero_()
            if name.endswith("conv.weight"):
                p[:, :, p.shape[2] // 2, p.shape[3] // 2] = 1 / p.shape[1]
            elif name.endswith("bn.weight"):
                p.fill_(1.001**0.5)  # its epsilon is 0.001
    return net.eval().requires_grad_(False)


def test_it_has_the_published_number_of_weights() -> None:
    """Torchvision's 27,161,264 less the auxiliary head's 3,326,696, and a last layer of 1008 classes for 1000."""
    with torch.device("meta"):
        net = InceptionV3()
    assert sum(p.numel() for p in net.parameters()) == 27_161_264 - 3_326_696 + 8 * 2049
    assert len([m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]) == 94


def test_a_flat_image_stays_flat_to_the_last_feature(even: InceptionV3) -> None:
    """The averages leave their padding out, or the borders would darken; the scale is (p - 128) / 128."""
    x = torch.full((1, 3, 20, 30), 0.6)  # pixel 204
    want = (204 - 128) / 128
    for m, shape in zip(even.maps(x), [(64, 73), (192, 35), (768, 17), (2048, 8)], strict=True):
        assert (m.shape[1], m.shape[2], m.shape[3]) == (*shape, shape[1])
        torch.testing.assert_close(m, torch.full_like(m, want), atol=1e-5, rtol=0)
    torch.testing.assert_close(even.features(x), torch.full((1, 2048), want), atol=1e-5, rtol=0)


def test_it_sees_what_a_saved_image_holds(even: InceptionV3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight bits, clamped: what lies within half a step, or outside [-1, 1], is the same image."""
    monkeypatch.setattr(even, "tap", 64)
    x = (torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 255).round() / 127.5 - 1
    base = even.maps(x)[0]
    assert torch.equal(even.maps(x + 0.4 / 127.5 * (x < 0.9))[0], base)
    assert torch.equal(even.maps(x - 5 * (x == -1) + 5 * (x == 1))[0], base)
    assert not torch.equal(even.maps(x + 1.1 / 127.5)[0], base)


def test_weights_from_a_file_by_name_an_earlier_tap_and_the_name_on_the_card(tmp_path: Path, even: InceptionV3) -> None:
    state = {name: value for name, value in even.state_dict().items() if "num_batches" not in name}
    save_file({**state, "AuxLogits.fc.bias": torch.zeros(2)}, tmp_path / "weights.safetensors")
    before = torch.random.get_rng_state()
    net = load_inception(tmp_path / "weights.safetensors", tap=192, resize="bicubic")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert weights_hash(net) == weights_hash(even) and not net.training
    features = extract(torch.full((2, 3, 16, 16), 0.6), net)
    assert features.rows is not None and features.rows.shape == (2, 192)
    torch.testing.assert_close(features.rows, torch.full((2, 192), 76 / 128), atol=1e-5, rtol=0)
    assert features.extractor == "Inception-v3, 192 channels" and "bicubic" in features.resize
    save_file({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights\.safetensors.*missing Conv2d_1a_3x3\.bn\.weight"):
        load_inception(tmp_path / "weights.safetensors")


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments(even: InceptionV3) -> None:
    with pytest.raises(ValueError, match="tap"):
        InceptionV3(100)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(b, 3, h, w\)"):
        even.maps(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="no such file"):
        load_inception("nowhere.safetensors")


def test_resize_of_tensorflow_by_hand() -> None:
    x = torch.tensor([[0.0, 4.0, 8.0], [3.0, 7.0, 11.0], [6.0, 10.0, 14.0]]).double()[None, None]
    assert resize_tensorflow(x, 2)[0, 0].tolist() == [[0.0, 6.0], [4.5, 10.5]]  # places 0 and 1.5: no antialiasing
    assert resize_tensorflow(x, 6)[0, 0, 0].tolist() == [0, 2, 4, 6, 8, 8]
    assert torch.equal(resize_tensorflow(x, 3), x)


def test_antialiased_resizes_keep_a_fine_pattern_grey_and_the_middle_in_the_middle() -> None:
    fine = (eight_bits(torch.ones(1, 1, 64, 64)) * (torch.arange(64) % 2)).float()
    inside = resize_clean(fine, 16)[..., 2:-2, 2:-2]
    assert float((inside - 127.5).abs().max()) < 1.5  # without antialiasing it would be 0 or 255
    wide: Tensor = torch.linspace(-1, 1, 64).expand(1, 3, 32, 64)
    got = resize_centre(wide, 16)
    assert got.shape == (1, 3, 16, 16) and float(got.mean()) == pytest.approx(0, abs=1e-4)
    assert float(got[..., 0].mean()) == pytest.approx(float(wide[0, 0, 0, 16:18].mean()), abs=0.01)
