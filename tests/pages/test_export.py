"""The Export page without a browser: figures against the library, jobs, missing extras, and files dropped on it."""

import dataclasses
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from paretoscope import codec
from paretoscope.export import convert, formats, stem
from paretoscope.networks.zoo import models
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.study import StudyKind
from streamlit.testing.v1 import AppTest

from pages.components import exporting, exporting_matrix, naming, plain, state
from pages.components.exporting import format_seconds

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODEL = "lenet-300-100"
RECIPE = Recipe.of(sparsity=0.6, bits=8, activations=8)
PATIENCE_S = 90.0


@pytest.fixture(autouse=True)
def without_tflite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its conversions take up to a minute each; tests/export has one of each model."""
    monkeypatch.setattr("paretoscope.export.base.find_spec", lambda name: None if "litert" in name else find_spec(name))


def open_page(recipe: Recipe = RECIPE, model: str = MODEL) -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    page.query_params.update({"model": model, **recipe.to_query()})
    page.switch_page("pages/export.py").run()
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


def row(page: AppTest, format: str) -> dict:
    table = page.dataframe[0].value
    return table[table["Format"] == formats.get(format).title].iloc[0].to_dict()


def press(page: AppTest, key: str) -> AppTest:
    page.button(key=key).click().run()
    assert not page.exception
    return page


def downloads(page: AppTest) -> set[str]:
    protos = [element.proto for element in page.get("download_button")]
    return {proto.id.rpartition("download_")[2] for proto in protos if "download_" in proto.id}


def texts(page: AppTest) -> str:
    return "\n".join(element.value for element in (*page.markdown, *page.caption, *page.warning))


def test_every_format_has_a_line_and_a_button() -> None:
    page = open_page()
    assert list(page.dataframe[0].value["Format"]) == [each.title for each in formats]
    for each in formats:
        assert page.button(key=f"convert_{each.name}").disabled == (not each.available())


def test_a_conversion_is_offered_once_it_is_checked() -> None:
    page = press(open_page(), "convert_onnx-int8")
    wait_for(page, lambda page: row(page, "onnx-int8")["State"] == "✓ checked")
    found = state.workbench().known(StudyKind.CONVERT, MODEL, RECIPE, "onnx-int8")
    told = row(page, "onnx-int8")
    assert told["Size"] == found.size / 1000
    assert told["Ratio"] == pytest.approx(1_066_440 / found.size)
    assert (told["Differ"], told["Largest"]) == (found.differing, found.largest)
    assert told["Accuracy"] == 100 * found.correct / 797
    assert told["Wi-Fi"] == format_seconds(found.size * 8 / 100e6)
    assert told["LoRa"] == format_seconds(found.size * 8 / 5e3)
    assert downloads(page) == {"onnx-int8"}


def test_the_recipe_and_the_artefact_are_there_without_a_click() -> None:
    def taken(page: AppTest) -> dict[str, bool]:
        protos = [element.proto for element in page.get("download_button")]
        return {proto.label: proto.disabled for proto in protos if "take_" in proto.id}

    page = wait_for(open_page(), lambda page: not any(taken(page).values()))
    assert set(taken(page)) == {"Recipe (JSON)", "Artefact"}


def test_formats_are_converted_by_themselves_until_somebody_stops_that(filling: None) -> None:
    recipe = Recipe.of(sparsity=0.62, bits=8, activations=8)
    # In their order, the quick ones first.
    page = wait_for(open_page(recipe), lambda page: {"artefact", "bundle"} <= downloads(page))
    wait_for(page, lambda page: any(button.key == "cancel_convert" for button in page.button))
    press(page, "cancel_convert")
    page.run()
    assert not any(button.key == "cancel_convert" for button in page.button)
    assert not page.button(key="convert_all").disabled


def test_all_are_converted_and_can_be_cancelled() -> None:
    recipe = Recipe.of(sparsity=0.61, bits=8, activations=8)
    page = press(open_page(recipe), "convert_all")
    if any(button.key == "cancel_convert" for button in page.button):
        press(page, "cancel_convert")
    wait_for(page, lambda page: any(button.key == "convert_all" for button in page.button))
    if not page.button(key="convert_all").disabled:
        press(page, "convert_all")
    possible = {each.name for each in formats if each.available()}
    wait_for(page, lambda page: all(row(page, name)["State"] == "✓ checked" for name in possible))
    assert downloads(page) == possible
    assert page.button(key="convert_all").disabled


def matrix(page: AppTest):
    """The table of all models, a line for each format."""
    (table,) = [each.value for each in page.dataframe if models.get("lenet-5").title in each.value.columns]
    return table.set_index("Format")


FEW, QUICK = ("config", "onnx"), ("lenet-300-100", "lenet-5", "resnet-20")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """All models in all formats take a minute; tests/export has them."""
    monkeypatch.setattr(exporting_matrix, "_possible", lambda format: format.name in FEW)
    monkeypatch.setattr(exporting_matrix, "_models", lambda: [naming.find(name) for name in QUICK])


def test_every_model_is_checked_with_the_recipe_on_the_screen(few: None) -> None:
    recipe = Recipe.of(sparsity=0.64)
    page = press(open_page(recipe), "matrix_all")
    wait_for(page, lambda page: any(button.key == "matrix_all" for button in page.button))
    found = matrix(page)
    for each in formats:
        for name in QUICK:
            cell = found.loc[each.title, models.get(name).title]
            known = state.workbench().known(StudyKind.CONVERT, name, recipe, each.name)
            if each.name in FEW:
                assert known.passed and cell == f"{known.size / 1000:,.1f} KB"
            else:
                assert known is None and not isinstance(cell, str)
    page.segmented_control(key="matrix_figure").set_value("Accuracy").run()
    known = state.workbench().known(StudyKind.CONVERT, "resnet-20", recipe, "onnx")
    assert matrix(page).loc["ONNX", models.get("resnet-20").title] == f"{100 * known.correct / 797:.2f} %"


def test_work_on_all_models_ends_with_a_cancel_and_with_another_recipe(few: None) -> None:
    page = press(open_page(Recipe.of(sparsity=0.65)), "matrix_all")
    jobs = list(page.session_state["matrix"][1].values())
    press(page, "cancel_matrix")
    assert len(jobs) == len(FEW) * len(QUICK) and all(job.cancelling or job.ended for job in jobs)
    page = press(open_page(Recipe.of(sparsity=0.66)), "matrix_all")
    jobs = list(page.session_state["matrix"][1].values())
    page.select_slider(key="control_sparsity").set_value(0.3).run()
    assert all(job.cancelling or job.ended for job in jobs) and page.session_state["matrix"][1] == {}


def test_a_model_that_a_recipe_does_not_fit_says_so(few: None) -> None:
    page = press(open_page(Recipe.of(drop=("stage1.1",)), "resnet-20"), "matrix_all")
    wait_for(page, lambda page: any(button.key == "matrix_all" for button in page.button))
    cells = matrix(page).loc["ONNX"]
    told = {name: cells[models.get(name).title] for name in QUICK}
    assert told.pop("resnet-20").endswith(" KB") and set(told.values()) == {"failed"}
    (why,) = [each for each in page.expander if each.label == "Why some failed"]
    assert "only a network of residual blocks" in why.markdown[0].value
    assert not page.error


def test_a_recipe_has_no_ratio_of_its_own() -> None:
    page = press(open_page(), "convert_config")
    wait_for(page, lambda page: row(page, "config")["State"] == "✓ checked")
    assert row(page, "config")["Size"] < 1 and pd.isna(row(page, "config")["Ratio"])


def test_what_fails_its_check_is_told_and_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = dataclasses.replace(formats.get("onnx"), run=lambda files, source: np.zeros_like(source.screen))
    monkeypatch.setitem(formats._entries, "onnx", broken)
    recipe = Recipe.of(sparsity=0.62)
    page = press(open_page(recipe), "convert_onnx")
    wait_for(page, lambda page: row(page, "onnx")["State"] == "✗ failed")
    assert "Not offered: onnx failed its check: logits must be within" in texts(page)
    assert row(page, "onnx")["Differ"] > 100 and downloads(page) == set()


def test_what_does_not_go_with_the_recipe_says_why() -> None:
    page = open_page(Recipe.of(bits=8))
    assert row(page, "onnx-int8")["State"] == "needs integers"
    assert page.button(key="convert_onnx-int8").disabled
    assert "onnx-int8 needs integer activations" in texts(page)


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretoscope.export.base.find_spec", lambda name: None)
    page = open_page()
    for name in ("openvino", "openvino-int8", "tflite"):
        assert row(page, name)["State"] == "not installed" and page.button(key=f"convert_{name}").disabled
    command = plain.escape("tflite needs a package that is not installed. Run: pip install litert-torch==")
    assert command in texts(page)
    assert not page.button(key="convert_onnx").disabled


def test_work_for_the_view_before_is_abandoned() -> None:
    page = open_page(Recipe.of(sparsity=0.63))
    press(page, "convert_bundle")
    page.select_slider(key="control_sparsity").set_value(0.3).run()
    assert not page.exception
    assert "convert bundle" not in page.session_state["jobs"]
    assert row(page, "bundle")["State"] == "not converted"


def exported(format: str, recipe: Recipe, model: str = MODEL) -> tuple[str, bytes]:
    subject = state.workbench().subject(model)
    return convert(subject.compress(recipe), format, subject).download(stem(model, recipe))


def drop(page: AppTest, name: str, data: bytes) -> AppTest:
    page.get("file_uploader")[0].upload(name, data, "application/octet-stream").run()
    assert not page.exception
    return page


@pytest.mark.parametrize("format", ["config", "artefact", "bundle"])
def test_an_export_dropped_on_the_page_restores_its_view(format: str) -> None:
    recipe = presets.get("tiny").recipe
    name, data = exported(format, recipe, "lenet-5")
    page = drop(open_page(), name, data)
    view = page.session_state.view
    # A recipe names no model.
    assert (view.model, view.recipe) == (MODEL if format == "config" else "lenet-5", recipe)
    assert recipe.describe() in page.success[0].value and not page.error
    page.run()
    assert page.session_state.view == view


def test_an_artefact_of_other_codes_says_that_the_figures_are_not_its_own() -> None:
    compressed = state.workbench().compressed(MODEL, RECIPE)
    weight = compressed.weights["fc1.weight"]
    weights = {**compressed.weights, "fc1.weight": dataclasses.replace(weight, codes=weight.codes[::-1].copy())}
    page = drop(open_page(), "other.psc", codec.write(dataclasses.replace(compressed, weights=weights)))
    assert "This version makes other weights of that recipe" in page.success[0].value


def test_a_link_called_like_a_column_does_not_hide_it() -> None:
    page = open_page()
    page.session_state["kept_links"] = [("Size", 1.0), ("Mine", 2.0)]
    exporting_columns = list(page.run().dataframe[0].value.columns)
    assert "Size" in exporting_columns and len(exporting_columns) == len(set(exporting_columns))


HOSTILE = {
    "picture.psc": b"\x89PNG\r\n\x1a\n" + bytes(500),
    "bomb.yaml": b"a: &a [1]\nb: [*a]",
    "deep.json": b"[" * 100_000,
    "wrong.json": b'{"version": 1, "prune": {"sparsity": 95}}',
    "cut.zip": b"PK\x03\x04" + bytes(10),
    "empty.psc": b"",
}


@pytest.mark.parametrize("name", [*HOSTILE, "stranger.psc"])
def test_a_file_that_is_none_of_ours_is_told_and_nothing_is_lost(name: str) -> None:
    if name == "stranger.psc":
        compressed = state.workbench().compressed(MODEL, RECIPE)
        data = codec.write(dataclasses.replace(compressed, source="0" * 64))
    else:
        data = HOSTILE[name]
    page = open_page()
    before = page.session_state.view
    drop(page, name, data)
    assert page.error[0].value.startswith("Not opened: ")
    assert page.session_state.view == before and not page.success
    assert len(page.dataframe) >= 1


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0001, "< 1 ms"),
        (0.0073, "7.3 ms"),
        (0.427, "427 ms"),
        (8.5, "8.5 s"),
        (26, "26 s"),
        (144, "2.4 min"),
        (1720, "29 min"),
        (7200, "2.0 h"),
    ],
)
def test_durations(seconds: float, told: str) -> None:
    assert format_seconds(seconds) == told


def test_bandwidths_are_stated() -> None:
    assert [name for name, _ in exporting.BANDWIDTHS] == ["LoRa", "NB-IoT", "BLE", "4G", "Wi-Fi"]
    assert "Bandwidths" in [element.value for element in open_page().subheader]
