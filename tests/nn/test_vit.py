"""The pre-trained encoder, its projector, and the network that decodes from it."""

from __future__ import annotations

import json

import pytest
import torch

from mezzotint.attention import tap
from mezzotint.core import Condition
from mezzotint.nn import EncoderDecoderViT, ProjectedEncoder, Projector, ViTEncoder, find_sites, load_encoder

E = {"size": 8, "patch": 4, "width": 16, "depth": 3, "heads": 2}
SWEEP = [
    pytest.param({**E}, id="plain"),
    pytest.param({**E, "classes": 4}, id="class"),
    pytest.param({**E, "decoder_width": 24, "decoder_heads": 3, "classes": 4}, id="wider-decoder"),
    pytest.param({**E, "size": [8, 12], "decoder_depth": 2}, id="oblong-shallow-decoder"),
]


def _inputs(config, draw):
    sides = (config["size"],) * 2 if isinstance(config["size"], int) else config["size"]
    c = Condition({"label": torch.tensor([0, 4, 2])}) if config.get("classes") else Condition({})
    return draw(3, 2, *sides), 100 * draw(3), c


@pytest.mark.parametrize("config", SWEEP)
class TestBackbone:
    def test_a_fresh_one_returns_zero(self, config, draw) -> None:
        assert not EncoderDecoderViT(2, **config).double()(*_inputs(config, draw)).any()

    def test_every_parameter_and_every_input_takes_part(self, config, alive, draw) -> None:
        net = alive(EncoderDecoderViT(2, **config))
        x, time, c = _inputs(config, draw)
        leaves = {"x": x.requires_grad_(), "time": time.requires_grad_()}
        net(x, time, c).square().sum().backward()
        for name, p in [*net.named_parameters(), *leaves.items()]:
            assert p.grad is not None and p.grad.isfinite().all(), name
            assert p.grad.abs().max() > 1e-9, name

    def test_a_sample_is_the_same_alone_and_in_a_batch(self, config, alive, draw) -> None:
        net = alive(EncoderDecoderViT(2, **config)).eval()
        x, time, c = _inputs(config, draw)
        together = net(x, time, c)
        for i in range(3):
            alone = net(x[i : i + 1], time[i : i + 1], c.rows([i]))
            assert torch.allclose(alone[0], together[i], atol=1e-10, rtol=0)

    def test_config_and_weights_make_the_same_network(self, config, alive, draw) -> None:
        net = alive(EncoderDecoderViT(2, **config)).eval()
        other = EncoderDecoderViT(**json.loads(json.dumps(net.config))).double().eval()
        other.load_state_dict(net.state_dict())
        inputs = _inputs(config, draw)
        assert torch.equal(net(*inputs), other(*inputs)) and other.config == net.config

    def test_checkpointing_gives_the_same_gradients(self, config, alive, draw) -> None:
        plain = alive(EncoderDecoderViT(2, **config))
        cheap = EncoderDecoderViT(**{**plain.config, "checkpoint": True}).double()
        cheap.load_state_dict(plain.state_dict())
        inputs = _inputs(config, draw)
        for net in (plain, cheap):
            net(*inputs).square().sum().backward()
        for (name, p), q in zip(plain.named_parameters(), cheap.parameters(), strict=True):
            assert p.grad is not None and q.grad is not None, name
            assert torch.allclose(p.grad, q.grad, atol=1e-12, rtol=1e-12), name

    def test_every_attention_goes_through_the_door(self, config, alive, draw) -> None:
        net = alive(EncoderDecoderViT(2, **config)).eval()
        names = [f"{part}blocks.{i}.self" for part, n in (("encoder.", 3), ("", config.get("decoder_depth", 3)))
                 for i in range(n)]  # fmt: skip
        assert list(find_sites(net)) == names
        inputs = _inputs(config, draw)
        with torch.no_grad(), tap(net) as record:
            watched = net(*inputs)
        assert sorted(record.sites) == sorted(names)
        assert torch.allclose(watched, net(*inputs), atol=1e-10, rtol=0)


def test_skips_are_popped_last_first(alive, draw) -> None:
    net = alive(EncoderDecoderViT(2, **E)).eval()
    seen = []
    for block in net.blocks:
        block.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    x, time = draw(1, 2, 8, 8), draw(1)
    net(x, time)
    skips = net.encoder.encode(x, time).skips
    assert len(skips) == 3 and all(torch.equal(a, b) for a, b in zip(seen, reversed(skips), strict=True))


def test_the_class_reaches_the_class_token_and_the_modulation(alive, draw) -> None:
    net = alive(EncoderDecoderViT(2, **E, classes=4)).eval()
    x, time = draw(1, 2, 8, 8), draw(1)
    plain, told = net.encoder.encode(x, time), net.encoder.encode(x, time, net.label.weight[1:2])
    assert not torch.allclose(plain.cls, told.cls) and torch.equal(plain.time, told.time)
    seen = []
    net.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[2]))
    net(x, time, {"label": torch.tensor([1])})
    assert torch.equal(seen[0], told.time + net.label.weight[1:2])


def test_dropout_acts_in_the_decoder_alone(alive, draw) -> None:
    net = alive(EncoderDecoderViT(2, **E, dropout=0.5)).train()
    x, time = draw(2, 2, 8, 8), draw(2)
    assert torch.equal(net.encoder(x, time), net.encoder(x, time))
    with torch.random.fork_rng():
        assert not torch.equal(net(x, time), net(x, time))
    assert torch.equal(net.eval()(x, time), net(x, time))


