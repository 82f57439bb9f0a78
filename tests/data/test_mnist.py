import hashlib
import json
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from mirror import TEST, TRAIN, idx, scans, write
from paretoscope.base.errors import ModelError
from paretoscope.data import mnist
from paretoscope.networks import zoo
from paretoscope.networks.zoo.model import weights_path
from safetensors import safe_open

NAMES = ("lenet-300-100-mnist", "lenet-5-mnist")
SHAPE = (1, 28, 28)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine without a network; what was asked for."""
    asked = []

    def refuse(request, *args, **kwargs):
        asked.append(request.full_url)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return asked


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: list[str]) -> Path:
    """A small set in the real one's layout."""
    monkeypatch.setenv(mnist.ENVIRONMENT, str(tmp_path))
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    write(folder)
    return folder


def load(shape: tuple[int, int, int] = SHAPE) -> zoo.ImageData:
    """Past the cache, which the folder is no key of."""
    return zoo.datasets.get("mnist").loader(shape)


def test_images_are_the_files_own_normalised_and_nothing_is_downloaded(raw: Path, offline: list[str]) -> None:
    assert zoo.datasets.get("mnist").here()
    data = load()
    # The order of the test images is another, see below.
    mixed = sorted(range(TEST), key=lambda place: hashlib.sha256(scans(TEST, 1)[0][place].tobytes()).digest())
    for images, labels, n, seed, order in (
        (data.train_images, data.train_labels, TRAIN, 0, list(range(TRAIN))),
        (data.test_images, data.test_labels, TEST, 1, mixed),
    ):
        ink, classes = (each[order] for each in scans(n, seed))
        assert images.shape == (n, *SHAPE) and images.dtype == torch.float32 and images.is_contiguous()
        assert torch.allclose(images[:, 0] * 0.3081 + 0.1307, torch.from_numpy(ink) / 255, atol=1e-6)
        assert labels.dtype == torch.int64 and labels.tolist() == classes.tolist()
    assert zoo.datasets.get("mnist").classes == tuple("0123456789")
    assert not offline


def test_the_order_of_the_files_changes_nothing_that_is_measured(raw: Path) -> None:
    data = load()
    for part, n, seed in (("train", TRAIN, 0), ("t10k", TEST, 1)):
        ink, classes = scans(n, seed)
        order = np.argsort(classes, kind="stable")
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(ink[order]))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(classes[order]))
    again = load()
    assert again.digest == data.digest
    assert torch.equal(again.test_images, data.test_images) and torch.equal(again.test_labels, data.test_labels)
    assert torch.equal(again.calibration, data.calibration)


def test_calibration_images_are_a_fixed_draw_of_the_train_split(raw: Path) -> None:
    data, again = load(), load()
    assert data.calibration.shape == (128, *SHAPE)
    assert torch.equal(data.calibration, again.calibration)
    train = {image.numpy().tobytes(): place for place, image in enumerate(data.train_images)}
    places = [train[image.numpy().tobytes()] for image in data.calibration]
    assert len(set(places)) == 128 and places != sorted(places)


def test_another_shape_is_resized(raw: Path) -> None:
    colour, gray = load((3, 32, 32)), load((1, 32, 32))
    assert colour.test_images.shape == (TEST, 3, 32, 32) and colour.test_images.is_contiguous()
    assert torch.equal(colour.test_images, gray.test_images.expand(-1, 3, -1, -1))
    assert abs(float(gray.test_images.mean() - load().test_images.mean())) < 0.05


def test_the_digest_names_the_test_split_and_its_shape(raw: Path) -> None:
    digest = load().digest
    assert load().digest == digest != load((1, 32, 32)).digest
    _, labels = scans(TEST, 1)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx((labels + 1) % 10))
    assert load().digest != digest


def test_without_the_files_and_a_network_the_message_says_where_they_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: list[str]
) -> None:
    monkeypatch.setenv(mnist.ENVIRONMENT, str(tmp_path))
    assert not zoo.datasets.get("mnist").here()
    with pytest.raises(ModelError) as raised:
        load()
    message = str(raised.value)
    assert str(tmp_path / "MNIST" / "raw") in message
    assert mnist.ENVIRONMENT in message and "train-images-idx3-ubyte" in message
    assert len(offline) == 2 and not any(tmp_path.iterdir())


def test_a_mirror_that_refuses_its_index_is_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request, *args, **kwargs):
        raise urllib.error.HTTPError(request.full_url, 403, "Forbidden", None, None)

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    mnist._expect_network(["https://mirror.example/"])


def test_the_folder_is_the_users_or_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mnist.ENVIRONMENT, str(tmp_path))
    assert mnist.folder() == tmp_path
    monkeypatch.delenv(mnist.ENVIRONMENT)
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "cache" / "records.sqlite"))
    assert mnist.folder() == tmp_path / "cache" / "data"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def of_text(path: Path) -> None:
    path.write_text("<html>not found</html>" * 50)


def of_other_images(path: Path) -> None:
    path.write_bytes(idx(np.zeros((TRAIN, 8, 8), np.uint8)))


def of_fewer_images(path: Path) -> None:
    path.write_bytes(idx(scans(TRAIN - 1, 0)[0]))


@pytest.mark.parametrize("damage", [cut, emptied, of_text, of_other_images, of_fewer_images])
def test_damaged_files_are_refused_with_the_remedy(raw: Path, damage) -> None:
    damage(raw / "train-images-idx3-ubyte")
    with pytest.raises(ModelError, match=f"Remove the files there.*{mnist.ENVIRONMENT}"):
        load()


def test_a_label_that_is_no_digit_is_refused(raw: Path) -> None:
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(TEST, 10, np.uint8)))
    with pytest.raises(ModelError, match="MNIST must be whole"):
        load()


def test_the_models_on_it_have_the_builders_of_those_on_digits() -> None:
    assert zoo.models_of("mnist") == NAMES
    for name in NAMES:
        other = zoo.models.get(name.removesuffix("-mnist"))
        assert zoo.models.get(name).build is other.build
        assert zoo.models.get(name).title == f"{other.title} (MNIST)"


# Test errors of Deep Compression's baselines, table 1.
PUBLISHED = {"lenet-300-100-mnist": 0.0164, "lenet-5-mnist": 0.0080}


@pytest.mark.parametrize("name", NAMES)
def test_shipped_weights_load_and_say_what_they_reached(name: str) -> None:
    assert not zoo.load_model(name).training
    with safe_open(weights_path(name), "pt") as file:
        training = json.loads(file.metadata()["training"])
    assert training["model"] == name
    assert 1 - training["test_accuracy"] <= PUBLISHED[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_shipped_weights_err_no_more_than_the_published_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not mnist.here():
        pytest.skip(f"no MNIST on this machine: set {mnist.ENVIRONMENT} to a folder that has MNIST/raw")
    data = zoo.load_data("mnist", SHAPE)
    assert (len(data.train_labels), len(data.test_labels)) == (60_000, 10_000)
    assert data.train_images.mean().abs() < 0.001 and (data.train_images.std() - 1).abs() < 0.001
    model = zoo.load_model(name)
    with torch.inference_mode():
        predicted = torch.cat([model(images).argmax(1) for images in data.test_images.split(200)])
    with safe_open(weights_path(name), "pt") as file:
        told = json.loads(file.metadata()["training"])["test_accuracy"]
    error = 1 - float((predicted == data.test_labels).double().mean())
    assert error <= PUBLISHED[name]
    # Sums are rounded in another order on another machine.
    assert error == pytest.approx(1 - told, abs=0.0003)
