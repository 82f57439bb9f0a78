"""What each method does, in words, as a formula and with its source: the text of the Methods page.

It is one file, though long, because it is one text, in the order in which the page shows it.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from paretoscope.base.registry import Registry
from paretoscope.recipe.recipe import (
    SETTINGS,
    STEPS,
    Override,
    Prune,
    Quantize,
    Recipe,
    Recover,
    Repair,
    Share,
    Simplify,
)


@dataclass(frozen=True, slots=True)
class Row:
    """What a method can be told: a name, as a setting's in a recipe, what is allowed, and what it means."""

    name: str
    values: str
    meaning: str


def explained(**symbols: str) -> tuple[Row, ...]:
    """The rows of these settings, from the schema; each with its symbol in the formula, in LaTeX, "" for none."""
    rows = []
    for name, symbol in symbols.items():
        setting = SETTINGS[name]
        rows.append(Row(name, setting.kind.values, f"{f'${symbol}$: ' if symbol else ''}{setting.explained}"))
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """A method as the screen shows it.

    summary: for a reader without the mathematics. formula: LaTeX. reference: Markdown.
    step: the recipe's field that it is a part of, or None for the recipe as a whole.
    example: a recipe of this method alone, to show where the current recipe does without it.
    used_by: whether this method does something in a recipe.
    picture: what shows it best, the weights of one "layer" before and after, the "size" of the whole model, or "none".
    """

    name: str
    title: str
    summary: str
    formula: str
    settings: tuple[Row, ...]
    reference: str
    step: str | None
    example: Recipe
    used_by: Callable[[Recipe], bool]
    picture: str = "layer"

    def alone(self, recipe: Recipe) -> Recipe:
        """What of that recipe is this method, without the other steps; the example where there is nothing of it.

        Repair and training need something to mend, so that they come with the whole recipe.
        """
        if not self.used_by(recipe):
            return self.example
        if self.step in (None, "repair", "recover", "code"):
            return recipe
        if self.step == "simplify":
            names = {setting.name for setting in self.settings}
        else:
            names = {field.name for field in dataclasses.fields(STEPS[self.step])}
        return Recipe.of(**{name: value for name, value in recipe.settings().items() if name in names})


methods: Registry[MethodEntry] = Registry("method")

methods.add(
    MethodEntry(
        name="combine",
        title="How the steps combine",
        summary=(
            "A recipe runs up to seven steps, always in the same order: make the network itself smaller, remove the "
            "weights that matter least, let the rest share a few values, round those values to a coarse grid, repair "
            "what can be repaired without training, train what is left, and write the result down with as few bits as "
            "possible. Each step makes the next one's work easier: many zeros and few different values cost few bits."
        ),
        formula=(
            r"\begin{gathered} f \;\xrightarrow{\text{simplify}}\; w \;\xrightarrow{\text{prune}}\; w \odot m "
            r"\;\xrightarrow{\text{share}}\; c_{a(i)} \\ \xrightarrow{\text{quantize}}\; s\,q_{a(i)} "
            r"\;\xrightarrow{\text{repair}}\; s\,q'_{a(i)} \;\xrightarrow{\text{recover}}\; s'\,q''_{a(i)} "
            r"\;\xrightarrow{\text{code}}\; \text{bits} \end{gathered}"
        ),
        settings=(
            Row("simplify", "on or off", "fewer channels, neurons and layers; all later steps see the result"),
            Row("prune", "on or off", "zero is its own symbol; sharing only groups the weights that survive"),
            Row("share", "on or off", "the entries of the shared table are what gets rounded"),
            Row("quantize", "on or off", "8 bits and below run on integer kernels"),
            Row("repair", "on or off", "uses samples of the training split, never of the test split"),
            Row("recover", "on or off", "takes minutes; the result still follows all the other steps"),
            Row("code", "always on", "without loss: what is read back is exactly what was measured"),
        ),
        reference=(
            "Han, Mao and Dally, *Deep Compression: compressing deep neural networks with pruning, trained "
            "quantization and Huffman coding*, ICLR 2016, [arXiv:1510.00149](https://arxiv.org/abs/1510.00149)"
        ),
        step=None,
        example=Recipe.of(sparsity=0.8, clusters=16, bits=8),
        used_by=lambda recipe: recipe != Recipe(),
    )
)