# The paper's table of sizes, in millions, at 256 pixels with patches of 16 and 1000 classes.
@pytest.mark.parametrize(
    "depth, width, heads, decoder, decoder_heads, millions",
    [
        (16, 1024, 16, 1024, 16, 540),
        (12, 768, 12, 1584, 22, 583),
        (12, 768, 12, 1920, 16, 789),
        (12, 768, 12, 2688, 21, 1391),
    ],
    ids=["L", "XL", "XXL", "G"],
)
def test_published_sizes(depth, width, heads, decoder, decoder_heads, millions) -> None:
    with torch.device("meta"):
        net = EncoderDecoderViT(
            3, size=256, patch=16, width=width, depth=depth, heads=heads, decoder_width=decoder,
            decoder_heads=decoder_heads, classes=1000,
        )  # fmt: skip
    assert abs(sum(p.numel() for p in net.parameters()) / 1e6 - millions) < 1


class TestLoading:
    def test_every_form_that_weights_come_in(self, alive, draw) -> None:
        encoder = alive(ViTEncoder(2, **E))
        x, time = draw(2, 2, 8, 8), draw(2)
        made = ProjectedEncoder(encoder, Projector(16, 8, 4).double())
        trained = EncoderDecoderViT.from_encoder(encoder.float(), classes=3)
        encoder.double()
        for state in (encoder.state_dict(), made.state_dict(), trained.state_dict()):
            net = EncoderDecoderViT(2, **E, decoder_width=24, decoder_heads=3).double()
            decoder = {k: v.clone() for k, v in net.state_dict().items() if not k.startswith("encoder.")}
            matched = load_encoder(net, state)
            assert matched == (len(encoder.state_dict()),) * 2
            assert torch.allclose(net.encoder(x, time), encoder(x, time), atol=1e-5)
            assert all(torch.equal(net.state_dict()[k], v) for k, v in decoder.items())

    def test_a_copy_is_its_own(self) -> None:
        encoder = ViTEncoder(2, **E)
        net = EncoderDecoderViT.from_encoder(encoder)
        assert torch.equal(net.encoder.cls, encoder.cls) and net.encoder.cls is not encoder.cls

    @pytest.mark.parametrize(
        "change, told",
        [
            (lambda s: {k: v for k, v in s.items() if "blocks.1" not in k}, r"32 of 45 .*missing: blocks\.1\.\S+"),
            (lambda s: {**s, "cls": torch.zeros(1, 1, 8)}, r"44 of 45 .*another shape: cls \(1, 1, 8\), expected"),
            (lambda s: {**s, "blocks.3.norm.weight": torch.zeros(16)}, r"45 of 45 .*unknown: blocks\.3"),
            (lambda s: {}, "0 of 45 encoder tensors match"),
            (lambda s: {f"module.{k}": v for k, v in s.items()}, "0 of 45"),
        ],
        ids=["missing", "shape", "deeper", "nothing", "prefixed"],
    )
    def test_less_than_all_is_refused_and_changes_nothing(self, change, told) -> None:
        net = EncoderDecoderViT(2, **E)
        before = {k: v.clone() for k, v in net.state_dict().items()}
        state = change({k: v + 1 for k, v in net.encoder.state_dict().items()})
        with pytest.raises(ValueError, match=told):
            load_encoder(net, state)
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: ViTEncoder(3, size=30, patch=4, heads=2, width=16), "image 30x30 is not divisible by patch 4"),
        (lambda: ViTEncoder(3, size=(8, 8, 8), heads=2, width=16), r"size \(height, width\)"),
        (lambda: ViTEncoder(3, width=15, heads=3), "even width"),
        (lambda: ViTEncoder(3, width=16, heads=3), "heads=3 divide"),
        (lambda: ViTEncoder(3, depth=0), "depth of at least 1"),
        (lambda: EncoderDecoderViT(3, **E, decoder_depth=4), "decoder of 4 blocks needs as many .* has 3"),
        (lambda: EncoderDecoderViT(3, **E, decoder_width=20, decoder_heads=3), "decoder_heads=3 do not divide"),
        (lambda: EncoderDecoderViT(3, **E, dropout=1.0), "probability"),
        (lambda: EncoderDecoderViT(3, **E, classes=-1), "classes of 0"),
        (lambda: Projector(8, hidden=0), "at least 1 each"),
        (lambda: Projector(4, 8, 2).train()(torch.zeros(1, 4)), "batch of 1"),
        (lambda: ViTEncoder(3, **E)(torch.zeros(1, 3, 16, 16), torch.zeros(1)), "images of 8 x 8, got 16 x 16"),
        (lambda: ViTEncoder(3, **E)(torch.zeros(1, 3, 10, 8), torch.zeros(1)), "multiples of 4"),
        (lambda: ViTEncoder(3, **E)(torch.zeros(1, 2, 8, 8), torch.zeros(1)), r"\(b, 3, h, w\)"),
    ],
)
def test_wrong_calls(make, told, unchecked) -> None:
    with pytest.raises(ValueError, match=told):
        make()


def test_one_sample_can_be_projected_in_eval_mode() -> None:
    projector = Projector(4, 8, 2)
    projector(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)))
    assert projector.eval()(torch.zeros(1, 4)).shape == (1, 2)
