"""The picture beside a slider: drawn while it is open, after the slider's value, with a way to what is explained."""

import json
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from paretoscope.figures import learn
from paretoscope.recipe.recipe import SETTINGS, Recipe
from streamlit.testing.v1 import AppTest

from pages.components import learn as beside
from pages.components import state

pytestmark = pytest.mark.slow

APP = Path(__file__).parents[3] / "app.py"
MODEL = "lenet-300-100"
RECIPE = Recipe.of(sparsity=0.5, clusters=4, bits=3)
SLIDERS = [name for name, each in SETTINGS.items() if each.prominent]


@pytest.fixture
def page() -> AppTest:
    page = AppTest.from_file(APP, default_timeout=60)
    page.switch_page("pages/methods.py")
    page.query_params.update({"model": MODEL, **RECIPE.to_query()})
    state.subject(MODEL)
    return page.run()


def pictures(page: AppTest) -> list[dict]:
    elements = [element.proto for element in page.get("bidi_component")]
    return [json.loads(proto.json) for proto in elements if proto.component_name == "lesson"]


def click(page: AppTest, name: str) -> AppTest:
    page.button(key=f"lesson_mark_{name}").click().run()
    assert not page.exception
    return page


def test_every_slider_has_a_mark_and_a_closed_one_costs_nothing(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a closed picture must not be computed")

    monkeypatch.setattr(learn, "gather", never)
    for name in SLIDERS:
        assert SETTINGS[name].help in page.button(key=f"lesson_mark_{name}").help
    page.select_slider(key="control_sparsity").set_value(0.75).run()
    assert not page.exception and not pictures(page)


@pytest.mark.parametrize("name", SLIDERS)
def test_an_open_picture_is_of_that_step(page: AppTest, name: str) -> None:
    (drawn,) = pictures(click(page, name))
    layer, weights = beside.sixteen(MODEL)
    lesson = learn.gather(weights, RECIPE, SETTINGS[name].step, layer=layer)
    assert drawn == {"svg": learn.draw(lesson), "alt": lesson.alt}
    assert not pictures(click(page, name))


def test_it_follows_the_slider_and_leads_to_its_method(page: AppTest) -> None:
    click(page, "sparsity")
    assert "8 of 16 became zero" in pictures(page)[0]["alt"]
    page.select_slider(key="control_sparsity").set_value(0.75).run()
    assert "12 of 16 became zero" in pictures(page)[0]["alt"]
    page.button(key="more_sparsity").click().run()
    assert [heading.value for heading in page.subheader] == ["Magnitude pruning"]
    assert page.query_params["method"] == "prune" and page.query_params["sparsity"] == "0.75"


def test_on_another_page_a_link_leads_to_its_method(page: AppTest) -> None:
    page.switch_page("pages/layers.py").run()
    click(page, "bits")
    link = page.sidebar.get("page_link")[-1].proto
    query = dict(parse_qsl(link.query_string))
    assert query == {**state.View(MODEL, RECIPE).to_query(), "method": "quantize"}


def test_without_its_model_it_waits(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(state.workbench()), "loaded", lambda *_: False)
    assert not pictures(click(page, "bits"))
    assert any("comes with the model" in caption.value for caption in page.sidebar.caption)
