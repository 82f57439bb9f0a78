"""Records and timings of older versions: a field that has another name now is read by its old one."""

import json

import pytest
from paretoscope.measure import migrations
from paretoscope.measure.migrations import migrated, renaming
from paretoscope.measure.record import Latency, Record
from paretoscope.recipe.recipe import Recipe
from stores import LATENCY, evaluation

RECORD = evaluation(Recipe.of(bits=8)).record


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 2 renames a figure and a size, version 3 a field; timings have a version 2."""
    figures, sizes = renaming({"macro": "f1"}), renaming({"coded": "huffman"}, part="size")
    steps = [lambda data: sizes(figures(data)), renaming({"net": "model"})]
    monkeypatch.setattr(migrations, "RECORDS", steps)
    monkeypatch.setattr(migrations, "TIMINGS", [renaming({"milliseconds": "median_ms"})])


def oldest() -> dict:
    """The record as version 1 of `renamed` wrote it."""
    data = json.loads(RECORD.to_json())
    data.pop("version", None)
    data["macro"], data["net"] = data.pop("f1"), data.pop("model")
    data["size"]["coded"] = data["size"].pop("huffman")
    return data


def test_the_first_version_is_written_without_one() -> None:
    assert "version" not in RECORD.to_dict() or migrations.RECORDS
    assert "version" not in LATENCY.to_dict() or migrations.TIMINGS
    assert Latency.from_dict(LATENCY.to_dict()) == LATENCY
    assert migrated({"a": 1}, []) == migrated({"a": 1, "version": 1}, []) == {"a": 1}


@pytest.mark.usefixtures("renamed")
def test_records_of_each_version_are_read() -> None:
    first, second = oldest(), json.loads(RECORD.to_json())
    second["net"], second["version"] = second.pop("model"), 2
    third = json.loads(RECORD.to_json())
    assert third["version"] == 3
    assert all(Record.from_dict(each) == RECORD for each in (first, {**first, "version": 1}, second, third))
    with pytest.raises(KeyError):
        Record.from_dict({**first, "version": 3})


@pytest.mark.usefixtures("renamed")
def test_timings_have_a_version_of_their_own() -> None:
    old = {name: value for name, value in LATENCY.to_dict().items() if name not in ("version", "median_ms")}
    old["milliseconds"] = LATENCY.median_ms
    assert Latency.from_dict(old) == LATENCY == Latency.from_dict(LATENCY.to_dict())
    assert LATENCY.to_dict()["version"] == 2
    assert Record.from_dict({**oldest(), "latency": old}).latency == LATENCY


@pytest.mark.parametrize("version", [0, -1, 2, 1.0, True, None, "1"])
def test_a_version_that_is_not_known_is_refused(version: object) -> None:
    with pytest.raises(ValueError, match=r"must be in 1\.\.1, those of this program; got"):
        migrated({"version": version}, [])
    with pytest.raises(ValueError, match="version of stored data"):
        Record.from_dict({**RECORD.to_dict(), "version": version})


@pytest.mark.parametrize("data", [None, [], 3, "text"])
def test_what_is_no_mapping_is_refused(data: object) -> None:
    with pytest.raises(TypeError, match="must be a mapping"):
        migrated(data, [])
