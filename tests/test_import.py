"""`import mezzotint` costs next to nothing, and its lazy names are there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mezzotint as mz
from mezzotint.cli.import_time import import_seconds


def test_import_is_cheap_over_torch():
    assert min(import_seconds("mezzotint", 1)["mezzotint"] for _ in range(2)) < 0.060


def test_import_alone_loads_nothing_heavy():
    heavy = {"torch", "numpy", "PIL", "rich", "pyarrow", "scipy", "safetensors", "jaxtyping"}
    code = f"import sys, mezzotint; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("names", [("core", "sample", "guide"), ("model",), ("papers",)], ids=" ".join)
def test_rooms_load_no_pillow_pyarrow_or_scipy(names):
    code = f"import sys\nfor n in {names}: __import__('mezzotint.' + n)\n"
    code += "print(sorted({'PIL', 'pyarrow', 'scipy', 'rich', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_lazy_names():
    from mezzotint.model import Model, load
    from mezzotint.papers.run import reproduce

    assert mz.Model is Model and mz.load is load and mz.reproduce is reproduce
    assert mz.core.__name__ == "mezzotint.core"
    assert {"load", "Model", "reproduce", "__version__", "core"} <= set(dir(mz))
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        _ = mz.paint


def test_the_version_is_the_packages():
    from importlib.metadata import version

    assert mz.__version__ == version("mezzotint")


def test_shapes_are_checked_while_tests_run():
    import os

    import torch

    from mezzotint.core import EpsDenoiser

    if os.environ.get("MEZZOTINT_TYPECHECK") == "0":
        pytest.skip("checks are switched off")
    from mezzotint.core import VP

    with pytest.raises(Exception, match="(?i)type-check"):
        EpsDenoiser(lambda *a: a[0], VP())(torch.zeros(2, 3), torch.zeros(2, 1), None)
