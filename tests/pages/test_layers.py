"""The Layers page without a browser: its tabs against the library, overrides, studies, bad input."""

import json
import time
from pathlib import Path

import holding
import pytest
from paretoscope.base.errors import ModelError
from paretoscope.base.units import format_bytes, format_percent
from paretoscope.measure.sensitivity import GRIDS
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.jobs import Job, Priority
from paretoscope.service.study import StudyKind
from paretoscope.service.workbench import Workbench
from streamlit.testing.v1 import AppTest

from pages.components import plain, state

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODEL = "lenet-300-100"
LAYERS = ["fc1.weight", "fc2.weight", "fc3.weight"]
RECIPE = Recipe.of(sparsity=0.6, clusters=16)
PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def bench() -> Workbench:
    """The workbench of the pages, with the sensitivity of the model measured."""
    bench = state.workbench()
    bench.subject(MODEL)
    job = bench.ask(StudyKind.SENSITIVITY, MODEL)
    while not job.wait(1.0):
        job.keep()
    assert job.error is None
    return bench


def open_page(recipe: Recipe = RECIPE, tab: str = "Table", model: str = MODEL) -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    page.query_params.update({"model": model, **recipe.to_query()})
    page.session_state["layers_tab"] = tab
    page.switch_page("pages/layers.py").run()
    assert not page.exception
    return page


def wait_for(page: AppTest, met) -> AppTest:
    """Run the page again until it shows something, as the polling fragment does in a browser."""
    deadline = time.monotonic() + PATIENCE_S
    while not met(page):
        assert time.monotonic() < deadline, "what was waited for did not come"
        page.run()
        assert not page.exception
    return page


def figures(page: AppTest) -> list[dict]:
    protos = [element.proto for element in page.get("bidi_component")]
    return [json.loads(json.loads(proto.json)["figure"]) for proto in protos if proto.component_name == "figure"]


def texts(page: AppTest) -> str:
    return "\n".join(element.value for element in (*page.markdown, *page.caption))


def press(page: AppTest, key: str) -> AppTest:
    page.button(key=key).click().run()
    assert not page.exception
    return page


def until_cancelled(job: Job) -> None:
    """Work that ends when nobody wants it."""
    while True:
        job.report()
        time.sleep(0.02)


def recipe_of(page: AppTest) -> Recipe:
    return page.session_state.view.recipe


def link_of(page: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[0] for name, value in page.query_params.items()}


def own(page: AppTest, setting: str):
    return next(slider for slider in page.select_slider if (slider.key or "").startswith(f"own_{setting}_"))


def test_the_recipe_is_judged_in_one_line(bench: Workbench) -> None:
    page = wait_for(open_page(), lambda page: "accuracy" in texts(page) and "so far" not in texts(page))
    record = bench.find(MODEL, RECIPE).record
    assert RECIPE.describe() in texts(page)
    assert f"**{format_percent(record.figures.accuracy)}** accuracy" in texts(page)
    assert f"**{format_bytes(record.size.artefact)}**" in texts(page)


def test_the_table_has_every_layer_and_its_shares_add_up(bench: Workbench) -> None:
    page = wait_for(open_page(), lambda page: len(page.dataframe) == 1)
    table = page.dataframe[0].value
    weighty = table[table["Kind"] != "other"]
    assert list(weighty["Layer"]) == ["fc1", "fc2", "fc3"]
    assert list(weighty["Shape"]) == ["300 x 784", "100 x 300", "10 x 100"]
    assert list(weighty["Parameters"]) == [235_200, 30_000, 1_000]
    for share in ("Share of size", "Share of time"):
        assert table[share].sum() == pytest.approx(100)


def test_the_largest_layer_is_looked_at_first_and_another_can_be(bench: Workbench) -> None:
    page = open_page(tab="One layer")
    box = page.selectbox(key=f"layer_{MODEL}")
    assert box.value == "fc1.weight" and len(box.options) == 3
    box.set_value("fc3.weight").run()
    assert not page.exception and "Settings of **fc3** alone" in texts(page)


