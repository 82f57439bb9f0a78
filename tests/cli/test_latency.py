"""`python -m paretoscope latency`: what it measures, says and keeps; timings are made up but for one."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import measuring
import pytest
from click.testing import Result
from measuring import Taken
from paretoscope import runtimes
from paretoscope.base.errors import ModelError
from paretoscope.cli.main import app
from paretoscope.measure.devices import devices, project
from paretoscope.measure.latency import Noise
from paretoscope.measure.machine import Machine
from paretoscope.measure.roofline import estimate
from paretoscope.measure.subject import Subject
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects
from paretoscope.service.latency_report import QUANTILES
from paretoscope.service.study import StudyKind
from paretoscope.service.timing import Timing
from paretoscope.service.workbench import Workbench
from typer.testing import CliRunner

NAME = "lenet-300-100"
SPARSE = Recipe.of(sparsity=0.9)
LAYERS = ["fc1.weight", "fc2.weight", "fc3.weight", "other"]


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subjects.load(NAME)


@pytest.fixture(autouse=True)
def own_store(subject, tmp_path, monkeypatch) -> Path:
    load = subjects.load
    monkeypatch.setattr(subjects, "load", lambda name: subject if name == NAME else load(name))
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "records.sqlite"))
    return tmp_path / "records.sqlite"


@pytest.fixture
def measured(monkeypatch) -> list[Taken]:
    """What was measured, without measuring it; OpenVINO is installed, compiled PyTorch is not."""
    entries = runtimes.runtimes._entries
    monkeypatch.setitem(entries, "openvino", replace(entries["openvino"], missing="", version="1"))
    compiled = replace(entries["torch-compiled"], missing="a C++ compiler, e.g. g++")
    monkeypatch.setitem(entries, "torch-compiled", compiled)
    return measuring.fake(monkeypatch)


def run(*arguments: object) -> Result:
    command = ["latency", *map(str, arguments)]
    return CliRunner().invoke(app, command, prog_name="python -m paretoscope")


def text(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def figures(*arguments: object) -> dict[str, Any]:
    return json.loads(text(*arguments, "--json"))


def names(data: dict[str, Any], part: str) -> list[tuple[str, str]]:
    return [(row["runtime"], row["number_format"]) for row in data[part]]


def test_one_runtime_is_measured_unless_others_are_asked_for(measured):
    data = figures(NAME, "--sparsity", 0.9)
    assert names(data, "timings") == names(data, "details") == [("onnxruntime", "fp32")]
    (row,) = data["timings"]
    assert (row["batch"], row["threads"], row["stored"], row["measured_for"], row["note"]) == (1, 1, False, "", "")
    assert row["latency"]["median_ms"] == 1.0 and row["latency"]["measured_for"] == SPARSE.digest
    assert row["latency"]["throughput"] == 1000.0
    assert (data["model"], data["dataset"], data["batch"], data["threads"], data["size"]) == (NAME, "digits", 1, 1, 28)
    assert Recipe.from_dict(data["recipe"]) == SPARSE
    assert len(set(measured)) == len(measured)


def test_every_runtime_in_every_format_of_the_recipe(measured):
    data = figures(NAME, "--bits", 8, "--activations", 8, "--runtime", "all")
    everything = [("onnxruntime", "int8"), ("onnxruntime", "fp32"), ("openvino", "int8"), ("openvino", "fp32")]
    everything += [("torch", "fp32"), ("sparse", "fp32"), ("torch-compiled", "fp32")]
    assert names(data, "timings") == everything
    assert names(data, "details") == everything[:-1]
    *timed, missing = data["timings"]
    assert all(row["latency"] and not row["note"] for row in timed)
    assert missing["latency"] is None and missing["note"] == "not installed; install a C++ compiler, e.g. g++"
    assert "torch-compiled" not in {each.runtime for each in measured}
    # The baseline runs in fp32 whatever the recipe does: measured once a runtime.
    noises = [each.runtime for each in measured if each.what == "noise"]
    assert noises == ["onnxruntime", "openvino", "torch", "sparse"]


def test_a_table_over_batches_and_threads(measured):
    options = ["--batch", 1, "--batch", 8, "--batch", 8, "--threads", 2, "--threads", 1, "--runtime", "torch"]
    data = figures(NAME, *options, "--runtime", "onnxruntime")
    assert names(data, "details") == [("torch", "fp32"), ("onnxruntime", "fp32")]
    assert [(row["runtime"], row["batch"], row["threads"]) for row in data["timings"]] == [
        (runtime, batch, threads) for runtime in ("torch", "onnxruntime") for batch in (1, 8) for threads in (2, 1)
    ]
    assert all(row["latency"]["median_ms"] == row["batch"] for row in data["timings"])
    assert (data["batch"], data["threads"], data["machine"]["threads"]) == (1, 2, 2)
    assert {(each.batch, each.threads) for each in measured if each.what in ("noise", "profile", "memory")} == {(1, 2)}


@pytest.mark.slow
def test_what_is_stored_is_reused_and_said_so(measured, own_store):
    first = figures(NAME, "--sparsity", 0.9)
    taken = list(measured)
    again = figures(NAME, "--sparsity", 0.9)
    assert measured == taken
    assert [row.pop("stored") for row in first["timings"]] == [False]
    assert [row.pop("stored") for row in again["timings"]] == [True]
    assert first == again
    # Both recipes have one graph and number format: one timing for both, and the recipe that it was taken for is named.
    (other,) = figures(NAME, "--sparsity", 0.5)["timings"]
    assert (other["stored"], other["measured_for"]) == (True, SPARSE.describe())
    assert not [each for each in measured[len(taken) :] if (each.what, each.recipe) == ("time", SPARSE.describe())]
    assert re.search(rf"stored, for {re.escape(SPARSE.describe())}$", text(NAME, "--sparsity", 0.5), re.MULTILINE)


@pytest.mark.slow
def test_again_measures_anew(measured):
    first = figures(NAME, "--sparsity", 0.9, "--runtime", "all")
    taken = list(measured)
    measured.clear()
    assert figures(NAME, "--sparsity", 0.9, "--runtime", "all", "--again") == first
    assert measured == taken


def test_budget_and_width_are_those_of_each_timing(measured):
    figures(NAME, "--budget", 0.25, "--width", 0.1)
    efforts = {each.settings for each in measured if each.what in ("time", "noise")}
    assert efforts == {(("budget_s", 0.25), ("width", 0.1))}


def test_the_page_shows_the_same(measured):
    data = figures(NAME, "--sparsity", 0.9, "--runtime", "sparse", "--batch", 2)
    bench = Workbench()
    try:
        timing = Timing("sparse", batch=2)
        (row,), (details,) = data["timings"], data["details"]
        assert row["latency"]["median_ms"] == bench.latency(NAME, SPARSE, timing).median_ms
        assert details["noise"]["speedup"] == bench.known(StudyKind.NOISE, NAME, timing).speedup
        assert details["memory"] == bench.known(StudyKind.MEMORY, NAME, SPARSE, timing)
        assert details["baseline_memory"] == bench.known(StudyKind.MEMORY, NAME, Recipe(), timing)
        assert details["plan"] == [asdict(each) for each in bench.known(StudyKind.PLAN, NAME, SPARSE, timing)]
        assert Machine.from_dict(data["machine"]) == bench.known(StudyKind.MACHINE, 1)
        assert data["artefact_bytes"] == bench.find(NAME, SPARSE).record.size.artefact
    finally:
        bench.close()


def test_layers_have_their_times_beside_their_work(measured, subject):
    (details,) = figures(NAME, "--sparsity", 0.9)["details"]
    assert [layer["name"] for layer in details["layers"]] == LAYERS
    assert {layer["name"]: layer["time_us"] for layer in details["layers"]} == measuring.PROFILE
    assert {layer["name"]: layer["baseline_us"] for layer in details["layers"]} == measuring.PROFILE
    first = details["layers"][0]
    # 784 inputs and 300 outputs, with their weights and biases, of 4 bytes each.
    assert first["macs"] == 784 * 300
    assert first["bytes"] == 4 * (784 * 300 + 300 + 784 + 300)
    assert first["intensity"] == pytest.approx(2 * first["macs"] / first["bytes"])
    # At 1 GB/s and 1 GFLOP/s; a step takes 0.1 us.
    assert first["bound"] == "memory"
    assert first["estimate_us"] == pytest.approx(1e6 * max(first["bytes"], 2 * first["macs"]) / 1e9 + 0.1)
    layers = sum(layer["estimate_us"] for layer in details["layers"])
    assert details["estimate_ms"] == pytest.approx(1e-3 * (layers + 1))
    assert details["estimate_ms"] == details["baseline_estimate_ms"]


def test_the_sparse_runtime_says_what_it_does_with_each_layer(measured, subject):
    (details,) = figures(NAME, "--sparsity", 0.9, "--runtime", "sparse")["details"]
    assert [(each["weight"], each["form"]) for each in details["plan"]] == [
        ("fc1.weight", "blocks of 8"),
        ("fc2.weight", "dense"),
        ("fc3.weight", "rows"),
    ]
    # Layers that run sparse have the work of their non-zeros alone; the others have all of it.
    macs = {layer["name"]: layer["macs"] for layer in details["layers"]}
    assert macs == {"fc1.weight": round(0.05 * 235_200), "fc2.weight": 30_000, "fc3.weight": 300, "other": 0}
    assert details["estimate_ms"] < details["baseline_estimate_ms"]
    told = text(NAME, "--sparsity", 0.9, "--runtime", "sparse")
    assert re.search(r"fc1\.weight +blocks of 8 +5\.0 % +50,000 +14\.0 % +7 +3\n", told)
    assert re.search(r"fc2\.weight +dense +10\.0 % +30,000 +5\.0 % +2 +-\n", told)


def test_layers_that_the_recipe_took_out_are_told(measured, monkeypatch):
    profile = Subject.profile

    def longer(self, compressed, *arguments, **settings):
        found = profile(self, compressed, *arguments, **settings)
        return {**found, "fc9.weight": 5.0} if compressed.recipe == Recipe() else found

    monkeypatch.setattr(Subject, "profile", longer)
    # The recipe has another graph than the baseline, so that each has a profile of its own.
    layers = figures(NAME, "--nodes", 0.5)["details"][0]["layers"]
    assert [layer["name"] for layer in layers] == [*LAYERS, "fc9.weight"]
    assert (layers[-1]["kind"], layers[-1]["time_us"], layers[-1]["baseline_us"]) == ("taken out", None, 5.0)


@pytest.mark.slow
def test_the_verdict_is_on_the_first_runtime_and_names_what_is_better(measured):
    options = ["--sparsity", 0.9, "--runtime", "sparse"]
    dense = figures(NAME, *options[:2])["verdict"]
    assert (dense["tone"], dense["headline"]) == ("same", "Not faster")
    assert dense["reason"] == "90 % zeros, but ONNX Runtime multiplies zeros at full price"
    assert dense["advice"].startswith("Integer kernels instead would save 50 % of the time")
    assert Recipe.from_dict(dense["recipe"]) == Recipe.of(sparsity=0.9, bits=8, activations=8)
    sparse = figures(NAME, *options)["verdict"]
    assert sparse["tone"] == "faster" and sparse["reason"] == "zeros are skipped in 2 of 3 layers"
    both = figures(NAME, *options[:2], "--runtime", "onnxruntime", "--runtime", "sparse")["verdict"]
    assert (both["tone"], both["runtime"]) == ("same", "sparse")
    assert both["headline"] in text(NAME, *options[:2]).splitlines()[1]


def test_what_else_was_timed(measured):
    others = figures(NAME, "--sparsity", 0.9)["others"]
    assert {each["name"]: each["latency"]["median_ms"] for each in others} == {
        "half the channels": 0.625,
        "integer kernels": 0.5,
    }
    assert [each["latency"]["number_format"] for each in others] == ["fp32", "int8"]


def test_a_noise_figure_that_misses_one_is_told(measured, monkeypatch):
    noisy = Noise(1.2, 1.1, 1.3, 15, "budget")
    monkeypatch.setattr(Subject, "noise", lambda self, *arguments, **settings: noisy)
    data = figures(NAME, "--sparsity", 0.9)
    assert data["details"][0]["noise"]["contains_one"] is False
    assert "something disturbed the machine" in data["verdict"]["caveat"]
    assert re.search(r"ONNX Runtime +fp32 +1\.200 +\[1\.100, 1\.300\] +NO", text(NAME, "--sparsity", 0.9))


def test_projections_are_marked_as_estimates(measured, subject):
    data = figures(NAME, "--sparsity", 0.9, "--bits", 8, "--activations", 8)
    assert [each["title"] for each in data["devices"]] == [device.title for device in devices]
    assert all(each["estimate"] is True for each in data["devices"])
    bench = Workbench()
    try:
        recipe = Recipe.from_dict(data["recipe"])
        own = bench.work(NAME, recipe, Timing(number_format="int8"))
        baseline = bench.work(NAME, Recipe(), Timing())
    finally:
        bench.close()
    for each, device in zip(data["devices"], devices, strict=True):
        assert each["own"]["seconds"] == project(own, data["artefact_bytes"], device, "int8").seconds
        assert each["baseline"]["seconds"] == estimate(baseline, device).seconds
        assert each["own"]["transfer_s"] == data["artefact_bytes"] / device.link_bytes_s
        assert each["own"]["assumptions"]
    told = text(NAME, "--sparsity", 0.9, "--bits", 8, "--activations", 8)
    part = told[told.index("Other devices") :]
    assert "ESTIMATES by roofline, not measurements" in part
    for device in devices:
        assert part.count(device.title) == 2
    assert part.count("Nothing is left in the caches between two calls.") == 1


def test_the_distribution_behind_a_median(measured):
    calls = figures(NAME)["timings"][0]["calls"]
    assert calls["n"] == 100
    # Calls of 1 to 100 times 1/64 ms, and twice as long.
    assert calls["candidate_ms"] == [pytest.approx((1 + 0.99 * at) / 64) for at in QUANTILES]
    assert calls["baseline_ms"] == [pytest.approx((1 + 0.99 * at) / 32) for at in QUANTILES]


def test_what_could_not_run_is_told_with_the_reason(measured, monkeypatch):
    time = Subject.time

    def failing(self, compressed, runtime, *arguments, **settings):
        if runtime == "torch":
            raise ModelError("a model must be small; this is not. Choose another.")
        return time(self, compressed, runtime, *arguments, **settings)

    def no_memory(*arguments):
        raise ModelError("no memory today")

    monkeypatch.setattr(Subject, "time", failing)
    monkeypatch.setattr("paretoscope.service.works.timing.session_memory", no_memory)
    data = figures(NAME, "--runtime", "onnxruntime", "--runtime", "torch")
    there, torch = data["timings"]
    assert there["latency"] and torch["latency"] is None
    assert torch["note"] == "did not run: a model must be small; this is not. Choose another."
    assert data["details"][0]["problems"] == ["no memory today"] and data["details"][0]["memory"] is None
    told = text(NAME, "--runtime", "onnxruntime", "--runtime", "torch")
    assert "PyTorch fp32: did not run: a model must be small; this is not. Choose another." in told
    assert "ONNX Runtime fp32: no memory today" in told


@pytest.mark.parametrize("runtime", ["torch", "torch-compiled"])
def test_where_nothing_could_be_timed_the_reason_is_the_error(measured, monkeypatch, runtime):
    def failing(self, *arguments, **settings):
        raise ModelError("a model must be small; this is not. Choose another.")

    monkeypatch.setattr(Subject, "time", failing)
    result = run(NAME, "--runtime", runtime)
    assert (result.exit_code, result.stdout) == (1, "")
    *_, last = result.stderr.splitlines()
    assert last.startswith("Error: ")
    assert ("a model must be small" if runtime == "torch" else "install a C++ compiler") in last
    assert "Traceback" not in result.output


def test_progress_is_on_standard_error(measured):
    result = run(NAME)
    assert result.exit_code == 0
    assert result.stderr.startswith("Evaluating ")
    assert "Evaluating" not in result.stdout


def test_an_artefact_is_timed_by_its_recipe(measured, tmp_path):
    path = tmp_path / "model.psc"
    arguments = ["compress", NAME, "--sparsity", "0.9", "--out", str(path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    from_file = figures(path)
    assert from_file["model"] == NAME and Recipe.from_dict(from_file["recipe"]) == SPARSE
    assert from_file["artefact_bytes"] == path.stat().st_size
    named = figures(NAME, "--sparsity", 0.9)
    assert named["timings"][0]["latency"] == from_file["timings"][0]["latency"]


def test_an_artefact_that_its_recipe_does_not_give_is_refused(measured, tmp_path, monkeypatch):
    path = tmp_path / "model.psc"
    assert CliRunner().invoke(app, ["compress", NAME, "--sparsity", "0.9", "--out", str(path)]).exit_code == 0
    compress = Subject.compress
    monkeypatch.setattr(Subject, "compress", lambda self, recipe: compress(self, Recipe.of(sparsity=0.8)))
    result = run(path)
    assert (result.exit_code, result.stdout, measured) == (1, "", [])
    assert "must be what its recipe makes of lenet-300-100" in result.stderr


def test_a_store_that_cannot_be_used_costs_the_history_only(measured, tmp_path, monkeypatch):
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path))
    result = run(NAME, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["timings"][0]["latency"]["median_ms"] == 1.0
    assert result.stderr.splitlines()[-1].startswith(
        "Not kept in the history: 10 results wait to be written: the record store must be"
    )


@pytest.mark.slow
def test_a_size_is_that_of_every_measurement(measured):
    data = figures("resnet-20", "--size", 40)
    assert data["size"] == data["timings"][0]["latency"]["size"] == 40
    assert {each.size for each in measured if each.what in ("time", "noise", "profile", "memory")} == {40}
    # A model's own size is the one that is meant without any.
    measured.clear()
    assert figures(NAME, "--size", 28)["size"] == 28
    assert {each.size for each in measured} == {None}


@pytest.mark.slow
def test_a_real_measurement_is_consistent():
    data = figures(NAME, "--sparsity", 0.95, "--budget", 0.05, "--width", 0.5, "--runtime", "onnxruntime", "--batch", 2)
    (row,), (details,) = data["timings"], data["details"]
    latency = row["latency"]
    assert (latency["runtime"], latency["number_format"], latency["batch"], latency["size"]) == (
        *("onnxruntime", "fp32"),
        *(2, 28),
    )
    assert 0 < latency["speedup_low"] <= latency["speedup"] <= latency["speedup_high"]
    assert latency["median_ms"] > 0 and latency["p95_ms"] <= latency["p99_ms"]
    assert latency["throughput"] == pytest.approx(2000 / latency["median_ms"])
    assert latency["baseline_throughput"] == pytest.approx(2000 / latency["baseline_median_ms"])
    calls = row["calls"]
    for side, own in (("candidate_ms", "p95_ms"), ("baseline_ms", "baseline_p95_ms")):
        assert calls[side] == sorted(calls[side])
        # Kept in float32.
        assert calls[side][QUANTILES.index(95)] == pytest.approx(latency[own], rel=1e-6)
    assert 0 <= latency["outliers"] <= calls["n"]
    noise = details["noise"]
    assert noise["contains_one"] == (noise["low"] <= 1 <= noise["high"])
    assert details["memory"] > 0 and details["baseline_memory"] > 0
    assert [layer["name"] for layer in details["layers"]] == LAYERS
    assert all(layer["time_us"] >= 0 and layer["baseline_us"] >= 0 for layer in details["layers"])
    assert Machine.from_dict(data["machine"]).flops > 0
    assert details["estimate_ms"] > 0 and details["problems"] == []
    assert data["verdict"]["headline"] == "Not faster"
