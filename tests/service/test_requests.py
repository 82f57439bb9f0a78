"""Requests are plain data: written, read in another process, and carried out there with the same stored result."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paretoscope.base.progress import SILENT
from paretoscope.codec import shelf
from paretoscope.export import formats
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.suggest import Target
from paretoscope.service import subjects
from paretoscope.service.additions import Addition
from paretoscope.service.limits import Limits
from paretoscope.service.requests import Request, RequestError
from paretoscope.service.store import Store
from paretoscope.service.studies import STUDIES
from paretoscope.service.study import StudyKind
from paretoscope.service.timing import StudyPart, Timing
from paretoscope.service.workbench import Workbench

NAME = "lenet-300-100"
RECIPE = Recipe.of(sparsity=0.5, bits=4)
RATES = Recipe.of(bits=8, calibration="rate", weighting="magnitude")
TRAINED = Recipe.of(bits=4, epochs=1)
# The shortest timing that there is.
EFFORT: dict[str, Any] = {"budget_s": 0.01, "width": 10.0}

# A tiny case of every study.
REQUESTS = {
    kind: Request(kind, arguments)
    for kind, arguments in {
        StudyKind.EVALUATE: (NAME, RECIPE),
        StudyKind.TIME: (NAME, RECIPE, Timing("torch")),
        StudyKind.PROFILE: (NAME, RECIPE, Timing()),
        StudyKind.PLAN: (NAME, RECIPE, Timing("sparse")),
        StudyKind.NOISE: (NAME, Timing("torch")),
        StudyKind.MEMORY: (NAME, RECIPE, Timing()),
        StudyKind.MACHINE: (1,),
        # The limits of these processes allow one of its parts.
        StudyKind.LATENCY: (NAME, Recipe.of(nodes=0.5), Timing("torch", batch=2)),
        StudyKind.MEASURE: (NAME, (StudyPart("Timing", StudyKind.TIME, RECIPE, Timing(batch=2)),)),
        StudyKind.FILL: (NAME, RECIPE, Timing("torch")),
        StudyKind.LAYERS: (NAME,),
        StudyKind.GRAPH: (NAME,),
        StudyKind.SENSITIVITY: (NAME,),
        StudyKind.WATERFALL: (NAME, RECIPE),
        StudyKind.CLIFF: (NAME, Recipe(), "bits"),
        StudyKind.SUGGEST: (NAME, Target(bytes=60_000), Recipe()),
        StudyKind.ALLOT: (NAME, RATES, 60_000, None),
        StudyKind.CONVERT: (NAME, RECIPE, "onnx"),
        StudyKind.RECOVER: (NAME, TRAINED, None),
        StudyKind.SHRINK: (NAME, Recipe.of(bits=8), "width", 0.0, 1),
        StudyKind.ADD: (Addition("mine", "mine.onnx", inputs=(("x", (3, 8, 8)),), preprocess='{"scale": 1}'),),
        StudyKind.PREVIEW: (NAME,),
        StudyKind.BASELINE: (NAME,),
        StudyKind.SAMPLES: (NAME, (3, 1)),
        StudyKind.MAPS: ("mine", RECIPE, Recipe(), (3, 1)),
        StudyKind.BYTES: (NAME, RECIPE),
        StudyKind.STAGE: (NAME, RECIPE),
        StudyKind.RANK: ("mine",),
        StudyKind.TAKE: ("mine", "symmetric"),
    }.items()
}

# Measured anew, these differ in their figures: they are measured in the other process alone, and known here.
# These change the user's library, or need a network of it: tests/service/test_additions.py runs them.
OF_LIBRARY = {StudyKind.ADD, StudyKind.MAPS, StudyKind.RANK, StudyKind.TAKE}
CLOCKED = {StudyKind.PROFILE, StudyKind.PLAN, StudyKind.NOISE, StudyKind.MEMORY, StudyKind.MACHINE}

WORKER = """
import sys
from paretoscope.base.progress import SILENT
from paretoscope.service import subjects
from paretoscope.service.limits import Limits
from paretoscope.service.requests import Request
from paretoscope.service.shipped import Shipped
from paretoscope.service.workbench import Workbench

bench = Workbench(budget_s=0.01, width=10.0, limits=Limits(batch=1, threads=1), shipped=Shipped(None))
for text in sys.stdin:
    Request.from_json(text).run(bench, SILENT)
