"""Studies that ship: found by digests, never those of other weights, data or methods, and marked where they must be."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timings
from paretoscope.base.places import ASSETS
from paretoscope.measure.sensitivity import Sensitivity, SensitivityPoint
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe
from paretoscope.recipe.revision import METHODS
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.presets import known as figures_of
from paretoscope.service.shipped import Origin, Shipped, to_json
from paretoscope.service.store import Store
from paretoscope.service.studies import STUDIES
from paretoscope.service.study import StudyKind, plain
from paretoscope.service.timing import Timing

NAME = "lenet-300-100"
ORIGIN = Origin("Some Processor 9000", 8, "2026-11-28", "1.2.3")
CURVES = Sensitivity(
    NAME, 780, 797, {}, {"fc1.weight": 900}, {"fc1.weight": {"bits": (SensitivityPoint(4, 770, 797, 0.1, 300),)}}
)
# In the store they are kept by their kinds, and here by documents.
DOCUMENTS = {row.kind.value: row for row in STUDIES.values() if row.ships or row.ships_as} | {
    "suggestion": STUDIES[StudyKind.SUGGEST]
}
CLOCKED = {"layers", "time", "profile", "memory"}
FILES = sorted((ASSETS / "studies").glob("*.json"))


@pytest.fixture
def bench(tmp_path: Path):
    """What is known by an empty store; the studies that ship are those of a folder, made by `ship`."""
    made = Knowledge(STUDIES, Store(tmp_path / "store"), shipped=Shipped(tmp_path))
    yield made
    made.close()


def ship(folder: Path, *documents: tuple[tuple[str, str], object]) -> None:
    text = to_json(NAME, ORIGIN, [(place, json.dumps(found, default=plain)) for place, found in documents])
    (folder / f"{NAME}.json").write_text(text)


def test_what_depends_on_no_machine_is_known_by_its_digests(bench: Knowledge, tmp_path: Path) -> None:
    place = STUDIES[StudyKind.SENSITIVITY].place(bench, NAME)
    ship(tmp_path, (place, CURVES))
    assert bench.known(StudyKind.SENSITIVITY, NAME) == CURVES
    assert bench.known(StudyKind.WATERFALL, NAME, Recipe.of(bits=4)) is None


@pytest.mark.parametrize("part", ["weights", "data"])
def test_what_was_measured_of_something_else_is_not_shown(bench: Knowledge, tmp_path: Path, part: str) -> None:
    document, key = STUDIES[StudyKind.SENSITIVITY].place(bench, NAME)
    weights, data, recipe = key.split(" ")
    other = " ".join(["0" * 64, data, recipe] if part == "weights" else [weights, "0" * 64, recipe])
    ship(tmp_path, ((document, other), CURVES))
    assert bench.known(StudyKind.SENSITIVITY, NAME) is None


def test_what_other_methods_made_is_not_shown(bench: Knowledge, tmp_path: Path) -> None:
    place = STUDIES[StudyKind.SENSITIVITY].place(bench, NAME)
    ship(tmp_path, (place, CURVES))
    path = tmp_path / f"{NAME}.json"
    path.write_text(path.read_text().replace(f'"methods": {METHODS}', f'"methods": {METHODS + 1}'))
    assert bench.known(StudyKind.SENSITIVITY, NAME) is None


def test_a_time_of_another_machine_is_told_as_such_and_never_taken_for_one_of_this(bench, tmp_path: Path) -> None:
    recipe, timing = Recipe.of(bits=8, activations=8), Timing()
    found = timings.latency(measured_for=recipe.digest)
    place = STUDIES[StudyKind.TIME].ships_as(bench, NAME, recipe, timing)
    assert json.loads(place[1])["machine"] == ""
    ship(tmp_path, (place, found))
    elsewhere = bench.elsewhere(NAME, StudyKind.TIME, NAME, recipe, timing)
    assert elsewhere.found == found and elsewhere.origin == ORIGIN
    assert ORIGIN.told == "Some Processor 9000, 8 cores, 2026-11-28"
    assert bench.known(StudyKind.TIME, NAME, recipe, timing) is None
    assert bench.due(NAME, recipe, timing)
    assert bench.elsewhere(NAME, StudyKind.TIME, NAME, recipe, replace(timing, batch=2)) is None


def test_the_users_networks_have_nothing_that_ships(tmp_path: Path) -> None:
    ship(tmp_path, (("sensitivity", "x"), CURVES))
    (tmp_path / f"{NAME}.json").rename(tmp_path / "mine.json")
    assert Shipped(tmp_path).document("mine", ("sensitivity", "x")) is None


def test_what_ships_is_of_the_zoo() -> None:
    assert {path.stem for path in FILES} == set(zoo.models.names())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_ships_is_of_these_weights_and_methods_and_can_be_read(path: Path) -> None:
    data = json.loads(path.read_text())
    assert data["model"] == path.stem and data["methods"] == METHODS
    assert path.stat().st_size < 400_000
    preset = figures_of(path.stem, Recipe.of(bits=8, activations=8))
    kinds = set()
    for document, key, found in data["documents"]:
        DOCUMENTS[document].read(found)
        kinds.add(document)
        assert document == "machine" or preset is None or preset.model_digest in key
    assert kinds >= {"graph", "sensitivity", "suggestion", "waterfall", "stage"} | CLOCKED
