"""Timings that the store has not are not looked for at every turn, and found as soon as they are taken."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import timings
from paretoscope.measure.latency import Measurement
from paretoscope.service import latencies
from paretoscope.service.latencies import Latencies
from paretoscope.service.store import Store
from paretoscope.service.stored import Stored
from stores import KEY, SAMPLES


@pytest.fixture
def looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    found: list[object] = []
    get = Store.get_latency
    monkeypatch.setattr(Store, "get_latency", lambda store, key: found.append(key) or get(store, key))
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(latencies.time, "monotonic", lambda: now[0])
    return now


def opened(path: Path) -> Latencies:
    return Latencies(Stored(Store(path / "records.sqlite")), threading.Lock(), again=False)


def test_what_is_not_there_is_looked_for_once_a_while(tmp_path, looked, clock) -> None:
    here, there = opened(tmp_path), opened(tmp_path)
    assert [here.find(KEY) for _ in range(3)] == [None] * 3 and len(looked) == 1
    there.keep(KEY, Measurement(timings.latency(), SAMPLES))
    assert here.find(KEY) is None and len(looked) == 1
    clock[0] += latencies.ABSENT_S
    assert here.find(KEY) == timings.latency() and here.due(KEY) is False


def test_what_is_taken_here_is_found_at_once(tmp_path, looked, clock) -> None:
    here = opened(tmp_path)
    assert here.find(KEY) is None and here.find(replace(KEY, batch=8)) is None
    here.keep(KEY, Measurement(timings.latency(), SAMPLES))
    assert here.find(KEY) == timings.latency() and here.find(replace(KEY, batch=8)) is None