methods.add(
    MethodEntry(
        name="fewer-nodes",
        title="Simplify: fewer nodes",
        summary=(
            "Whole channels and neurons are taken out of the network, those first whose weights say least. What is "
            "left is an ordinary, narrower network: smaller on any device and faster with any kernel. Where layers are "
            "tied together, by a residual connection or a normalisation, the same channels go from all of them."
        ),
        formula=(
            r"\begin{gathered} I_c = \lVert W_c^{\text{makes}} \rVert_p\,\lVert W_c^{\text{uses}} \rVert_p \;\text{ or "
            r"}\; |\gamma_c| \\ \text{of each } C \text{ channels, remove the } \lfloor \rho\,C \rfloor "
            r"\text{ of least } I_c \end{gathered}"
        ),
        settings=explained(nodes=r"\rho", importance=""),
        reference=(
            "Li et al., *Pruning filters for efficient ConvNets*, ICLR 2017, "
            "[arXiv:1608.08710](https://arxiv.org/abs/1608.08710). Fang et al., *DepGraph: towards any structural "
            "pruning*, CVPR 2023, [arXiv:2301.12900](https://arxiv.org/abs/2301.12900)"
        ),
        step="simplify",
        example=Recipe(simplify=Simplify(nodes=0.5)),
        used_by=lambda recipe: recipe.simplify is not None and recipe.simplify.nodes > 0,
        picture="size",
    )
)

methods.add(
    MethodEntry(
        name="fewer-layers",
        title="Simplify: fewer layers",
        summary=(
            "A deep network often does almost as well with some of its blocks left out, because the shortcut around a "
            "block carries most of the signal. Besides, some layers are there for training only: a batch normalisation "
            "can be multiplied into the convolution before it, and two linear maps in a row are one. Those two change "
            "nothing but the last digits."
        ),
        formula=(
            r"\begin{gathered} x + F(x) \;\to\; x \\ \gamma\,\frac{W x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta "
            r"\;\to\; \frac{\gamma\,W}{\sqrt{\sigma^2 + \varepsilon}}\,x + "
            r"\Bigl(\beta - \frac{\gamma\,\mu}{\sqrt{\sigma^2 + \varepsilon}}\Bigr) "
            r"\\ W_2\,(W_1 x) \;\to\; (W_2 W_1)\,x \end{gathered}"
        ),
        settings=explained(drop="", blocks="", fold="", merge=""),
        reference=(
            "Veit, Wilber and Belongie, *Residual networks behave like ensembles of relatively shallow networks*, "
            "NeurIPS 2016, [arXiv:1605.06431](https://arxiv.org/abs/1605.06431). Folding: Jacob et al., "
            "[arXiv:1712.05877](https://arxiv.org/abs/1712.05877), section 3.2"
        ),
        step="simplify",
        example=Recipe(simplify=Simplify(fold=True)),
        used_by=lambda recipe: (
            recipe.simplify is not None
            and Simplify(
                drop=recipe.simplify.drop,
                blocks=recipe.simplify.blocks,
                fold=recipe.simplify.fold,
                merge=recipe.simplify.merge,
            )
            != Simplify()
        ),
        picture="size",
    )
)

methods.add(
    MethodEntry(
        name="low-rank",
        title="Low-rank layers",
        summary=(
            "A large matrix that mostly repeats a few patterns is nearly the product of two thin ones. A layer is "
            "replaced by such a pair where that takes fewer weights; how thin they may be is decided by how much of "
            "the matrix they must keep."
        ),
        formula=(
            r"\begin{gathered} W = U \Sigma V^{\top} \approx \bigl(U_r \Sigma_r^{1/2}\bigr)\bigl(\Sigma_r^{1/2} "
            r"V_r^{\top}\bigr) \\ r = \min \Bigl\{ r : \textstyle\sum_{i \le r} \sigma_i^2 \ge e \sum_i \sigma_i^2 "
            r"\Bigr\}, \quad r\,(m + n) < m\,n \end{gathered}"
        ),
        settings=explained(energy="e"),
        reference=(
            "Denton et al., *Exploiting linear structure within convolutional networks for efficient evaluation*, "
            "NeurIPS 2014, [arXiv:1404.0736](https://arxiv.org/abs/1404.0736)"
        ),
        step="simplify",
        example=Recipe(simplify=Simplify(energy=0.9)),
        used_by=lambda recipe: recipe.simplify is not None and recipe.simplify.energy < 1,
        picture="size",
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
        settings=explained(sparsity="s", scope=""),
        reference=(
            "Han, Pool, Tran and Dally, *Learning both weights and connections for efficient neural networks*, "
            "NeurIPS 2015, [arXiv:1506.02626](https://arxiv.org/abs/1506.02626)"
        ),
        step="prune",
        example=Recipe(prune=Prune(0.8)),
        used_by=lambda recipe: recipe.prune is not None and recipe.prune.sparsity > 0,
    )
)

