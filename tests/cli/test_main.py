"""The dispatcher: help at once and without torch, errors in one line, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from mezzotint.cli import main as cli_main
from mezzotint.cli.import_time import help_seconds


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)


def test_help_is_fast():
    help_seconds(1)  # the first run may read the files from a cold disk
    assert min(help_seconds(1) for _ in range(3)) < 0.5


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["sample", "--help"], ["papers", "solver"]])
def test_these_do_not_import_torch(arguments):
    done = python(
        f"import sys; from mezzotint.cli.main import run; run({arguments}); assert 'torch' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_help_names_every_command(cli):
    status, out, _ = cli("--help")
    assert status == 0
    for name in cli_main.COMMANDS:
        assert f"\n  {name} " in out
        assert cli(name, "--help")[0] == 0


WRONG = [
    ([], None),
    (["paint"], "unknown command 'paint'"),
    (["--verbose"], "unknown command '--verbose'"),
    (["sample"], "prompt is missing"),
    (["sample", ""], "prompt is empty"),
    (["sample", "  "], "prompt is empty"),
    (["sample", "x", "--count", "0"], "at least 1"),
    (["sample", "x", "--count", "two"], "at least 1"),
    (["sample", "x", "--count", "²"], "at least 1"),
    (["sample", "x", "--count", "99999999999"], "at most"),
    (["sample", "x", "--steps", "9" * 5000], "at most"),
    (["sample", "\udcff heart"], "not valid text"),
    (["sample", "x", "--steps", "-3"], "at least 1"),
    (["sample", "x", "--seed", "-1"], "at least 0"),
    (["sample", "x", "--seed", str(2**63)], "at least 0"),
    (["sample", "x", "--size", "big"], "64 or 64x96"),
    (["sample", "x", "--guidance", "high"], "--guidance"),
    (["sample", "x", "--device", "tpu9"], "device 'tpu9'"),
    (["sample", "x", "--model", "no-such-model"], "no model 'no-such-model'"),
    (["sample", "x", "--colour", "red"], "--colour"),
    (["sample", "a", "red", "heart"], "unrecognized arguments: red heart"),
    (["sample", "--from", "no-such.json"], "no file no-such.json"),
    (["sample", "x", "--from", "no-such.json"], "leave out the prompt"),
    (["sample", "--from", "no-such.json", "--steps", "3"], "leave out --steps"),
    (["train"], "recipe"),
    (["train", "no-such-recipe"], "unknown recipe 'no-such-recipe'"),
    (["train", "no.such.module:recipe"], "no.such.module"),
    (["train", "os:getcwd"], "returns a str"),
    (["train", "os:name"], "function without arguments"),
    (["train", "json:dumps"], "function without arguments"),
    (["train", "..:recipe"], "recipe '..:recipe'"),
    (["train", ":recipe"], "recipe ':recipe'"),
    (["train", "x", "--set", "lr"], "key=value"),
    (["models", "show", "no-such-model"], "no model 'no-such-model'"),
    (["models", "--folder", "no-such-folder"], "no folder no-such-folder"),
    (["papers", "xyzzy"], "no paper matches 'xyzzy'"),
    (["papers", "show", "0000.00000"], "no paper '0000.00000'"),
    (["papers", "show"], "id"),
    (["reproduce", "0000.00000"], "no paper '0000.00000'"),
    (["reproduce", "2512.19678"], "no demonstration yet"),
    (["bench", "imort"], "imort"),
    (["bench", "import", "--repeats", "0"], "at least 1"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(call) or "-" for call, _ in WRONG])
def test_wrong_calls_say_so_in_one_line(cli, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = cli(*arguments)
    assert status == 2
    assert "Traceback" not in out + err
    if message is not None:
        assert err.count("\n") == 1 and err.startswith("mezzotint: ")
        assert message in err
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not left


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\nlines"), "mezzotint: two lines"),
        (OSError(28, "No space left on device"), "mezzotint: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), "mezzotint: interrupted"),
        (ImportError("No module named 'pyarrow'"), "mezzotint: ImportError: No module named 'pyarrow'"),
        (RuntimeError("out of memory"), "mezzotint: RuntimeError: out of memory"),
        (ValueError(), "mezzotint: ValueError"),
        (MemoryError("Unable to allocate 349. TiB"), "mezzotint: MemoryError: Unable to allocate 349. TiB"),
    ],
)
def test_errors_of_commands_become_one_line(cli, monkeypatch, error, line):
    def fail(arguments):
        raise error

    monkeypatch.setattr(cli_main, "_dispatch", fail)
    assert cli("models") == (2, "", line + "\n")


def test_debug_shows_the_traceback():
    code = "from mezzotint.cli.main import run; run(['papers', 'show', '1'])"
    done = python(code, MEZZOTINT_DEBUG="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "ValueError: no paper '1'" in done.stderr


def test_a_bug_is_not_hidden(cli, monkeypatch):
    def bug(arguments):
        raise TypeError("our mistake")

    monkeypatch.setattr(cli_main, "_dispatch", bug)
    with pytest.raises(TypeError, match="our mistake"):
        cli("models")


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m mezzotint papers --json | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == "[\n"


def test_bench_import_reports_budgets(cli, monkeypatch):
    from mezzotint.cli import bench_import as bench

    monkeypatch.setattr(bench, "import_seconds", lambda name, repeats: {"torch": 2.0, "mezzotint": 0.01})
    monkeypatch.setattr(bench, "help_seconds", lambda repeats: 0.7)
    status, out, _ = cli("bench", "import", "--json")
    assert status == 1  # help is over its budget
    rows = json.loads(out)
    assert [row["budget"] for row in rows] == [None, 0.06, 0.5]
    monkeypatch.setattr(bench, "help_seconds", lambda repeats: 0.1)
    assert cli("bench", "import")[0] == 0