@pytest.mark.parametrize("setting", ["sparsity", "clusters", "bits"])
def test_the_heat_map_shows_what_was_measured(setting: str, bench: Workbench) -> None:
    page = open_page(tab="Sensitivity")
    page.button_group(key="heat_setting").set_value(setting).run()
    assert not page.exception
    found = bench.known(StudyKind.SENSITIVITY, MODEL)
    heat, curves = figures(page)
    assert heat["data"][0]["y"] == ["fc1", "fc2", "fc3"]
    assert len(heat["data"][0]["x"]) == len(GRIDS[setting])
    assert sorted(trace["name"] for trace in curves["data"]) == ["fc1", "fc2", "fc3"]
    # The harshest value of each layer, as measured.
    for row, layer in enumerate(LAYERS):
        point = found.curves[layer][setting][-1]
        assert format_percent(point.correct / point.n) in heat["data"][0]["hovertext"][row][-1]
    assert not [button for button in page.button if button.key == "measure_sensitivity"]


def test_without_curves_the_page_can_be_asked_to_measure_and_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = open_page(tab="Sensitivity", model="lenet-5")
    assert "one layer alone" in texts(page)
    asked, bench = [], state.workbench()
    ask = bench.ask

    def held(kind: StudyKind, *of: object, **settings: object) -> Job:
        if kind is not StudyKind.SENSITIVITY:
            return ask(kind, *of, **settings)
        asked.append(of)
        return holding.submit(bench, until_cancelled, priority=Priority.ASKED, label="Held")

    monkeypatch.setattr(bench, "ask", held)
    press(page, "measure_sensitivity")
    assert asked == [("lenet-5",)]
    assert not [button for button in page.button if button.key == "measure_sensitivity"]
    # The work for one model says nothing about another.
    page.selectbox(key="control_model").set_value(MODEL).run()
    page.selectbox(key="control_model").set_value("lenet-5").run()
    press(page, "cancel_study")
    assert page.button(key="measure_sensitivity")


def test_an_override_is_applied_changed_and_cleared(bench: Workbench) -> None:
    page = open_page(tab="One layer")
    assert own(page, "bits").value == "as the others" and page.button(key="own_clear").disabled
    own(page, "bits").set_value(4)
    own(page, "sparsity").set_value(0.9)
    press(page, "own_apply")
    wanted = Recipe.of(
        **{**RECIPE.settings(), "overrides": [{"layers": "fc1", "bits": 4, "sparsity": 0.9}]},
    )
    assert recipe_of(page) == wanted
    assert json.loads(link_of(page)["overrides"]) == [{"layers": "fc1", "bits": 4, "sparsity": 0.9}]
    assert (own(page, "bits").value, own(page, "sparsity").value) == (4, 0.9)
    assert "Now: bits 4, sparsity 90 %." in texts(page)

    own(page, "sparsity").set_value("as the others")
    own(page, "bits").set_value(3)
    press(page, "own_apply")
    assert recipe_of(page).overrides == Recipe.of(overrides=[{"layers": "fc1", "bits": 3}]).overrides

    page.selectbox(key=f"layer_{MODEL}").set_value("fc2.weight").run()
    assert own(page, "bits").value == "as the others"
    own(page, "clusters").set_value(2)
    press(page, "own_apply")
    assert [override.layers for override in recipe_of(page).overrides] == ["fc1", "fc2"]

    press(page, "own_clear")
    assert [override.layers for override in recipe_of(page).overrides] == ["fc1"]
    page.selectbox(key=f"layer_{MODEL}").set_value("fc1.weight").run()
    press(page, "own_clear")
    assert recipe_of(page) == RECIPE
    assert "overrides" not in link_of(page)


def test_an_override_keeps_what_has_no_slider_and_values_between_the_steps(bench: Workbench) -> None:
    settings = {"sparsity": 0.333, "clusters": 17, "calibration": "kl"}
    page = open_page(Recipe.of(overrides=[{"layers": "fc1", **settings}]), tab="One layer")
    for setting in ("sparsity", "clusters"):
        slider = own(page, setting)
        assert slider.value == settings[setting]
    assert own(page, "sparsity").options[7:10] == ["30 %", "33.3 %", "35 %"]
    assert own(page, "clusters").options[4:7] == ["32", "17", "16"]
    own(page, "bits").set_value(5)
    press(page, "own_apply")
    assert dict(recipe_of(page).overrides[0].settings) == {**settings, "bits": 5}


