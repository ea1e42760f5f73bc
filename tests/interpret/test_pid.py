"""Partial information of words on every kind of model: ours, latent, of diffusers; prompts, pictures and tables."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import mezzotint as mz
from mezzotint.core import VP, Condition, Cosine, EpsDenoiser, Noise, VDenoiser
from mezzotint.guide import CFG
from mezzotint.interpret import (
    AmbiguityTable,
    Atoms,
    BiasTable,
    Decomposition,
    InformationLevels,
    ambiguity_table,
    decompose,
    explain_pid,
    heat,
    information,
    pid_sheet,
    pid_strip,
    prompts_of,
    redundancy_table,
    without_words,
)
from mezzotint.latent import AutoencoderKL, Identity
from mezzotint.model import Model
from mezzotint.nn import DiT, UNet
from mezzotint.nn.conditioner import ClassConditioner, TextConditioner, train_vocabulary

FEW = InformationLevels(count=4)


def loud(module, seed=7):
    """Random weights that say something: zero-initialised layers would hide what a test looks for."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=generator) * p[0].numel() ** -0.5)
    return module.eval()


def words(length=10):
    vocab = train_vocabulary(["a red heart", "a blue fish", "a male nurse"], size=90, whole=1)
    return loud(TextConditioner(vocab, length=length, width=16, depth=1, heads=2))


def pixel():
    net = UNet(3, channels=16, mult=(1, 2), blocks=1, attention=(2,), head_dim=8, context=16, pooled=16)
    return Model(VDenoiser(loud(net), Cosine()), Identity(3), words(), size=(8, 8), name="pixel")


def transformer():
    net = DiT(3, patch=2, width=16, depth=2, heads=2, context=16, pooled=16)
    return Model(EpsDenoiser(loud(net), VP()), Identity(3), words(), size=(8, 8), name="dit")


def latent():
    coder = AutoencoderKL(channels=8, mult=(1, 2), blocks=1, latent=4)
    net = UNet(4, channels=16, mult=(1,), blocks=1, attention=(1,), head_dim=8, context=16, pooled=16)
    return Model(VDenoiser(loud(net), VP()), loud(coder), words(), size=(16, 16), name="latent")


def picture(h, w, n=1):
    return Noise(range(n))("picture", 0, (3, h, w)).clamp(-1, 1)


def by_hand(model, x, prompts, seed, levels):
    """The estimate written out for one image: a loop over levels, one condition at a time."""
    d, noise = model.denoiser, Noise([seed])
    d = d.at(*x.shape[2:]) if hasattr(d, "at") else d
    raw = model.conditioner.prepare([p or "nothing" for p in prompts])
    with torch.no_grad():
        c = model.conditioner(raw)
        c = c.drop(torch.tensor([not p for p in prompts]))
        lam, w = levels(d.schedule, noise)
        eps = noise("pid", 0, (levels.count, *x.shape[1:]))[0]
        total = torch.zeros(3, *x.shape[2:], dtype=torch.float64)
        for k in range(levels.count):
            t = d.schedule.t_of(lam[0, k : k + 1])
            alpha, sigma = d.schedule.alpha(t).float(), d.schedule.sigma(t).float()
            x_t = alpha * x + sigma * eps[k]
            e = [d(x_t, t.float(), c.rows([row])).eps[0].double() for row in range(4)]
            total += w[0, k] / levels.count * torch.stack([(e[0] - v).square().sum(0) for v in e[1:]])
    return total


