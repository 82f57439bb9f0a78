"""Entropy coding, in words: `paretoscope.codec` does it, where a compressed model becomes a file."""

from paretoscope.methods.catalogue import MethodEntry, Picture, Section, explained
from paretoscope.recipe.recipe import Recipe

METHODS = (
    MethodEntry(
        name="code",
        title="Entropy coding",
        summary=(
            "Values that occur often get short codes and rare ones long codes, as in Morse. Nothing is lost: the "
            "file decodes to exactly the weights that were measured. Huffman gives every value a whole number of "
            "bits; asymmetric numeral systems (ANS) get by with fractions of a bit, which pays when one value, such "
            "as zero, dominates. Context mixing expects each weight anew from those around it, in its row, its column "
            "and its kernel, and so gets below the entropy that the other two are bound to."
        ),
        formula=(
            r"\begin{gathered} H = -\sum_v p_v \log_2 p_v \;\text{ bits per weight} \\ "
            r"\text{ANS} \approx H, \quad H \le \text{Huffman} < H + 1 \\ "
            r"\text{context: } -\textstyle\sum_i \log_2 p(v_i \mid v_1, \dots, v_{i-1}) \end{gathered}"
        ),
        settings=explained(coder="", rest=""),
        reference=(
            "Huffman, *A method for the construction of minimum-redundancy codes*, Proceedings of the IRE 1952. "
            "Duda, *Asymmetric numeral systems*, 2013, [arXiv:1311.2540](https://arxiv.org/abs/1311.2540). Mahoney, "
            "*Adaptive weighing of context models for lossless data compression*, 2005"
        ),
        section=Section.CODE,
        example=Recipe(),
        used_by=lambda recipe: True,
        picture=Picture.SIZE,
    ),
)
