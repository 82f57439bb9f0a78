"""Data is read in chunks, whatever their size; every set that is here gives the samples of its tensors."""

import pytest
import torch
from paretoscope.data.data import CHUNK, Part
from paretoscope.data.dataset import ImageData, datasets, load_data

HERE = [entry.name for entry in datasets if entry.here()]


def made() -> ImageData:
    images = torch.arange(7.0).reshape(7, 1, 1, 1)
    labels = torch.arange(7)
    return ImageData(images[:5], labels[:5], images[5:], labels[5:], images[:2], "0" * 64)


@pytest.mark.parametrize("size", [1, 2, 4, 5, 100])
def test_chunks_are_the_split_in_its_order(size: int) -> None:
    for part, first, last in ((Part.TRAIN, 0, 5), (Part.TEST, 5, 7)):
        samples, labels = list(made().samples(part, size)), list(made().labels(part, size))
        assert [len(chunk) for chunk in samples] == [len(chunk) for chunk in labels]
        assert all(len(chunk) == size for chunk in samples[:-1]) and 1 <= len(samples[-1]) <= size
        assert torch.cat(labels).tolist() == list(range(first, last)) == torch.cat(samples).flatten().tolist()
        assert made().length(part) == last - first


@pytest.mark.parametrize("name", HERE)
def test_every_set_gives_its_samples_in_chunks(name: str) -> None:
    data = load_data(name, (1, 28, 28))
    for part, images, labels in (
        (Part.TRAIN, data.train_images, data.train_labels),
        (Part.TEST, data.test_images, data.test_labels),
    ):
        assert data.length(part) == len(images) == len(labels)
        assert len(next(data.samples(part))) == CHUNK
        assert torch.equal(torch.cat(list(data.samples(part, 977))), images)
        assert torch.equal(torch.cat(list(data.labels(part, 977))), labels)
        assert int(labels.max()) == len(datasets.get(name).classes) - 1
