"""Integer quantization: weights are rounded to integers of few bits times a scale."""

from dataclasses import dataclass

from paretoscope.recipe.conditions import (
    BINARY,
    BY_RATE,
    FULL_PRECISION,
    INTEGER_BITS,
    QUANTIZED,
    Calibration,
    quantized,
    shared,
    spread,
)
from paretoscope.recipe.schema import Effect, Settings, check, setting
from paretoscope.recipe.values import Choice, Either, Field, Number, Switch, Term, Whole

__all__ = ["BITS", "Calibration", "Granularity", "Quantize", "Weighting"]

BITS = (*range(1, 17), FULL_PRECISION)


class Granularity(Term):
    """How many weights share one scale."""

    CHANNEL = "channel", "per output channel"
    TENSOR = "tensor", "per tensor"


class Weighting(Term):
    """How the harm of an error of a weight is estimated."""

    FISHER = "fisher", "calibration samples (Fisher)"
    MAGNITUDE = "magnitude", "magnitudes alone"


def _calibrated(settings: Settings) -> bool:
    return spread(settings) and (settings["calibration"] != Calibration.RATE or settings["clusters"] is None)


@dataclass(frozen=True, slots=True)
class Quantize:
    """Integer quantization: weights are rounded to `bits`-bit integers times a scale; 1 bit is binarization.

    bits: 32 (off), or 1..16. granularity: one scale per output "channel" or per "tensor".
    calibration: scale from the "range" (largest magnitude), or a clipping of least squared error ("mse"), at a
    "percentile" of the magnitudes (`percentile`, of 100) or of least KL divergence ("kl"); or by "rate" and harm: steps
    of all layers allotted by one `exchange` rate, the harm (nats of mean KL divergence from the baseline) that saving
    a kilobyte may cost, and codes on the trellis of dependent quantization, of at most `bits` bits. Harm is weighted
    by `weighting`: "fisher", measured on calibration samples, or "magnitude", a rule for weights without data.
    symmetric: False adds a zero point, for weights that are not centred. A shared codebook always has one symmetric
    scale per tensor.
    1 bit only: the scale is the mean magnitude ("mse"), whatever the calibration; `power_of_two` rounds it;
    `ternary` > 0 zeroes weights below `ternary` times the mean magnitude (Ternary Weight Networks: 0.7).
    activations: 32 for floats, or 8, so that layers whose weights have at most 8 bits run on integer kernels.
    """

    bits: int = setting(
        of=Whole(
            among=BITS,
            rule="32 or 1..16",
            remedy="Pass e.g. 8, or 32 for none.",
            allowed="1 to 16, or 32",
            offered=(FULL_PRECISION, 16, 8, 7, 6, 5, 4, 3, 2, 1),
            said=lambda value: {FULL_PRECISION: "32 (off)", 1: "1 (binary)"}.get(value, str(value)),
        ),
        off=FULL_PRECISION,
        label="Quantization bits",
        help="Bits of each weight, or of each entry of the codebook. 32: floats as they are; 1: signs alone.",
        reference="bit width of uniform quantization, Krishnamoorthi 2018; 1 bit: binarization, Rastegari et al. 2016",
        sample="8",
        prominent=True,
        written=True,
    )
    granularity: str = setting(
        "channel",
        of=Choice(Granularity),
        label="Scales",
        help="How many weights share one scale: those of an output channel, or of a layer.",
        reference="per-channel or per-tensor quantization, Krishnamoorthi 2018",
        effect=Effect(
            lambda s: quantized(s) and not shared(s),
            "16 bits or fewer and no clusters",
            lambda s: {**QUANTIZED, "clusters": None},
            layers=True,
        ),
        written=True,
    )
    calibration: str = setting(
        "range",
        of=Choice(Calibration),
        label="Scale from",
        help="What the scale is chosen by. By rate and harm: finer where errors do harm, coarser where they do not, "
        "over all layers; the bits are then the most that a code may have.",
        reference="calibration (clipping) of the range; by rate: rate-distortion optimised dependent (trellis coded) "
        "quantization, Haase et al. 2020",
        effect=Effect(
            _calibrated,
            "2 to 16 bits (and, if it is rate, no clusters)",
            lambda s: {**QUANTIZED, "clusters": None} if s["calibration"] == Calibration.RATE else QUANTIZED,
            layers=True,
            tried="range",
        ),
        # The mean magnitude is the scale of least squared error.
        idle=lambda s: "mse" if s["bits"] == 1 else "range",
        written=True,
    )
    percentile: float = setting(
        99.9,
        of=Number(50, 100, above=True, remedy="Pass e.g. 99.9.", field=Field(50.1, 100.0, 0.1)),
        label="Percentile",
        help="With the percentile only: magnitudes above it are clipped.",
        reference="percentile calibration",
        effect=Effect(
            lambda s: spread(s) and s["calibration"] == Calibration.PERCENTILE,
            "2 to 16 bits and calibration percentile",
            lambda s: {**QUANTIZED, "calibration": "percentile"},
            layers=True,
        ),
    )
    symmetric: bool = setting(
        True,
        of=Switch(),
        flag="--asymmetric",
        label="Symmetric",
        help="A grid around zero. Off: a zero point lets it sit off centre; a shared table is always symmetric.",
        reference="symmetric or affine (asymmetric) quantization, Jacob et al. 2018",
        effect=Effect(
            lambda s: spread(s) and s["calibration"] != Calibration.RATE and not shared(s),
            "2 to 16 bits, no clusters and another calibration than rate",
            lambda s: {**QUANTIZED, "clusters": None, "calibration": "range"},
            layers=True,
        ),
    )
    power_of_two: bool = setting(
        False,
        of=Switch(),
        label="Power of two (1 bit)",
        help="With 1 bit: magnitudes are powers of two, so that multiplying is a shift.",
        reference="power-of-two scales",
        effect=BINARY,
    )
    ternary: float = setting(
        0.0,
        of=Number(
            0,
            3,
            remedy="Pass e.g. 0.7, or 0 for none.",
            offered=(0.0, 0.3, 0.5, 0.7, 0.9, 1.2),
            said=lambda value: "off" if value == 0 else f"{value:g} of the mean",
        ),
        label="Ternary threshold (1 bit)",
        help="With 1 bit: weights below this share of the mean magnitude become zero; 0 is binary.",
        reference="threshold of ternary weight networks, Li et al. 2016, who derive 0.7",
        effect=BINARY,
    )
    exchange: float = setting(
        1e-5,
        of=Number(
            1e-12,
            1e3,
            remedy="Pass e.g. 1e-5.",
            ends="[1e-12, 1e3]",
            offered=tuple(float(f"{10 ** (place / 4):.2g}") for place in range(-32, 1)),
            said=lambda value: f"{value:.2g} nats a KB",
        ),
        flag="--lambda",
        label="Exchange rate",
        help="The harm (mean KL divergence from the baseline's outputs, in nats) that saving a kilobyte may cost. One "
        "rate for all layers; a higher one makes the file smaller.",
        reference="lambda, the Lagrange multiplier of rate-distortion optimisation, Shoham and Gersho 1988",
        effect=BY_RATE,
    )
    weighting: str = setting(
        "fisher",
        of=Choice(Weighting),
        label="Harm by",
        help="What tells how much an error of a weight harms: calibration samples, or the size of the weights.",
        reference="diagonal Fisher information (Optimal Brain Surgeon, Hassibi and Stork 1992), or a data-free rule",
        effect=BY_RATE,
        whole=True,
    )
    activations: int = setting(
        FULL_PRECISION,
        of=Either(INTEGER_BITS, FULL_PRECISION, "Pass 8 for integer kernels, or 32."),
        label="Integer kernels",
        help="8, with weights of 8 bits or fewer: what flows between the layers is rounded to 8 bits too, so that the "
        "network runs on integers. All figures are then those of the integer network.",
        reference="activation quantization, integer-arithmetic-only inference, Jacob et al. 2018",
        effect=Effect(lambda s: s["bits"] <= INTEGER_BITS, "8 bits or fewer", lambda s: QUANTIZED),
        whole=True,
    )

    def __post_init__(self) -> None:
        check(self)
        binary = self.bits == 1
        rate = self.calibration == Calibration.RATE and not binary
        effective = {
            # The mean magnitude is the scale of least squared error; digests of 1-bit recipes depend on this name.
            "calibration": Calibration.MSE.value if binary else self.calibration,
            "percentile": self.percentile if self.calibration == Calibration.PERCENTILE and not binary else 99.9,
            "symmetric": self.symmetric or binary or rate,
            "exchange": self.exchange if rate else 1e-5,
            "weighting": self.weighting if rate else Weighting.FISHER.value,
            "power_of_two": self.power_of_two and binary,
            "ternary": self.ternary if binary else 0.0,
            "activations": self.activations if self.bits <= INTEGER_BITS else FULL_PRECISION,
        }
        for name, value in effective.items():
            object.__setattr__(self, name, value)

    def describe(self) -> list[str]:
        """Words for a person, settings that are not the default named."""
        binary = f"ternary ({self.ternary:g})" if self.ternary else "binary"
        clipping: dict[str, list[str]] = {
            Calibration.RANGE: [],
            Calibration.PERCENTILE: [f"{self.percentile:g}th percentile"],
            Calibration.RATE: [
                f"{self.exchange:g} nats a KB",
                *["weighted by magnitude"] * (self.weighting == Weighting.MAGNITUDE),
            ],
        }
        most = "at most " * (self.calibration == Calibration.RATE)
        return [
            binary if self.bits == 1 else f"{most}{self.bits} bits",
            *["per tensor"] * (self.granularity == Granularity.TENSOR),
            *(clipping.get(self.calibration, [self.calibration]) if self.bits > 1 else []),
            *["asymmetric"] * (not self.symmetric),
            *["power of two"] * self.power_of_two,
            *["integer kernels"] * (self.activations == INTEGER_BITS),
        ]
