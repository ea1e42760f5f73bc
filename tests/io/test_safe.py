from __future__ import annotations

import json
import pickle

import pytest
import torch
from torch import nn

from mezzotint.io.safe import load_into, read_header, read_state, save_state


def _net(width=4):
    torch_state = torch.random.get_rng_state()
    net = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))
    torch.random.set_rng_state(torch_state)
    return net


def _filled(net):
    generator = torch.Generator().manual_seed(1)
    for tensor in net.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 9 if tensor.ndim else torch.tensor(7))
    return net


def test_what_is_saved_is_loaded_bit_for_bit_with_buffers(tmp_path):
    net, other = _filled(_net()), _net()
    save_state(net.state_dict(), tmp_path / "w.safetensors")
    load_into(other, tmp_path / "w.safetensors")
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_shared_sliced_and_channels_last_tensors_are_written_as_they_read(tmp_path):
    base = torch.arange(24.0).reshape(1, 2, 3, 4)
    state = {
        "a": base,
        "b": base,  # shared
        "c": base[:, :, 1],  # a view with gaps
        "d": base.flatten()[4:8],  # a part of the storage
        "e": base.to(memory_format=torch.channels_last),
        "f": torch.tensor(3),
    }
    save_state(state, tmp_path / "w.safetensors")
    read = read_state(tmp_path / "w.safetensors")
    assert read.keys() == state.keys() and all(torch.equal(read[k], state[k]) for k in state)


def test_dtype_converts_floats_only(tmp_path):
    state = {"w": torch.tensor([1.0, 1.001]), "n": torch.tensor([2**40])}
    save_state(state, tmp_path / "w.safetensors", torch.bfloat16)
    read = read_state(tmp_path / "w.safetensors")
    assert read["w"].dtype == torch.bfloat16 and read["w"].tolist() == [1.0, 1.0]
    assert read["n"].tolist() == [2**40]


def test_metadata_and_header(tmp_path):
    save_state({"w": torch.ones(2, 3)}, tmp_path / "w.safetensors", metadata={"made": "here"})
    assert read_header(tmp_path / "w.safetensors") == {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


def _spoil(path, how):
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut in the data":
        path.write_bytes(data[:-1])
    elif how == "cut in the header":
        path.write_bytes(data[:20])
    elif how == "too long":
        path.write_bytes(data + b"x")
    elif how == "torch.save":
        torch.save({"w": torch.ones(2)}, path)
    elif how == "old torch.save":
        torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    elif how == "pickle":
        path.write_bytes(pickle.dumps({"w": 1}))
    elif how == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1")
    elif how == "header no JSON":
        path.write_bytes(data[:8] + b"!" + data[9:])
    elif how == "header a list":
        path.write_bytes((2).to_bytes(8, "little") + b"[]")
    elif how == "offsets overlap":
        header = {k: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for k in "ab"}
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder"),
        ("empty", "truncated; 0 bytes"),
        ("cut in the data", "truncated; .* bytes, but its header describes"),
        ("cut in the header", "truncated; 20 bytes, but its header alone takes"),
        ("too long", "damaged; .* bytes, but its header describes"),
        ("torch.save", "is a pickle .* never opened here"),
        ("old torch.save", "is a pickle .* never opened here"),
        ("pickle", "is a pickle .* never opened here"),
        ("text", "not a safetensors file"),
        ("header no JSON", "not a safetensors file"),
        ("header a list", "not a safetensors file"),
        ("offsets overlap", "not a readable safetensors file"),
    ],
)
def test_every_bad_file_is_named_with_its_cause_and_the_module_is_untouched(how, message, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_state(_net().state_dict(), path)
    _spoil(path, how)
    net = _filled(_net())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(ValueError, match=rf"weights\.safetensors: {message}"):
        load_into(net, path)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.parametrize("place", [0, 7, 8, 30])
def test_a_flipped_header_byte_is_never_anything_but_a_value_error(place, tmp_path):
    path = tmp_path / "w.safetensors"
    save_state({"w": torch.ones(2)}, path)
    data = path.read_bytes()
    for bit in range(8):
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :])
        try:
            read_state(path)
        except ValueError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.weight"), r"missing 0\.weight"),
        (lambda s: s.update(extra=torch.ones(1)), r"unknown extra"),
        (lambda s: s.update({"0.weight": torch.ones(4, 2)}), r"0\.weight has shape \(4, 2\), expected \(4, 3\)"),
        (lambda s: s.update({"0.bias": torch.ones(4, dtype=torch.int64)}), r"0\.bias is torch.int64, expected torch"),
        (lambda s: s.update({str(i): torch.ones(1) for i in range(9)}), r"unknown 0, 1, 2, 3, 4 and 4 more"),
    ],
)
def test_weights_that_do_not_fit_are_refused_as_a_whole(change, message, tmp_path):
    state = dict(_filled(_net()).state_dict())
    change(state)
    save_state(state, tmp_path / "w.safetensors")
    net = _net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(ValueError, match=rf"w\.safetensors: these weights do not fit the model: .*{message}"):
        load_into(net, tmp_path / "w.safetensors")
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_a_modules_own_loading_is_used(tmp_path):
    """An autoencoder reads its statistics back when it is loaded; copying tensors past it would not."""
    from mezzotint.latent import Identity

    first, second = Identity(), Identity()
    first.fit_statistics([torch.linspace(-1, 1, 48).reshape(1, 3, 4, 4)])
    save_state(first.state_dict(), tmp_path / "w.safetensors")
    load_into(second, tmp_path / "w.safetensors")
    assert second.spec == first.spec != Identity().spec