methods.add(
    MethodEntry(
        name="threshold",
        title="Threshold pruning",
        summary=(
            "The same idea with the question turned round: instead of saying how many weights should go, say how small "
            "a weight must be to go. How sparse each layer becomes is then a result, and it is reported."
        ),
        formula=(r"\hat w_i = \begin{cases} 0 & |w_i| < t \\ w_i & \text{otherwise} \end{cases}"),
        settings=explained(threshold="t"),
        reference=(
            "Han, Pool, Tran and Dally, *Learning both weights and connections for efficient neural networks*, "
            "NeurIPS 2015, [arXiv:1506.02626](https://arxiv.org/abs/1506.02626)"
        ),
        step="prune",
        example=Recipe(prune=Prune(threshold=0.02)),
        used_by=lambda recipe: recipe.prune is not None and recipe.prune.threshold > 0,
    )
)

methods.add(
    MethodEntry(
        name="pattern",
        title="N:M pruning",
        summary=(
            "Zeros in a regular pattern: of every four neighbouring weights two stay, say. Some accelerators skip such "
            "zeros, which they cannot do with zeros in random places, so this kind of pruning can make a network "
            "faster there. A layer whose inputs do not divide into whole groups is left as it is."
        ),
        formula=(
            r"\hat w_i = \begin{cases} w_i & |w_i| \text{ among the } N \text{ largest of } M \\ "
            r"0 & \text{otherwise} \end{cases}"
        ),
        settings=explained(pattern=""),
        reference=(
            "Mishra et al., *Accelerating sparse deep neural networks*, 2021, "
            "[arXiv:2104.08378](https://arxiv.org/abs/2104.08378)"
        ),
        step="prune",
        example=Recipe(prune=Prune(pattern="2:4")),
        used_by=lambda recipe: recipe.prune is not None and recipe.prune.pattern != "",
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
        settings=explained(clusters="k", start=""),
        reference=(
            "Han, Mao and Dally, *Deep Compression*, section 3, [arXiv:1510.00149](https://arxiv.org/abs/1510.00149). "
            "One-dimensional k-means: Wang and Song, *Ckmeans.1d.dp*, The R Journal 2011"
        ),
        step="share",
        example=Recipe(share=Share(16)),
        used_by=lambda recipe: recipe.share is not None,
    )
)

methods.add(
    MethodEntry(
        name="groups",
        title="Group dropping",
        summary=(
            "Some values of a shared table are used by a handful of weights only. Dropping them makes the table and "
            "the codes of all other weights a little shorter. Their weights become zero, or take the nearest value "
            "that is left."
        ),
        formula=(
            r"\begin{gathered} n_j = \lvert \{ i : a(i) = j \} \rvert \\ \text{drop } j \text{ if } n_j < p "
            r"\text{ or } n_j \text{ is among the } r \text{ least} \end{gathered}"
        ),
        settings=explained(population="p", rarest="r", moved=""),
        reference=(
            "It refines the tables of Han, Mao and Dally, *Deep Compression*, section 3, "
            "[arXiv:1510.00149](https://arxiv.org/abs/1510.00149)"
        ),
        step="share",
        example=Recipe(share=Share(16, rarest=8)),
        used_by=lambda recipe: recipe.share is not None and (recipe.share.population > 0 or recipe.share.rarest > 0),
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
            r"\\ \hat w = s\,q, \quad s = \tfrac{1}{L} \max |w| \end{gathered}"
        ),
        settings=explained(bits="b", granularity=""),
        reference=(
            "Krishnamoorthi, *Quantizing deep convolutional networks for efficient inference*, 2018, "
            "[arXiv:1806.08342](https://arxiv.org/abs/1806.08342)"
        ),
        step="quantize",
        example=Recipe(quantize=Quantize(4)),
        used_by=lambda recipe: recipe.bits in range(2, 17),
    )
)

