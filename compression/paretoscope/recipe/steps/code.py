"""How the artefact is written."""

from dataclasses import dataclass

from paretoscope.recipe.conditions import QUANTIZED_BY_RATE, Rest, by_rate
from paretoscope.recipe.schema import Effect, check, setting
from paretoscope.recipe.values import Choice, Term

__all__ = ["Code", "Coder", "Rest"]


class Coder(Term):
    """The entropy coder of the weight codes."""

    ANS = "ans", "ANS"
    HUFFMAN = "huffman", "Huffman"
    CONTEXT = "context", "context mixing"
    SMALLEST = "smallest", "context mixing, smallest"


@dataclass(frozen=True, slots=True)
class Code:
    """How the artefact is written.

    coder: entropy coder of the weight codes: "ans" (asymmetric numeral systems) or "huffman" by how often each code
    occurs, "context" by what was coded before it, or "smallest", the same with more effort.
    rest: format of biases and normalisation parameters, "fp32", "fp16", or "rate": integers whose step follows from the
    exchange rate of quantization (fp16 for what has no gradient, and where quantization is not by rate).
    """

    coder: str = setting(
        "ans",
        of=Choice(Coder),
        label="Entropy coder",
        help="How the codes are written to the file, without loss; the smallest takes longest.",
        reference="entropy coding: asymmetric numeral systems, Duda 2013; Huffman 1952; context mixing, Mahoney 2005",
        written=True,
    )
    rest: str = setting(
        "fp32",
        of=Choice(Rest),
        label="Biases and normalisation",
        help="Format of the parameters that are not compressed otherwise; by rate and harm: integers.",
        reference="precision of biases and normalisation parameters",
        effect=Effect(
            lambda s: s["rest"] != Rest.RATE or by_rate(s),
            "fp32 or fp16, or rate beside 2 to 16 bits, calibration rate and no clusters",
            lambda s: QUANTIZED_BY_RATE,
            tried="fp32",
        ),
        written=True,
    )

    def __post_init__(self) -> None:
        check(self)
