"""What every data set promises: whatever is registered is walked, so a new one needs no test of its own."""

import numpy as np
import pytest
import torch
from paretoscope.base.errors import ModelError
from paretoscope.data.dataset import DatasetEntry, ImageData
from paretoscope.networks import zoo

NAMES = zoo.datasets.names()


def images_of(tensor: torch.Tensor) -> set[bytes]:
    return {image.tobytes() for image in tensor.numpy()}


@pytest.fixture(params=NAMES)
def entry(request: pytest.FixtureRequest) -> DatasetEntry:
    return zoo.datasets.get(request.param)


@pytest.fixture
def here(entry: DatasetEntry) -> DatasetEntry:
    if not entry.here():
        pytest.skip(f"{entry.title} is not on this machine")
    return entry


@pytest.fixture
def data(here: DatasetEntry) -> ImageData:
    return zoo.load_data(here.name, (1, 12, 12))


def test_it_is_described(entry: DatasetEntry) -> None:
    assert entry.title.strip() and entry.summary.strip() and entry.reference.strip()
    assert len(set(entry.classes)) == len(entry.classes) >= 2
    assert entry.download() is None


def test_some_model_is_measured_on_it(entry: DatasetEntry) -> None:
    assert zoo.models_of(entry.name)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 10, 14)])
def test_images_come_in_the_shape_that_is_asked_for(here: DatasetEntry, shape: tuple[int, int, int]) -> None:
    data = zoo.load_data(here.name, shape)
    parts = (data.train_images, data.train_labels), (data.test_images, data.test_labels)
    for images in (data.train_images, data.test_images, data.calibration):
        assert len(images) > 0 and images.shape[1:] == shape
        assert images.dtype == torch.float32 and images.is_contiguous() and images.isfinite().all()
    for images, labels in parts:
        assert labels.dtype == torch.int64 and labels.shape == (len(images),)
    assert data.train_images.mean().abs() < 0.2 and 0.5 < data.train_images.std() < 1.5


def test_every_class_is_in_both_splits_and_in_calibration(data: ImageData, here: DatasetEntry) -> None:
    whole = list(range(len(here.classes)))
    assert data.train_labels.unique().tolist() == data.test_labels.unique().tolist() == whole


def test_calibration_images_are_training_images(here: DatasetEntry) -> None:
    # At the size of a model: small pictures of different digits may be the same.
    data = zoo.load_data(here.name, (1, 28, 28))
    calibration = images_of(data.calibration)
    assert calibration <= images_of(data.train_images)
    assert not calibration & images_of(data.test_images)


@pytest.mark.slow
def test_the_digest_is_of_the_test_split_as_it_is_fed(data: ImageData, here: DatasetEntry) -> None:
    assert len(data.digest) == 64 and int(data.digest, 16) >= 0
    again = here.loader((1, 12, 12))
    assert again is not data and again.digest == data.digest
    np.testing.assert_array_equal(again.test_images, data.test_images)
    assert zoo.load_data(here.name, (3, 12, 12)).digest != data.digest


@pytest.mark.parametrize("shape", [(2, 28, 28), (1, 28), (3, 0, 32), ()])
def test_a_shape_that_images_cannot_have_is_refused(entry: DatasetEntry, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="input shape"):
        zoo.load_data(entry.name, shape)
