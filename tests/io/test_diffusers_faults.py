"""What is wrong with a pipeline's folder, or with how it is used, is one clear error, before anything is drawn."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import mezzotint as mz
from mezzotint.attention import tap
from mezzotint.cli.main import run
from mezzotint.core import GRIDS
from mezzotint.io.diffusers import schedule_of, times_of
from mezzotint.sample.compiled import compiled

pytest.importorskip("diffusers", reason="diffusers is not installed (extra [diffusers])")
pytest.importorskip("transformers", reason="transformers is not installed (extra [diffusers])")


@pytest.fixture(scope="module")
def source(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "pixart"
    tiny.pixart(sigma=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pixels(tmp_path_factory) -> Path:
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    folder = tmp_path_factory.mktemp("faults") / "pixels"
    net = UNet2DModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=2,
    )
    DDIMPipeline(unet=net, scheduler=DDIMScheduler(clip_sample=False)).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(source, tmp_path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "copy"))


def edit(file: Path, **entries: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


@pytest.mark.parametrize("part", ["transformer", "text_encoder"])
def test_an_index_of_safetensors_opens_no_pickle_without_the_word(part, copy):
    from safetensors.torch import load_file

    [weights] = (copy / part).glob("*.safetensors")
    state = load_file(weights)
    torch.save(state, copy / part / "shard.bin")
    weights.unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(state, "shard.bin")}
    weights.with_name(f"{weights.name}.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"names 'shard\.bin', a pickle.*allow_pickle"):
        mz.load(copy)


@pytest.mark.parametrize(
    "entry",
    [
        {"attn_implementation": "someone/kernel"},
        {"_attn_implementation": "someone/kernel"},
        {"deeper": [{"experts_implementation": "someone/kernel"}]},
        {"attn_implementation": {"": "someone/kernel"}},
    ],
)
def test_a_configuration_cannot_ask_for_a_kernel_of_the_hub(entry, copy):
    edit(copy / "text_encoder" / "config.json", **entry)
    with pytest.raises(ValueError, match=r"text_encoder/config\.json: .*someone/kernel.*kernel"):
        mz.load(copy)
    edit(copy / "text_encoder" / "config.json", **dict.fromkeys(entry))
    mz.load(copy)


def test_a_tokenizer_without_its_vocabulary_is_refused(copy):
    (copy / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"tokenizer: no vocabulary.*tokenizer\.json"):
        mz.load(copy)


def test_a_clip_tokenizer_says_how_long_prompts_are(tiny, tmp_path):
    tiny.flux().save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "tokenizer" / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match=r"tokenizer: states no model_max_length"):
        mz.load(tmp_path / "m")


def test_classes_that_this_version_of_diffusers_lacks_are_named(pixels, monkeypatch):
    import diffusers

    def lacks(module: object, name: str) -> object:
        raise RuntimeError("failed to import")

    monkeypatch.delattr(diffusers, "UNet2DModel", raising=False)
    monkeypatch.setattr(type(diffusers), "__getattr__", lacks)
    with pytest.raises(ValueError, match="diffusers as installed has no UNet2DModel .failed to import"):
        mz.load(pixels)


def test_what_is_no_folder_of_a_model_is_told_apart(pixels, monkeypatch):
    with pytest.raises(ValueError, match=r"unet is a part of the diffusers pipeline .*pixels; load that folder"):
        mz.load(pixels / "unet")
    monkeypatch.chdir(pixels.parent)
    with pytest.raises(ValueError, match=r"model_index\.json is a file; expected a folder"):
        mz.load("pixels/model_index.json")  # has the form of a hub id, too


def test_devices_and_dtypes_are_checked_before_loading(pixels, unchecked):
    with pytest.raises(ValueError, match="device='nowhere'"):
        mz.load(pixels, "nowhere")
    with pytest.raises(ValueError, match="CUDA devices here"):
        mz.load(pixels, f"cuda:{torch.cuda.device_count()}")
    for dtype in ("float16", torch.int8):
        with pytest.raises(ValueError, match="expected a floating dtype"):
            mz.load(pixels, dtype=dtype)


def test_weights_that_wait_elsewhere_are_not_saved(pixels, tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    model = mz.load(pixels, "cpu", offload="sequential")
    with pytest.raises(ValueError, match="weights of unet wait elsewhere"):
        model.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_what_a_model_cannot_be_asked_is_refused(pixels, source, unchecked):
    with pytest.raises(ValueError, match="negative prompt needs a prompt"):
        mz.load(pixels).sample(steps=1, negative="blue")
    with pytest.raises(ValueError, match=r"prompt=3\.5"):
        mz.load(source).sample(3.5)  # type: ignore[arg-type]


def test_a_long_prompt_is_told_once(source, caplog):
    conditioner = mz.load(source).conditioner
    assert conditioner is not None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        conditioner.prepare(["words " * 200])
    assert [str(w.message) for w in told if "cut to 300" in str(w.message)] and len(told) == 1
    assert not caplog.records  # transformers would say that it ends in indexing errors


def test_half_precision_loads_without_a_word(source, caplog):
    import diffusers

    logger = diffusers.utils.logging.get_logger("diffusers")
    logger.propagate = True
    try:
        mz.load(source, dtype=torch.float16)
    finally:
        logger.propagate = False
    assert not [r for r in caplog.records if "float32" in r.getMessage()]


@pytest.mark.slow
def test_taps_see_what_is_compiled(pixels):
    """Blocks as they are compiled on an accelerator, but for the code: `eager` makes none."""
    model, records, images = mz.load(pixels), [], []
    with tap(model.denoiser) as record:
        images.append(model.sample(steps=1))
    records.append({site: record[site] for site in record})
    with tap(model.denoiser) as record, compiled(model.denoiser.net, backend="eager"):
        images.append(model.sample(steps=1))
    records.append({site: record[site] for site in record})
    assert records[0].keys() == records[1].keys() and len(records[0]) >= 3
    assert all(torch.allclose(maps, records[1][site], atol=1e-6) for site, maps in records[0].items())
    assert torch.allclose(*images, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, in diffusers
@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "PNDMScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_times_of_a_scheduler_that_stands_twice_at_a_step_fall(name, spacing):
    import diffusers

    scheduler = getattr(diffusers, name)(timestep_spacing=spacing)
    schedule = schedule_of(scheduler).schedule
    times = times_of(scheduler, 7, schedule)
    assert torch.allclose(times[:7], GRIDS[spacing](schedule, 7)[:7], atol=1e-6)
    assert (times.diff() < 0).all() and times[-1] <= 1e-3
    assert len(times) == (7 if (name, spacing) == ("PNDMScheduler", "leading") else 8)  # it ends at a trained step


def test_the_command_line_lists_shows_and_draws_a_pipeline(tiny, tmp_path, capsys):
    tiny.dit().save_pretrained(tmp_path / "models" / "dit")
    assert run(["models", "--folder", str(tmp_path / "models"), "--json"]) == 0
    [row] = [row for row in json.loads(capsys.readouterr().out) if row["origin"] == "found"]
    assert (row["summary"], row["size"]) == ("DiTPipeline of diffusers", None) and row["megabytes"] >= 0
    assert run(["models", "--folder", str(tmp_path / "models")]) == 0
    assert "DiTPipeline of diffusers" in capsys.readouterr().out
    assert run(["models", "show", str(tmp_path / "models" / "dit")]) == 0
    assert "DiTPipeline" in (shown := capsys.readouterr().out) and "DDIMScheduler" in shown
    for prompt in ("cock", "7"):
        drawn = ["--model", str(tmp_path / "models" / "dit"), "--steps", "1", "--count", "1", "--out", str(tmp_path)]
        assert run(["sample", prompt, *drawn]) == 0
    pictures = [(tmp_path / f"{name}-0.png").read_bytes() for name in ("cock", "7")]
    assert pictures[0] == pictures[1]
    capsys.readouterr()
    (tmp_path / "models" / "dit" / "model_index.json").write_text('{"_class_name": "NoPipeline"}')
    assert run(["models", "show", str(tmp_path / "models" / "dit")]) == 2
    assert "no family reads the pipeline 'NoPipeline'" in capsys.readouterr().err


def test_without_the_extra_the_library_imports_and_says_what_to_install(pixels):
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("diffusers", "transformers", "accelerate", "huggingface_hub"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
import mezzotint as mz, mezzotint.io.diffusers
from mezzotint.cli.main import run
sys.exit(run(["sample", "--model", sys.argv[1], "--out", sys.argv[2]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(pixels), str(pixels.parent / "out")], capture_output=True, text=True
    )
    assert done.returncode != 0 and "Traceback" not in done.stderr
    [line] = done.stderr.strip().splitlines()
    assert "mezzotint[diffusers]" in line
