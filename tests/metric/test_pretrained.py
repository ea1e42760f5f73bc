"""Networks whose weights are the user's, with tiny random ones in the format that real ones come in."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.metric import (
    PerceptualDistance,
    TextScore,
    evaluate,
    load_clip,
    load_dinov2,
    weights_hash,
)

transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra [diffusers])")
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def _filled(module: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.3 if p.ndim < 2 else p[0].numel() ** -0.5))
    return module.eval()


def _images(count: int, side: int) -> Tensor:
    return torch.nn.functional.interpolate(Noise(range(count))("x", 0, (3, 5, 5)), (side, side)).clamp(-1, 1)


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dino")
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=7, mlp_ratio=2
    )
    _filled(transformers.Dinov2Model(config)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    letters = string.ascii_lowercase
    pieces = [*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(vocab={p: i for i, p in enumerate(pieces)}, merges=[], model_max_length=9)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": len(pieces), "max_position_embeddings": 9, "eos_token_id": len(pieces) - 1}
    config = transformers.CLIPConfig(
        text_config={**sizes, **text, "bos_token_id": len(pieces) - 2},
        vision_config={**sizes, "image_size": 16, "patch_size": 8},
        projection_dim=12,
    )
    _filled(transformers.CLIPModel(config)).save_pretrained(folder)
    return folder


def test_dinov2_is_its_class_token_on_normalised_pixels(dino: Path) -> None:
    net, x = load_dinov2(dino, size=28), _images(3, 28)
    plain = transformers.Dinov2Model.from_pretrained(dino).eval()
    pixels = ((x + 1) / 2 - MEAN[:, None, None]) / STD[:, None, None]
    with torch.no_grad():
        want = plain(pixels).pooler_output  # transformers' own name for the class token
    torch.testing.assert_close(net.features(x), want, atol=1e-6, rtol=1e-6)
    assert net.resize == "bicubic, antialiased, to 28" and net.name == "DINOv2, 4 layers of 16"
    assert weights_hash(net.model) == weights_hash(plain) and not any(p.requires_grad for p in net.parameters())
    assert [tuple(m.shape[1:]) for m in net.maps(x)] == [(16, 4, 4)] * 4
    tokens = plain(pixels, output_hidden_states=True).hidden_states[4][:, 1:]
    torch.testing.assert_close(net.maps(x)[-1][:, :, 1, 2], tokens[:, 1 * 4 + 2], atol=1e-6, rtol=1e-6)


def test_dinov2_measures_sets_and_pairs(dino: Path) -> None:
    net, x = load_dinov2(dino, size=28), _images(12, 40)
    (frechet,) = evaluate(x, x, net, ["frechet"])
    assert frechet.value == pytest.approx(0, abs=1e-5) and frechet.name == "frechet on DINOv2, 4 layers of 16"
    distance = PerceptualDistance(net)
    assert float(distance.distances(x, x).max()) == 0 < float(distance.distances(x, x.flip(0)).min())
    with pytest.raises(ValueError, match="no multiple of the model's patches"):
        load_dinov2(dino, size=30)


def test_clip_score_is_the_models_own_similarity(clip: Path) -> None:
    net, x, words = load_clip(clip), _images(4, 16), ["a cat", "dog", "the red sun is up", "cat"]
    plain = transformers.CLIPModel.from_pretrained(clip).eval()
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.48145466, 0.4578275, 0.40821073),
                                                          (0.26862954, 0.26130258, 0.27577711)))  # fmt: skip
    rows = net.tokenizer(words, padding=True, truncation=True, max_length=9, return_tensors="pt")
    with torch.no_grad():
        out = plain(pixel_values=((x + 1) / 2 - mean) / std, **{k: rows[k] for k in ("input_ids", "attention_mask")})
    want = 100 * (out.image_embeds * out.text_embeds).sum(1).clamp(min=0)
    score = net.score(batch=4)
    torch.testing.assert_close(score.scores(x, words).float(), want, atol=1e-4, rtol=1e-4)
    assert float(want.max()) > 1
    result = score(x, words)
    assert result.name == "image-text score on CLIP, 2 layers of 16, patches of 8"
    assert result.card.extractor_hash == weights_hash(net) and result.value == pytest.approx(float(want.mean()), 1e-4)
    torch.testing.assert_close(net.features(x).norm(dim=1), torch.ones(4))
    (frechet,) = evaluate(x, x, net, ["frechet"])  # the image side is an extractor
    assert frechet.value == pytest.approx(0, abs=1e-6)


def test_clip_reads_its_own_constants(clip: Path) -> None:
    base, file = load_clip(clip), clip / "preprocessor_config.json"
    file.write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}))
    try:
        other = load_clip(clip)
        assert other.mean.flatten().tolist() == [0.5] * 3 and base.mean.flatten().tolist() != [0.5] * 3
        file.write_text('{"image_std": [0, 1, 1]}')
        with pytest.raises(ValueError, match="positive"):
            load_clip(clip)
    finally:
        file.unlink()


def test_score_on_any_pair_of_encoders() -> None:
    def colour(x: Tensor) -> Tensor:
        return x.mean((2, 3))

    def words(captions: Any) -> Tensor:
        return torch.tensor([[1.0, 0, 0] if c == "red" else [0, 0, -1.0] for c in captions])

    x = torch.tensor([[0.5, 0, 0], [0.3, 0, 0.4], [0.0, 0, 1.0]]).view(3, 3, 1, 1)
    score = TextScore(colour, words, "colours", batch=2)
    assert score.scores(x, ["red"] * 3).tolist() == pytest.approx([100, 60, 0], abs=1e-4)
    assert score.scores(x, ["blue"] * 3).tolist() == pytest.approx([0, 0, 0])  # below 0 counts as 0
    result = score(x, ["red"] * 3)
    assert result.value == pytest.approx(160 / 3) and result.error == pytest.approx(50.3322 / 3**0.5, rel=1e-4)
    with pytest.raises(ValueError, match="2 captions for 3 images"):
        score.scores(x, ["red", "red"])
    with pytest.raises(ValueError, match="encoders gave"):
        TextScore(colour, lambda c: torch.zeros(len(c), 7), "unequal").scores(x, ["red"] * 3)


@pytest.mark.usefixtures("unchecked")
def test_folders_that_will_not_do(dino: Path, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder; give a folder with"):
        load_dinov2(tmp_path / "gone")
    with pytest.raises(ValueError, match="Dinov2Model"):
        load_dinov2(clip)
    (tmp_path / "config.json").write_text((dino / "config.json").read_text())
    torch.save(transformers.Dinov2Model.from_pretrained(dino).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="allow_pickle=True only if you trust"):
        load_dinov2(tmp_path, size=28)
    assert load_dinov2(tmp_path, size=28, allow_pickle=True).features(_images(1, 28)).shape == (1, 16)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((clip / name).read_bytes())
    with pytest.raises(ValueError, match="no vocabulary"):
        load_clip(tmp_path)
