"""The Latency page without a browser, on made-up timings: verdict, settings, study, tabs, bad links."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import holding
import numpy as np
import pytest
import timings
from paretoscope import runtimes
from paretoscope.base.errors import CompressionError, ModelError
from paretoscope.measure.devices import devices as known_devices
from paretoscope.measure.latency import Noise, Samples
from paretoscope.measure.machine import Machine
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes.plans import LayerPlan
from paretoscope.service.jobs import Job
from paretoscope.service.study import StudyKind
from paretoscope.service.timing import Timing
from paretoscope.service.workbench import Workbench
from streamlit.testing.v1 import AppTest

from pages.components import devices, plain, state

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODEL = "lenet-300-100"
RECIPE = Recipe.of(sparsity=0.9)
HALF = Recipe.of(sparsity=0.9, nodes=0.5)
TABS = ("Runtimes", "Batch and threads", "Layers", "Distribution", "Other devices")
PATIENCE_S = 90.0
MACHINE = Machine(
    name="a processor",
    threads=1,
    flops=5e10,
    int8_ops=1e11,
    convolution=(4e10, 8e10),
    depthwise=(1e10, 2e10),
    curve=((1 << 14, 1e11), (1 << 28, 1e10)),
    call_s=5e-6,
    layer_s=2e-6,
    node_s=1e-6,
    other_bandwidth=2e10,
)


class Lab:
    """What a workbench would have measured. Nothing is known unless a test says so."""

    def __init__(self) -> None:
        self.speedups: dict[Recipe, float] = {}
        self.unknown: set[str] = set()  # runtimes
        self.problems: dict[str, str] = {}  # by runtime
        self.others: dict[str, object] = {}
        self.studied: list[tuple[str, Recipe, Timing]] = []
        self.settings: dict[str, object] = {}  # of all timings
        self.again: float | None = None

    def latency(self, model: str, recipe: Recipe, timing: Timing):
        if recipe not in self.speedups or timing.runtime in self.unknown or timing.chosen.missing:
            return None
        return timings.latency(
            0.1 * timing.batch,
            self.speedups[recipe],
            runtime=timing.runtime,
            number_format=timing.number_format or timing.chosen.number_format(recipe.integer),
            batch=timing.batch,
            threads=timing.threads,
            measured_for=recipe.digest,
            **self.settings,
        )


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The pages' workbench with everything about latency made up: the recipe takes the baseline's time."""
    bench, lab = state.workbench(), Lab()
    lab.speedups[RECIPE] = 1.0
    bench.subject(MODEL)
    job = bench.evaluate(MODEL, RECIPE)
    assert job.wait(PATIENCE_S) and job.error is None
    monkeypatch.setattr(bench, "latency", lab.latency)
    monkeypatch.setattr(bench, "due", lambda *key: lab.latency(*key) is None)
    monkeypatch.setattr(bench, "seconds_until_again", lambda *_: lab.again)
    monkeypatch.setattr(bench, "reference_ms", lambda _, timing: 0.1 * timing.batch * lab.speedups.get(RECIPE, 1.0))
    monkeypatch.setattr(bench, "problem", lambda model, recipe, timing, what: lab.problems.get(timing.runtime))
    monkeypatch.setattr(bench, "samples", lambda *_: lab.others.get("samples"))
    monkeypatch.setattr(bench, "known", lambda kind, *_: lab.others.get(kind))
    jobs: list[Job] = []

    def hold(*key: object) -> Job:
        jobs.append(held(bench))
        return jobs[-1]

    ask = bench.ask

    def asked(kind: StudyKind, *key: object, **settings: object) -> Job:
        if kind is not StudyKind.LATENCY:
            return ask(kind, *key, **settings)
        lab.studied.append(key)
        return hold(*key)

    monkeypatch.setattr(bench, "ask", asked)
    monkeypatch.setattr(bench, "time", hold)
    yield lab
    for job in jobs:
        job.cancel()


def held(bench: Workbench) -> Job:
    """A job that says what it does and ends only when it is cancelled."""

    def work(job: Job) -> None:
        while True:
            job.report(0.25, partial="Timing batch 8")
            time.sleep(0.01)

    return holding.submit(bench, work, priority=1, label="Studying the latency")


@pytest.fixture
def everything(lab: Lab) -> Lab:
    """All that a study measures."""
    calls = 1 + 0.1 * np.sin(np.arange(200))
    lab.others = {
        "samples": Samples(np.append(calls, 40.0), 2 * np.append(calls, 1.0)),
        "noise": Noise(1.0, 0.99, 1.01, 15, "precision"),
        "profile": {"fc1.weight": 30.0, "fc2.weight": 8.0, "fc3.weight": 1.0, "other": 1.0},
        "memory": 31_000_000,
        "machine": MACHINE,
    }
    lab.speedups[HALF] = 1.6
    return lab