def check(model, prompt="a red heart", concepts=("red", "heart")):
    h, w = model.size
    x = picture(h, w, 2)
    made = explain_pid(model, x, prompt, concepts, levels=FEW, seeds=[3, 4])
    with torch.no_grad():
        z = model.autoencoder.encode(x)
    factor = model.autoencoder.spec.factor
    assert made.atoms.maps.r.shape == (2, h // factor, w // factor)
    i1, i2, i12 = by_hand(model, z[1:], made.prompts, 4, FEW)
    for found, expected in ((made.atoms.maps.i1, i1), (made.atoms.maps.i2, i2), (made.atoms.maps.i12, i12)):
        torch.testing.assert_close(found[1], expected, rtol=1e-3, atol=1e-6 * float(i12.max()))
    assert float(i1.sum()) > 0 and float((i1 - i2).abs().sum()) > 0
    alone = explain_pid(model, x[1:], prompt, concepts, levels=FEW, seeds=[4], batch=3)  # whatever lies beside it
    torch.testing.assert_close(alone.atoms.maps.s[0], made.atoms.maps.s[1], rtol=1e-3, atol=1e-5 * float(i12.max()))
    return made


@pytest.mark.parametrize("model", [pixel, transformer, latent], ids=lambda build: build.__name__)
def test_our_models_give_what_is_written_out(model):
    check(model())


def test_each_word_alone_is_against_the_null():
    model = pixel()
    made = explain_pid(model, picture(8, 8), "a red heart", ("red", "heart"), conditional=False, levels=FEW, seeds=[4])
    assert made.prompts == ("", "red", "heart", "a red heart")
    i1, i2, i12 = by_hand(model, picture(8, 8), made.prompts, 4, FEW)
    torch.testing.assert_close(made.atoms.maps.i12[0], i12, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(made.atoms.maps.r[0], torch.minimum(i1, i2), rtol=1e-3, atol=1e-6)


# diffusers: SD-1.5-shaped and SDXL-shaped, random weights


def tokens(folder):
    transformers = pytest.importorskip("transformers", reason="needs the extra [diffusers]")
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(c + "</w>" for c in letters), "re", "red</w>", "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    return transformers.CLIPTokenizer.from_pretrained(str(folder), model_max_length=16)


def encoder(width, projection=False):
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=56, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, projection_dim=8, bos_token_id=54, eos_token_id=55, pad_token_id=55,
    )  # fmt: skip
    return loud((transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel)(config))


def pipeline(folder: Path, xl: bool):
    diffusers = pytest.importorskip("diffusers", reason="needs the extra [diffusers]")
    widths = (4, 8, 8) if xl else (4, 8, 8, 8)  # SDXL has three levels, Stable Diffusion 1.5 four
    cross = ("CrossAttnDownBlock2D",) * (len(widths) - 1)
    down = ("DownBlock2D", *cross) if xl else (*cross, "DownBlock2D")
    extra = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4,
             "projection_class_embeddings_input_dim": 6 * 4 + 8, "transformer_layers_per_block": (1, 2, 2),
             "use_linear_projection": True}  # fmt: skip
    net = diffusers.UNet2DConditionModel(
        block_out_channels=widths, layers_per_block=1, sample_size=16, down_block_types=down,
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
        cross_attention_dim=16 if xl else 8, attention_head_dim=2, norm_num_groups=2, **(extra if xl else {}),
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=2, sample_size=32, scaling_factor=0.5,
    )  # fmt: skip
    parts = {
        "unet": loud(net), "vae": loud(vae), "text_encoder": encoder(6 if xl else 8), "tokenizer": tokens(folder / "a"),
        "scheduler": diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                             clip_sample=False, steps_offset=1),
    }  # fmt: skip
    if xl:
        parts |= {"text_encoder_2": encoder(10, True), "tokenizer_2": tokens(folder / "b"), "add_watermarker": False}
        return diffusers.StableDiffusionXLPipeline(**parts)
    parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return diffusers.StableDiffusionPipeline(**parts)


@pytest.mark.parametrize("xl", [False, True], ids=["sd-1.5", "sdxl"])
def test_models_of_diffusers(xl, tmp_path):
    pipeline(tmp_path, xl).save_pretrained(tmp_path / "pipe")
    made = check(mz.load(tmp_path / "pipe"), "red fish cat", ("red", "fish"))
    assert made.prompts == ("cat", "red cat", "fish cat", "red fish cat")


# words, pictures, tables


