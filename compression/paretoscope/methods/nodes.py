"""Fewer channels and neurons: those of least importance go, together with all that depends on them."""

from dataclasses import replace

from paretoscope.graph.graph_module import GraphModule
from paretoscope.methods.catalogue import MethodEntry, Picture, Section, explained
from paretoscope.methods.registry import NetworkMethod, NetworkWork
from paretoscope.recipe.recipe import Recipe, Simplify


def _apply(work: NetworkWork) -> NetworkWork:
    step, notes = work.step, []
    if isinstance(work.module, GraphModule):
        from paretoscope.methods.structured import graph_cut  # SciPy takes time to import; few recipes need it

        notes = graph_cut.remove(work.module, step.nodes, step.importance)
    else:
        from paretoscope.methods.structured import channels  # so does torch-pruning

        channels.remove(work.module, step.nodes, step.importance, work.input_shape)
    # How many parameters are left is told once, for all that simplifies.
    sentence = f"{100 * step.nodes:.4g} % of the nodes removed."
    return replace(work, report=(*work.report, sentence, *notes))


METHODS = (
    NetworkMethod("nodes", lambda step: step.nodes > 0, _apply, place=20),
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
        section=Section.SIMPLIFY,
        example=Recipe(simplify=Simplify(nodes=0.5)),
        used_by=lambda recipe: recipe.simplify is not None and recipe.simplify.nodes > 0,
        picture=Picture.SIZE,
    ),
)
