"""What a model opens on: its best known preset, what the session last had for it, or what a link says."""

from pathlib import Path

import pytest
from paretoscope.networks.zoo import DEFAULT_MODEL
from paretoscope.recipe.presets import presets, presets_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.presets import best_known, known, movable
from streamlit.testing.v1 import AppTest

pytestmark = pytest.mark.slow

APP = str(Path(__file__).parents[2] / "app.py")
MODEL, OTHER = "lenet-300-100", "resnet-20"
MOVED = Recipe.of(sparsity=0.6, clusters=12, bits=5)


def open_page(page: str = "methods", **query: str) -> AppTest:
    """A page that evaluates nothing, with the same sidebar as all."""
    test = AppTest.from_file(APP, default_timeout=60)
    test.switch_page(f"pages/{page}.py")
    test.query_params.update(query)
    return test.run()


def choose(page: AppTest, model: str) -> AppTest:
    page.selectbox(key="control_model").set_value(model).run()
    assert not page.exception and not page.error and not page.warning
    return page


def view_of(page: AppTest) -> tuple[str, Recipe]:
    return page.session_state.view.model, page.session_state.view.recipe


def carry_over(page: AppTest):
    return [button for button in page.button if button.key == "carry_over"]


@pytest.mark.parametrize("query", [{}, {"model": MODEL}, {"model": OTHER, "threads": "2"}])
def test_a_model_opens_on_its_best_known_preset(query: dict[str, str]) -> None:
    page = open_page(**query)
    model = query.get("model", DEFAULT_MODEL)
    assert not page.exception and not page.warning
    assert view_of(page) == (model, best_known(model).recipe)
    assert page.button(key=f"preset_{best_known(model).name}").proto.type == "primary"
    assert not carry_over(page)


def test_a_link_keeps_what_it_says() -> None:
    for recipe in (Recipe(), MOVED, presets.get("tiny").recipe):
        page = open_page(model=OTHER, **recipe.to_query())
        assert view_of(page) == (OTHER, recipe)
        assert not carry_over(page)


def test_another_model_opens_on_its_own_and_the_one_before_keeps_what_was_set() -> None:
    page = open_page(model=MODEL, **MOVED.to_query())
    page.select_slider(key="control_bits").set_value(4).run()
    moved = Recipe.of(sparsity=0.6, clusters=12, bits=4)
    choose(page, OTHER)
    assert view_of(page) == (OTHER, best_known(OTHER).recipe)
    # The widgets show it too, and the next move starts from there.
    sparsity = best_known(OTHER).recipe.settings()["sparsity"]
    assert page.select_slider(key="control_sparsity").value == sparsity
    page.run()
    assert view_of(page) == (OTHER, best_known(OTHER).recipe)
    page.select_slider(key="control_sparsity").set_value(0.2).run()
    there = Recipe.of(**{**best_known(OTHER, trained=False).recipe.settings(), "sparsity": 0.2})
    assert view_of(page) == (OTHER, there)
    choose(page, MODEL)
    assert view_of(page) == (MODEL, moved)
    choose(page, OTHER)
    assert view_of(page) == (OTHER, there)


def test_a_trained_recipe_is_restored_with_its_training() -> None:
    page = open_page(model=MODEL)
    trained = best_known(MODEL).recipe
    assert trained.recover is not None
    choose(choose(page, OTHER), MODEL)
    assert view_of(page) == (MODEL, trained)


