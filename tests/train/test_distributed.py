"""Two processes under torchrun, over gloo: the same steps as one, whatever the engine."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mezzotint.train import Single, fit, read_log, verify

SCRIPT = Path(__file__).with_name("distributed_checks.py")
spec = importlib.util.spec_from_file_location("distributed_checks", SCRIPT)
assert spec is not None and spec.loader is not None
checks = importlib.util.module_from_spec(spec)
sys.modules["distributed_checks"] = checks
spec.loader.exec_module(checks)


def torchrun(*arguments: object, processes: int = 2, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1", **options.pop("environment", {})}
    return subprocess.run(
        [*command, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=240, **options
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def found(out):
    checks.recipe(checks.STEPS[0]).run(
        out / "chain", Single("cpu"), reporting=None
    )  # one process begins what two go on with
    done = torchrun(SCRIPT, out)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "found.json").read_text())


def test_messages_reach_every_process_and_errors_name_theirs(found):
    told = {key: [json.loads(text) for text in texts] for key, texts in found["messages"].items()}
    assert told["any"] == [3, 3] and told["texts"] == [["ä", "äää"]] * 2
    assert told["told"] == [{"a": [1, None]}] * 2 and told["led"] == [[0, "x"]] * 2
    own = "IndexError: list index out of range"
    assert told["lead"] == [own, f"PeerFailed: process 0: {own}"]
    assert told["all"] == [f"PeerFailed: process 1: {own}", own]


def test_a_run_of_one_then_two_then_two_divided_then_one_ends_as_an_uninterrupted_one(found, out):
    assert found["chain"]["resumed"] == [3, 6]
    shards = [f"shard-0000{i}-of-00002.safetensors" for i in (0, 1)]
    assert found["chain"]["files"] == ["MANIFEST.json", "index.json", *shards, "state.json"]
    last = checks.recipe(checks.STEPS[3])
    assert last.run(out / "chain", Single("cpu"), reporting=None).resumed == 9
    whole = last.run(out / "whole", Single("cpu"), reporting=None)
    a, b = (checks.whole(last.trained(out / name, averaged=False)) for name in ("chain", "whole"))
    assert checks.gap(a, b) < 1e-9  # float64; 1e-6 is what is asked for
    rows = [read_log(out / name / "log.jsonl") for name in ("chain", "whole")]
    assert [r["step"] for r in rows[0]] == list(range(1, 13)) and whole.finished
    for key in ("loss", "gradient"):  # the log is float32
        assert [r[key] for r in rows[0]] == pytest.approx([r[key] for r in rows[1]], rel=2e-7)


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_several_optimisers_and_micro_batches_as_in_one_process(found, out, engine):
    assert found["engines"][f"opponents-{engine} apart"] == 0.0
    task = checks.Opponents()
    fit(task, checks.uneven()[1], steps=4, seed=0, out=out / f"alone-{engine}", engine=Single("cpu"))
    assert checks.gap(torch.load(out / f"opponents-{engine}.pt", weights_only=True), checks.whole(task)) < 1e-9


@pytest.mark.parametrize("kind", ["uneven-ddp", "uneven-fsdp", "branch-ddp"])
def test_parameters_that_are_left_out_and_batch_norms_stay_equal(found, out, kind):
    assert found["engines"][f"{kind} apart"] == 0.0
    state = torch.load(out / f"{kind}.pt", weights_only=True)
    fresh = checks.whole(checks.uneven()[0])
    assert torch.equal(state["denoiser.net.never.weight"], fresh["denoiser.net.never.weight"])
    for name in ("odd.weight", "norm.running_mean"):
        assert not torch.equal(state[f"denoiser.net.{name}"], fresh[f"denoiser.net.{name}"])


def test_both_engines_agree_where_one_process_would_not(found, out):
    """Batch norms see the rows of a process, so one process is no reference; the engines are for each other."""
    a, b = (torch.load(out / f"uneven-{engine}.pt", weights_only=True) for engine in ("ddp", "fsdp"))
    assert checks.gap(a, b) < 1e-9


def test_only_process_0_makes_weights_and_all_get_them(found):
    told = found["blank"]
    assert told["blank"] == ["False", "True"] and told["looks"] == "cpu"
    assert told["weights"] == 0.0 and told["undivided"] == 0
    assert told["called"] < 1e-12


def test_a_full_disk_of_one_process_ends_all_and_leaves_the_earlier_checkpoint(found, out):
    told = found["full_disk"]
    assert told["left"] == ["step-00000002"]
    verify(out / "full" / "checkpoints" / "step-00000002")
    for text in told["errors"]:
        assert "process 1 could not write its part of a checkpoint" in text and "No space left on device" in text