methods.add(
    MethodEntry(
        name="asymmetric",
        title="Asymmetric integers",
        summary=(
            "Where a channel's weights lie mostly on one side of zero, a grid that is centred on zero wastes half of "
            "its values. An asymmetric grid reaches from the smallest to the largest weight. A zero point, one more "
            "number for each grid, says which value is zero, so that zero stays exact."
        ),
        formula=(
            r"\begin{gathered} s = \frac{\max(w, 0) - \min(w, 0)}{2^b - 1} \\ z = \Bigl\lfloor -2^{b-1} - "
            r"\frac{\min(w, 0)}{s} \Bigr\rceil \\ q = \operatorname{clip}\bigl(\lfloor w / s \rceil + z, -2^{b-1}, "
            r"2^{b-1} - 1\bigr) \\ \hat w = s\,(q - z) \end{gathered}"
        ),
        settings=explained(symmetric=""),
        reference=(
            "Jacob et al., *Quantization and training of neural networks for efficient integer-arithmetic-only "
            "inference*, CVPR 2018, [arXiv:1712.05877](https://arxiv.org/abs/1712.05877), section 2.1"
        ),
        step="quantize",
        example=Recipe(quantize=Quantize(4, symmetric=False)),
        used_by=lambda recipe: recipe.quantize is not None and not recipe.quantize.symmetric,
    )
)

methods.add(
    MethodEntry(
        name="statistics",
        title="Clipping by statistics",
        summary=(
            "A few large weights stretch the grid and make it coarse for all the others. Clipping them costs a little "
            "there and wins more everywhere else. Where to clip is read off the weights: where the squared error is "
            "least, at a percentile, or where the distribution changes least. That last one needs some thousand "
            "weights and at most 8 bits to go by: beyond, it is the least squared error, or no clipping."
        ),
        formula=(
            r"\begin{gathered} c = \arg\min_c \lVert w - \hat w_c \rVert^2 \;\text{ or }\; \operatorname{quantile}_p "
            r"|w| \\ \text{or }\; \arg\min_c \sum_x P_c(x) \log \frac{P_c(x)}{Q_c(x)} \end{gathered}"
        ),
        settings=explained(calibration="", percentile="p"),
        reference=(
            "Banner, Nahshan and Soudry, *Post training 4-bit quantization of convolutional networks for rapid "
            "deployment*, NeurIPS 2019, [arXiv:1810.05723](https://arxiv.org/abs/1810.05723). KL divergence: Migacz, "
            "*8-bit inference with TensorRT*, GTC 2017"
        ),
        step="quantize",
        example=Recipe(quantize=Quantize(4, calibration="mse")),
        used_by=lambda recipe: (
            recipe.bits in range(2, 17) and recipe.quantize.calibration in ("mse", "percentile", "kl")
        ),
    )
)

methods.add(
    MethodEntry(
        name="rate",
        title="Quantization by rate and harm",
        summary=(
            "An error harms much in one place and hardly in another. How much is measured on samples (Fisher "
            "information), or guessed from magnitudes; errors are then made good for inputs that share a mean, which "
            "the sum of a channel's errors would move. One exchange rate between bytes and harm sets all steps. Codes "
            "follow a trellis: each says which may come next, and at equal bits they lie closer to the weights. Of "
            "2 bits no such path is left, and codes are rounded one by one."
        ),
        formula=(
            r"\begin{gathered} D_{\mathrm{KL}} \approx \tfrac{1}{2} \sum_i F_i (w_i - \hat w_i)^2, \quad "
            r"F = \mathbb{E}_x \sum_y p_y \Bigl(\frac{\partial \log p_y}{\partial w}\Bigr)^2 \\ "
            r"-\frac{\partial D}{\partial R} = \lambda \;\text{ everywhere:}\quad "
            r"s = \sqrt{\frac{\lambda}{\ln 2\; c\, F}} \\ "
            r"\text{by magnitude:}\quad H = (1 - m)\, I \otimes S + m\, \mathbf{1}\mathbf{1}^{\top}, \quad "
            r"S_{ab} = r^{|a - b|} \end{gathered}"
        ),
        settings=explained(calibration="", exchange=r"\lambda", weighting="F"),
        reference=(
            "Marcellin and Fischer, *Trellis coded quantization of memoryless and Gauss-Markov sources*, IEEE "
            "Transactions on Communications 1990. Haase et al., *Dependent scalar quantization for neural network "
            "compression*, ICIP 2020. Shoham and Gersho, *Efficient bit allocation for an arbitrary set of "
            "quantizers*, IEEE Transactions on Acoustics, Speech and Signal Processing 1988. Hassibi and Stork, "
            "*Second order derivatives for network pruning: Optimal Brain Surgeon*, NIPS 1992"
        ),
        step="quantize",
        example=Recipe(quantize=Quantize(8, calibration="rate", exchange=1e-3, weighting="magnitude")),
        used_by=lambda recipe: recipe.bits in range(2, 17) and recipe.quantize.calibration == "rate",
    )
)

