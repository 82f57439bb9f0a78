"""The map of where configurations came from."""

import re

from paretoscope.figures import origins, theme
from paretoscope.recipe.presets import preset_for
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.provenance import family, provenance

MODEL = "lenet-300-100"
TINY = preset_for("tiny", MODEL).recipe
MOVED = TINY.with_setting("sparsity", 0.7)
FAR = Recipe.of(sparsity=0.4, clusters=5, bits=3, rarest=2, rest="fp16")


def found(*recipes: Recipe, name: str = "A") -> origins.Map:
    members = [(MODEL, each) for each in recipes]
    return origins.gather(
        [("LeNet", f"{name}{at}", "98.0 %, 4 KB", at) for at in range(len(recipes))],
        family(members, [provenance(*each) for each in members]),
        {"tiny": "Tiny"},
        "Baseline",
    )


def test_origins_that_are_no_columns_are_drawn_too() -> None:
    told = found(MOVED)
    assert [(each.start, each.end, each.label, each.known) for each in told.arrows] == [
        ("o1", "o0", "preset", True),
        ("o0", "c0", "Pruning sparsity 80 % → 70 %", False),
    ]
    assert {each.key: each.lines[0] for each in told.nodes} == {"c0": "A0", "o0": "Tiny", "o1": "Baseline"}


def test_arrows_start_at_columns_where_they_are() -> None:
    told = found(Recipe(), TINY, MOVED, FAR)
    assert [(each.start, each.end) for each in told.arrows] == [("c0", "c1"), ("c1", "c2"), ("c0", "c3")]
    assert told.arrows[2].label == "a link, or an earlier visit" and not told.arrows[2].known
    assert all(f"{each.lines[0]}" in told.alt for each in told.nodes)


def test_a_name_is_no_syntax() -> None:
    name = '1. x"]; click c0 "javascript:alert(1)" %%{init}%% <b>| `**y**` www.a.org http://b #35; & c@d'
    text = origins.draw(found(FAR, name=name), theme.LIGHT)
    assert text.startswith("flowchart LR\n") and "%%" not in text
    assert all(re.match(r"  (style )?[co][0-9]", line) for line in text.splitlines()[1:])
    labels = re.findall(r'"([^"]*)"', text)
    assert not any(set(each.replace("<br/>", "")) & set("<>&#;`|*@[]{}") for each in labels)
    assert "click" not in re.sub(r'"[^"]*"', "", text) and "://" not in text and "www." not in text
