"""Every registered source of networks: what it names can be opened, and is what it says."""

import pytest
import torch
from paretoscope.base.errors import UnknownNameError
from paretoscope.data.dataset import datasets
from paretoscope.networks import sources, zoo

NETWORKS = pytest.mark.parametrize("name", sources.names())


def test_the_zoo_is_a_source_and_names_are_unique() -> None:
    assert sources.sources.names() == ("zoo", "library")
    assert sources.names() == zoo.models.names()
    assert len(set(sources.names())) == len(sources.names())
    assert all(source.title and source.summary.endswith(".") and source.reference for source in sources.sources)


@NETWORKS
def test_a_network_takes_its_inputs_and_gives_its_output(name: str) -> None:
    network = sources.find(name)
    with torch.device("meta"):
        module = network.skeleton()
        assert not module.training
        out = module(*(each.empty(2) for each in network.inputs))
    assert (network.name, out.shape, out.device.type) == (name, (2, *network.outputs[0]), "meta")
    assert network.input_shape == network.inputs[0].shape
    assert network.data in datasets and network.title


@NETWORKS
def test_the_skeleton_has_the_tensors_of_the_network(name: str) -> None:
    network = sources.find(name)
    bare, opened = network.skeleton().state_dict(), network.load().state_dict()
    assert {key: value.shape for key, value in bare.items()} == {key: value.shape for key, value in opened.items()}
    assert all(
        torch.equal(value, other)
        for value, other in zip(opened.values(), zoo.load_model(name).state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", ["absent", "", None, "x" * 1000])
def test_a_name_that_no_source_has_is_told_with_those_that_are_known(name) -> None:
    with pytest.raises(UnknownNameError, match="Choose one of: lenet-300-100"):
        sources.find(name)