methods.add(
    MethodEntry(
        name="activations",
        title="Activation quantization",
        summary=(
            "Integer kernels multiply whole numbers with whole numbers, so what flows between the layers is rounded "
            "to 8 bits too. The range of each layer's input is measured once, on samples of the training split. The "
            "accuracy shown then includes this rounding, as the integer kernels compute it."
        ),
        formula=(
            r"\begin{gathered} \hat x = s_x \bigl(\operatorname{clip}(\lfloor x / s_x \rceil + z_x, -128, 127) - "
            r"z_x\bigr) \\ y = s_w\,s_x \textstyle\sum_i q_{w,i}\,(q_{x,i} - z_x) + b \end{gathered}"
        ),
        settings=explained(activations=""),
        reference=(
            "Jacob et al., *Quantization and training of neural networks for efficient integer-arithmetic-only "
            "inference*, CVPR 2018, [arXiv:1712.05877](https://arxiv.org/abs/1712.05877)"
        ),
        step="quantize",
        example=Recipe(quantize=Quantize(8, activations=8)),
        used_by=lambda recipe: recipe.integer,
        picture="none",
    )
)

methods.add(
    MethodEntry(
        name="binarize",
        title="Binarization",
        summary=(
            "The extreme: of each weight only the sign is kept, one bit, and all weights of a channel share one "
            "magnitude, their mean, which has the least squared error. The file becomes tiny. Without training the "
            "network again, accuracy usually collapses, and the accuracy plot shows it."
        ),
        formula=(
            r"\begin{gathered} \hat w_i = \alpha \operatorname{sign}(w_i) \\ "
            r"\alpha = \tfrac{1}{n} \textstyle\sum |w_i| \end{gathered}"
        ),
        settings=explained(bits="b", granularity="", power_of_two=""),
        reference=(
            "Rastegari, Ordonez, Redmon and Farhadi, *XNOR-Net*, ECCV 2016, "
            "[arXiv:1603.05279](https://arxiv.org/abs/1603.05279)"
        ),
        step="quantize",
        example=Recipe(quantize=Quantize(1, granularity="tensor", calibration="mse")),
        used_by=lambda recipe: recipe.bits == 1 and not recipe.quantize.ternary,
    )
)

methods.add(
    MethodEntry(
        name="ternary",
        title="Ternary weights",
        summary=(
            "One value more than binary: minus, zero or plus. Weights that are small beside the others of their "
            "channel become zero instead of being blown up to the common magnitude. That keeps far more of the "
            "network, and zeros are cheap to write down."
        ),
        formula=(
            r"\begin{gathered} \Delta = t \cdot \tfrac{1}{n} \textstyle\sum |w_i| \\ \hat w_i = \begin{cases} "
            r"\alpha \operatorname{sign}(w_i) & |w_i| \ge \Delta \\ 0 & \text{otherwise} \end{cases} \\ "
            r"\alpha = \text{mean } |w_i| \text{ of those kept} \end{gathered}"
        ),
        settings=explained(ternary="t"),
        reference=(
            "Li, Zhang and Liu, *Ternary weight networks*, 2016, [arXiv:1605.04711](https://arxiv.org/abs/1605.04711)"
        ),
        step="quantize",
        example=Recipe(quantize=Quantize(1, calibration="mse", ternary=0.7)),
        used_by=lambda recipe: recipe.quantize is not None and recipe.quantize.ternary > 0,
    )
)

methods.add(
    MethodEntry(
        name="repair",
        title="Repair without training",
        summary=(
            "Rounding shifts what each layer puts out, and much of that shift can be undone with a few hundred samples "
            "of the training split, in seconds and without a single training step: later weights make good the errors "
            "of earlier ones, biases are moved back to where the outputs were, and batch normalisation is given the "
            "averages of the network as it now is."
        ),
        formula=(
            r"\begin{gathered} \min_{\hat W} \lVert W X - \hat W X \rVert^2, \quad H = 2 X X^{\top} \\ "
            r"w_{>j} \leftarrow w_{>j} - \frac{w_j - \hat w_j}{[H^{-1}]_{jj}}\,[H^{-1}]_{j,>j} \\ "
            r"b \leftarrow b + \mathbb{E}\,[W x] - \mathbb{E}\,[\hat W \hat x] \\ "
            r"\mu, \sigma^2 \leftarrow \text{mean and variance of } \hat W \hat x \end{gathered}"
        ),
        settings=explained(rounding="", bias="", batchnorm=""),
        reference=(
            "Frantar et al., *GPTQ*, ICLR 2023, [arXiv:2210.17323](https://arxiv.org/abs/2210.17323). Nagel et al., "
            "*Data-free quantization through weight equalization and bias correction*, ICCV 2019, "
            "[arXiv:1906.04721](https://arxiv.org/abs/1906.04721). Sun et al., *Hybrid 8-bit floating point training "
            "and inference*, NeurIPS 2019, for batch normalisation"
        ),
        step="repair",
        example=Recipe(quantize=Quantize(4), repair=Repair("gptq", bias=True, batchnorm=True)),
        used_by=lambda recipe: recipe.repair is not None,
        picture="none",
    )
)

