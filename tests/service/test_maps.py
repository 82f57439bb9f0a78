"""Maps of classes of two recipes against what the networks give."""

import numpy as np
import own_networks
import pytest
import torch
from paretoscope.base.errors import ModelError
from paretoscope.measure.subject import Subject
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.maps import OTHER, mapped, maps
from paretoscope.tasks import tasks

PLACES = (7, 0, 3)


def subject(name: str) -> Subject:
    network = own_networks.network(name)
    return Subject.of(network, own_networks.data(name), tasks.get(network.task)(()))


@pytest.mark.slow
def test_maps_are_the_largest_classes_and_mark_where_they_differ() -> None:
    unet = subject("unet")
    assert mapped(unet.network)
    samples = own_networks.data("unet").test[list(PLACES)]
    before, after = Recipe(), Recipe.of(bits=2)
    with torch.inference_mode():
        was, now = (unet.decoded(unet.compress(each))(samples) for each in (before, after))
    shades = was.shape[1] - 1
    found = maps(unet, before, after, PLACES)
    assert len(found) == len(PLACES)
    for (one, other), plain, changed in zip(found, was.argmax(1).numpy(), now.argmax(1).numpy(), strict=True):
        assert one.dtype == np.uint8 and (one == np.round(40 + 175 * plain / shades)[..., None]).all()
        differs = plain != changed
        assert differs.any() and (other[differs] == OTHER).all() and (other[~differs] == one[~differs]).all()


def test_a_network_without_maps_has_none() -> None:
    sensor = subject("sensor")
    assert not mapped(sensor.network)
    with pytest.raises(ModelError, match="maps are shown of networks with an output"):
        maps(sensor, Recipe(), Recipe(), PLACES)
