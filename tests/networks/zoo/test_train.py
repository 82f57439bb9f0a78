import dataclasses
import hashlib
import json

import pytest
import torch
from paretoscope.base.errors import UnknownNameError
from paretoscope.networks import zoo
from paretoscope.networks.zoo.train import TrainingResult, augment, save, train
from safetensors import safe_open

SHORT = {
    name: dataclasses.replace(zoo.models.get(name).training, epochs=1)
    for name in ("lenet-300-100", "lenet-5", "mobilenet-v2")
}


def equal(a: TrainingResult, b: TrainingResult) -> bool:
    return a.state_dict.keys() == b.state_dict.keys() and all(
        torch.equal(a.state_dict[key], b.state_dict[key]) for key in a.state_dict
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "threads"), [("lenet-5", 2), ("mobilenet-v2", 1)])
def test_a_seed_gives_the_same_bits_twice(monkeypatch, name, threads):
    data = zoo.load_data("digits", zoo.models.get(name).input_shape)
    # Two batches: the second sees what the first made of weights and running statistics.
    few = dataclasses.replace(data, train_images=data.train_images[:500], train_labels=data.train_labels[:500])
    few = dataclasses.replace(few, test_images=data.test_images[:100], test_labels=data.test_labels[:100])
    monkeypatch.setattr("paretoscope.networks.zoo.train.load_data", lambda name, shape: few)
    settings = dataclasses.replace(SHORT[name], batch=250)
    first = train(name, seed=3, threads=threads, settings=settings)
    torch.rand(7)  # the caller's own random numbers must not matter
    second = train(name, seed=3, threads=threads, settings=settings)
    assert equal(first, second)
    assert (first.test_accuracy, first.train_accuracy) == (second.test_accuracy, second.train_accuracy)


def test_another_seed_gives_other_weights():
    settings = SHORT["lenet-300-100"]
    assert not equal(
        train("lenet-300-100", seed=0, threads=1, settings=settings),
        train("lenet-300-100", seed=1, threads=1, settings=settings),
    )


def test_training_leaves_the_callers_generator_and_threads_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    train("lenet-300-100", threads=1, settings=SHORT["lenet-300-100"])
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_progress_is_told_after_each_epoch_and_the_loss_falls():
    calls = []
    settings = dataclasses.replace(SHORT["lenet-300-100"], epochs=3)
    result = train("lenet-300-100", threads=1, settings=settings, progress=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(1, 3), (2, 3), (3, 3)]
    losses = [call[2]["loss"] for call in calls]
    assert losses == sorted(losses, reverse=True)
    assert result.epochs == 3
    assert result.train_accuracy > 0.8


def test_the_test_split_has_no_influence_on_the_weights(monkeypatch):
    settings = SHORT["lenet-300-100"]
    expected = train("lenet-300-100", threads=1, settings=settings)
    data = zoo.load_data("digits", (1, 28, 28))
    blind = dataclasses.replace(
        data, test_images=torch.zeros_like(data.test_images), test_labels=torch.zeros_like(data.test_labels)
    )
    monkeypatch.setattr("paretoscope.networks.zoo.train.load_data", lambda name, shape: blind)
    assert equal(train("lenet-300-100", threads=1, settings=settings), expected)


def test_an_unknown_model_is_refused():
    with pytest.raises(UnknownNameError, match="'lenet-6'"):
        train("lenet-6")


def test_without_amounts_the_augmentation_is_the_identity():
    settings = dataclasses.replace(SHORT["lenet-300-100"], rotation=0.0, scaling=0.0, shift=0.0)
    images = zoo.load_data("digits", (1, 28, 28)).train_images[:20]
    torch.testing.assert_close(augment(images, settings), images, rtol=0, atol=1e-4)


def test_the_augmentation_moves_ink_within_its_bounds_and_fills_with_background():
    # One dot in the middle of 41x41 background: it may move by 10 % of the side, 4.1 pixels, in each direction.
    settings = dataclasses.replace(SHORT["lenet-300-100"], rotation=0.0, scaling=0.0, shift=0.1)
    images = torch.full((200, 1, 41, 41), -0.8)
    images[:, :, 20, 20] = 1.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        moved = augment(images, settings)
    assert moved.min() == pytest.approx(-0.8, abs=1e-6)
    ink = (moved + 0.8).squeeze(1)
    place = torch.arange(41.0) - 20
    down = (ink.sum(2) * place).sum(1) / ink.sum((1, 2))
    right = (ink.sum(1) * place).sum(1) / ink.sum((1, 2))
    for offset in (down, right):
        assert offset.abs().max() <= 4.1 + 1e-3
        assert offset.min() < -3
        assert offset.max() > 3


def test_saved_weights_load_and_equal_results_give_equal_files(tmp_path, monkeypatch):
    monkeypatch.setattr("paretoscope.networks.zoo.model.WEIGHTS_FOLDER", tmp_path)
    result = train("lenet-300-100", seed=3, threads=1, settings=SHORT["lenet-300-100"])
    path = save(result, "lenet-300-100")
    assert list(tmp_path.iterdir()) == [path]
    loaded = zoo.load_model("lenet-300-100").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in result.state_dict.items())
    slower = dataclasses.replace(result, seconds=result.seconds + 1)
    digests = {
        hashlib.sha256(save(again, "lenet-300-100", tmp_path / f"{i}.safetensors").read_bytes()).hexdigest()
        for i, again in enumerate([result, result, slower])
    }
    assert len(digests) == 1
    with safe_open(path, "pt") as file:
        origin = json.loads(file.metadata()["training"])
    assert origin == {"model": "lenet-300-100", "seed": 3, "epochs": 1, "test_accuracy": result.test_accuracy}
