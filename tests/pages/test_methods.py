import json
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import pytest
from paretoscope.base.errors import ModelError
from paretoscope.base.units import format_percent
from paretoscope.figures import walk
from paretoscope.methods.catalogue import found, methods
from paretoscope.methods.pipeline import compress
from paretoscope.model.statistics import ModelStatistics
from paretoscope.networks import zoo
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects
from streamlit.testing.v1 import AppTest

from pages.components import explained, state

APP = Path(__file__).parents[2] / "app.py"
RECIPE = Recipe.of(sparsity=0.6, clusters=8, bits=4)
MODEL = "lenet-300-100"


def open_page(method: str = explained.MATRIX, **query: str) -> AppTest:
    page = AppTest.from_file(APP, default_timeout=60)
    page.switch_page("pages/methods.py")
    page.query_params.update({"model": MODEL, **RECIPE.to_query(), "method": method, **query})
    return page.run()


def contents(page: AppTest) -> list[str]:
    return list(page.button_group(key="method_contents").options)


def links(page: AppTest) -> list:
    return [element.proto for element in page.get("page_link")]


def figures(page) -> list[dict]:
    elements = [element.proto for element in page.get("bidi_component")]
    return [json.loads(json.loads(proto.json)["figure"]) for proto in elements if proto.component_name == "figure"]


def trace(figure: dict, name: str) -> dict:
    return next(trace for trace in figure["data"] if trace.get("name") == name)


def numbers(values) -> np.ndarray:
    return np.array(values, dtype=float)


@pytest.mark.slow
@pytest.mark.parametrize("entry", methods, ids=lambda entry: entry.name)
def test_an_entry_is_explained_in_words_first_with_its_formula_last(entry):
    page = open_page(entry.name)
    assert not page.exception and not page.warning
    assert [heading.value for heading in page.subheader] == [entry.title]
    said = [element.value for element in page.main if element.type in ("markdown", "latex", "caption")]
    place = {text.strip("$\n "): at for at, text in enumerate(said)}
    assert place[entry.summary] < place[entry.formula] < place[entry.reference] == len(said) - 1
    rows = [at for text, at in place.items() if text.startswith(f"- **{entry.settings[0].name}**")]
    assert rows and place[entry.summary] < rows[0] < place[entry.formula]
    drawn = figures(page)
    refused = [each for each in page.caption if each.value.startswith("Not for this model")]
    assert len(drawn) + len(refused) == (entry.picture != "none")
    tried = links(page)
    assert len(tried) == (not refused)
    if tried and entry.example != Recipe():
        query = dict(parse_qsl(tried[0].query_string))
        assert Recipe.from_query({name: text for name, text in query.items() if name != "model"}) == entry.example


@pytest.mark.slow
def test_the_contents_lead_to_an_entry_and_back_and_the_link_says_where():
    page = open_page()
    assert contents(page) == [explained.TITLE, *(entry.title for entry in methods)]
    page.button_group(key="method_contents").set_value("share").run()
    assert [heading.value for heading in page.subheader] == ["Weight sharing"]
    assert page.query_params["method"] == "share"
    page.button_group(key="method_contents").set_value(None).run()
    assert [heading.value for heading in page.subheader] == [explained.TITLE]
    assert page.query_params["method"] == "matrix" and not page.exception


@pytest.mark.slow
def test_a_search_keeps_what_has_all_words_and_says_when_nothing_has():
    page = open_page("code")
    page.text_input(key="method_search").set_value("K-MEANS weight").run()
    assert contents(page) == [entry.title for entry in found("k-means weight")] and len(contents(page)) < 5
    assert [heading.value for heading in page.subheader] == contents(page)[:1]
    page.text_input(key="method_search").set_value("qwertz").run()
    assert not page.subheader and "“qwertz”" in page.info[0].value and not page.exception
    page.text_input(key="method_search").set_value("").run()
    assert [heading.value for heading in page.subheader] == ["Entropy coding"]


@pytest.mark.slow
def test_a_misspelt_method_is_told_with_the_one_that_was_meant():
    page = open_page("quantise")
    assert ["no method 'quantise'. Did you mean quantize?" in each.value for each in page.warning] == [True]
    page.button_group(key="method_contents").set_value("prune").run()
    assert not page.warning and page.query_params["method"] == "prune"


@pytest.mark.slow
def test_a_method_alone_in_a_link_leaves_the_recipe_as_it_is():
    page = open_page("share")
    page.query_params.clear()
    page.query_params["method"] = "prune"
    page.run()
    assert [heading.value for heading in page.subheader] == ["Magnitude pruning"]
    assert page.session_state.view == state.View(MODEL, RECIPE)


@pytest.mark.slow
def test_one_matrix_is_followed_to_the_bytes_that_the_codec_writes():
    page = open_page()
    assert not page.exception
    layer = walk.chosen(state.statistics(MODEL).layers)
    for recipe in (presets.get("deep-compression").recipe, RECIPE):
        seen = walk.gather(layer, recipe)
        said = "\n".join(element.value for element in page.markdown)
        assert all(stage.told in said for stage in seen.stages)
        assert all(f"| {size:,} |" in said for size in seen.written.values())
        assert walk.why(seen.codes) in said
        assert len(figures(page)) == len(seen.stages) + 1
        page.button_group(key="walk_recipe").set_value(explained.OWN).run()
    page.button(key="preset_baseline").click().run()
    assert not page.exception and len(figures(page)) == 1
    assert any("Weights are floats still" in caption.value for caption in page.caption)


@pytest.mark.slow
def test_the_picture_is_of_the_chosen_layer_under_the_current_recipe():
    page = open_page("combine")
    statistics = ModelStatistics.of(zoo.load_model(MODEL), MODEL)
    for layer in ("fc1.weight", "fc2.weight"):
        page.selectbox(key=f"layer_{MODEL}").select(layer).run()
        after = compress(statistics, RECIPE).decode(layer)
        (combined,) = figures(page)
        assert numbers(trace(combined, "Values")["x"]) == pytest.approx(np.unique(after))
        assert format_percent(np.mean(after == 0)) in combined["layout"]["annotations"][0]["text"]


@pytest.mark.slow
def test_a_method_that_the_recipe_does_without_is_marked_as_an_example():
    def example(page: AppTest) -> bool:
        return any("an example" in caption.value for caption in page.caption)

    page = open_page("prune")
    assert not example(page)
    page.button(key="preset_baseline").click().run()
    assert example(page) and not example(open_page("code"))


@pytest.mark.slow
def test_moving_a_slider_changes_the_picture():
    page = open_page("prune")
    before = figures(page)
    page.select_slider(key="control_sparsity").set_value(0.9).run()
    assert not page.exception and figures(page) != before


@pytest.mark.slow
def test_a_link_with_nonsense_is_a_message_and_the_page_works():
    page = open_page("combine", sparsity="95")
    assert not page.exception
    assert any("sparsity" in warning.value for warning in page.warning)
    assert [heading.value for heading in page.subheader] == ["How the steps combine"]


def test_a_model_that_cannot_be_loaded_is_a_message(monkeypatch):
    def refuse(model):
        raise ModelError(f"the weights of {model} must be there; they are not. Restore them.")

    monkeypatch.setattr(state.workbench(), "_subjects", {})
    monkeypatch.setattr(subjects, "load", refuse)
    page = open_page()
    assert not page.exception
    assert [error.value for error in page.error] == [
        f"the weights of {MODEL} must be there; they are not. Restore them."
    ]