def test_apply_without_a_change_leaves_the_recipe(bench: Workbench) -> None:
    page = press(open_page(tab="One layer"), "own_apply")
    assert recipe_of(page) == RECIPE


def test_the_waterfall_can_be_asked_for_and_adds_up(bench: Workbench) -> None:
    page = open_page(tab="Waterfall")
    press(page, "measure_waterfall")
    wait_for(page, lambda page: len(figures(page)) == 2)
    assert "From 4 evaluated recipes;" in texts(page)
    sizes, accuracies = (figure["data"][0] for figure in figures(page))
    assert sizes["x"] == accuracies["x"] == ["Baseline", "Coding alone", "Prune", "Share", "This recipe"]
    assert sum(sizes["y"][:-1]) == pytest.approx(sizes["y"][-1])
    assert sum(accuracies["y"][:-1]) == pytest.approx(accuracies["y"][-1])
    record = bench.find(MODEL, RECIPE).record
    assert sizes["text"][-1] == format_bytes(record.size.artefact)


def test_a_recipe_without_steps_has_no_waterfall(bench: Workbench) -> None:
    page = open_page(Recipe(), tab="Waterfall")
    assert "no steps" in texts(page) and not figures(page)


def test_a_suggestion_is_made_loaded_and_measured(bench: Workbench) -> None:
    page = open_page(tab="Suggest")
    page.number_input(key=f"wish_size_{MODEL}").set_value(40.0).run()
    press(page, "measure_suggest")
    wait_for(page, lambda page: any(button.key == "load_suggestion" for button in page.button))
    lines = page.dataframe[0].value
    press(page, "load_suggestion")
    suggested = recipe_of(page)
    assert list(lines["Layer"]) == [override.layers for override in suggested.overrides] != []
    wait_for(page, lambda page: "measured **" in texts(page))
    assert bench.find(MODEL, suggested).record.size.artefact <= 40_000
    assert not page.warning


def test_a_wish_out_of_reach_is_told(bench: Workbench) -> None:
    page = open_page(tab="Suggest")
    page.number_input(key=f"wish_size_{MODEL}").set_value(0.1).run()
    press(page, "measure_suggest")
    wait_for(page, lambda page: any(button.key == "load_suggestion" for button in page.button))
    assert "out of reach" in page.warning[0].value


def test_a_wish_for_a_drop_is_kept_to(bench: Workbench) -> None:
    page = open_page(tab="Suggest")
    page.button_group(key="wish").set_value("drop").run()
    page.number_input(key="wish_drop").set_value(1.0).run()
    press(page, "measure_suggest")
    wait_for(page, lambda page: any(button.key == "load_suggestion" for button in page.button))
    press(page, "load_suggestion")
    wait_for(page, lambda page: "measured **" in texts(page))
    record = bench.find(MODEL, recipe_of(page)).record
    assert record.baseline.accuracy - record.figures.accuracy <= 0.01 + 1 / record.figures.n


def graphs(page: AppTest) -> list[dict]:
    protos = [element.proto for element in page.get("bidi_component")]
    return [json.loads(proto.json) for proto in protos if proto.component_name == "network_graph"]


def test_the_graph_shows_every_layer_by_what_it_loses(bench: Workbench) -> None:
    page = open_page(tab="Graph")
    press(page, "measure_graph")
    wait_for(page, graphs)
    (graph,) = graphs(page)
    assert [each["width"] for each in graph["drawings"]] == sorted(each["width"] for each in graph["drawings"])[::-1]
    for drawing in graph["drawings"]:
        assert [f'data-layer="{layer}"' in drawing["svg"] for layer in LAYERS] == [True] * 3
    point = next(p for p in bench.known(StudyKind.SENSITIVITY, MODEL).curves["fc1.weight"]["bits"] if p.value == 3)
    page.button_group(key="graph_setting").set_value("bits").run()
    assert not page.exception
    baseline = bench.known(StudyKind.SENSITIVITY, MODEL).correct / point.n
    told = state.task_of(MODEL).words.change(min(0.0, point.correct / point.n - baseline))
    assert f"{told} alone" in graphs(page)[0]["drawings"][0]["svg"]


