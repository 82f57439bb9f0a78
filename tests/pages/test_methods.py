import json
from pathlib import Path

import numpy as np
import pytest
from paretoscope.base.errors import ModelError
from paretoscope.base.units import format_percent
from paretoscope.methods.catalogue import methods
from paretoscope.methods.pipeline import compress
from paretoscope.model.statistics import ModelStatistics
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects
from streamlit.testing.v1 import AppTest

from pages.components import state

PAGE = Path(__file__).parents[2] / "pages" / "methods.py"
RECIPE = Recipe.of(sparsity=0.6, clusters=8, bits=4)
PICTURED = [entry for entry in methods if entry.picture != "none"]
MODEL = "lenet-300-100"


@pytest.fixture
def page():
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state["view"] = state.View(model=MODEL, recipe=RECIPE)
    return page


def figures(page) -> list[dict]:
    elements = [element.proto for element in page.get("bidi_component")]
    return [json.loads(json.loads(proto.json)["figure"]) for proto in elements if proto.component_name == "figure"]


def trace(figure: dict, name: str) -> dict:
    return next(trace for trace in figure["data"] if trace.get("name") == name)


def numbers(values) -> np.ndarray:
    return np.array(values, dtype=float)


@pytest.mark.slow
def test_every_entry_is_explained_with_formula_reference_and_picture(page):
    page.run()
    assert not page.exception
    assert [heading.value for heading in page.subheader] == [entry.title for entry in methods]
    text = [element.value for element in page.markdown]
    captions = [element.value for element in page.caption]
    formulas = [element.value.strip("$\n ") for element in page.latex]
    for entry in methods:
        assert entry.summary in text
        assert entry.reference in captions
        assert entry.formula in formulas
        assert any(all(f"**{setting.name}** ({setting.values})" in t for setting in entry.settings) for t in text)
    assert len(figures(page)) == len(PICTURED)


@pytest.mark.slow
def test_the_picture_is_of_the_chosen_layer_under_the_current_recipe(page):
    page.run()
    statistics = ModelStatistics.of(zoo.load_model(MODEL), MODEL)
    for layer in ("fc1.weight", "fc2.weight"):
        page.selectbox(key=f"layer_{MODEL}").select(layer).run()
        after = compress(statistics, RECIPE).decode(layer)
        combined = figures(page)[[entry.name for entry in PICTURED].index("combine")]
        assert numbers(trace(combined, "Values")["x"]) == pytest.approx(np.unique(after))
        assert format_percent(np.mean(after == 0)) in combined["layout"]["annotations"][0]["text"]


@pytest.mark.slow
def test_a_method_that_the_recipe_does_without_is_marked_as_an_example(page):
    def examples() -> int:
        return sum("an example" in caption.value for caption in page.caption)

    page.run()
    assert examples() == sum(not entry.used_by(RECIPE) for entry in PICTURED)
    page.button(key="preset_baseline").click().run()
    assert examples() == len(PICTURED) - 1  # all but coding, which is always there


@pytest.mark.slow
def test_moving_a_slider_changes_the_pictures(page):
    page.run()
    before = figures(page)
    page.select_slider(key="control_sparsity").set_value(0.9).run()
    assert not page.exception
    changed = [entry.name for entry, one, other in zip(PICTURED, before, figures(page), strict=True) if one != other]
    assert changed == ["combine", "prune", "code"]


@pytest.mark.slow
def test_a_link_with_nonsense_is_a_message_and_the_page_works(page):
    page.query_params["sparsity"] = "95"
    page.run()
    assert not page.exception
    assert any("sparsity" in warning.value for warning in page.warning)
    # The model opens on its trained recipe, which cuts nodes out of the layer that is drawn: a line says so instead.
    reshaped = [element for element in page.caption if "has another shape in the simplified network" in element.value]
    assert len(figures(page)) + len(reshaped) == len(PICTURED) and len(reshaped) == 1


def test_a_model_that_cannot_be_loaded_is_a_message(page, monkeypatch):
    def refuse(model):
        raise ModelError(f"the weights of {model} must be there; they are not. Restore them.")

    monkeypatch.setattr(state.workbench(), "_subjects", {})
    monkeypatch.setattr(subjects, "load", refuse)
    page.run()
    assert not page.exception
    assert [error.value for error in page.error] == [
        f"the weights of {MODEL} must be there; they are not. Restore them."
    ]
