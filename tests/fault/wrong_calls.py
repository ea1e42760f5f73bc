"""Wrong calls, each with the words its message must hold. Run as a script it makes them all and prints what came.

In a process of its own, because the suite's type checks would answer before the library does.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import mezzotint as mz
from mezzotint.core import (
    VE,
    VP,
    BrownianPath,
    Condition,
    Cosine,
    Discrete,
    EDMDenoiser,
    Flow,
    FlowDenoiser,
    Gaussian,
    GaussianMixture,
    Noise,
    Prediction,
    Shifted,
    explicit,
    karras,
    uniform_lambda,
    uniform_t,
)
from mezzotint.data import Emoji, Scenes
from mezzotint.guide import CFG, DynamicThreshold, Interval
from mezzotint.io.safe import load_into
from mezzotint.latent import AutoencoderKL, Identity, LatentSpec
from mezzotint.metric import frechet_distance
from mezzotint.model import Model
from mezzotint.nn import DiT, UNet
from mezzotint.nn.conditioner import ClassConditioner, TextConditioner, train_vocabulary
from mezzotint.objective import Batch, Denoise, LogitNormalTime, MinSNR
from mezzotint.sample import DDIM, DDPM, DPMSolverPP, Euler
from mezzotint.sample.names import sampler_named
from mezzotint.train import Single, with_overrides
from mezzotint.train.__main__ import find_recipe
from mezzotint.train.recipe import AdamW, Budget

nan, inf = math.nan, math.inf
ROOT = Path(tempfile.mkdtemp())
exact = GaussianMixture(torch.eye(2), torch.ones(2)).denoiser(VP())
x = torch.zeros(2, 2)
label = Condition({"label": torch.tensor([0, 1])}, {"label": torch.tensor([2])})


def tiny() -> Model:
    """A text model with random weights, 16 pixels, factor 2."""
    torch.manual_seed(0)
    text = TextConditioner(train_vocabulary(["red heart"], size=60), length=8, width=8, depth=1, heads=2)
    net = UNet(4, channels=8, mult=(1, 2), blocks=1, context=8, pooled=8)
    autoencoder = AutoencoderKL(channels=8, mult=(1,), blocks=1, latent=4, patch=2, groups=4)
    return Model(FlowDenoiser(net, Flow()), autoencoder, text, size=(16, 16), name="tiny").eval()


model = tiny()
folder = model.save(ROOT / "tiny")


def damaged(change: Callable[[Path], Any]) -> Callable[[], Any]:
    """Load a copy of the folder after something was done to it."""

    def call() -> Any:
        copy = tiny().save(Path(tempfile.mkdtemp()) / "copy")
        change(copy)
        return mz.load(copy)

    return call


def _config(change: Callable[[dict], Any]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        config = json.loads((path / "config.json").read_text())
        change(config)
        (path / "config.json").write_text(json.dumps(config))

    return edit


def _tensors(change: Callable[[dict], Any]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        from safetensors.torch import load_file, save_file

        state = load_file(path / "denoiser.safetensors")
        change(state)
        save_file(state, path / "denoiser.safetensors")

    return edit


def _truncate(path: Path) -> None:
    file = path / "denoiser.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _pickle(path: Path) -> None:
    torch.save({"a": torch.ones(1)}, path / "denoiser.safetensors")


def _save_into_read_only() -> Any:
    """Where even root may not write."""
    return model.save("/proc/mezzotint")


def _nan_image() -> Any:
    return model.autoencoder.encode(torch.full((1, 3, 16, 16), nan))


def _foreign_folder() -> Any:
    other = ROOT / "other"
    other.mkdir(exist_ok=True)
    (other / "thesis.txt").write_text("mine")
    return model.save(other)


# name -> (call, words of the message)
CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    # schedules and grids
    "vp beta order": (lambda: VP(20.0, 0.1), "0 < beta_min < beta_max"),
    "ve sigma_min >= sigma_max": (lambda: VE(80.0, 0.002), "0 < sigma_min < sigma_max"),
    "cosine negative s": (lambda: Cosine(-1.0), ">= 0"),
    "discrete empty": (lambda: Discrete([]), "list of N numbers"),
    "discrete beta of 1": (lambda: Discrete([0.1, 1.0]), r"beta[1]"),
    "shift of 0": (lambda: Shifted(Flow(), 0.0), "> 0"),
    "steps 0": (lambda: uniform_t(VP(), 0), "whole number >= 1"),
    "steps a float": (lambda: uniform_t(VP(), 2.5), "whole number >= 1"),  # type: ignore[arg-type]
    "t_end above t_start": (lambda: uniform_lambda(VP(), 4, t_start=0.1, t_end=0.5), "t_end < t_start"),
    "karras sigma_min >= sigma_max": (lambda: karras(VP(), 4, sigma_min=3.0, sigma_max=1.0), "sigma_min < sigma_max"),
    "karras beyond the schedule": (lambda: karras(VE(), 4, sigma_max=1000.0), "reaches"),
    "karras rho 0": (lambda: karras(VP(), 4, rho=0.0), "rho"),
    "explicit grid, other steps": (lambda: explicit([1.0, 0.5, 0.0])(VP(), 5), "has 2 steps"),
    # noise, conditions, predictions
    "no seeds": (lambda: Noise([]), "no seed"),
    "negative seed": (lambda: Noise([-1]), "integers >= 0"),
    "seed a float": (lambda: Noise([0.5]), "integers >= 0"),  # type: ignore[list-item]
    "brownian time": (lambda: BrownianPath(Noise([0]), ())(2.0), "[0, 1]"),
    "condition batches": (lambda: Condition({"a": torch.zeros(2), "b": torch.zeros(3)}), "batch sizes"),
    "condition null shape": (lambda: Condition({"a": torch.zeros(2, 3)}, {"a": torch.zeros(1, 4)}), "expected (1, 3)"),
    "condition null unknown": (lambda: Condition({"a": torch.zeros(2)}, {"b": torch.zeros(1)}), "no key"),
    "drop mask": (lambda: label.drop(torch.zeros(3, dtype=torch.bool)), "(2,) of torch.bool"),
    "prediction with a variance": (
        lambda: Prediction.from_eps(torch.zeros(2, 6, 4, 4), torch.zeros(2, 3, 4, 4), torch.ones(2), VP()),
        "variance",
    ),
    "one time for two samples": (lambda: Prediction.from_x0(x, x, torch.ones(1), VP()), "one a sample"),
    "sigma_data 0": (lambda: EDMDenoiser(torch.nn.Identity(), VE(), 0.0), "sigma_data"),
    "covariance not symmetric": (lambda: Gaussian(x[0], cov=torch.tensor([[1.0, 2.0], [0.0, 1.0]])), "asymmetric"),
    "label out of range, exact": (
        lambda: exact(x, torch.ones(2), Condition({"label": torch.tensor([0, 7])})),
        "components",
    ),
    # samplers and guides
    "sampler without steps": (lambda: DDIM()(exact, x), "steps"),
    "sampler steps 0": (lambda: DDIM()(exact, x, steps=0), "whole number >= 1"),
    "rising grid": (lambda: Euler()(exact, x, grid=torch.tensor([0.0, 0.5, 1.0])), "monotone"),
    "grid outside [0, 1]": (lambda: Euler()(exact, x, grid=torch.tensor([1.5, 0.5, 0.0])), "leaves [0, 1]"),
    "grid with NaN": (lambda: Euler()(exact, x, grid=torch.tensor([1.0, nan, 0.0])), "leaves [0, 1]"),
    "grid and other steps": (lambda: Euler()(exact, x, steps=5, grid=torch.tensor([1.0, 0.0])), "give one"),
    "integer x_T": (lambda: DDIM()(exact, x.long(), steps=2), "floating-point"),
    "empty x_T": (lambda: DDIM()(exact, x[:0], steps=2), "nothing empty"),
    "NaN x_T": (lambda: DDIM()(exact, x * nan, steps=2), "NaN"),
    "a network for a denoiser": (lambda: DDIM()(torch.nn.Identity(), x, steps=2), "needs a Denoiser"),  # type: ignore[arg-type]
    "no noise for DDPM": (lambda: DDPM()(exact, x, steps=2), "noise=Noise"),
    "wrong number of seeds": (lambda: DDPM()(exact, x, steps=2, noise=Noise([0])), "one seed a sample"),
    "condition of another batch": (lambda: DDIM()(exact, x, steps=2, c=label.rows([0])), "one row a sample"),
    "order 4": (lambda: DPMSolverPP(order=4), "1, 2 or 3"),
    "unknown sampler": (lambda: sampler_named("dpm++"), "expected one of ddim"),
    "negative guidance": (lambda: CFG(-1.0), ">= 0"),
    "guidance NaN": (lambda: CFG(nan), "finite"),
    "guidance without a condition": (lambda: CFG(2.0)(exact)(x, torch.ones(2)), "needs a condition"),
    "interval upside down": (lambda: Interval(CFG(2.0), 0.8, 0.2), "t_low"),
    "quantile above 1": (lambda: DynamicThreshold(1.5), "quantile"),
    # networks and latents
    "odd channels": (lambda: UNet(3, channels=7), "even"),
    "attention by size": (lambda: UNet(3, attention=(16,)), "downsampling factors"),
    "size not divisible, UNet": (
        lambda: UNet(3, channels=8, blocks=1)(torch.zeros(1, 3, 9, 8), torch.zeros(1)),
        "multiple",
    ),
    "size not divisible, DiT": (
        lambda: DiT(3, patch=4, width=8, depth=1, heads=2)(torch.zeros(1, 3, 8, 6), torch.zeros(1)),
        "multiple",
    ),
    "wrong channels": (lambda: UNet(3, channels=8)(torch.zeros(1, 4, 8, 8), torch.zeros(1)), "(b, 3, h, w)"),
    "label out of range": (lambda: ClassConditioner(10).prepare([10]), "from 0 to 9"),
    "text for a network without": (
        lambda: UNet(3, channels=8)(torch.zeros(1, 3, 8, 8), torch.zeros(1), {"text": torch.zeros(1, 2, 8)}),
        "text",
    ),
    "no text for a network with": (
        lambda: UNet(3, channels=8, context=8)(torch.zeros(1, 3, 8, 8), torch.zeros(1)),
        "text",
    ),
    "image not divisible": (lambda: model.autoencoder.encode(torch.zeros(1, 3, 15, 16)), "multiple"),
    "image of bytes": (
        lambda: model.autoencoder.encode(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)),
        "[-1, 1]",
    ),
    "image in 0..255": (lambda: Identity().encode(torch.full((1, 3, 8, 8), 255.0)), "[-1, 1]"),
    "NaN image": (_nan_image, "finite"),
    "latent std 0": (lambda: LatentSpec(8, 1, (0.0,), (0.0,)), "positive"),
    # objectives, data, metrics, training
    "unknown target": (lambda: Denoise("noise"), "expected x0, eps, v or flow"),  # type: ignore[arg-type]
    "drop above 1": (lambda: Denoise(drop=1.5), "probability"),
    "gamma 0": (lambda: MinSNR(0.0), "gamma"),
    "std of times 0": (lambda: LogitNormalTime(std=0.0), "std"),
    "seeds and batch differ": (lambda: Denoise()(exact, Batch(x), Noise([0])), "one a sample"),
    "emoji split": (lambda: Emoji(split="testing"), "split"),
    "emoji size": (lambda: Emoji(size=128), "64"),
    "scenes of 4 pixels": (lambda: Scenes(size=4), "8 pixels"),
    "frechet of one image": (lambda: frechet_distance(torch.zeros(1, 4), torch.zeros(5, 4)), "two rows"),
    "learning rate 0": (lambda: AdamW(lr=0.0), "positive"),
    "budget of 0 steps": (lambda: Budget(steps=0), "at least 1"),
    "unknown setting": (lambda: with_overrides(AdamW(), {"rate": "1"}), "unknown setting"),
    "setting of another type": (lambda: with_overrides(AdamW(), {"lr": "fast"}), "lr"),
    "unknown recipe": (lambda: find_recipe("emojis"), "known: "),
    "unknown device": (lambda: Single("gpu"), "expected cpu"),
    # models
    "unknown model": (lambda: mz.load("emojii"), "neither shipped"),
    "folder without a model": (lambda: mz.load(ROOT), "config.json"),
    "empty prompt": (lambda: model.sample(""), "prompt is empty"),
    "prompt a number": (lambda: model.sample(7), "str"),
    "no prompt in the list": (lambda: model.sample([]), "at least one"),
    "count 0": (lambda: model.sample("heart", count=0), "count=0"),
    "seeds and count differ": (lambda: model.sample("heart", count=3, seeds=[0]), "one seed an image"),
    "steps 0, model": (lambda: model.sample("heart", steps=0), "whole number >= 1"),
    "unknown sampler, model": (lambda: model.sample("heart", sampler="best"), "unknown sampler"),
    "negative guidance, model": (lambda: model.sample("heart", guidance=-2.0), ">= 0"),
    "size not divisible, model": (lambda: model.sample("heart", size=17), "multiples of 4"),
    "batch 0": (lambda: model.sample("heart", batch=0), "batch=0"),
    "negative prompt alone": (lambda: model.sample(negative="dog"), "needs a prompt"),
    "save where nothing can be written": (_save_into_read_only, "cannot write"),
    "save into somebody's folder": (_foreign_folder, "holds other files"),
    "config of another format": (damaged(_config(lambda c: c.update(format="x"))), "config.json"),
    "config with an unknown key": (damaged(_config(lambda c: c.update(extra=1))), "unknown extra"),
    "config names a class of ours to run": (
        damaged(_config(lambda c: c["network"].update(type="os.system"))),
        "unknown network",
    ),
    "config with a wrong keyword": (damaged(_config(lambda c: c["network"]["config"].update(depht=1))), "depht"),
    "config not JSON": (damaged(lambda p: (p / "config.json").write_text("{")), "JSON"),
    "missing weights": (damaged(lambda p: os.remove(p / "denoiser.safetensors")), "denoiser.safetensors"),
    "truncated weights": (damaged(_truncate), "truncated"),
    "a pickle renamed": (damaged(_pickle), "pickle"),
    "empty weights": (damaged(lambda p: (p / "denoiser.safetensors").write_bytes(b"")), "denoiser.safetensors"),
    "missing tensor": (damaged(_tensors(lambda s: s.pop("stem.weight"))), "missing stem.weight"),
    "unknown tensor": (damaged(_tensors(lambda s: s.update(more=torch.ones(1)))), "unknown more"),
    "tensor of another shape": (damaged(_tensors(lambda s: s.update({"stem.bias": torch.ones(3)}))), "stem.bias"),
    "weights of another file": (
        lambda: load_into(torch.nn.Linear(2, 2), folder / "denoiser.safetensors"),
        "do not fit",
    ),
    "no such weights": (lambda: load_into(torch.nn.Linear(2, 2), ROOT / "no.safetensors"), "no.safetensors"),
}


def main() -> None:
    """Make every call; print {name: [exception, message] or null}."""
    found: dict[str, list[str] | None] = {}
    for name, (call, _) in CALLS.items():
        try:
            call()
            found[name] = None
        except Exception as error:
            found[name] = [type(error).__name__, str(error)]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
