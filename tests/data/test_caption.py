from __future__ import annotations

from mezzotint.data.caption import STYLE_WORDS, vary

NAME, WORDS = "ear: dark skin tone", ("body", "hear", "listen", "sound")


def _many(count: int = 4000, **changes: object) -> list[str]:
    arguments = {"name": NAME, "keywords": WORDS, "style": "fluent", "seed": 0, "index": 5} | changes
    return [vary(step=step, **arguments) for step in range(count)]  # type: ignore[arg-type]


def test_proportions_are_the_documented_ones() -> None:
    captions = _many()
    share = lambda test: sum(map(test, captions)) / len(captions)  # noqa: E731
    assert abs(share(lambda c: NAME in c) - 0.85) < 0.03
    assert abs(share(lambda c: c.endswith("fluent 3d")) - 0.7) < 0.03
    assert abs(share(lambda c: c in (NAME, f"{NAME}, fluent 3d")) - 0.7 * 0.8) < 0.03


def test_the_skin_tone_is_never_lost_and_nothing_is_invented() -> None:
    known = {
        *WORDS,
        NAME,
        f"an {NAME}",
        f"the {NAME}",
        f"an emoji of {NAME}",
        f"{NAME} emoji",
        "dark skin tone",
        "fluent 3d",
    }
    seen = set()
    for caption in _many():
        parts = caption.split(", ")
        assert "dark skin tone" in caption
        assert len(parts) == len(set(parts))
        seen.update(parts)
    assert seen == known


def test_key_is_seed_step_and_index() -> None:
    base = _many(40)
    assert _many(40) == base
    assert _many(40, seed=1) != base and _many(40, index=6) != base


def test_no_keywords_and_few_keywords() -> None:
    assert all("red heart" in c for c in _many(300, name="red heart", keywords=()))
    assert all(c.count("love") <= 1 for c in _many(300, name="red heart", keywords=("love",)))
    assert {c.rsplit(", ", 1)[-1] for c in _many(300, keywords=(), name="x", style="noto")} >= {STYLE_WORDS["noto"]}


def test_golden_captions() -> None:
    got = [vary("red heart", ["emotion", "love"], "noto", 0, step, 3) for step in range(4)]
    assert got == ["red heart, noto", "an emoji of red heart, noto", "red heart", "red heart, noto"]