def open_page(tab: str = TABS[0], recipe: Recipe = RECIPE, **query: str) -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    page.query_params.update({"model": MODEL, **recipe.to_query(), **query})
    page.session_state["latency_tab"] = tab
    page.switch_page("pages/latency.py").run()
    assert not page.exception
    return page


def texts(page: AppTest) -> str:
    return "\n".join(element.value for element in (*page.markdown, *page.caption)).replace("\u00a0", " ")


def figures(page: AppTest) -> list[dict]:
    protos = [element.proto for element in page.get("bidi_component")]
    return [json.loads(json.loads(proto.json)["figure"]) for proto in protos if proto.component_name == "figure"]


def metrics(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def press(page: AppTest, key: str) -> AppTest:
    page.button(key=key).click().run()
    assert not page.exception
    return page


def has_button(page: AppTest, key: str) -> bool:
    return any(button.key == key for button in page.button)


def view_of(page: AppTest) -> state.View:
    return page.session_state.view


def link_of(page: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[0] for name, value in page.query_params.items()}


def test_verdict_and_figures_are_on_top(everything: Lab) -> None:
    page = open_page()
    assert "Not faster" in texts(page)
    assert "90 % zeros, but ONNX Runtime multiplies zeros at full price." in texts(page)
    assert metrics(page) == {
        "Latency, fp32": "0.1 ms",
        "p95": "0.12 ms",
        "Throughput": "10 k/s",
        "Peak memory": "31 MB",
        "Noise, contains 1": "1.000",
    }
    assert not page.error and not page.warning


def test_the_advice_is_taken_by_a_button(everything: Lab) -> None:
    page = open_page()
    assert "Removing half the channels instead would save 38 % of the time" in texts(page)
    assert page.button(key="take_advice").label == "Try half the channels"
    press(page, "take_advice")
    assert view_of(page).recipe == HALF and link_of(page)["nodes"] == "0.5"
    assert "1.60x faster" in texts(page) and not has_button(page, "take_advice")


def test_a_runtime_where_the_zeros_pay_is_switched_to(everything: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whichever runtime sees zeros here: any of the others will do.
    torch = replace(runtimes.runtimes.get("torch"), sees_zeros=True)
    monkeypatch.setitem(runtimes.runtimes._entries, "torch", torch)
    plain = everything.latency
    bench = state.workbench()

    def latency(model: str, recipe: Recipe, timing: Timing):
        found = plain(model, recipe, timing)
        if found is None or timing.runtime != "torch" or recipe != RECIPE:
            return found
        return timings.latency(0.03, 3.0, runtime="torch", number_format="fp32", measured_for=recipe.digest)

    monkeypatch.setattr(bench, "latency", latency)
    page = open_page()
    assert page.button(key="take_advice").label == f"Switch to {torch.title}"
    press(page, "take_advice")
    assert view_of(page).timing == Timing(runtime="torch") and view_of(page).recipe == RECIPE
    assert link_of(page)["runtime"] == "torch"
    assert "3.00x faster" in texts(page)


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_shows_what_is_known_and_what_is_not(tab: str, lab: Lab) -> None:
    open_page(tab)
    lab.speedups.clear()
    page = open_page(tab)
    assert "Timing the recipe against the baseline" in texts(page)
    assert set(metrics(page).values()) == {"…"} and not has_button(page, "take_advice")


def test_runtimes_that_did_not_run_say_why(everything: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = runtimes.runtimes.get("torch")
    everything.unknown.add("torch")
    (figure,) = figures(open_page())
    notes = [note["text"] for note in figure["layout"]["annotations"]]
    assert "not measured yet" in notes
    everything.problems["torch"] = "the machine was on fire"
    (figure,) = figures(open_page())
    assert "did not run: the machine was on fire" in [note["text"] for note in figure["layout"]["annotations"]]
    monkeypatch.setitem(runtimes.runtimes._entries, "torch", replace(torch, missing="pytorch", version=""))
    (figure,) = figures(open_page())
    assert "not installed: install pytorch" in [note["text"] for note in figure["layout"]["annotations"]]


def test_a_timing_of_another_recipe_says_so(everything: Lab) -> None:
    other = Recipe.of(sparsity=0.8)
    plain = everything.latency
    bench = state.workbench()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            bench, "latency", lambda *key: replace(plain(*key), measured_for=other.digest) if plain(*key) else None
        )
        page = open_page()
    assert "Measured for another recipe of the same graph and number format: " in texts(page)
    assert "ONNX Runtime fp32" in texts(page)


def test_batch_and_threads(everything: Lab) -> None:
    page = open_page("Batch and threads")
    batch, threads = figures(page)
    own, baseline = batch["data"]
    assert own["x"] == baseline["x"] and own["x"][:4] == [1, 2, 4, 8]
    assert own["y"] == pytest.approx([0.1 * value for value in own["x"]])
    assert threads["data"][0]["x"][0] == 1
    page.button_group(key="latency_quantity").set_value("throughput").run()
    assert not page.exception
    assert figures(page)[0]["data"][0]["y"] == pytest.approx([10_000.0] * len(own["x"]))


def test_layers_have_times_beside_their_work(everything: Lab) -> None:
    page = open_page("Layers")
    bars, roofline = figures(page)
    assert bars["data"][0]["y"] == ["fc1.weight", "fc2.weight", "fc3.weight", "other"]
    assert sum(len(trace["x"]) for trace in roofline["data"] if trace["mode"] == "markers") == 3
    table = page.dataframe[0].value
    assert list(table["Layer"]) == ["fc1", "fc2", "fc3", "other"]
    assert list(table["MACs"])[:3] == [235_200, 30_000, 1_000]
    assert table["Share of time"].sum() == pytest.approx(100)
    assert set(table["Bound by"]) <= {"compute", "memory", "overhead"}


def test_layers_whose_zeros_are_skipped_do_less(everything: Lab) -> None:
    forms = {"fc1.weight": ("rows", 23_520), "fc2.weight": ("blocks of 8", 6_000), "fc3.weight": ("dense", 1_000)}
    everything.others["plan"] = [
        LayerPlan(name, 0.1, form, multiplied, 0.3, 20.0, 5.0) for name, (form, multiplied) in forms.items()
    ]
    table = open_page("Layers").dataframe[0].value
    assert list(table["MACs"])[:3] == [23_520, 6_000, 1_000]
    # In a runtime that sees zeros, this is what the verdict says.
    everything.speedups[RECIPE] = 2.8
    page = open_page(runtime="sparse")
    assert "2.80x faster" in texts(page) and "zeros are skipped in 2 of 3 layers." in texts(page)


def test_the_distribution_tells_what_its_axis_leaves_out(everything: Lab) -> None:
    page = open_page("Distribution")
    assert len(figures(page)) == 1
    assert "1 of 201 calls of this recipe, the slowest at 40 ms" in texts(page)
    everything.others["samples"] = None
    assert "were not kept" in texts(open_page("Distribution"))


@pytest.mark.parametrize(
    ("name", "value", "link"),
    [("runtime", "torch", "torch"), ("batch", 8, "8"), ("threads", 2, "2"), ("size", 56, "56")],
)
def test_settings_here_and_in_the_sidebar_are_one(name: str, value: object, link: str, everything: Lab) -> None:
    page = open_page()
    page.session_state["group_Advanced"] = True
    page.run()
    page.selectbox(key=f"latency_{name}").set_value(value).run()
    assert not page.exception and not page.warning
    assert view_of(page).timing == replace(Timing(), **{name: value}) and link_of(page)[name] == link
    assert page.selectbox(key=f"control_{name}").value == value
    before = 28 if name == "size" else getattr(Timing(), name)
    page.selectbox(key=f"control_{name}").set_value(before).run()
    assert not page.exception and view_of(page).timing == Timing() and name not in link_of(page)
    assert page.selectbox(key=f"latency_{name}").value == before
    again = open_page(**{name: link})
    assert view_of(again).timing == replace(Timing(), **{name: value}) and not again.warning


def test_another_model_is_timed_at_its_own_size(everything: Lab) -> None:
    page = open_page(size="56", batch="8")
    page.session_state["group_Advanced"] = True
    page.run()
    page.selectbox(key="control_model").set_value("lenet-5").run()
    assert view_of(page).timing == Timing(size=56, batch=8)  # the same multiple of the same own size
    page.selectbox(key="control_model").set_value("simple-cnn").run()
    assert not page.exception and view_of(page).timing == Timing(batch=8)
    assert page.selectbox(key="control_size").value == page.selectbox(key="latency_size").value == 32


def test_a_study_is_started_followed_and_cancelled(everything: Lab) -> None:
    page = open_page(batch="8")
    assert everything.studied == []
    press(page, "study")
    assert everything.studied == [(MODEL, RECIPE, Timing(batch=8))]
    page.run()
    assert page.button(key="study").disabled and has_button(page, "cancel_latency")
    assert page.session_state.pace is not None
    press(page, "cancel_latency")
    assert not has_button(page, "cancel_latency") and not page.button(key="study").disabled


def test_a_study_of_another_view_is_abandoned(everything: Lab) -> None:
    page = press(open_page(), "study")
    job = page.session_state.jobs["study"][1]
    page.selectbox(key="latency_batch").set_value(8).run()
    assert job.cancelling and not has_button(page, "cancel_latency")


def test_what_cannot_be_timed_is_told_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.speedups.clear()
    bench = state.workbench()

    def fail(job) -> None:
        raise ModelError("images must be 28 x 28 for this model; got 56 x 56. Choose its own size.")

    monkeypatch.setattr(bench, "time", lambda *key: holding.submit(bench, fail, priority=1, label="Timing"))
    page = open_page(size="56")
    deadline = time.monotonic() + PATIENCE_S
    while not page.error:
        assert time.monotonic() < deadline
        page.run()
    assert [error.value for error in page.error] == [
        "images must be 28 x 28 for this model; got 56 x 56. Choose its own size."
    ]
    assert "Not timed" in texts(page) and set(metrics(page).values()) == {"–"}
    page.selectbox(key="latency_size").set_value(28).run()
    assert not page.exception and view_of(page).timing == Timing()


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ({"size": "33"}, "size in a link must be one of 28, 56, 84, 112; got '33'"),
        ({"size": "-28"}, "size in a link must be one of 28, 56, 84, 112; got '-28'"),
        ({"size": ""}, "size in a link must be one of 28, 56, 84, 112; got ''"),
        ({"batch": "3"}, "batch in a link must be one of"),
        ({"threads": "many"}, "threads in a link must be one of"),
        ({"runtime": "abacus"}, "There is no runtime 'abacus'. Choose one of"),
        ({"number_format": "int4"}, "A link has no setting 'number_format'"),
    ],
)
def test_nonsense_in_the_link_is_told_and_the_page_works(query: dict[str, str], rule: str, everything: Lab) -> None:
    page = open_page(**query)
    assert plain.escape(rule) in page.warning[0].value
    press(page, "preset_baseline")
    assert not page.warning and view_of(page).recipe == Recipe()


