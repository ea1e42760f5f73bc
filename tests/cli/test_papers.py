"""`papers` and `models`: text for people, JSON for programs."""

from __future__ import annotations

import json


def test_papers_lists_all_as_json(cli):
    status, out, _ = cli("papers", "--json")
    rows = json.loads(out)
    assert status == 0 and len(rows) == 39
    assert {"id", "title", "date", "space", "rooms", "claim", "status"} <= set(rows[0])


def test_papers_search_and_show(cli):
    assert cli("papers", "edge", "crisp")[1].startswith("2401.02032")
    assert json.loads(cli("papers", "no-such-word", "--json")[1]) == []
    card = json.loads(cli("papers", "show", "2112.10752", "--json")[1])
    assert card["title"] == "High-Resolution Image Synthesis with Latent Diffusion Models"
    shown = cli("papers", "show", "2112.10752")[1]
    assert "mezzotint reproduce 2112.10752" in shown
    assert card["claim"].split()[0] in shown


def test_models_lists_what_a_folder_holds(cli, tiny):
    (tiny.parent / "other").mkdir(exist_ok=True)
    (tiny.parent / "other" / "config.json").write_text("{}")  # somebody else's
    rows = json.loads(cli("models", "--folder", tiny.parent, "--json")[1])
    found = [row for row in rows if row["origin"] == "found"]
    assert [row["path"] for row in found] == [str(tiny)]
    assert found[0]["size"] == [16, 16] and found[0]["megabytes"] > 0
    shown = json.loads(cli("models", "show", tiny, "--json")[1])
    assert shown["config"]["network"]["type"] == "UNet"
