"""The explorer's plain data: what is on the front, what is marked, and that a viewer gets what it lacks."""

import json
from dataclasses import replace

import numpy as np
import pytest
from paretoscope.figures import explorer, pareto
from paretoscope.figures.explorer import Marks
from paretoscope.measure.board import ROW, Board, Timed, milliseconds
from paretoscope.recipe.recipe import Recipe, Recover
from paretoscope.search.budget import Budget
from paretoscope.tasks.classification import WORDS


def recipes(n: int) -> list[Recipe]:
    return [Recipe.of(sparsity=at / 100, bits=8) for at in range(1, n + 1)]


@pytest.fixture
def records(make_record):
    places = [(50_000, 780, 0.2), (20_000, 770, 0.1), (60_000, 760, 0.05), (9_000, 100, None)]
    return [
        make_record(recipe, size=size, correct=correct, ms=ms)
        for recipe, (size, correct, ms) in zip(recipes(4), places, strict=True)
    ]


def scene(records, baseline, *, reference: float | None = 0.4, since: int = 0, board: Board | None = None, **more):
    board = board or Board(WORDS, records)
    timed = Timed(tuple(record.latency for record in records), tuple(range(len(records))))
    given = {"marks": Marks(), "budget": Budget(), **more}
    return explorer.gather(
        board,
        timed,
        reference,
        of="a-model",
        setting="batch of 1",
        baseline=baseline,
        samples=800,
        since=since,
        **given,
    )


def read(found) -> tuple[dict[int, dict], dict]:
    data = json.loads(found.data)
    return {place: dict(zip(ROW, row, strict=True)) for place, row in data["rows"]}, data["head"]


def test_every_record_is_a_row_with_its_figures(records, baseline) -> None:
    rows, head = read(scene(records, baseline))
    assert head["count"] == 4 and list(rows) == [0, 1, 2, 3]
    for at, record in enumerate(records):
        assert rows[at]["digest"] == record.recipe.digest and rows[at]["size"] == record.size.artefact
        assert rows[at]["value"] == pytest.approx(record.figures.accuracy, abs=1e-6)
        assert record.recipe.describe() == rows[at]["title"]
        assert f"{100 * record.figures.accuracy:.1f} %" in rows[at]["told"][0]
    assert [each and each[0] for each in head["timings"]] == pytest.approx([0.2, 0.1, 0.05, None])
    assert head["baseline"]["ms"] == 0.4 and head["baseline"]["digest"] == Recipe().digest


def test_fronts_are_of_size_and_of_time(records, baseline) -> None:
    _, head = read(scene(records, baseline))
    assert head["fronts"] == {"size": [3, 1, 0], "ms": [2, 1, 0]}
    _, head = read(scene(records, baseline, reference=None))
    assert head["fronts"]["ms"] == [] and head["baseline"]["ms"] is None


def test_a_part_of_a_board_is_the_board_of_that_part(records) -> None:
    trained = replace(Recipe.of(sparsity=0.02, bits=8), recover=Recover(epochs=3))
    records[3] = replace(records[3], recipe=trained, digests=replace(records[3].digests, recipe=trained.digest))
    whole, places = Board(WORDS, records), [1, 3]
    part, anew = whole.some(places), Board(WORDS, [records[place] for place in places])
    assert part.generation != whole.generation and len(part) == 2
    assert part.changes() == anew.changes() and part.records() == anew.records()
    assert part.trained() == anew.trained() == [1]
    assert part.trainings() == anew.trainings() == [(0, 1)]
    assert [part.place(record.digests.recipe) for record in records] == [None, 0, None, 1]
    assert np.array_equal(part.columns(np.zeros(2)).size, anew.columns(np.zeros(2)).size)


@pytest.mark.parametrize("seed", range(8))
def test_the_front_over_columns_is_that_of_a_walk_by_hand(seed: int, make_record) -> None:
    draw = np.random.default_rng(seed)
    made = [
        make_record(recipe, size=int(draw.integers(1, 9)) * 1000, correct=int(draw.integers(1, 9)))
        for recipe in recipes(40)
    ]
    size = np.array([each.size.artefact for each in made], float)
    value = np.array([each.figures.value for each in made])
    places = pareto.front(size, value, lambda place: made[place].digests.recipe)
    expected, best = [], -1.0
    for cost, loss, digest in sorted((r.size.artefact, -r.figures.value, r.digests.recipe) for r in made):
        if -loss > best:
            best = -loss
            expected.append((cost, best, digest))
    assert [(size[at], value[at], made[at].digests.recipe) for at in places] == expected