methods.add(
    MethodEntry(
        name="recover",
        title="Recovery by training",
        summary=(
            "What one shot breaks, training mends: pruned weights stay zero, shared ones move together, rounded ones "
            "learn through their rounding, so that the result is still what the recipe describes. The network learns "
            "from the labels, from a teacher, which also tells how wrong classes compare, or from both; the teacher "
            "is the uncompressed baseline, or a better model of the same data. A part of the train split "
            "chooses the epoch that is kept."
        ),
        formula=(
            r"\begin{gathered} L = (1 - \lambda)\, H(y, p) + \lambda\, T^2\, D_{\mathrm{KL}}\!\left("
            r"p_T^{\text{teacher}} \,\Vert\, p_T\right) \\ p_T = \operatorname{softmax}(z / T), \quad "
            r"\frac{\partial \operatorname{round}(x)}{\partial x} := 1 \\ "
            r"\frac{\partial L}{\partial c_k} = \sum_{a(i) = k} \frac{\partial L}{\partial w_i} \\ "
            r"\text{sparsity}(t) = S \left(1 - (1 - t)^3\right), \; t \in [0, 1] \end{gathered}"
        ),
        settings=explained(
            epochs="",
            learning_rate="",
            schedule="",
            minibatch="",
            ramp="",
            distill=r"\lambda",
            temperature="T",
            teacher="",
            average="",
            patience="",
            augment="",
            seed="",
            stopped="",
        ),
        reference=(
            "Han et al., *Learning both weights and connections*, NeurIPS 2015, "
            "[arXiv:1506.02626](https://arxiv.org/abs/1506.02626). Hinton, Vinyals and Dean, *Distilling the knowledge "
            "in a neural network*, 2015, [arXiv:1503.02531](https://arxiv.org/abs/1503.02531). Zhu and Gupta, *To "
            "prune, or not to prune*, 2017, [arXiv:1710.01878](https://arxiv.org/abs/1710.01878). Esser et al., "
            "*Learned step size quantization*, ICLR 2020, [arXiv:1902.08153](https://arxiv.org/abs/1902.08153). "
            "Bengio, Leonard and Courville, *Estimating or propagating gradients through stochastic neurons*, 2013, "
            "[arXiv:1308.3432](https://arxiv.org/abs/1308.3432)"
        ),
        step="recover",
        example=Recipe(prune=Prune(0.95), quantize=Quantize(3), recover=Recover(20, ramp=0.5, distill=0.5)),
        used_by=lambda recipe: recipe.recover is not None,
        picture="none",
    )
)

methods.add(
    MethodEntry(
        name="overrides",
        title="Settings of single layers",
        summary=(
            "Layers differ in what they can bear. The first one sees every pixel and the last one makes the decision; "
            "both are small, and keeping them at 8 bits often saves most of the loss for a few bytes. Any other layer "
            "can be given settings of its own too."
        ),
        formula=(
            r"\begin{gathered} \text{settings}(\ell) = \text{recipe} \triangleleft o_1 \triangleleft \cdots "
            r"\triangleleft o_k \\ o_1, \dots, o_k \text{ the overrides that match layer } \ell \end{gathered}"
        ),
        settings=explained(overrides="", keep_ends=""),
        reference=(
            "Dong et al., *HAWQ: Hessian aware quantization of neural networks with mixed precision*, ICCV 2019, "
            "[arXiv:1905.03696](https://arxiv.org/abs/1905.03696)"
        ),
        step=None,
        example=Recipe(quantize=Quantize(4), keep_ends=True, overrides=(Override("*1*", {"bits": 2}),)),
        used_by=lambda recipe: recipe.keep_ends or bool(recipe.overrides),
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
        step="code",
        example=Recipe(),
        used_by=lambda recipe: True,
        picture="size",
    )
)