def test_words_are_left_out_whole():
    assert without_words("Redder red, RED fish.", "red") == "Redder, fish."
    assert without_words("a red cat and a red dog", "red", place=1) == "a red cat and a dog"
    assert without_words("a hot  dog", "hot dog") == "a"
    assert prompts_of("red cat", ("red", "cat")) == ("", "red", "cat", "red cat")


@pytest.mark.parametrize(
    ("prompt", "concepts", "message"),
    [
        ("a cat", ("cat", "dog"), "'dog' is not in the prompt"),
        ("a cat", ("cat",), "two of the prompt's words"),
        ("a cat", ("cat", " "), "a concept is empty"),
        ("a hot dog", ("hot", "hot dog"), "overlap"),
        ("a hot dog and a hot day", ("hot", "hot dog"), "overlap"),
        ("a hot dog and a hot day", ("hot dog", "hot"), "overlap"),
        (" ", ("a", "b"), "the prompt is empty"),
    ],
)
def test_bad_prompts(prompt, concepts, message):
    with pytest.raises(ValueError, match=message):
        prompts_of(prompt, concepts)
    with pytest.raises(ValueError, match="does not exist"):
        without_words("a cat", "cat", place=1)


def test_models_that_do_not_suit(unchecked):
    net = UNet(3, channels=16, mult=(1,), blocks=1, attention=(), classes=3)
    numbers = Model(VDenoiser(net, VP()), Identity(3), ClassConditioner(3), size=(8, 8), name="numbers")
    for model in (numbers, Model(VDenoiser(net, VP()), Identity(3), size=(8, 8), name="mute")):
        with pytest.raises(ValueError, match=f"{model.name} reads no words"):
            explain_pid(model, picture(8, 8), "a red heart", ("red", "heart"))
    d, c = pixel().denoiser, Condition({"text": torch.zeros(4, 2, 16)}, {"text": torch.zeros(1, 2, 16)})
    with pytest.raises(ValueError, match="without guidance"):
        information(CFG(3.0)(d), picture(8, 8), c, [(0, 1)], Noise([0]))
    with pytest.raises(ValueError, match="2 seeds for 1 images"):
        information(d, picture(8, 8), c, [(0, 1)], Noise([0, 1]))
    with pytest.raises(ValueError, match="expected pairs of rows"):
        information(d, picture(8, 8), c, [(0, 4)], Noise([0]))
    with pytest.raises(ValueError, match="unknown form"):
        information(d, picture(8, 8), c, [(0, 1)], Noise([0]), form="both")
    with pytest.raises(ValueError, match="3 conditions"):
        decompose(d, picture(8, 8), c.rows([0, 1, 2]), Noise([0]))
    with pytest.raises(ValueError, match="even number"):
        InformationLevels(count=5)


def test_levels_that_a_schedule_does_not_have():
    wide = InformationLevels(clip=10.0)
    low, high = wide.interval(VP())
    assert low > -9.5 and high < 10.5 and 0 < wide.missing(VP()) < 0.05
    with pytest.raises(ValueError, match="move loc"):
        InformationLevels(loc=40.0).interval(VP())


def told(*atoms):
    maps = Atoms(*(torch.tensor([[v, [0.0, 0.0]]]) for v in atoms))
    totals = Atoms(*(getattr(maps, name).flatten(1).sum(1) for name in Atoms.names))
    return Decomposition(maps, maps, totals, totals)


def test_pictures_share_one_scale_and_show_the_sign():
    image = torch.zeros(3, 2, 2)
    warm = heat(torch.tensor([[1.0, 0.0], [-1.0, 0.5]]), image, 1.0)
    assert warm[0, 0, 0].item() == pytest.approx(1) == warm[2, 1, 0].item() and float(warm[0, 1, 0]) < 0
    assert torch.equal(warm[:, 0, 1], torch.full((3,), -0.4)) and -0.4 < float(warm[0, 1, 1]) < 1
    d = told([2.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, -1.0], [2.0, 1.0], [2.0, 0.0], [2.0, 0.0])
    strip = pid_strip(image, d)
    assert strip.shape == (2, 10, 3) and strip[0, 2].tolist() == pytest.approx([255, 140, 26], abs=1)  # r is full
    assert int(strip[0, 9, 2]) > int(strip[0, 9, 0])  # negative synergy is blue
    sheet = pid_sheet(image[None], d, ("red", "日本"))
    assert sheet.shape == (2 * (96 + 14), 8 * 96, 3)
    assert sheet[14, 96].tolist() == pytest.approx([255, 140, 26], abs=1)