bench.close()
"""


def stored(path: Path) -> dict[tuple[str, ...], Any]:
    """What a store has, without what a clock measured."""
    connection = sqlite3.connect(path)
    found: dict[tuple[str, ...], Any] = {}
    for model, dataset, recipe, *row in connection.execute(
        "SELECT model, dataset, recipe, record, classes, confidences FROM records"
    ):
        found["records", model, dataset, recipe] = row
    for (key,) in connection.execute("SELECT key FROM measurements"):
        found["measurements", key] = None
    for kind, key, text in connection.execute("SELECT kind, key, text FROM documents"):
        if kind not in CLOCKED:
            found["documents", kind, key] = _untimed(json.loads(text))
    connection.close()
    return found


def _untimed(data: Any) -> Any:
    """Without the seconds that an epoch or a conversion took."""
    if isinstance(data, dict):
        return {name: _untimed(value) for name, value in data.items() if name != "seconds"}
    return [_untimed(each) for each in data] if isinstance(data, list) else data


def test_every_study_has_its_tiny_case() -> None:
    assert set(REQUESTS) == set(StudyKind) == set(STUDIES)
    assert all(row.kind is kind for kind, row in STUDIES.items())


@pytest.mark.parametrize("kind", StudyKind)
def test_a_request_is_read_as_it_was_written(kind: StudyKind) -> None:
    request = REQUESTS[kind]
    text = request.to_json()
    assert "\n" not in text and Request.from_json(text) == request
    assert list(json.loads(text)["arguments"]) == list(STUDIES[kind].arguments)
    assert hash(request) == hash(Request.from_json(text))


def test_arguments_that_have_a_default_may_be_left_out() -> None:
    request = Request(StudyKind.RECOVER, (NAME, TRAINED))
    assert Request.from_json(request.to_json()) == request


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"kind": "no such study", "arguments": {}}',
        '{"kind": "layers", "arguments": {"network": "lenet-5"}}',
        '{"kind": "layers", "arguments": {"model": "lenet-5", "more": 1}}',
        '{"kind": "evaluate", "arguments": {"model": "lenet-5", "recipe": {"surprise": 1}}}',
        '{"kind": "time", "arguments": {"model": "lenet-5", "recipe": {}, "timing": {"surprise": 1}}}',
        '{"kind": "measure", "arguments": {"model": "lenet-5", "tasks": [{"what": "x"}]}}',
        '{"kind": "suggest", "arguments": {"model": "lenet-5", "target": {}}}',
        '{"kind": "layers", "arguments": 3}',
        "[" * 100_000,
        '"' + "x" * (1 << 22) + '"',
    ],
)
def test_what_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="a request must be the JSON"):
        Request.from_json(text)


# Both processes do every study: half a minute on two free cores, minutes beside other work.
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_request_gives_the_same_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here" / "records.sqlite", tmp_path / "there" / "records.sqlite"
    lines = "\n".join(request.to_json() for kind, request in REQUESTS.items() if kind not in OF_LIBRARY)
    monkeypatch.setenv("PARETOSCOPE_STORE", str(there))
    subprocess.run([sys.executable, "-c", WORKER], input=lines, text=True, check=True)
    monkeypatch.setenv("PARETOSCOPE_STORE", str(here))
    bench = Workbench(limits=Limits(batch=1, threads=1), **EFFORT)
    try:
        for kind, request in REQUESTS.items():
            if kind not in CLOCKED | OF_LIBRARY:
                request.run(bench, SILENT)
    finally:
        bench.close()
    found = stored(there)
    assert found == stored(here)
    kept = {"sensitivity", "waterfall", "suggestion", "cliff bits", "graph", "recovery", "layer bytes", "stage"}
    kept.add(f"conversion onnx in {formats.get('onnx').runtime}")
    assert {key[1] for key in found if key[0] == "documents"} == kept
    assert len([key for key in found if key[0] == "records"]) > 30
    other = Workbench(Store(there))
    assert all(other.known(kind, *REQUESTS[kind].arguments) is not None for kind in CLOCKED)
    other.close()
    assert len([key for key in found if key[0] == "measurements"]) >= 3
    for place in (here, there):
        monkeypatch.setenv("PARETOSCOPE_STORE", str(place))
        assert shelf.find(subjects.load(NAME).statistics.digest, TRAINED) is not None
