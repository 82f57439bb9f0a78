"""Pins in links and in the store."""

import pytest
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import pins
from paretoscope.service.pins import Pin
from paretoscope.service.store import Store
from paretoscope.service.workbench import Workbench

ODD = Pin("lenet-5", Recipe.of(sparsity=0.5), "a & b = c!d", "50 % off?\nsecond line, ünïcode")


def test_a_link_brings_pins_back() -> None:
    kept = [ODD, *(Pin("resnet-20", preset.recipe, preset.title) for preset in presets)]
    text = pins.to_text(kept)
    found, problems = pins.from_text(text)
    assert problems == () and found == kept


def test_what_of_a_link_is_no_pin_is_told() -> None:
    found, problems = pins.from_text(f"{pins.to_text([ODD, ODD])}!bits=4!of=lenet-5&bits=lots")
    assert found == [ODD] and len(problems) == 2
    assert "must name its model" in problems[0] and "bits" in problems[1]


def test_a_link_has_a_pin_for_each_letter() -> None:
    many = [Pin("lenet-5", Recipe.of(sparsity=part / 100)) for part in range(30)]
    found, problems = pins.from_text(pins.to_text(many))
    assert len(found) == 26 and "has 30" in problems[0]
    assert pins.letter(0) == "A" and pins.letter(25) == "Z"


@pytest.mark.parametrize("text", ["", "[", "[{}]", '[{"model": 1}]', "null"])
def test_a_document_that_is_none_is_no_pins(tmp_path, text: str) -> None:
    store = Store(tmp_path / "records.sqlite")
    store.put_document(pins.DOCUMENT, "me", text)
    bench = Workbench(store)
    assert bench.pins("me") == []
    bench.keep_pins("me", [ODD])
    assert bench.pins("me") == [ODD] and bench.pins("you") == []
    bench.close()
