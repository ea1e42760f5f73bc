"""A table of wrong calls: each is a ValueError whose message says what was wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("wrong_calls.py")


@pytest.fixture(scope="module")
def answers() -> dict[str, list[str] | None]:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_every_wrong_call_is_answered_by_a_clear_value_error(answers):
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from wrong_calls import CALLS
    finally:
        sys.path.pop(0)
    assert len(CALLS) >= 60
    bad = {}
    for name, (_, words) in CALLS.items():
        answer = answers[name]
        if answer is None:
            bad[name] = "no error"
        elif answer[0] not in ("ValueError", "CheckpointError") or words.lower() not in answer[1].lower():
            bad[name] = f"{answer}, expected a ValueError with {words!r}"
        elif len(answer[1]) > 900:
            bad[name] = f"a message of {len(answer[1])} characters"
    assert not bad, "\n".join(f"{name}: {why}" for name, why in bad.items())