def test_what_is_not_known_is_not_on_a_front() -> None:
    assert list(pareto.front(np.array([np.nan, 2.0, 1.0]), np.array([1.0, 0.5, 0.4]), str)) == [2, 1]
    assert list(pareto.front(np.array([np.nan]), np.array([1.0]), str)) == []


def test_a_viewer_gets_what_it_lacks(records, baseline, make_record) -> None:
    board = Board(WORDS, records[:2])
    first = scene(records[:2], baseline, board=board)
    assert first.seen == 2
    board.put(records[2])
    board.put(make_record(records[0].recipe, size=1234, correct=700))
    board.put(records[1])  # as it was: no change
    rows, head = read(scene(records[:3], baseline, board=board, since=first.seen))
    assert sorted(rows) == [0, 2] and rows[0]["size"] == 1234 and head["since"] == 2 and head["seen"] == 4
    assert [place for place, _ in head["of"]] == list(rows)


def test_marks_are_places(records, baseline) -> None:
    marks = Marks(
        current=records[1].recipe.digest,
        pins={records[0].recipe.digest: "A", "unknown": "B"},
        names={records[2].recipe.digest: "Tiny"},
        trail=["unknown", records[3].recipe.digest, records[1].recipe.digest],
    )
    _, head = read(scene(records, baseline, marks=marks))
    assert head["current"] == 1 and head["pins"] == [[0, "A"]] and head["names"] == [[2, "Tiny"]]
    assert head["trail"] == [3, 1]


def test_a_running_estimate_is_told_as_one(records, baseline, make_record) -> None:
    estimate = make_record(Recipe.of(bits=3), n=100, correct=50, ms=None)
    _, head = read(scene(records, baseline, marks=Marks(current=estimate.recipe.digest, estimate=estimate)))
    row, timing, told = head["estimate"]
    assert head["current"] is None and timing is None and row[0] == estimate.recipe.digest
    assert told == "running estimate on 100 of 800 samples"


def test_the_answer_to_the_question_is_marked(records, baseline) -> None:
    found = scene(records, baseline, budget=Budget(size=55_000, lost=3.0))
    _, head = read(found)
    assert found.answer.fits and head["best"] == found.answer.place == 1
    assert head["limits"] == {"size": 55_000, "value": pytest.approx(0.95)}
    found = scene(records, baseline, budget=Budget(size=1))
    assert not found.answer.fits and json.loads(found.data)["head"]["best"] is None


def test_training_leads_from_a_recipe_to_the_same_one(make_record, baseline) -> None:
    start = Recipe.of(bits=2)
    made = [make_record(start), make_record(replace(start, recover=Recover(epochs=3))), make_record(Recipe.of(bits=5))]
    _, head = read(scene(made, baseline))
    assert head["trained"] == [[0, 1]]


def test_undecided_timings_have_no_place_and_say_so(make_record, baseline) -> None:
    record = make_record(Recipe.of(bits=4), ms=0.2, ends=(0.9, 6.0))
    found = scene([record], baseline)
    timing = json.loads(found.data)["head"]["timings"][0]
    assert timing[:3] == [None, None, None] and "not known yet" in timing[-1]
    assert np.isnan(milliseconds(Timed((record.latency,), (0,)), 0.4)).all()


def test_the_front_is_told_in_words(records, baseline) -> None:
    alt = scene(records, baseline).alt
    assert "4 recipes" in alt and "97.5 % at 50 KB" in alt


def test_no_records_are_a_scene_too(baseline) -> None:
    rows, head = read(scene([], baseline))
    assert not rows and head["count"] == 0 and head["fronts"] == {"size": [], "ms": []}


def test_script_and_style_have_all_that_a_page_calls() -> None:
    script = explorer.script()
    assert "function drawPlots(" in script and "function drawTried(" in script
    assert all(f"{name.upper()} = {at}" in script for at, name in enumerate(ROW))
    assert ".px-plots" in explorer.style()
