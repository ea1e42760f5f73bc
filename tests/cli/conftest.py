"""A model small enough to sample in milliseconds, saved as a user would save one."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Folder of an untrained text-to-image model at 16x16 whose output layer is not zero."""
    import torch

    from mezzotint.core import Cosine, VDenoiser
    from mezzotint.latent import Identity
    from mezzotint.model import Model
    from mezzotint.nn import UNet
    from mezzotint.nn.conditioner import TextConditioner, train_vocabulary

    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = TextConditioner(
            train_vocabulary(["a red heart", "a blue fish"], size=80, whole=1), length=8, width=16, depth=1, heads=2
        )
        net = UNet(3, channels=16, mult=(1, 2), blocks=1, attention=(2,), head_dim=8, context=16, pooled=16)
        for parameter in net.parameters():
            if not parameter.any():  # zero-initialised layers would make every sample plain noise
                torch.nn.init.normal_(parameter, std=0.02)
    model = Model(VDenoiser(net, Cosine()), Identity(3), text, size=(16, 16), defaults={"steps": 3}, name="tiny")
    return model.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def cli(capsys):
    """Run a command line in this process: (status, stdout, stderr)."""
    from mezzotint.cli.main import run

    def call(*arguments: object) -> tuple[int, str, str]:
        status = run([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return status, told.out, told.err

    return call
