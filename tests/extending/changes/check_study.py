"""The study is a job that tells how far it is, and what it found is kept."""

from pathlib import Path

from paretoscope.base.progress import Calling
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.requests import Request
from paretoscope.service.store import Store
from paretoscope.service.study import StudyKind
from paretoscope.service.workbench import Workbench

MODEL, RECIPE = "lenet-300-100", Recipe.of(sparsity=0.8, scope="layer")


def test_it_is_a_job_and_is_kept(tmp_path: Path) -> None:
    bench = Workbench(Store(tmp_path / "records.sqlite"))
    try:
        assert bench.known(StudyKind.ZEROS, MODEL, RECIPE) is None
        job = bench.ask(StudyKind.ZEROS, MODEL, RECIPE)
        assert job.wait(120) and job.error is None
        found = job.result
        assert job.label == "Counting zeros"
        assert {name: round(share, 2) for name, share in found.items()} == dict.fromkeys(found, 0.8)
        assert list(found) == ["fc1.weight", "fc2.weight", "fc3.weight"]
    finally:
        bench.close()
    again = Workbench(Store(tmp_path / "records.sqlite"))
    try:
        assert again.known(StudyKind.ZEROS, MODEL, RECIPE) == found
    finally:
        again.close()


def test_it_tells_how_far_it_is_and_can_be_sent(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    request = Request.from_json(Request(StudyKind.ZEROS, (MODEL, RECIPE)).to_json())
    bench = Workbench(Store(tmp_path / "records.sqlite"))
    try:
        found = request.run(bench, Calling(lambda share, label, partial: told.append((share, label))))
    finally:
        bench.close()
    assert told == [((place + 1) / 3, name) for place, name in enumerate(found)]