def test_a_slider_leaves_a_preset_that_only_its_training_made_hold_and_tells_it() -> None:
    for model in (MODEL, OTHER):
        page = open_page(model=model)
        trained = view_of(page)
        start = best_known(model, trained=False)
        page.select_slider(key="control_bits").set_value(6).run()
        assert view_of(page) == (model, Recipe.of(**{**start.recipe.settings(), "bits": 6}))
        assert page.select_slider(key="control_sparsity").value == start.recipe.settings()["sparsity"]
        worth = known(model, trained[1].untrained).accuracy
        told = f"Without its training the recipe before gets {100 * worth:.1f} % right: your change was made to "
        assert f"{told}{start.title} instead." in [each.value for each in page.caption]
        page.run()
        assert f"{told}{start.title} instead." in [each.value for each in page.caption]
        page.button(key="back_to_training").click().run()
        assert view_of(page) == trained
        assert not [each for each in page.button if each.key == "back_to_training"]
        # What follows is a move of a recipe without training.
        page.select_slider(key="control_bits").set_value(6).run()
        page.select_slider(key="control_bits").set_value(5).run()
        assert view_of(page) == (model, Recipe.of(**{**start.recipe.settings(), "bits": 5}))
        assert not [each for each in page.button if each.key == "back_to_training"]


def test_settings_of_one_layer_leave_such_a_preset_likewise() -> None:
    page = open_page("layers", model=MODEL)
    page.session_state["layers_tab"] = "One layer"
    page.run()
    start = best_known(MODEL, trained=False)
    next(each for each in page.select_slider if (each.key or "").startswith("own_bits_")).set_value(4)
    page.button(key="own_apply").click().run()
    assert not page.exception and not page.error
    model, recipe = view_of(page)
    assert len(recipe.overrides) == 1
    assert (model, Recipe.of(**{**recipe.settings(), "overrides": ()})) == (MODEL, start.recipe)
    assert any(f"your change was made to {start.title} instead." in each.value for each in page.caption)
    page.button(key="remove_overrides").click().run()
    assert view_of(page) == (MODEL, start.recipe)


def test_the_page_recover_keeps_what_is_to_be_trained() -> None:
    page = open_page("recover", model=MODEL)
    trained = best_known(MODEL).recipe
    page.select_slider(key="control_bits").set_value(6).run()
    assert not page.exception
    assert view_of(page) == (MODEL, Recipe.of(**{**trained.untrained.settings(), "bits": 6}))


def test_the_recipe_before_is_carried_over_by_a_button() -> None:
    page = choose(open_page(model=MODEL, **MOVED.to_query()), OTHER)
    (button,) = carry_over(page)
    assert button.label == f"Carry over: {MOVED.describe()}"
    button.click().run()
    assert not page.exception and view_of(page) == (OTHER, MOVED)
    assert page.select_slider(key="control_clusters").value == 12
    assert not carry_over(page)
    # It is offered again once something else is set, and the model before has lost nothing.
    page.button(key="preset_int8").click().run()
    assert carry_over(page)
    choose(page, MODEL)
    assert view_of(page) == (MODEL, MOVED)


def test_training_is_not_carried_over() -> None:
    page = choose(open_page(model=MODEL), OTHER)
    carry_over(page)[0].click().run()
    assert not page.exception
    assert view_of(page) == (OTHER, movable(MODEL, best_known(MODEL).recipe))


@pytest.mark.parametrize("model", [MODEL, "mobilenet-v2"])
def test_a_preset_at_chance_says_so_on_its_button(model: str) -> None:
    page = open_page(model=model)
    assert not page.exception
    for preset in presets_of(model):
        button, figures = page.button(key=f"preset_{preset.name}"), known(model, preset.recipe)
        percent = f"{100 * figures.correct / figures.n:.1f} %"
        if figures.chance:
            assert button.label == f"{preset.title} · chance"
            assert f"{percent} on this model: no better than guessing (measured, 797 test images)." in button.help
        else:
            assert button.label == preset.title
            assert f"{percent} on this model: {figures.size / 1000:,.1f} KB (measured, 797 test" in button.help
        assert button.help.startswith(preset.summary)
    chance = {preset.name for preset in presets_of(model) if known(model, preset.recipe).chance}
    assert chance == ({"deep-compression", "tiny", "binary", "ternary"} if model == "mobilenet-v2" else set())
