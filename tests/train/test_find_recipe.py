"""What the command line takes for a recipe: the named ones of one stage and of several, and one's own."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass

import pytest

from mezzotint.train import AnyRecipe, Report
from mezzotint.train.__main__ import find_recipe, main
from mezzotint.train.recipes import RECIPES


@dataclass(frozen=True)
class Own:
    """No `Runnable`: it has a name, and runs in a folder."""

    name: str = "own"
    steps: int = 3

    def run(self, out, engine, *, on_step=None, reporting=None) -> Report:
        return Report(self.steps, self.steps, 0, "finished", 0.0, {}, None)

    def holds(self, out) -> bool:
        return False


@dataclass(frozen=True)
class Nameless:
    run, holds = Own.run, Own.holds


def own() -> Own:
    return Own()


def nameless() -> Nameless:
    return Nameless()


def the_class() -> type:
    return Own


@pytest.fixture
def here(monkeypatch, request):
    monkeypatch.setitem(__import__("sys").modules, "own_recipes", request.module)


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_named_recipe_is_one(name):
    recipe = find_recipe(name)
    assert isinstance(recipe, AnyRecipe) and is_dataclass(recipe) and recipe.name == name


def test_a_recipe_of_ones_own_class_is_found_and_run(here, capsys):
    assert find_recipe("own_recipes:own") == Own()
    assert main(["own_recipes:own", "--device", "cpu", "steps=7"]) == 0
    assert '"step": 7, "steps": 7' in capsys.readouterr().out


@pytest.mark.parametrize(("name", "kind"), [("nameless", "Nameless"), ("the_class", "type")])
def test_what_lacks_a_part_is_refused_by_name(name, kind, here):
    with pytest.raises(ValueError, match=f"'own_recipes:{name}' returns a {kind}; .* with name, run and holds"):
        find_recipe(f"own_recipes:{name}")
