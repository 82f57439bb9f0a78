"""When settings have an effect, in terms of other settings: what the descriptions of several steps share."""

from collections.abc import Mapping
from typing import Any

from paretoscope.recipe.schema import Effect, Settings
from paretoscope.recipe.values import Term

FULL_PRECISION = 32
INTEGER_BITS = 8
# Among the settings of a plan: whether an override gives a rule of pruning, so that the layer is pruned alone.
ALONE = "alone"


class Calibration(Term):
    """How the scale is chosen."""

    RANGE = "range", "largest weight"
    MSE = "mse", "least squared error"
    PERCENTILE = "percentile", "percentile of the weights"
    KL = "kl", "least KL divergence"
    RATE = "rate", "by rate and harm"


class Rest(Term):
    """The format of what is not compressed otherwise."""

    FP32 = "fp32", "fp32"
    FP16 = "fp16", "fp16"
    RATE = "rate", "by rate and harm"


# Examples of what gives other settings an effect.
PRUNED = {"sparsity": 0.5}
SHARED = {"clusters": 16}
QUANTIZED = {"bits": 8}
TRAINED = {"epochs": 10}
QUANTIZED_BY_RATE: Mapping[str, Any] = {"bits": 8, "clusters": None, "calibration": Calibration.RATE.value}


def quantized(settings: Settings) -> bool:
    """Whether weights are rounded to fewer than 32 bits."""
    return bool(settings["bits"] < FULL_PRECISION)


def spread(settings: Settings) -> bool:
    """Whether weights are rounded to a grid of 2 bits or more; 1 bit has the mean magnitude for its scale."""
    return bool(1 < settings["bits"] < FULL_PRECISION)


def by_rate(settings: Settings) -> bool:
    """Whether the steps of the grids follow from the exchange rate."""
    return spread(settings) and settings["calibration"] == Calibration.RATE and settings["clusters"] is None


def shared(settings: Settings) -> bool:
    """Whether weights are shared."""
    return settings["clusters"] is not None


def trained(settings: Settings) -> bool:
    """Whether there is training."""
    return bool(settings["epochs"] > 0)


def pruned(settings: Settings) -> bool:
    """Whether one of the three rules of pruning is set."""
    return bool(settings["sparsity"] or settings["threshold"] or settings["pattern"])


def changed(settings: Settings) -> bool:
    """Whether weights or other parameters change."""
    anything = pruned(settings) or shared(settings) or quantized(settings)
    return anything or settings["batchnorm"] or settings["rest"] != Rest.FP32


SHARING = Effect(shared, "clusters", lambda s: SHARED, layers=True)
TRAINING = Effect(trained, "epochs", lambda s: TRAINED)
BINARY = Effect(lambda s: s["bits"] == 1, "1 bit", lambda s: {"bits": 1}, layers=True)
BY_RATE = Effect(by_rate, "2 to 16 bits, calibration rate and no clusters", lambda s: QUANTIZED_BY_RATE, layers=True)