def test_specificity_by_hand():
    """Equal priors: redundancy is the larger of both (the sheet), and a sure rare word adds what the other lacks."""
    d = told(*([v, 0.0] for v in (0.2, 0.0, 0.3, 0.1, 0.2, 0.5, 0.6)))
    a = d.by_specificity(0.5, 0.5)
    assert (
        float(a.r) == pytest.approx(0.5)
        and float(a.u1) == pytest.approx(-0.3)
        and float(a.u2) == pytest.approx(0, abs=1e-6)
    )
    b = d.by_specificity(0.9, 0.1)
    h1, h2 = -math.log(0.9), -math.log(0.1)
    assert float(b.r) == pytest.approx(h1 - min(h1 - 0.2, h2 - 0.5))
    for atoms in (a, b):
        assert float(atoms.r + atoms.u1 + atoms.u2 + atoms.s) == pytest.approx(0.6)
    with pytest.raises(ValueError, match="priors 0"):
        d.by_specificity(0.0, 0.5)


def test_bias_needs_an_interval_to_lean():
    base = torch.linspace(0, 1, 8)
    sure, unsure = base + 1, base + 0.3 * (-1.0) ** torch.arange(8)
    table = BiasTable(("nurse", "clerk"), ("male", "female"), torch.stack([
        torch.stack([base, sure]), torch.stack([base, unsure])]))  # fmt: skip
    assert table.leaning(0) == "female" and table.leaning(1) is None
    assert float(table.share.max()) == 1 and table.interval(0, 1, 0)[0] == pytest.approx(1, abs=1e-5)
    assert table.rows()[2].startswith("| nurse | 0.5 (0.33) | 1.5 (1.00) | female |")
    assert table.rows()[3].endswith("| neither |")


def test_tables_are_of_the_parts_that_they_name():
    model = pixel()
    settings = {"seed": 2, "steps": 1, "guidance": 1.0, "levels": FEW}
    table = redundancy_table(model, ["nurse", "fish"], ("male", "red"), **settings)
    x = model.sample("a fish", seeds=range(2, 10), steps=1, guidance=1.0)  # asked for without a group
    one = explain_pid(model, x, "a red fish", ("fish", "red"), levels=FEW, seeds=range(2, 10))
    torch.testing.assert_close(table.nats[1, 1], one.atoms.totals.r)
    pairs = [("heart", "red"), ("heart", "blue")]
    other = ambiguity_table(model, pairs, **settings)
    x = model.sample("a blue heart", seeds=range(2, 10), steps=1, guidance=1.0)
    one = explain_pid(model, x, "a blue heart", ("heart", "blue"), levels=FEW, seeds=range(2, 10))
    torch.testing.assert_close(other.atoms.s[1], one.atoms.totals.s)
    assert float(other.synergy[1]) == pytest.approx(float(one.atoms.totals.s.mean() / one.atoms.totals.i12.mean()))
    assert isinstance(other, AmbiguityTable) and "| heart | blue |" in other.rows()[3]
    assert other.interval(0, 0) == (0, 0)


def test_tables_that_would_be_noise_are_refused():
    model = pixel()
    with pytest.raises(ValueError, match="at least 8"):
        redundancy_table(model, ["nurse"], images_per_prompt=4)
    with pytest.raises(ValueError, match="must hold {group}"):
        redundancy_table(model, ["nurse"], template="a {word}")
    with pytest.raises(ValueError, match="at least 2"):
        redundancy_table(model, ["nurse"], ("male",))
    with pytest.raises(ValueError, match="one row or more"):
        ambiguity_table(model, [])
