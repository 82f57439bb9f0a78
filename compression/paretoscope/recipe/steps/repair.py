"""What wins back accuracy without training, from calibration samples of the train split."""

from dataclasses import dataclass

from paretoscope.recipe.conditions import QUANTIZED, changed, quantized, shared
from paretoscope.recipe.schema import Effect, check, setting
from paretoscope.recipe.values import Choice, Switch, Term


class Rounding(Term):
    """How weights are rounded to the grid."""

    NEAREST = "nearest", "each weight to the nearest"
    GPTQ = "gptq", "with error compensation (GPTQ)"


@dataclass(frozen=True, slots=True)
class Repair:
    """What wins back accuracy without training, from calibration samples of the train split.

    rounding: "nearest", or "gptq", which lets each column of weights make good the rounding errors of those before.
    bias: shifts each layer's output back to the mean that it had. batchnorm: re-estimates the statistics of batch
    normalisation; with bias, so that its outputs have the mean and the spread that they had. Of a recipe with training,
    repair is of the start alone; see training.train.
    """

    rounding: str = setting(
        "nearest",
        of=Choice(Rounding),
        label="Rounding",
        help="With error compensation, weights that are rounded later make good the errors of those before.",
        reference="GPTQ (optimal brain quantization column by column), Frantar et al. 2023",
        effect=Effect(
            lambda s: quantized(s) or shared(s),
            "something to round: bits or clusters",
            lambda s: QUANTIZED,
            layers=True,
        ),
    )
    bias: bool = setting(
        False,
        of=Switch(),
        label="Correct biases",
        help="Each layer's mean output goes back to where it was. At few bits re-estimate batch norm too: with means "
        "alone the outputs of a deep network shrink.",
        reference="bias correction, Nagel et al. 2019",
        effect=Effect(changed, "weights that change: sparsity, clusters or bits", lambda s: QUANTIZED, layers=True),
    )
    batchnorm: bool = setting(
        False,
        of=Switch(),
        label="Re-estimate batch norm",
        help="The means and variances of batch normalisation are measured anew; with corrected biases they are set so "
        "that its outputs have the means and variances of the uncompressed network.",
        reference="batch normalisation re-estimation, Sun et al. 2019",
    )

    def __post_init__(self) -> None:
        check(self)

    def describe(self) -> list[str]:
        """Words for a person, settings that are not the default named."""
        return [
            *["gptq"] * (self.rounding == Rounding.GPTQ),
            *["bias corrected"] * self.bias,
            *["batch norm re-estimated"] * self.batchnorm,
        ]
