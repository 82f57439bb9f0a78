"""Weight sharing: the non-zero weights of a layer take few values, those of a k-means codebook (Han et al. 2015,
Deep Compression, section 3). The codebook is found by `kmeans`.

Zero is its own symbol: pruned weights stay zero and are not clustered.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from paretoscope.methods.catalogue import MethodEntry, Section, explained
from paretoscope.methods.kmeans import assign, fit
from paretoscope.methods.registry import Stage, WeightMethod, Work
from paretoscope.model.statistics import LayerStatistics
from paretoscope.model.tensors import Codebook, Integers, Plain
from paretoscope.recipe.recipe import Quantize, Recipe, Share
from paretoscope.recipe.steps.quantize import Calibration


def _share(work: Work) -> Work:
    """A codebook of floats; equal entries are still apart."""
    layer, weight, step = work.layer, work.weight, work.share
    negatives, positives = int(np.count_nonzero(weight < 0)), int(np.count_nonzero(weight > 0))
    # Survivors of a pattern are not those of largest magnitude, so only their own statistics describe them.
    scattered = negatives + positives < weight.size and work.plan.prune is not None and work.plan.prune.pattern
    described = LayerStatistics.of(layer.name, weight[weight != 0]) if scattered and negatives + positives else layer
    entries = fit(described, negatives, positives, step.clusters, step.start)
    return replace(work, tensor=Codebook(assign(weight, entries), Plain(entries)))


def on_grid(work: Work, grid: Callable[[np.ndarray, np.ndarray, Quantize], Integers]) -> Work:
    """A layer whose codebook of floats is rounded by `grid`: of entries, their counts and the step of quantization."""
    codebook, step = work.codebook, work.quantize
    entries = codebook.entries.decode()
    if len(entries) == 0:
        kind = np.int8 if step.bits <= 8 else np.int16
        rounded = Integers(np.zeros(0, kind), np.ones((), np.float32), step.bits)
    else:
        # The largest weight does not ask how often each entry is used; every other choice of a scale does.
        weighted = step.calibration != Calibration.RANGE
        counts = np.bincount(codebook.indices.reshape(-1), minlength=len(entries) + 1)[1:]
        rounded = grid(entries, counts if weighted else np.ones(len(entries)), step)
    return replace(work, tensor=Codebook(codebook.indices, rounded))


METHODS = (
    WeightMethod("share", Stage.SHARE, lambda work: work.plan.share is not None, _share),
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
        section=Section.SHARE,
        example=Recipe(share=Share(16)),
        used_by=lambda recipe: recipe.share is not None,
    ),
)
