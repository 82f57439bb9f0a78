"""What every model of the zoo promises: whatever is registered is walked, so a new one needs no test of its own."""

import pytest
import torch
from paretoscope.methods.pipeline import compress
from paretoscope.model import weights
from paretoscope.model.statistics import ModelStatistics
from paretoscope.networks import sources, zoo
from paretoscope.networks.zoo.model import ModelEntry, weights_path
from paretoscope.recipe.recipe import Recipe
from safetensors.torch import load_file


@pytest.fixture(params=zoo.models.names())
def entry(request: pytest.FixtureRequest) -> ModelEntry:
    return zoo.models.get(request.param)


def images(entry: ModelEntry, n: int) -> torch.Tensor:
    return torch.randn(n, *entry.input_shape, generator=torch.Generator().manual_seed(n))


def test_it_is_described(entry: ModelEntry) -> None:
    assert entry.title.strip() and entry.summary.endswith(".") and entry.reference.strip()
    assert entry.dataset in zoo.datasets and entry.name in zoo.models_of(entry.dataset)
    assert [other.title for other in zoo.models].count(entry.title) == 1


def test_it_maps_its_input_shape_to_class_scores(entry: ModelEntry) -> None:
    model = zoo.build(entry.name)
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        for n in (1, 3):
            scores = model(images(entry, n))
            assert scores.shape == (n, len(zoo.datasets.get(entry.dataset).classes)) and scores.isfinite().all()


def test_an_answer_does_not_depend_on_the_images_beside_it(entry: ModelEntry) -> None:
    model, several = zoo.load_model(entry.name), images(entry, 4)
    with torch.no_grad():
        alone = torch.cat([model(each[None]) for each in several])
        torch.testing.assert_close(model(several), alone, rtol=1e-4, atol=1e-4)


def test_its_weights_ship_finite_and_in_fp32(entry: ModelEntry) -> None:
    shipped = load_file(weights_path(entry.name))
    assert shipped.keys() == zoo.build(entry.name).state_dict().keys()
    for key, value in shipped.items():
        assert value.dtype == (torch.int64 if key.endswith("num_batches_tracked") else torch.float32), key
        assert value.isfinite().all(), key


@pytest.mark.slow
def test_it_is_right_on_most_of_the_test_split(entry: ModelEntry) -> None:
    if not zoo.datasets.get(entry.dataset).here():
        pytest.skip(f"{entry.dataset} is not on this machine")
    data, model = zoo.load_data(entry.dataset, entry.input_shape), zoo.load_model(entry.name)
    assert not any(module.training for module in model.modules())
    with torch.inference_mode():
        predicted = torch.cat([model(part).argmax(1) for part in data.test_images.split(100)])
    assert (predicted == data.test_labels).double().mean() >= 0.97


def test_it_has_layers_to_compress_and_decodes_to_itself_without_loss(entry: ModelEntry) -> None:
    model = zoo.load_model(entry.name)
    statistics = ModelStatistics.of(model, entry.name)
    assert set(statistics.layers) == set(weights.names(model)) != set()
    rebuilt = compress(statistics, Recipe()).load_into(zoo.build(entry.name))
    for key, value in model.state_dict().items():
        assert torch.equal(rebuilt.state_dict()[key], value), key


def test_teachers_are_others_that_answer_to_the_same_images(entry: ModelEntry) -> None:
    for name in sources.alike(entry.name):
        other = zoo.models.get(name)
        assert other is not entry and (other.dataset, other.input_shape) == (entry.dataset, entry.input_shape)
        assert entry.name in sources.alike(name)
