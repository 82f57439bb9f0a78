"""The networks of users that tests share: what was imported says what its author's module says."""

import own_networks
import pytest
import torch
from paretoscope.base.batch import call, tensors_in


@pytest.mark.parametrize("name", own_networks.MAKERS)
def test_what_was_imported_gives_the_outputs_of_the_module(name: str) -> None:
    network, data = own_networks.network(name), own_networks.data(name)
    with torch.no_grad():
        wanted = list(tensors_in(call(own_networks.module(name), data.test)))
        found = list(tensors_in(call(network.load(), data.test)))
    assert [each.shape[1:] for each in wanted] == [torch.Size(shape) for shape in network.outputs]
    for one, other in zip(wanted, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert data.labelled == (name in own_networks.CLASSIFIERS)
