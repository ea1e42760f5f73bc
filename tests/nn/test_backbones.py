"""What every backbone must do, over a sweep of configurations."""

from __future__ import annotations

import json

import pytest
import torch

from mezzotint.core import Condition
from mezzotint.nn import DiT, Handler, UNet, handling

U = {"channels": 8, "mult": (1, 2), "blocks": 1, "head_dim": 8}
D = {"width": 16, "depth": 2, "heads": 2, "patch": 2}
SWEEP = [
    pytest.param(UNet, {**U}, id="unet"),
    pytest.param(UNet, {**U, "mult": (1,), "attention": ()}, id="unet-one-level-no-attention"),
    pytest.param(UNet, {**U, "mult": (1, 2, 3), "attention": (1, 4), "blocks": 2}, id="unet-three-levels"),
    pytest.param(UNet, {**U, "context": 6}, id="unet-text"),
    pytest.param(UNet, {**U, "context": 6, "pooled": 5, "out_channels": 6}, id="unet-text-pooled"),
    pytest.param(UNet, {**U, "classes": 4, "channels": 6}, id="unet-class-odd-width"),
    pytest.param(UNet, {**U, "concat": 3, "dropout": 0.2}, id="unet-concat-dropout"),
    pytest.param(UNet, {**U, "context": 6, "classes": 4, "pooled": 5, "concat": 1}, id="unet-all"),
    pytest.param(DiT, {**D}, id="dit"),
    pytest.param(DiT, {**D, "patch": 1, "classes": 4}, id="dit-class"),
    pytest.param(DiT, {**D, "context": 6}, id="dit-text"),
    pytest.param(DiT, {**D, "context": 6, "pooled": 5, "out_channels": 6}, id="dit-text-pooled"),
    pytest.param(DiT, {**D, "context": 6, "classes": 4, "pooled": 5, "concat": 1}, id="dit-all"),
]


def _condition(config, draw, batch: int, h: int, w: int) -> Condition:
    values: dict[str, torch.Tensor] = {}
    if config.get("context"):
        values["text"] = draw(batch, 3, config["context"])
        values["text_mask"] = torch.arange(3)[None] <= torch.arange(batch)[:, None]
    if config.get("classes"):
        values["label"] = torch.arange(batch) % (config["classes"] + 1)
    if config.get("pooled"):
        values["pooled"] = draw(batch, config["pooled"])
    if config.get("concat"):
        values["concat"] = draw(batch, config["concat"], h, w)
    return Condition(values)


def _inputs(config, draw, batch: int = 3, h: int = 8, w: int = 8):
    return draw(batch, 2, h, w), draw(batch).abs() * 500, _condition(config, draw, batch, h, w)


@pytest.mark.parametrize("kind, config", SWEEP)
class TestEveryBackbone:
    def test_a_fresh_one_returns_zero(self, kind, config, draw) -> None:
        out = kind(2, **config).double()(*_inputs(config, draw))
        assert out.shape == (3, config.get("out_channels", 2), 8, 8) and not out.any()

    def test_every_parameter_and_every_input_takes_part(self, kind, config, alive, draw) -> None:
        net = alive(kind(2, **config))
        x, time, c = _inputs(config, draw)
        leaves = {"x": x, "time": time} | {k: v for k, v in c.items() if v.is_floating_point()}
        for leaf in leaves.values():
            leaf.requires_grad_()
        net(x, time, c).square().sum().backward()
        for name, p in [*net.named_parameters(), *leaves.items()]:
            assert p.grad is not None and p.grad.isfinite().all(), name
            # A key bias shifts all logits of a row alike: softmax does not see it.
            if not name.endswith("to_k.bias"):
                assert p.grad.abs().max() > 1e-9, name

    def test_a_sample_is_the_same_alone_and_in_a_batch(self, kind, config, alive, draw) -> None:
        net = alive(kind(2, **config)).eval()
        x, time, c = _inputs(config, draw)
        together = net(x, time, c)
        for i in range(3):
            alone = net(x[i : i + 1], time[i : i + 1], Condition({k: v[i : i + 1] for k, v in c.items()}))
            assert torch.allclose(alone[0], together[i], atol=1e-10, rtol=0)

    def test_config_and_weights_make_the_same_network(self, kind, config, alive, draw) -> None:
        net = alive(kind(2, **config)).eval()
        other = kind(**json.loads(json.dumps(net.config))).double().eval()
        other.load_state_dict(net.state_dict())
        inputs = _inputs(config, draw)
        assert torch.equal(net(*inputs), other(*inputs))
        assert other.config == net.config

    def test_checkpointing_gives_the_same_gradients(self, kind, config, alive, draw) -> None:
        plain = alive(kind(2, **{**config, "dropout": 0.0} if kind is UNet else config))
        cheap = kind(**{**plain.config, "checkpoint": True}).double()
        cheap.load_state_dict(plain.state_dict())
        inputs = _inputs(config, draw)
        for net in (plain, cheap):
            net(*inputs).square().sum().backward()
        for (name, p), q in zip(plain.named_parameters(), cheap.parameters(), strict=True):
            assert p.grad is not None and q.grad is not None, name
            assert torch.allclose(p.grad, q.grad, atol=1e-12, rtol=1e-12), name

    def test_channels_last_and_float32_change_nothing_that_matters(self, kind, config, alive, draw) -> None:
        net = alive(kind(2, **config)).eval()
        x, time, c = _inputs(config, draw)
        wanted = net(x, time, c)
        net = net.float().to(memory_format=torch.channels_last)
        c = Condition({k: v.float() if v.is_floating_point() else v for k, v in c.items()})
        out = net(x.float().to(memory_format=torch.channels_last), time.float(), c)
        assert out.dtype == torch.float32
        assert (out - wanted).abs().max() < 1e-3 * wanted.abs().max()


