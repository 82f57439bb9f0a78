import own_networks as own
import pytest
import torch
from paretoscope.base.batch import call, head, tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.measure.replay import Replay
from paretoscope.model import weights
from paretoscope.networks import zoo
from torch import nn


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


def whole(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(images)


@pytest.mark.parametrize("name", zoo.models_of("digits"))
def test_replays_every_model_bit_for_bit_from_the_cut_of_every_layer(name):
    model = zoo.load_model(name)
    images = torch.rand(5, *zoo.models.get(name).input_shape)
    replay = Replay.record(model, images)
    kept, position = replay.start(images), 0
    assert torch.equal(replay.outputs(kept, 0), whole(model, images))
    baseline = whole(model, images)
    for layer in sorted(weights.names(model), key=replay.cut):
        cut = replay.cut(layer)
        replay.run(kept, position, cut)
        position = cut
        weight = model.get_parameter(layer).detach()
        original = weight.clone()
        weight.copy_(original.sign() * original.abs().mean())
        changed = replay.outputs(kept, cut)
        assert torch.equal(changed, whole(model, images))
        assert not torch.equal(changed, baseline)
        weight.copy_(original)
        assert torch.equal(replay.outputs(kept, cut), baseline)


class InPlace(nn.Module):
    """A value that is alive at both layers is changed in place after the second one has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.shift = nn.Parameter(torch.ones(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = self.first(x.flatten(1))
        view = kept.view(-1, 2, 3)
        y = self.second(kept)
        kept += self.shift
        return self.third((y + view.flatten(1)).relu_())


def test_a_value_that_is_changed_in_place_later_is_not_kept():
    model, images = InPlace().eval(), torch.rand(4, 1, 2, 3)
    replay = Replay.record(model, images)
    expected = whole(model, images)
    assert replay.cut("second.weight") < replay.first_use["second.weight"]
    for name in ("first.weight", "second.weight", "third.weight", "shift"):
        values = replay.start(images)
        replay.run(values, 0, replay.cut(name))
        for _ in range(3):
            assert torch.equal(replay.outputs(values, replay.cut(name)), expected)


def test_only_what_a_later_call_reads_is_kept():
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 100), nn.ReLU(), nn.Linear(100, 2)).eval()
    images = torch.rand(3, 2, 2, 2)
    replay = Replay.record(model, images)
    values = replay.start(images)
    replay.run(values, 0, replay.cut("3.weight"))
    assert [tuple(value.shape) for value in values.values()] == [(3, 100)]
    assert replay.alive_bytes(replay.cut("3.weight")) == 3 * 100 * 4
    assert replay.alive_bytes(0) == images.nbytes


def test_a_weight_that_no_call_reads_changes_nothing():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    model.unused = nn.Linear(3, 3)
    model.forward = lambda x: model[1](model[0](x))
    images = torch.rand(2, 1, 2, 2)
    replay = Replay.record(model, images)
    assert replay.cut("unused.weight") == len(replay.calls)
    values = replay.start(images)
    replay.run(values, 0, replay.cut("unused.weight"))
    assert torch.equal(replay.outputs(values, replay.cut("unused.weight")), whole(model, images))


def test_tied_weights_are_first_used_where_the_first_of_them_is():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).eval()
    model[3].weight = model[1].weight
    replay = Replay.record(model, torch.rand(2, 1, 2, 2))
    assert replay.cut("3.weight") == replay.cut("1.weight") == 1


def test_recording_leaves_the_model_as_it_was():
    model = zoo.build("vit-tiny")
    forwards = [module.forward for module in model.modules()]
    Replay.record(model, torch.rand(2, 3, 32, 32))
    assert [module.forward for module in model.modules()] == forwards
    assert not any("forward" in vars(module) for module in model.modules())


def test_refuses_what_gives_no_tensors():
    model = nn.Identity().eval()
    model.forward = lambda x: "nothing"
    with pytest.raises(ModelError, match="into tensors"):
        Replay.record(model, torch.rand(2, 1, 2, 2))


@pytest.mark.parametrize("name", own.MAKERS)
def test_replays_networks_of_users(name):
    """Several inputs and outputs, tokens, recurrent layers: from the first use of every parameter."""
    model, batch = own.imported(name).module().eval(), head(own.data(name).test, 7)
    replay = Replay.record(model, batch)
    with torch.inference_mode():
        expected = list(tensors_in(call(model, batch)))
    for parameter, _ in model.named_parameters():
        values = replay.start(batch)
        replay.run(values, 0, replay.cut(parameter))
        for _ in range(2):
            found = list(tensors_in(replay.outputs(values, replay.cut(parameter))))
            assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
