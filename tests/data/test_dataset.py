import hashlib

import numpy as np
import pytest
import torch
from paretoscope.base.errors import ModelError, UnknownNameError
from paretoscope.data import digits
from paretoscope.data.digits import digits_split
from paretoscope.networks import zoo
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SHAPES = [(1, 28, 28), (3, 32, 32)]

# SHA-256 of all labels, train then test, and of the test images, in their order.
LABELS = "76ea171fa91dc19fb3fc3e9d749fe462c570ee834a5d2343931ec2089c26e179"
TEST_IMAGES = "834de96b9617300c0ba63ef87ede5e6aafa1226fc0e2993615c5c22b93107d4b"


def rows(images: np.ndarray) -> list[bytes]:
    return sorted(image.astype(np.uint8).tobytes() for image in images)


def test_the_split_has_the_stated_sizes_and_holds_every_image_once():
    train, train_labels, test, test_labels = digits_split()
    assert train.shape == (1000, 8, 8)
    assert test.shape == (797, 8, 8)
    assert train_labels.shape == (1000,)
    assert test_labels.shape == (797,)
    # As multisets: together the two parts are the 1,797 images, so no scan is in both.
    assert rows(np.concatenate([train, test])) == rows(load_digits().images)
    assert not set(rows(train)) & set(rows(test))


def test_labels_stay_with_their_images():
    train, train_labels, test, test_labels = digits_split()
    whole = load_digits()
    scans = [image.astype(np.uint8).tobytes() for image in whole.images]
    label_of = dict(zip(scans, whole.target.tolist(), strict=True))
    for images, labels in [(train, train_labels), (test, test_labels)]:
        assert [label_of[image.tobytes()] for image in images] == labels.tolist()


def test_the_split_is_stratified():
    _, train_labels, _, test_labels = digits_split()
    share = np.bincount(load_digits().target) * 1000 / 1797
    assert np.abs(np.bincount(train_labels) - share).max() < 1
    assert np.abs(np.bincount(test_labels) - share * 797 / 1000).max() < 1


def test_the_split_is_fixed():
    _, train_labels, test, test_labels = digits_split()
    # Weights and stored records belong to this very split.
    assert hashlib.sha256(np.concatenate([train_labels, test_labels]).astype(np.uint8)).hexdigest() == LABELS
    assert hashlib.sha256(np.ascontiguousarray(test)).hexdigest() == TEST_IMAGES


@pytest.mark.parametrize("train", [10, 333, 1000, 1500])
def test_splits_are_those_of_scikit_learn(train):
    labels = load_digits().target
    expected = train_test_split(np.arange(len(labels)), train_size=train, stratify=labels, random_state=0)
    found = digits.stratified(labels, train, np.random.RandomState(0))
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]


def test_digits_that_are_not_there_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(digits, "FILE", tmp_path / "digits.csv.gz")
    with pytest.raises(ModelError, match=r"digits must be in .*could not be read"):
        digits_split()
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="Install scikit-learn"):
        digits_split()


@pytest.mark.parametrize("shape", SHAPES)
def test_images_come_in_the_shape_that_the_model_takes(shape):
    data = zoo.load_data("digits", shape)
    for images, n in [(data.train_images, 1000), (data.test_images, 797), (data.calibration, 128)]:
        assert images.shape == (n, *shape)
        assert images.dtype == torch.float32
        assert images.is_contiguous()
    assert data.train_labels.dtype == data.test_labels.dtype == torch.int64
    assert zoo.datasets.get("digits").classes == tuple("0123456789")
    assert data.train_images.mean().abs() < 0.05
    assert 0.8 < data.train_images.std() < 1.1


def test_at_the_original_size_images_are_only_normalised():
    data = zoo.load_data("digits", (1, 8, 8))
    _, _, test, test_labels = digits_split()
    assert torch.allclose(data.test_images[:, 0] * 0.375 + 0.3, torch.from_numpy(test) / 16, atol=1e-6)
    assert data.test_labels.tolist() == test_labels.tolist()


def test_the_channels_are_equal():
    colour = zoo.load_data("digits", (3, 32, 32)).test_images
    gray = zoo.load_data("digits", (1, 32, 32)).test_images
    assert torch.equal(colour, gray.expand(-1, 3, -1, -1))


def test_calibration_images_show_every_class():
    assert set(digits_split()[1][:128].tolist()) == set(range(10))


def test_the_digest_names_the_test_split():
    data = zoo.load_data("digits", (1, 28, 28))
    assert zoo.load_data("digits", [1, 28, 28]) is data
    assert len(data.digest) == 64
    assert int(data.digest, 16) >= 0
    assert data.digest != zoo.load_data("digits", (3, 32, 32)).digest
    # Content that is read afresh has an equal digest.
    assert zoo.datasets.get("digits").loader((1, 28, 28)).digest == data.digest


def test_an_unknown_dataset_is_told_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"'imagenet'.*digits"):
        zoo.load_data("imagenet", (3, 32, 32))
