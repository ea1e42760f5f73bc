"""README's and the documentation's code blocks run: Python ones in order, shell ones that are marked.

A page's ```python blocks share one namespace; a block of >>> lines is a doctest. A ```sh block runs where the line
before it is <!-- run -->. A page whose code loads a shipped model is skipped in a copy without that model,
one about diffusers where the extra is not installed.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SKETCHES = ["design"]  # signatures and an outline of types, not programs
BLOCK = re.compile(r"(?P<mark><!-- run -->\n)?^```(?P<kind>python|sh)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, kind: str) -> list[tuple[str, bool]]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [(match["code"], match["mark"] is not None) for match in found if match["kind"] == kind]


def needs_model(code: str) -> None:
    for name in re.findall(r'load\("([\w-]+)"\)|mezzotint sample "', code):
        if not (ROOT / "src" / "mezzotint" / "weights" / (name or "emoji") / "config.json").is_file():
            pytest.skip(f"this copy ships no model {name or 'emoji'!r}")


@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p, "python") and p.stem not in SKETCHES], ids=lambda page: page.stem
)
def test_python_blocks(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codes = [code for code, _ in blocks(page, "python")]
    needs_model("".join(codes))
    if "from diffusers import" in "".join(codes):
        pytest.importorskip("diffusers", reason="diffusers is not installed (extra [diffusers])")
    space: dict[str, object] = {"__name__": page.stem}
    for number, code in enumerate(codes, 1):
        label = f"{page.name}, block {number}"
        if ">>>" in code:
            test = doctest.DocTestParser().get_doctest(code, space, label, str(page), 0)
            told: list[str] = []
            results = doctest.DocTestRunner(verbose=False).run(test, out=told.append, clear_globs=False)
            space.update(test.globs)
            assert results.failed == 0, "".join(told)
        else:
            exec(compile(code, label, "exec"), space)


@pytest.mark.parametrize("page", [p for p in PAGES if any(m for _, m in blocks(p, "sh"))], ids=lambda page: page.stem)
def test_marked_shell_blocks(page, tmp_path):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for code, marked in blocks(page, "sh"):
        if not marked:
            continue
        needs_model(code)
        command = ["bash", "-euo", "pipefail", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


def test_links_between_pages_lead_somewhere():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "results" / "README.md"]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            if target.endswith("demo.png"):
                continue  # `make picture` makes it
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
