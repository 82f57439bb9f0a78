"""A report: one file that holds what is known, says what is not, and loads nothing."""

import base64
import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from paretoscope import reports
from paretoscope.base.progress import SILENT
from paretoscope.measure.board import Board
from paretoscope.recipe.command import evaluating
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe
from paretoscope.reports import gathering
from paretoscope.search.budget import Budget
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.pins import Pin
from paretoscope.service.store import Store
from paretoscope.service.studies import STUDIES
from paretoscope.service.study import StudyKind
from paretoscope.service.timing import Timing
from paretoscope.tasks import Flip

MODEL = "lenet-300-100"
MADE = datetime(2026, 11, 28, 20, 0, tzinfo=UTC)
TINY, DEEP = presets.get("tiny").recipe, presets.get("deep-compression").recipe
LOUD = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knowledge]:
    # A store of its own: what other tests have measured and timed is not told.
    found = Knowledge(STUDIES, Store(tmp_path_factory.mktemp("reports") / "records.sqlite"))
    for recipe in (TINY, DEEP, *(Recipe.of(sparsity=at / 10, bits=8) for at in range(1, 5))):
        found.subject(MODEL)
        found.run(StudyKind.EVALUATE, SILENT, MODEL, recipe)
    yield found
    found.close()


def written(bench: Knowledge, recipe: Recipe = TINY, **more) -> str:
    return reports.write(bench, MODEL, recipe, Timing(), made=MADE, **more)


def scene(text: str) -> dict:
    packed = re.search(r'id="rows">([^<]+)<', text)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_it_holds_the_figures_and_the_lines_that_give_them_again(bench) -> None:
    text = written(bench, budget=Budget(1_000, None, 0.5), pins=[Pin(MODEL, DEEP, "Han")])
    record = bench.find(MODEL, TINY).record
    assert f"{record.size.artefact:,} bytes" in text and "2026-11-28 20:00 UTC" in text
    assert f"{100 * record.figures.accuracy:.1f} %" in text
    assert "At most 1 KB, 0.5 points lost?" in text and "Nothing that was tried fits. Nearest:" in text
    for recipe in (Recipe(), TINY, DEEP):
        assert evaluating(MODEL, recipe) in text
    assert {row[0] for _, row in scene(text)["rows"]} == {each.recipe.digest for each in bench.board(MODEL).records()}
    assert "no time that could be told" in text


def test_pairs_are_told_apart_by_the_tasks_test(bench) -> None:
    found = reports.gather(bench, MODEL, TINY, Timing(), made=MADE, pins=[Pin(MODEL, DEEP, "Han")])
    tested = {(each.before, each.after): each.pair for each in found.tests}
    assert list(tested) == [("the baseline", "Tiny"), ("the baseline", "A Han"), ("Tiny", "A Han")]
    record = bench.find(MODEL, TINY).record
    assert tested["the baseline", "Tiny"].p_value == record.figures.p_value
    first = found.flips[0]
    assert first.counts.items() <= tested["the baseline", "Tiny"].counts.items() and len(first.counts) == 2
    subject = bench.subject(MODEL)
    for sample in first.samples:
        was = subject.predictions.classes[sample.number]
        assert (sample.kind is Flip.BROKEN) == (str(was) == sample.truth) and sample.picture.shape == (28, 28)
    assert sum(each.bytes for each in found.layers) + found.rest == record.size.artefact


def test_text_of_users_is_text(bench) -> None:
    text = written(bench, pins=[Pin(MODEL, DEEP, LOUD[:40], LOUD)])
    assert LOUD not in text and "&lt;script&gt;alert(&quot;x&quot;)" in text


def test_nothing_is_loaded_from_anywhere(bench) -> None:
    text = written(bench)
    assert "default-src 'none'" in text
    assert not re.search(r'(src|href)="(?!data:)', text) and "@import" not in text
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)


def test_what_is_not_measured_is_left_out_and_said(bench) -> None:
    unknown = Recipe.of(sparsity=0.77, bits=5)
    text = written(bench, unknown, pins=[Pin("resnet-20", TINY, "Elsewhere")])
    assert "It is not measured: its figures are left out." in text
    assert "A Elsewhere is not measured" in text and "The answers to single samples are not known" in text


def test_of_too_many_recipes_the_front_and_what_is_marked_stay(bench, monkeypatch) -> None:
    whole = scene(written(bench))
    monkeypatch.setattr(gathering, "ROWS_BYTES", 1_000)
    found = reports.gather(bench, MODEL, TINY, Timing(), made=MADE)
    assert found.shown < found.tried == len(whole["rows"])
    data = json.loads(found.scene.data)
    shown = [row[0] for _, row in sorted(data["rows"])]
    front = [dict(whole["rows"])[place][0] for place in whole["head"]["fronts"]["size"]]
    assert [shown[place] for place in data["head"]["fronts"]["size"]] == front and TINY.digest in shown
    assert f"{found.tried:,} recipes were tried; {found.shown:,} of them" in reports.draw(found)


@pytest.mark.slow
def test_it_has_at_most_two_megabytes_however_much_was_tried(bench, monkeypatch) -> None:
    record = bench.find(MODEL, TINY).record
    many = Board(bench.board(MODEL).words)
    for at in range(6_000):
        recipe = Recipe.of(sparsity=(at + 1) / 6_500, bits=8)
        size = replace(record.size, artefact=record.size.artefact + at)
        digests = replace(record.digests, recipe=recipe.digest)
        many.put(replace(record, recipe=recipe, size=size, digests=digests))
    monkeypatch.setattr(bench, "board", lambda model: many)
    pins = [Pin(MODEL, Recipe.of(sparsity=at / 100, bits=8), "n" * 40, "o" * 400) for at in range(1, 27)]
    assert len(written(bench, pins=pins).encode()) <= 2_000_000
