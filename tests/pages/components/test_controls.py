"""The controls of the sidebar without a browser: each one moves its own setting, and the link carries it."""

from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from paretoscope import codec
from paretoscope.recipe.presets import presets, presets_of
from paretoscope.recipe.recipe import SETTINGS, Recipe, Recover
from paretoscope.service import subjects
from paretoscope.service.timing import Timing
from streamlit.testing.v1 import AppTest

from pages.components import plain
from pages.components.state import View

pytestmark = pytest.mark.slow

APP = str(Path(__file__).parents[3] / "app.py")
MODEL = "lenet-300-100"
GROUPS = ("Architecture", "Pruning and sharing", "Quantization", "Repair without training", "Advanced")

# Group, kind of the widget, setting, value; and what must stand beside it, so that the setting means something.
MOVES = [
    ("Architecture", "select_slider", "nodes", 0.25, {}),
    ("Architecture", "selectbox", "importance", "l1", {"nodes": 0.25}),
    ("Architecture", "number_input", "blocks", 1, {}),
    ("Architecture", "toggle", "fold", True, {}),
    ("Architecture", "toggle", "merge", True, {}),
    ("Architecture", "select_slider", "energy", 0.95, {}),
    ("Pruning and sharing", "selectbox", "scope", "layer", {"sparsity": 0.5}),
    ("Pruning and sharing", "number_input", "threshold", 0.02, {"threshold": 0.01}),
    ("Pruning and sharing", "selectbox", "pattern", "1:4", {"pattern": "2:4"}),
    ("Pruning and sharing", "selectbox", "start", "density", {"clusters": 16}),
    ("Pruning and sharing", "number_input", "population", 3, {"clusters": 16}),
    ("Pruning and sharing", "number_input", "rarest", 2, {"clusters": 16}),
    ("Pruning and sharing", "selectbox", "moved", "zero", {"clusters": 16, "rarest": 2}),
    ("Quantization", "selectbox", "granularity", "tensor", {"bits": 4}),
    ("Quantization", "selectbox", "calibration", "kl", {"bits": 4}),
    ("Quantization", "selectbox", "calibration", "rate", {"bits": 8}),
    ("Quantization", "select_slider", "exchange", 1e-4, {"bits": 8, "calibration": "rate"}),
    ("Quantization", "selectbox", "weighting", "magnitude", {"bits": 8, "calibration": "rate"}),
    ("Quantization", "number_input", "percentile", 99.0, {"bits": 4, "calibration": "percentile"}),
    ("Quantization", "toggle", "symmetric", False, {"bits": 4}),
    ("Quantization", "toggle", "keep_ends", True, {"bits": 4}),
    ("Quantization", "select_slider", "ternary", 0.7, {"bits": 1}),
    ("Quantization", "toggle", "power_of_two", True, {"bits": 1}),
    ("Repair without training", "selectbox", "rounding", "gptq", {"bits": 4}),
    ("Repair without training", "toggle", "bias", True, {"bits": 4}),
    ("Repair without training", "toggle", "batchnorm", True, {"bits": 4}),
    ("Advanced", "selectbox", "coder", "huffman", {}),
    ("Advanced", "selectbox", "coder", "context", {}),
    ("Advanced", "selectbox", "rest", "fp16", {}),
    ("Advanced", "selectbox", "rest", "rate", {"bits": 8, "calibration": "rate"}),
]
IN_SIGHT = [
    ("select_slider", "sparsity", 0.33, {}),
    ("select_slider", "clusters", 12, {}),
    ("select_slider", "bits", 5, {}),
]


def open_page(recipe: Recipe, *groups: str) -> AppTest:
    return open_link({"model": MODEL, **recipe.to_query()}, *groups)


def open_link(query: dict[str, str], *groups: str) -> AppTest:
    page = AppTest.from_file(APP, default_timeout=60)
    page.query_params.update(query)
    for group in groups:
        page.session_state[f"group_{group}"] = True
    return page.run()


def control(page: AppTest, kind: str, setting: str):
    return getattr(page, kind)(key=f"control_{setting}")


