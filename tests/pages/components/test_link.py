"""A link that is wrong in places, on its page: what it can open, what it tells, and the address bar afterwards."""

import json
from pathlib import Path

import pytest
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.timing import Timing
from streamlit.testing.v1 import AppTest

from pages.components import link, plain
from pages.components.state import View

pytestmark = pytest.mark.slow

APP = str(Path(__file__).parents[3] / "app.py")
MODEL = "lenet-300-100"


def opened(query: dict[str, str | list[str]]) -> AppTest:
    page = AppTest.from_file(APP, default_timeout=60)
    page.query_params.update(query)
    page.run()
    assert not page.exception
    return page


def link_of(page: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[-1] for name, value in page.query_params.items()}


def test_one_wrong_name_leaves_the_rest_of_the_link_and_is_told_in_a_line() -> None:
    page = opened({"model": MODEL, "sparcity": "0.9", "bits": "5", "threads": "2"})
    assert page.session_state.view == View(MODEL, Recipe.of(bits=5), Timing(threads=2))
    told = "Left out of what the link says: A link has no setting 'sparcity'. Did you mean sparsity?"
    assert [warning.value for warning in page.warning] == [told]
    assert link_of(page) == {"model": MODEL, **Recipe.of(bits=5).to_query(), "threads": "2"}
    # Another run of the page tells it again; a move is an answer to it.
    assert [warning.value for warning in page.run().warning] == [told]
    page.select_slider(key="control_bits").set_value(6).run()
    assert not page.warning and page.session_state.view.recipe == Recipe.of(bits=6)


def test_the_model_opens_even_where_nothing_else_is_right() -> None:
    page = opened({"model": MODEL, "bits": "lots", "runtime": "onnxruntme", "batch": "9", "size": "wide"})
    assert page.session_state.view == View(MODEL)
    head, *lines = page.warning[0].value.split("\n- ")
    assert head == "Left out of what the link says:"
    assert lines == [
        "There is no runtime 'onnxruntme'. Did you mean onnxruntime?",
        "batch in a link must be one of 1, 8, 32, 128; got '9'. Did you mean 8?",
        plain.escape("size in a link must be one of 28, 56, 84, 112; got 'wide'."),
        plain.escape("bits in a link must be a number; got 'lots'. Write e.g. bits=8."),
    ]


def test_an_unknown_model_is_told_with_the_nearest_and_the_recipe_stays() -> None:
    found = link.read({"model": "lenet-300-10", "bits": "5"})
    assert found.view == View(recipe=Recipe.of(bits=5))
    assert found.problems == ("There is no model 'lenet-300-10'. Did you mean lenet-300-100? Simple CNN was opened.",)


def test_layers_that_the_model_has_not_are_told_with_the_nearest() -> None:
    overrides = [{"layers": "fc1", "bits": 4}, {"layers": "fc11", "bits": 4}, {"layers": "f*", "sparsity": 0.5}]
    found = link.read({"model": MODEL, "bits": "8", "overrides": json.dumps(overrides)})
    assert found.view.recipe == Recipe.of(bits=8, overrides=[overrides[0], overrides[2]])
    assert found.problems == ("LeNet-300-100 has no layer 'fc11'. Did you mean fc1?",)


def test_a_message_is_bounded_however_wrong_a_link_is() -> None:
    # Streamlit itself drops a link of more than 1000 names.
    many = {f"k{place}": "x" * 100 for place in range(900)}
    page = opened({"model": MODEL, "bits": "8", "m" * 10_000: "1", **many})
    assert page.session_state.view.recipe == Recipe.of(bits=8)
    _, *lines = page.warning[0].value.split("\n- ")
    assert len(lines) == link.LINES + 1 and lines[-1] == "And 896 more."
    assert len(page.warning[0].value) < 2000


def test_a_name_that_stands_twice_is_told_and_the_last_is_taken() -> None:
    page = opened({"model": MODEL, "bits": ["4", "8"]})
    assert page.session_state.view.recipe == Recipe.of(bits=8)
    assert "'bits' stands twice; the last one was taken." in page.warning[0].value


def test_what_does_nothing_in_a_link_is_told_softly() -> None:
    page = opened({"model": MODEL, "bits": "8", "ternary": "0.7"})
    assert not page.warning and page.session_state.view.recipe == Recipe.of(bits=8)
    told = [caption.value for caption in page.caption]
    assert "Without effect in the link: ternary has an effect only with 1 bit; got 0.7 without. " in " ".join(told)


def test_links_of_views_open_whole_and_in_silence() -> None:
    recipes = (Recipe(), Recipe.of(sparsity=0.5, bits=4, epochs=3), Recipe.of(bits=1, ternary=0.7, keep_ends=True))
    for recipe in recipes:
        view = View(MODEL, recipe, Timing(threads=2, batch=8))
        found = link.read(view.to_query())
        assert found.view == view and found.problems == ()
