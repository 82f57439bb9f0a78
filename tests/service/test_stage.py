"""What Present shows ships for the whole zoo, is what the library measures, and is measured where it does not ship."""

import pytest
from paretoscope.base.places import ASSETS
from paretoscope.base.progress import SILENT
from paretoscope.measure.stage import Shot, Step, originals
from paretoscope.networks.zoo import datasets, models
from paretoscope.service import stage
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.shipped import Shipped
from paretoscope.service.store import Store
from paretoscope.service.studies import STUDIES
from paretoscope.service.study import StudyKind

MODEL = "lenet-300-100"


@pytest.fixture
def bench(tmp_path):
    found = Knowledge(STUDIES, Store(tmp_path / "records.sqlite"), shipped=Shipped(ASSETS / "studies"))
    yield found
    found.close()


@pytest.mark.slow
@pytest.mark.parametrize("model", models.names())
def test_all_steps_of_the_zoo_ship(bench, model: str) -> None:
    if not datasets.get(models.get(model).dataset).here():
        pytest.skip("its data are not here")
    for slide in stage.slides(bench, model):
        assert slide.recipe is not None
        if slide.step is not Step.BASELINE:
            assert slide.shot is not None, f"python -m benchmarks.studies --only stage --write {model}"
            assert slide.shot.record.digests.recipe == slide.recipe.digest


def test_what_ships_is_what_the_library_makes(bench, tmp_path) -> None:
    slides = {slide.step: slide for slide in stage.slides(bench, MODEL)}
    alone = Knowledge(STUDIES, Store(tmp_path / "alone.sqlite"), shipped=Shipped(None))
    recipe = slides[Step.SHARE].recipe
    made = alone.run(StudyKind.STAGE, SILENT, MODEL, recipe)
    assert made == slides[Step.SHARE].shot == Shot.from_dict(made.to_dict())
    assert slides[Step.CODE].shot is slides[Step.SHARE].shot
    alone.close()
    layer, weights = originals(bench.subject(MODEL).statistics)
    assert layer == made.layer and len(weights) == len(made.weights) == 64
    gone = [abs(before) for before, after in zip(weights, made.weights, strict=True) if not after]
    stays = [abs(before) for before, after in zip(weights, made.weights, strict=True) if after]
    assert gone and max(gone) <= min(stays)
    assert made.distinct <= recipe.share.clusters + 1


def test_what_does_not_ship_is_not_measured_by_looking(tmp_path) -> None:
    bench = Knowledge(STUDIES, Store(tmp_path / "other.sqlite"), shipped=Shipped(None))
    assert [slide.shot for slide in stage.slides(bench, MODEL)] == [None] * 6
    bench.close()