def move(page: AppTest, kind: str, setting: str, value: object) -> AppTest:
    control(page, kind, setting).set_value(value).run()
    assert not page.exception and not page.warning
    return page


def recipe_of(page: AppTest) -> Recipe:
    return page.session_state.view.recipe


def link_of(page: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[0] for name, value in page.query_params.items()}


def drawn(page: AppTest) -> set[str]:
    kinds = (page.select_slider, page.selectbox, page.number_input, page.toggle)
    keys = {widget.key for widgets in kinds for widget in widgets}
    return {key.removeprefix("control_") for key in keys if key and key.startswith("control_")}


def test_controls_are_drawn_only_while_their_group_is_open() -> None:
    always = {"model", "sparsity", "clusters", "bits", "integer"}
    page = open_page(Recipe())
    assert drawn(page) == always
    for group in GROUPS:
        opened = drawn(open_page(Recipe(), group))
        expected = {setting for name, _, setting, _, _ in MOVES if name == group}
        expected -= {"threshold", "pattern", "exchange", "weighting"}
        assert opened - always >= expected


def test_every_setting_of_a_recipe_has_a_control_or_a_page() -> None:
    moved = {setting for *_, setting, _, _ in MOVES} | {setting for _, setting, _, _ in IN_SIGHT}
    training = {field.name for field in fields(Recover)}
    assert set(Recipe().settings()) == moved | {"activations", "drop", "overrides"} | training


