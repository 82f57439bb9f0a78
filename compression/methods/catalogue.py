"""What each method does, in words, as a formula and with its source: the text of the Methods page."""

from dataclasses import dataclass

from compression.recipe import MAX_CLUSTERS, MIN_CLUSTERS, Prune, Quantize, Recipe, Share
from compression.registry import Registry


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a method: its name in a recipe, its allowed values and what it changes."""

    name: str
    values: str
    meaning: str


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """A method as the screen shows it.

    summary: for a reader without the mathematics. formula: LaTeX. reference: Markdown.
    step: the recipe's field that it is a part of, or None for the recipe as a whole.
    example: a recipe of this method alone, to show where the current recipe does without it.
    """

    name: str
    title: str
    summary: str
    formula: str
    settings: tuple[Setting, ...]
    reference: str
    step: str | None
    example: Recipe

    def used_by(self, recipe: Recipe) -> bool:
        """Whether this method does something in that recipe."""
        if self.name == "combine":
            return recipe != Recipe()
        if self.step == "quantize":
            return recipe.quantize is not None and (recipe.bits == 1) == (self.name == "binarize")
        return getattr(recipe, self.step) is not None

    def alone(self, recipe: Recipe) -> Recipe:
        """What of that recipe is this method, without the other steps; the example where there is nothing of it."""
        if not self.used_by(recipe):
            return self.example
        return recipe if self.step in (None, "code") else Recipe(**{self.step: getattr(recipe, self.step)})


methods: Registry[MethodEntry] = Registry("method")

methods.add(
    MethodEntry(
        name="combine",
        title="How the steps combine",
        summary=(
            "A recipe runs up to four steps, always in the same order: remove the weights that matter least, let the "
            "rest share a few values, round those values to a coarse grid, and write the result down with as few "
            "bits as possible. Each step makes the next one's work easier: many zeros and few different values are "
            "cheap to write down."
        ),
        formula=(
            r"\begin{gathered} w \;\xrightarrow{\text{prune}}\; w \odot m \;\xrightarrow{\text{share}}\; c_{a(i)} \\ "
            r"\xrightarrow{\text{quantize}}\; s\,q_{a(i)} \;\xrightarrow{\text{code}}\; \text{bits} \end{gathered}"
        ),
        settings=(
            Setting("prune", "on or off", "zero is its own symbol; sharing only groups the weights that survive"),
            Setting("share", "on or off", "the entries of the shared table are what gets rounded"),
            Setting("quantize", "on or off", "8 bits and below run on integer kernels"),
            Setting("code", "always on", "without loss: what is read back is exactly what was measured"),
        ),
        reference=(
            "Han, Mao and Dally, *Deep Compression: compressing deep neural networks with pruning, trained "
            "quantization and Huffman coding*, ICLR 2016, [arXiv:1510.00149](https://arxiv.org/abs/1510.00149)"
        ),
        step=None,
        example=Recipe.of(sparsity=0.8, clusters=16, bits=8),
    )
)

methods.add(
    MethodEntry(
        name="prune",
        title="Magnitude pruning",
        summary=(
            "Most weights of a trained network are close to zero and hardly change its answers. Pruning sets the "
            "smallest ones to exactly zero. A zero costs almost nothing to store, so the file shrinks; ordinary "
            "kernels still multiply by it, so the network does not get faster by this alone."
        ),
        formula=(
            r"\begin{gathered} \hat w_i = \begin{cases} 0 & |w_i| \le t \\ w_i & \text{otherwise} \end{cases} "
            r"\\[0.6em] t = \text{the } \lfloor s\,n \rfloor\text{-th smallest } |w_i| \end{gathered}"
        ),
        settings=(
            Setting("sparsity", "0 to below 1", "s, the fraction of the weights that becomes zero"),
            Setting("scope", "global or layer", "rank all layers together, or take the same fraction of each"),
        ),
        reference=(
            "Han, Pool, Tran and Dally, *Learning both weights and connections for efficient neural networks*, "
            "NeurIPS 2015, [arXiv:1506.02626](https://arxiv.org/abs/1506.02626)"
        ),
        step="prune",
        example=Recipe(prune=Prune(0.8)),
    )
)

methods.add(
    MethodEntry(
        name="share",
        title="Weight sharing",
        summary=(
            "Instead of millions of slightly different numbers, each layer keeps a short table of typical values, "
            "and every weight only says which of them it uses. The table is chosen so that the weights move as "
            "little as possible."
        ),
        formula=(
            r"\begin{gathered} \min_{c,\,a} \sum_{i:\,w_i \ne 0} \bigl(w_i - c_{a(i)}\bigr)^2 \\ "
            r"a(i) \in \{1, \dots, k\} \end{gathered}"
        ),
        settings=(
            Setting(
                "clusters",
                f"{MIN_CLUSTERS} to {MAX_CLUSTERS}, or off",
                "k, the values in a layer's table; an index takes at most log2(k + 1) bits, zero included",
            ),
        ),
        reference=(
            "Han, Mao and Dally, *Deep Compression*, section 3, [arXiv:1510.00149](https://arxiv.org/abs/1510.00149). "
            "One-dimensional k-means: Wang and Song, *Ckmeans.1d.dp*, The R Journal 2011"
        ),
        step="share",
        example=Recipe(share=Share(16)),
    )
)

methods.add(
    MethodEntry(
        name="quantize",
        title="Integer quantization",
        summary=(
            "Weights are rounded to whole numbers on an evenly spaced grid, with one scale factor to turn them back. "
            "Fewer bits mean a coarser grid and a smaller file. With 8 bits or fewer the network can run on integer "
            "kernels, which is what makes it faster on processors that have them."
        ),
        formula=(
            r"\begin{gathered} q = \operatorname{clip}\bigl(\lfloor w / s \rceil, -L, L\bigr), \quad L = 2^{b-1} - 1 "
            r"\\ \hat w = s\,q \\ s = \tfrac{1}{L} \max |w| \;\text{ or }\; \arg\min_s \lVert w - \hat w \rVert^2"
            r"\end{gathered}"
        ),
        settings=(
            Setting("bits", "2 to 8, 16 or 32", "b, the bits of a code; 32 leaves the weights as they are"),
            Setting("granularity", "channel or tensor", "one scale s for each output channel, or one for the layer"),
            Setting("calibration", "range or mse", "s from the largest weight, or the one of least squared error"),
        ),
        reference=(
            "Krishnamoorthi, *Quantizing deep convolutional networks for efficient inference*, 2018, "
            "[arXiv:1806.08342](https://arxiv.org/abs/1806.08342)"
        ),
        step="quantize",
        example=Recipe(quantize=Quantize(4)),
    )
)

methods.add(
    MethodEntry(
        name="binarize",
        title="Binarization",
        summary=(
            "The extreme: of each weight only the sign is kept, one bit, and all weights of a channel share one "
            "magnitude. The file becomes tiny. Without training the network again, accuracy usually collapses, and "
            "the accuracy plot shows it."
        ),
        formula=(
            r"\begin{gathered} \hat w_i = \alpha \operatorname{sign}(w_i) \\ "
            r"\alpha = \max |w| \;\text{ or }\; \tfrac{1}{n} \textstyle\sum |w_i| \end{gathered}"
        ),
        settings=(
            Setting("bits", "1", "chooses binarization"),
            Setting("granularity", "channel or tensor", "one magnitude for each output channel, or one for the layer"),
            Setting(
                "calibration", "range or mse", "the largest magnitude, or the mean one, which has least squared error"
            ),
        ),
        reference=(
            "Rastegari, Ordonez, Redmon and Farhadi, *XNOR-Net*, ECCV 2016, "
            "[arXiv:1603.05279](https://arxiv.org/abs/1603.05279)"
        ),
        step="quantize",
        example=Recipe(quantize=Quantize(1, granularity="tensor", calibration="mse")),
    )
)

methods.add(
    MethodEntry(
        name="code",
        title="Entropy coding",
        summary=(
            "Values that occur often get short codes and rare ones long codes, as in Morse. Nothing is lost: the "
            "file decodes to exactly the weights that were measured. Huffman gives every value a whole number of "
            "bits; asymmetric numeral systems (ANS) get by with fractions of a bit, which pays when one value, such "
            "as zero, dominates."
        ),
        formula=(
            r"\begin{gathered} H = -\sum_v p_v \log_2 p_v \;\text{ bits per weight} \\ "
            r"\text{ANS} \approx H, \quad H \le \text{Huffman} < H + 1 \end{gathered}"
        ),
        settings=(
            Setting("coder", "ans or huffman", "which of the two writes the file"),
            Setting(
                "rest", "fp32 or fp16", "the format of biases and normalisation parameters, which are never left out"
            ),
        ),
        reference=(
            "Huffman, *A method for the construction of minimum-redundancy codes*, Proceedings of the IRE 1952. "
            "Duda, *Asymmetric numeral systems*, 2013, [arXiv:1311.2540](https://arxiv.org/abs/1311.2540)"
        ),
        step="code",
        example=Recipe(),
    )
)