def test_a_runtime_that_is_not_installed_is_neither_taken_from_a_link_nor_offered(
    everything: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = replace(runtimes.runtimes.get("torch"), missing="pytorch", version="")
    monkeypatch.setitem(runtimes.runtimes._entries, "torch", torch)
    page = open_page(runtime="torch")
    assert f"{torch.title} must be installed to run here. Install pytorch." in page.warning[0].value
    page.session_state["group_Advanced"] = True
    page.run()
    for key in ("control_runtime", "latency_runtime"):
        assert torch.title not in page.selectbox(key=key).options
    assert f"{torch.title} is not installed: install pytorch to time in it." in texts(page)


def test_estimates_of_other_devices_are_marked_and_checked_here(everything: Lab) -> None:
    page = open_page("Other devices")
    shown = texts(page)
    assert "**This machine**, as a check on the method: this recipe **" in shown and "measured" in shown
    assert "Estimates, not measurements" in shown and "Horowitz" in shown
    estimates = page.dataframe[0].value
    assert list(estimates["Device"]) == [device.title for device in known_devices]
    (figure,) = figures(page)
    assert figure["data"][1]["y"] == ["This machine", *estimates["Device"]]
    assert (estimates["Estimate"] > 0).all() and set(estimates["Fits"]) <= {"yes", "no"}
    everything.others["machine"] = None
    assert "not measured yet" in texts(open_page("Other devices"))


def row(device) -> dict[str, object]:
    return devices._row(device)


def test_an_edited_figure_changes_the_device_and_only_that() -> None:
    for device in known_devices:
        assert devices.changed(device, row(device)) is device
        edited = devices.changed(device, {**row(device), "Bandwidth, GB/s": 2.5})
        assert edited.bandwidth == 2.5e9 and edited.flops == device.flops and "Edited" in edited.sources[-1]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("Bandwidth, GB/s", 0.0),
        ("Peak, GFLOP/s", -1.0),
        ("RAM, MB", None),
        ("Reached, %", 130.0),
        ("Link, MB/s", float("nan")),
    ],
)
def test_a_figure_that_cannot_be_is_refused_with_a_message(column: str, value: object) -> None:
    device = next(iter(known_devices))
    with pytest.raises(CompressionError, match="must be"):
        devices.changed(device, {**row(device), column: value})


def test_what_is_not_known_yet_says_so_and_what_becomes_of_it(everything):
    everything.settings = {"speedup_low": 0.91, "speedup_high": 6.33}
    for again, told in ((42.0, "The next try is in 42 s."), (None, "press Measure on the page Latency")):
        everything.again = again
        page = open_page()
        assert "Not known yet" in texts(page) and "0.91, 6.33" in texts(page)
        (metric,) = [each for each in page.metric if each.label.startswith("Latency")]
        assert (metric.value, metric.delta) == ("not known yet", "[0.91, 6.33]")
        assert told in metric.help


def test_a_timing_without_the_lock_is_marked(everything):
    everything.settings = {"alone": False}
    page = open_page()
    assert "timed without the machine's lock" in texts(page)
    (metric,) = [each for each in page.metric if each.label.startswith("Latency")]
    assert "timed without the machine's lock" in metric.help