def test_what_is_missing_is_measured_by_itself_and_can_be_stopped(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, filling: None
) -> None:
    recipe = Recipe.of(sparsity=0.31, bits=7)
    page = open_page(recipe, tab="Waterfall")
    wait_for(page, lambda page: len(figures(page)) == 2)
    assert not [button for button in page.button if button.key == "measure_waterfall"]
    assert bench.known(StudyKind.WATERFALL, MODEL, recipe) is not None

    def held(kind: StudyKind, *of: object, **settings: object) -> Job:
        if kind is not StudyKind.WATERFALL:
            return ask(kind, *of, **settings)
        asked.append(settings["priority"])
        return holding.submit(bench, until_cancelled, priority=Priority.LATER, label="Held")

    ask, asked = bench.ask, []
    monkeypatch.setattr(bench, "ask", held)
    page = open_page(Recipe.of(sparsity=0.32, bits=7), tab="Waterfall")
    wait_for(page, lambda page: any(button.key == "cancel_study" for button in page.button))
    assert asked == [Priority.LATER] and "appears here by itself" in texts(page)
    press(page, "cancel_study")
    page.run()
    # It is not begun again unasked.
    assert asked == [Priority.LATER] and page.button(key="measure_waterfall")


def test_a_study_that_fails_is_told_where_it_is_missed(bench: Workbench, monkeypatch, filling: None) -> None:
    def failing(kind: StudyKind, *of: object, **settings: object) -> Job:
        if kind is not StudyKind.WATERFALL:
            return ask(kind, *of, **settings)
        return holding.submit(bench, fail, priority=Priority.LATER, label="Failing")

    def fail(job: Job) -> None:
        raise ModelError("this cannot be measured. Do something else.")

    ask = bench.ask
    monkeypatch.setattr(bench, "ask", failing)
    page = open_page(Recipe.of(sparsity=0.33, bits=7), tab="Waterfall")
    wait_for(page, lambda page: any(button.key == "measure_waterfall" for button in page.button))
    assert "Do something else" in texts(page) and not page.error


@pytest.mark.parametrize("page_file", ["pages/explore.py", "pages/layers.py"])
@pytest.mark.parametrize("tab", ["Table", "One layer", "Waterfall"])
@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ({"model": MODEL, "blocks": "99"}, "only a network of residual blocks has blocks to drop"),
        ({"model": MODEL, "nodes": "0.2", "importance": "bn"}, "importance 'bn' needs a batch normalisation"),
    ],
)
def test_what_the_engine_refuses_is_told_once_and_a_preset_leads_out(page_file, tab, query, rule) -> None:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    page.query_params.update(query)
    page.session_state["layers_tab"] = tab
    page.session_state["group_Architecture"] = True
    page.switch_page(page_file).run()
    wait_for(page, lambda page: len(page.error) > 0)
    (error,) = page.error
    assert rule in error.value
    assert "Measuring" not in texts(page) and not [metric for metric in page.metric if metric.value == "…"]
    press(page, "preset_int8")
    assert not page.error and not page.warning


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ({"overrides": "[{"}, "overrides must be JSON text"),
        ({"overrides": '[{"layers":"fc1","speed":9}]'}, "an override may have the fields"),
        ({"overrides": '[{"layers":"fc1","bits":17}]'}, "bits must be 32 or 1..16; got 17"),
        ({"nodes": "2"}, "nodes must be in [0, 1); got 2"),
        ({"pattern": "4:2"}, "pattern must be N:M"),
        ({"sparsity": "0.8", "threshold": "0.1"}, "prune must follow one rule"),
    ],
)
def test_nonsense_link_is_told_and_the_page_works(query: dict[str, str], rule: str) -> None:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    page.query_params.update({"model": MODEL, **query})
    page.switch_page("pages/layers.py").run()
    assert not page.exception
    assert plain.escape(rule) in page.warning[0].value
    press(page, "preset_baseline")
    assert not page.warning and recipe_of(page) == Recipe()


def test_numbers_of_a_link_beyond_the_limits_of_their_controls_are_shown() -> None:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    query = {"bits": "4", "calibration": "percentile", "percentile": "50.01", "population": str(2**60), "clusters": "8"}
    page.query_params.update({"model": MODEL, **query})
    page.session_state["group_Quantization"] = page.session_state["group_Pruning and sharing"] = True
    page.switch_page("pages/layers.py").run()
    assert not page.exception and not page.warning
    assert page.number_input(key="control_percentile").value == 50.01
