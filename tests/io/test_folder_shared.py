"""Parts that a model folder shares with its neighbour: written once, checked, read by name only."""

from __future__ import annotations

import json

import pytest
import torch

import mezzotint as mz
from mezzotint.io.folder import Parts, read_folder, write_folder
from mezzotint.model import WEIGHTS


def parts(name: str = "emoji-fast") -> Parts:
    return read_folder(WEIGHTS / name)


def test_a_shared_part_is_not_written_again_and_reads_the_same(tmp_path):
    made = parts()
    write_folder(made, tmp_path / "whole", torch.float16)
    write_folder(made, tmp_path / "less", torch.float16, shared={"autoencoder": "whole", "conditioner": "whole"})
    assert {f.name for f in (tmp_path / "less").iterdir()} == {"config.json", "README.md", "denoiser.safetensors"}
    for name, module in read_folder(tmp_path / "less").modules().items():
        for key, value in made.modules()[name].state_dict().items():
            assert torch.equal(module.state_dict()[key], value)


def test_a_loaded_model_is_saved_whole(tmp_path):
    mz.load("emoji-fast").save(tmp_path / "alone", torch.float16)
    assert "shared" not in json.loads((tmp_path / "alone" / "config.json").read_text())
    assert (tmp_path / "alone" / "autoencoder.safetensors").is_file() and read_folder(tmp_path / "alone")


def test_other_weights_are_not_shared(tmp_path):
    made = parts()
    write_folder(made, tmp_path / "whole", torch.float16)
    with torch.no_grad():
        next(made.autoencoder.parameters()).add_(1)
    with pytest.raises(ValueError, match="has other weights of the autoencoder"):
        write_folder(made, tmp_path / "less", torch.float16, shared={"autoencoder": "whole"})
    assert not (tmp_path / "less").exists()


@pytest.mark.parametrize("folder", ["../whole", "/etc", "..", "", 3])
def test_only_neighbours_are_read(tmp_path, folder):
    write_folder(parts(), tmp_path / "a", torch.float16)
    file = tmp_path / "a" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"shared": {"autoencoder": folder}}))
    with pytest.raises(ValueError, match="expected the name of a folder beside this one"):
        read_folder(tmp_path / "a")


def test_a_part_without_weights_or_a_missing_neighbour_is_told(tmp_path):
    write_folder(parts(), tmp_path / "a", torch.float16)
    file = tmp_path / "a" / "config.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps(whole | {"shared": {"schedule": "b"}}))
    with pytest.raises(ValueError, match="expected parts with weights"):
        read_folder(tmp_path / "a")
    file.write_text(json.dumps(whole | {"shared": {"autoencoder": "b"}}))
    with pytest.raises(ValueError, match=r"b/autoencoder\.safetensors"):
        read_folder(tmp_path / "a")