@pytest.mark.parametrize("kind, config", [(UNet, {**U, "context": 6}), (DiT, {**D, "context": 6})])
def test_text_acts_padding_does_not(kind, config, alive, draw) -> None:
    net = alive(kind(2, **config))
    x, time, c = _inputs(config, draw)
    text, mask = c["text"], c["text_mask"]
    noise = draw(*text.shape)

    def run(new: torch.Tensor) -> torch.Tensor:
        return net(x, time, {"text": new, "text_mask": mask})

    assert torch.allclose(run(torch.where(mask[..., None], text, noise)), run(text), atol=1e-10, rtol=0)
    assert (run(torch.where(mask[..., None], noise, text)) - run(text)).abs().amax((1, 2, 3)).min() > 1e-4


@pytest.mark.parametrize("kind, config", [(UNet, U), (DiT, D)])
@pytest.mark.parametrize("size", [(4, 4), (8, 12), (20, 6)])
def test_other_sizes_run_and_see_the_whole_image(kind, config, size, alive, draw) -> None:
    net = alive(kind(2, **config))
    x = draw(1, 2, *size).requires_grad_()
    out = net(x, draw(1))
    assert out.shape == x.shape
    (grad,) = torch.autograd.grad(out[0, 0, 0, 0], x)
    assert grad[0, :, -1, -1].abs().max() > 0  # through attention the far corner counts


@pytest.mark.parametrize("kind, config", [(UNet, U), (DiT, D)])
def test_checkpointing_recomputes_and_shows_handlers_each_call_once(kind, config, alive, draw) -> None:
    class Count(Handler):
        calls = 0

        def tokens(self, call, q, k, v):
            Count.calls += 1
            return q, k, v

    net = alive(kind(2, **config, checkpoint=True))
    ran = []
    layer = next(m for m in net.modules() if hasattr(m, "to_q"))
    layer.register_forward_pre_hook(lambda *_: ran.append(1))
    x, time = draw(1, 2, 8, 8), draw(1)
    net(x, time).sum().backward()
    assert len(ran) == 2  # once forward, once again for the gradient
    out = net(x, time).sum()
    with handling(net, Count()):
        out.backward()  # recomputes a pass that had no handler
        assert Count.calls == 0
        net(x, time).sum().backward()
    sites = sum(hasattr(m, "to_q") for m in net.modules())
    assert Count.calls == sites


# Published sizes, to the last parameter: the architecture is the one meant. Nothing is allocated on "meta".
@pytest.mark.parametrize(
    "make, parameters",
    [
        # Stable Diffusion 1.x.
        (lambda: UNet(4, channels=320, mult=(1, 2, 4, 4), attention=(4, 2, 1), context=768), 859_520_964),
        # DiT-XL/2 has 675,129,632, of which 256 x 1152 are the stored positions, which we compute.
        (
            lambda: DiT(4, 8, patch=2, width=1152, depth=28, heads=16, classes=1000),
            675_129_632 - 256 * 1152,
        ),
    ],
    ids=["sd-1.5", "dit-xl-2"],
)
def test_published_sizes(make, parameters: int) -> None:
    with torch.device("meta"):
        net = make()
    assert sum(p.numel() for p in net.parameters()) == parameters
