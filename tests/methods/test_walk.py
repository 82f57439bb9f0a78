"""Every model of the zoo on digits, every calibration, granularity and number of bits: no channel loses its largest
weight unless its step says so, and harm does not rise with bits.

Tolerance: with more bits the mean KL divergence over the images below is at most RISE times that of the best with
fewer, and beyond that what float32 rounds. What is farther from the baseline than a network of zeros is ruined, and
counts as that: 1 bit without training may be better than 2 of them that reach to the largest weight.
"""

import copy

import numpy as np
import pytest
import torch
from paretoscope.methods.pipeline import compress
from paretoscope.model.statistics import ModelStatistics
from paretoscope.networks.zoo import load_data, load_model, models, models_of
from paretoscope.recipe.recipe import CALIBRATIONS, GRANULARITIES, Recipe

pytestmark = pytest.mark.slow

IMAGES = 20
# On so few images: 2.3 at most.
RISE, ROUNDING = 3.0, 1e-6
# Harm takes a pass through the network each time, paths of the trellis their time for each weight: less often, where
# that is long.
PASSES = {"resnet-20": (1, 2, 4, 8, 12, 16)}
PATHS = dict.fromkeys(("lenet-300-100", "lenet-5", "simple-cnn"), (1, 2, 3, 4, 6, 9, 10, 12, 14, 16))


def settings_of(bits: int, calibration: str, granularity: str) -> dict:
    # So fine a rate that the bits decide.
    rate = {"exchange": 1e-9, "weighting": "magnitude"} if calibration == "rate" and bits > 1 else {}
    return {"bits": bits, "calibration": calibration, "granularity": granularity, **rate}


def lost(statistics: ModelStatistics, compressed) -> list[str]:
    """Layers with a channel whose largest weight is two steps or more, and decodes to zero."""
    found = []
    for name, layer in statistics.layers.items():
        rows, decoded = (each.reshape(len(layer.weight), -1) for each in (layer.weight, compressed.decode(name)))
        place = np.abs(rows).argmax(axis=1)[:, None]
        largest = np.abs(np.take_along_axis(rows, place, axis=1))[:, 0]
        gone = np.take_along_axis(decoded, place, axis=1)[:, 0] == 0
        found += [name] * bool((gone & (largest >= 2 * compressed.weights[name].scale)).any())
    return found


@pytest.mark.parametrize("name", models_of("digits"))
def test_the_largest_weights_stay_and_harm_falls_with_bits(name):
    model = load_model(name)
    statistics, network = ModelStatistics.of(model, name), copy.deepcopy(model)
    images = load_data("digits", models.get(name).input_shape).test_images[:IMAGES]

    def harm_of(module) -> float:
        with torch.no_grad():
            answer = module(images).log_softmax(dim=1)
        return float((reference.exp() * (reference - answer)).sum(dim=1).mean())

    with torch.no_grad():
        reference = model(images).log_softmax(dim=1)
    state = network.state_dict()
    for weight in statistics.layers:
        state[weight].zero_()
    ruined = harm_of(network)
    for calibration in CALIBRATIONS:
        for granularity in GRANULARITIES:
            best = ruined
            for bits in PATHS.get(name, range(1, 17)) if calibration == "rate" else range(1, 17):
                where = f"{name}, {calibration}, {granularity}, {bits} bits"
                compressed = compress(statistics, Recipe.of(**settings_of(bits, calibration, granularity)))
                assert not lost(statistics, compressed), where
                if bits not in PASSES.get(name, range(17)):
                    continue
                harm = min(harm_of(compressed.load_into(network)), ruined)
                assert harm <= RISE * best + ROUNDING, where
                best = min(best, harm)
