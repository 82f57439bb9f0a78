"""Recovery by training, in words: it is run by `paretoscope.training`, on top of what the pipeline gives."""

from paretoscope.methods.catalogue import MethodEntry, Picture, Section, explained
from paretoscope.recipe.recipe import Prune, Quantize, Recipe, Recover

METHODS = (
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
        section=Section.RECOVER,
        example=Recipe(prune=Prune(0.95), quantize=Quantize(3), recover=Recover(20, ramp=0.5, distill=0.5)),
        used_by=lambda recipe: recipe.recover is not None,
        picture=Picture.NONE,
    ),
)