@pytest.mark.parametrize(
    ("group", "kind", "setting", "value", "beside"),
    [*MOVES, *((None, *each) for each in IN_SIGHT)],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_a_control_moves_its_setting_and_the_link_opens_again(group, kind, setting, value, beside) -> None:
    groups = (group,) if group else ()
    page = open_page(Recipe.of(**beside), *groups)
    before = recipe_of(page)
    assert before == Recipe.of(**beside)
    move(page, kind, setting, value)
    wanted = Recipe.of(**{**beside, setting: value})
    assert recipe_of(page) == wanted != before
    assert link_of(page) == {"model": MODEL, **wanted.to_query()}
    again = open_link(link_of(page), *groups)
    assert not again.exception and not again.warning
    assert recipe_of(again) == wanted
    assert control(again, kind, setting).value == value


TRAINED = {"epochs": 3, "distill": 0.5, "ramp": 0.5, "learning_rate": 2e-5, "seed": 7, "augment": False, "stopped": 2}


def test_the_link_of_a_trained_recipe_opens_it_again() -> None:
    recipe = Recipe.of(sparsity=0.9, bits=4, **TRAINED)
    page = open_page(recipe)
    assert not page.exception and not page.warning
    assert recipe_of(page) == recipe and link_of(page) == {"model": MODEL, **recipe.to_query()}
    move(page, "selectbox", "model", MODEL)
    assert recipe_of(page) == recipe


@pytest.mark.parametrize(
    ("group", "kind", "setting", "value"),
    [
        (None, "select_slider", "sparsity", 0.8),
        (None, "select_slider", "bits", 5),
        ("Advanced", "selectbox", "rest", "fp16"),
    ],
)
def test_moving_a_control_of_a_trained_recipe_drops_the_training(group, kind, setting, value) -> None:
    page = open_page(Recipe.of(sparsity=0.9, bits=4, **TRAINED), *([group] if group else []))
    move(page, kind, setting, value)
    assert recipe_of(page) == Recipe.of(**{"sparsity": 0.9, "bits": 4, setting: value})


def test_another_model_drops_the_training_of_this_one() -> None:
    page = open_page(Recipe.of(sparsity=0.9, **TRAINED))
    move(page, "selectbox", "model", "lenet-5")
    page.button(key="carry_over").click().run()
    assert not page.exception
    assert page.session_state.view.model == "lenet-5" and recipe_of(page) == Recipe.of(sparsity=0.9)


def test_removing_overrides_drops_the_training() -> None:
    overrides = [{"layers": "fc1", "bits": 8}]
    page = open_page(Recipe.of(bits=4, overrides=overrides, **TRAINED))
    page.button(key="remove_overrides").click().run()
    assert recipe_of(page) == Recipe.of(bits=4)


@pytest.mark.parametrize(("name", "value"), [("runtime", "torch"), ("batch", 8), ("threads", 2), ("size", 56)])
def test_timing_controls_move_the_timing_and_nothing_else(name: str, value: object) -> None:
    page = open_page(Recipe(), "Advanced")
    move(page, "selectbox", name, value)
    assert page.session_state.view.timing == replace(Timing(), **{name: value})
    assert recipe_of(page) == Recipe()
    again = open_link(link_of(page), "Advanced")
    assert again.session_state.view == page.session_state.view


def test_one_rule_of_pruning_follows_the_other() -> None:
    page = open_page(Recipe.of(sparsity=0.5, bits=8), "Pruning and sharing")
    assert not {"threshold", "pattern"} & drawn(page)

    move(page, "selectbox", "rule", "pattern")
    page.run()
    assert recipe_of(page) == Recipe.of(pattern="2:4", bits=8)
    assert control(page, "select_slider", "sparsity").disabled
    move(page, "selectbox", "pattern", "1:4")
    assert recipe_of(page) == Recipe.of(pattern="1:4", bits=8)

    move(page, "selectbox", "rule", "threshold")
    page.run()
    assert "pattern" not in drawn(page)
    move(page, "number_input", "threshold", 0.05)
    assert recipe_of(page) == Recipe.of(threshold=0.05, bits=8)

    move(page, "selectbox", "rule", "sparsity")
    page.run()
    assert not {"threshold", "pattern"} & drawn(page)
    assert not control(page, "select_slider", "sparsity").disabled
    move(page, "select_slider", "sparsity", 0.7)
    assert recipe_of(page) == Recipe.of(sparsity=0.7, bits=8)


def test_closing_a_group_keeps_its_settings() -> None:
    page = open_page(Recipe.of(bits=4), "Quantization")
    move(page, "selectbox", "calibration", "mse")
    page.session_state["group_Quantization"] = False
    page.run()
    assert "calibration" not in drawn(page)
    move(page, "select_slider", "bits", 3)
    assert recipe_of(page) == Recipe.of(bits=3, calibration="mse")


def test_the_integer_toggle_waits_where_there_are_no_integers() -> None:
    page = open_page(Recipe.of(bits=8))
    move(page, "toggle", "integer", True)
    assert recipe_of(page) == Recipe.of(bits=8, activations=8)
    move(page, "select_slider", "bits", 32)
    assert recipe_of(page) == Recipe()
    assert control(page, "toggle", "integer").disabled
    move(page, "select_slider", "bits", 6)
    assert recipe_of(page) == Recipe.of(bits=6, activations=8)
    move(page, "toggle", "integer", False)
    assert recipe_of(page) == Recipe.of(bits=6)


def test_fewer_clusters_leave_one_group() -> None:
    page = open_page(Recipe.of(clusters=16, rarest=12), "Pruning and sharing")
    move(page, "select_slider", "clusters", 4)
    assert recipe_of(page) == Recipe.of(clusters=4, rarest=3)
    move(page, "select_slider", "clusters", 0)
    assert recipe_of(page) == Recipe()


def test_a_value_between_the_steps_of_a_slider_gets_a_step() -> None:
    page = open_link({"model": MODEL, "sparsity": "0.123", "clusters": "17", "bits": "11", "nodes": "0.07"}, *GROUPS)
    assert not page.exception and not page.warning
    assert recipe_of(page) == Recipe.of(sparsity=0.123, clusters=17, bits=11, nodes=0.07)
    for setting, value in {"sparsity": 0.123, "clusters": 17, "bits": 11, "nodes": 0.07}.items():
        assert control(page, "select_slider", setting).value == value


def test_widgets_that_come_late_onto_the_screen_start_from_the_view() -> None:
    # The run that sets their state is not always one that the browser draws: on a busy machine the next overtakes it.
    page = open_page(Recipe.of(sparsity=0.123, clusters=17, bits=11, nodes=0.07), *GROUPS).run()
    sliders = [slider for slider in page.select_slider if slider.key.startswith("control_")]
    assert {"control_sparsity", "control_clusters", "control_bits", "control_nodes"} <= {each.key for each in sliders}
    for slider in sliders:
        # One that waits until it can do something sends nothing back.
        assert slider.disabled or not slider.proto.set_value
        assert slider.proto.options[int(slider.proto.default[0])] == slider.format_func(slider.value)
    for choice in page.selectbox:
        assert choice.disabled or not choice.proto.set_value
        assert choice.options[choice.proto.default] == choice.format_func(choice.value)
    for other in page.toggle:
        assert other.proto.default == other.value
    for number in page.number_input:
        assert (number.proto.default if number.proto.HasField("default") else None) == number.value


def test_a_preset_sets_the_open_groups() -> None:
    page = open_page(Recipe(), *GROUPS)
    page.button(key="preset_ternary").click().run()
    wanted = presets.get("ternary").recipe
    assert not page.exception and recipe_of(page) == wanted
    settings = wanted.settings()
    for kind, setting in (("select_slider", "ternary"), ("selectbox", "calibration"), ("selectbox", "rest")):
        assert control(page, kind, setting).value == settings[setting]


def test_the_presets_of_other_models_are_not_offered() -> None:
    offered = {button.key: button.label for button in open_page(Recipe()).button}
    assert {f"preset_{preset.name}": preset.title for preset in presets_of(MODEL)}.items() <= offered.items()
    others = {f"preset_{preset.name}" for preset in presets if preset.model not in (None, MODEL)}
    assert others and not others & offered.keys()


def test_what_the_library_refuses_is_told_and_the_view_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    page = open_page(Recipe.of(sparsity=0.5), "Quantization")
    sparsity = SETTINGS["sparsity"]
    more = replace(sparsity.kind, offered=(*sparsity.kind.offered, 1.0))
    monkeypatch.setitem(SETTINGS, "sparsity", replace(sparsity, kind=more))
    control(page.run(), "select_slider", "sparsity").set_value(1.0).run()
    assert not page.exception
    assert plain.escape("sparsity must be in [0, 1); got 1") in page.warning[0].value
    assert recipe_of(page) == Recipe.of(sparsity=0.5)
    assert link_of(page)["sparsity"] == "0.5"
    move(page, "select_slider", "sparsity", 0.6)
    assert recipe_of(page) == Recipe.of(sparsity=0.6)


def test_a_quick_move_is_not_undone_by_the_link_that_it_overtakes(monkeypatch: pytest.MonkeyPatch) -> None:
    from pages.components import state

    page = open_page(Recipe.of(sparsity=0.5))
    before = link_of(page)
    move(page, "select_slider", "sparsity", 0.6)
    # The browser sends the next move before it has the link of the last one.
    page.query_params.clear()
    page.query_params.update(before)
    move(page, "select_slider", "sparsity", 0.7)
    assert recipe_of(page) == Recipe.of(sparsity=0.7)
    assert link_of(page)["sparsity"] == "0.7"
    # The browser says that somebody went back to it, or it comes much later.
    back = SimpleNamespace(is_history_navigation=True)
    with monkeypatch.context() as patch:
        patch.setattr(state, "get_script_run_ctx", lambda: back)
        page.query_params.clear()
        page.query_params.update(before)
        assert recipe_of(page.run()) == Recipe.of(sparsity=0.5)
    move(page, "select_slider", "sparsity", 0.7)
    monkeypatch.setattr(state, "LINK_DELAY_S", 0.0)
    page.query_params.clear()
    page.query_params.update(before)
    assert recipe_of(page.run()) == Recipe.of(sparsity=0.5)


def test_overrides_of_a_link_are_told_and_removed_by_a_button() -> None:
    recipe = Recipe.of(sparsity=0.5, overrides=[{"layers": "fc1", "bits": 4}, {"layers": "fc*", "clusters": 8}])
    page = open_page(recipe)
    assert recipe_of(page) == recipe
    assert any("Overrides for 2 layers" in caption.value for caption in page.caption)
    page.button(key="remove_overrides").click().run()
    assert not page.exception and recipe_of(page) == Recipe.of(sparsity=0.5)


def test_a_wanted_size_is_met_by_a_rate(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "records.sqlite"))
    recipe = Recipe.of(bits=8, calibration="rate", weighting="magnitude", coder="context")
    page = open_page(recipe, "Quantization")
    page.number_input(key="allot_size").set_value(70.0).run()
    page.button(key="allot").click().run()
    assert not page.exception
    assert page.session_state.allotting.wait(60)
    page.run()
    found = recipe_of(page.run())
    assert not page.exception and page.session_state.allotting is None
    assert found == Recipe.of(**{**recipe.settings(), "exchange": found.quantize.exchange}) != recipe
    assert 0.97 * 70_000 < len(codec.write(subjects.load(MODEL).compress(found))) <= 70_000
    assert control(page, "select_slider", "exchange").value == found.quantize.exchange


