"""Links that are wrong in places: what is valid is taken, and each wrong part is told with the nearest right one."""

import json

import pytest
from paretoscope.base.text import MOST_NAMES
from paretoscope.recipe.link import _CHOICES, read
from paretoscope.recipe.recipe import DEFAULTS, Recipe


@pytest.mark.parametrize(
    ("query", "taken", "told"),
    [
        ({"sparcity": "0.9", "bits": "8"}, {"bits": 8}, ["A link has no setting 'sparcity'. Did you mean sparsity?"]),
        ({"modle": "x"}, {}, ["A link has no setting 'modle'. Did you mean model?"]),
        ({"qqqq": "1"}, {}, ["A link has no setting 'qqqq'."]),
        (
            {"scope": "globl", "sparsity": "0.5"},
            {"sparsity": 0.5},
            ["scope must be 'global' or 'layer'; got 'globl'. Choose one of these names. Did you mean global?"],
        ),
        ({"sparsity": "95", "clusters": "4"}, {"clusters": 4}, ["sparsity must be in [0, 1); got 95."]),
        ({"bits": "many", "fold": "yes"}, {}, ["bits in a link must be a number; got 'many'.", "fold in a link must"]),
        # In any order.
        ({"rarest": "3", "clusters": "4"}, {"rarest": 3, "clusters": 4}, []),
        ({"rarest": "4", "clusters": "4"}, {"clusters": 4}, ["rarest must be"]),
        ({"start": "lineer"}, {}, ["start must be"]),
        ({"stopped": "4", "epochs": "3"}, {"epochs": 3}, ["stopped must be an epoch of the 3; got 4"]),
        # A recipe has the first of two settings that exclude each other.
        ({"sparsity": "0.5", "pattern": "2:4"}, {"sparsity": 0.5}, ["prune must follow one rule"]),
        ({"pattern": "2:4", "sparsity": "0.5"}, {"sparsity": 0.5}, ["prune must follow one rule"]),
        ({"overrides": "{", "bits": "8"}, {"bits": 8}, ["overrides must be JSON text"]),
        ({"overrides": "{}", "bits": "8"}, {"bits": 8}, ["overrides must be a list"]),
        (
            {"overrides": '[{"layers":"a","bits":4},{"layers":"b","bitz":4},{"layers":"c","bits":0}]'},
            {"overrides": [{"layers": "a", "bits": 4}]},
            ["an override may have the fields", "bits must be"],
        ),
    ],
)
def test_what_is_valid_is_taken_and_the_rest_is_told(query: dict, taken: dict, told: list[str]) -> None:
    found = read(query, beside=("model",))
    assert found.recipe == Recipe.of(**taken)
    assert found.query.keys() == taken.keys()
    assert Recipe.from_query(found.query) == found.recipe
    assert len(found.problems) == len(told)
    for sentence, start in zip(found.problems, told, strict=True):
        assert sentence.startswith(start)


def test_a_right_link_is_taken_whole() -> None:
    recipe = Recipe.of(sparsity=0.5, clusters=9, rarest=3, bits=8, overrides=[{"layers": "fc*", "bits": 4}], epochs=3)
    assert read(recipe.to_query()) == read(dict(reversed(recipe.to_query().items())))
    assert read(recipe.to_query()).recipe == recipe and read(recipe.to_query()).problems == ()
    assert read({}).recipe == Recipe() and read({}).problems == ()


def test_every_misspelt_choice_has_its_nearest_name() -> None:
    for name, names in _CHOICES.items():
        assert DEFAULTS[name] in names
        for right in names:
            (problem,) = read({name: f"{right}x"}).problems
            assert problem.endswith(f"Did you mean {right}?")
    # What has a text for a default has names to choose from, or is a name or a pattern of numbers itself.
    texts = {name for name, value in DEFAULTS.items() if isinstance(value, str)}
    assert texts - _CHOICES.keys() == {"pattern", "teacher"}


def test_every_misspelt_setting_has_its_nearest_name() -> None:
    for name in DEFAULTS:
        (problem,) = read({f"{name}x": "1"}).problems
        assert problem.endswith(f" Did you mean {name}?"), problem


def test_a_huge_link_is_told_at_once_and_shortly() -> None:
    found = read({f"sparsity{place}": "1" for place in range(5000)} | {"bits": "8"})
    assert found.recipe == Recipe.of(bits=8) and len(found.problems) == 5000
    assert sum("Did you mean" in each for each in found.problems) == 8
    for text in ("9" * 10**5, "[" * 10**5, "\x00" * 10**5):
        for name in ("bits", "overrides", "scope", "teacher", "drop"):
            (problem,) = read({name: text}).problems
            assert len(problem) < 500
    many = json.dumps([{"layers": f"l{place}", "bits": 4} for place in range(MOST_NAMES + 1)])
    found = read({"overrides": many, "bits": "8"})
    assert found.recipe == Recipe.of(bits=8) and "at most 256 overrides" in found.problems[0]
