"""`report`: makes a run's page anew, and says where."""

from __future__ import annotations

import json


def test_a_page_is_made_of_a_folder(cli, tmp_path):
    (tmp_path / "run.json").write_text('{"name": "old"}')
    (tmp_path / "log.jsonl").write_text('{"step": 5, "loss": 0.5}\n')
    status, out, err = cli("report", str(tmp_path))
    assert (status, err) == (0, "") and out.strip() == str(tmp_path / "report.html")
    assert "step 5" in (tmp_path / "report.html").read_text()
    status, out, _ = cli("report", str(tmp_path), "--json")
    told = json.loads(out)
    assert status == 0 and told["runs"] == [
        {"name": "old", "folder": str(tmp_path), "last": {"step": 5, "loss": 0.5}},
    ]


def test_no_run_is_one_line(cli, tmp_path):
    status, out, err = cli("report", str(tmp_path))
    assert status == 2 and out == "" and "no run there" in err and err.count("\n") == 1