def test_a_harm_out_of_reach_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "records.sqlite"))
    page = open_page(Recipe.of(bits=2, calibration="rate", weighting="magnitude"), "Quantization")
    page.segmented_control(key="allot_wish").set_value("harm").run()
    page.number_input(key="allot_harm").set_value(0.0).run()
    page.button(key="allot").click().run()
    assert page.session_state.allotting.wait(60)
    page.run()
    page.run()
    assert not page.exception and any("out of reach" in warning.value for warning in page.warning)


@pytest.mark.parametrize("group", GROUPS)
def test_a_control_waits_until_its_setting_can_do_something(group) -> None:
    moves = [move for move in MOVES if move[0] == group and move[2] not in ("threshold", "pattern")]
    idle = open_page(Recipe(), group)
    for _, kind, setting, _, beside in moves:
        if setting in ("exchange", "weighting"):
            continue  # not drawn without the calibration by rate
        assert control(idle, kind, setting).disabled == (bool(beside) and setting not in ("rest", "batchnorm")), setting
    for _, kind, setting, value, beside in moves:
        if setting in ("importance", "moved", "percentile", "ternary", "weighting", "bias"):
            assert not control(open_page(Recipe.of(**beside), group), kind, setting).disabled, (setting, value)


def test_overrides_of_a_model_are_left_out_for_one_that_has_no_such_layers() -> None:
    overrides = [{"layers": "fc1", "bits": 4}, {"layers": "fc*", "sparsity": 0.5}, {"layers": "*.0", "bits": 6}]
    page = open_page(Recipe.of(bits=8, overrides=overrides[:2]))
    control(page, "selectbox", "model").set_value("resnet-20").run()
    assert not page.info
    page.button(key="carry_over").click().run()
    assert not page.exception
    left = Recipe.of(bits=8, overrides=overrides[1:2])
    assert recipe_of(page) == left or recipe_of(page) == Recipe.of(bits=8, overrides=[])
    told = [info.value for info in page.info]
    assert any("has no layers 'fc1'" in text and "left out" in text for text in told), told
    # Told until something else is moved.
    control(page, "select_slider", "bits").set_value(6).run()
    assert not page.info and not page.exception


def test_an_override_that_matches_nothing_is_an_error_on_the_page_and_no_traceback() -> None:
    # A link does not bring it; a point of another network's history, or a file, may.
    page = AppTest.from_file(APP, default_timeout=60)
    page.session_state["view"] = View(MODEL, Recipe.of(bits=8, overrides=[{"layers": "fx1", "bits": 4}]))
    page.run()
    assert not page.exception
    assert any("must match a layer" in error.value and "Did you mean fc1" in error.value for error in page.error)
    page.button(key="remove_overrides").click().run()
    assert not page.exception and not page.error and recipe_of(page) == Recipe.of(bits=8)


def test_what_does_nothing_is_told_beside_the_figures() -> None:
    page = open_page(Recipe.of(bits=8, keep_ends=True))
    assert not page.exception
    assert any("keep_ends has an effect only with" in text.value for text in page.text)
    assert not open_page(Recipe.of(bits=4, keep_ends=True)).text
