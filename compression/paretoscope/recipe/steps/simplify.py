"""Architecture simplification: a smaller network of the same kind, before anything else."""

from dataclasses import dataclass

from paretoscope.recipe.schema import Effect, check, setting
from paretoscope.recipe.values import Choice, Field, Names, Number, Switch, Term, Whole, fraction, percent


class Importance(Term):
    """What ranks the channels of a layer."""

    L1 = "l1", "L1 norm"
    L2 = "l2", "L2 norm"
    BN = "bn", "batch norm scale"


@dataclass(frozen=True, slots=True)
class Simplify:
    """Architecture simplification: a smaller network of the same kind, before anything else.

    In this order: the blocks named in `drop` and then the `blocks` of least measured harm are removed; the fraction
    `nodes` of the channels and neurons is removed, least importance first; batch normalisation is folded into the
    convolution before it (`fold`); consecutive linear maps are merged (`merge`); linear and 1x1 layers are replaced by
    two thinner ones that keep the fraction `energy` of the squared singular values, where that saves (1: off).
    Widths are rounded to what kernels run fast on: 8 channels at a time where there are that many.
    """

    nodes: float = setting(
        0.0,
        of=fraction(offered=tuple(share / 100 for share in range(0, 91, 5)), said=percent),
        flag="--channel-ratio",
        label="Nodes removed",
        help="Share of the channels and neurons of each layer that are cut out: the network really becomes smaller.",
        reference="channel ratio of structured (filter) pruning, Li et al. 2017",
    )
    importance: str = setting(
        "l2",
        of=Choice(Importance),
        label="Least important by",
        help="How channels are ranked: by a norm of their weights, or by the scale of their batch normalisation.",
        reference="importance criterion of filter pruning; the scale is that of network slimming, Liu et al. 2017",
        effect=Effect(lambda s: s["nodes"] > 0, "nodes above 0", lambda s: {"nodes": 0.25}),
    )
    drop: tuple[str, ...] = setting(
        (),
        of=Names(),
        label="Blocks dropped by name",
        help="Residual or transformer blocks to remove, for example layer2.1.",
        reference="layer dropping, depth pruning",
    )
    blocks: int = setting(
        0,
        of=Whole(field=Field(0, 32, 1)),
        label="Blocks dropped",
        help="How many more residual or transformer blocks to remove, those that do least harm first.",
        reference="depth pruning by measured sensitivity; Veit et al. 2016",
    )
    fold: bool = setting(
        False,
        of=Switch(),
        label="Fold batch norm",
        help="Multiply batch normalisation into the convolution before it; changes no answer.",
        reference="batch normalisation folding, Jacob et al. 2018",
    )
    merge: bool = setting(
        False,
        of=Switch(),
        label="Merge linear maps",
        help="Two linear maps that follow each other become one; changes no answer.",
        reference="linear layer merging",
    )
    energy: float = setting(
        1.0,
        of=Number(
            0,
            1,
            above=True,
            remedy="Pass e.g. 0.9, or 1 for none.",
            offered=(1.0, 0.999, 0.99, 0.98, 0.95, 0.9, 0.8, 0.7, 0.5),
            said=lambda value: "off" if value == 1 else percent(value),
        ),
        label="Low-rank energy",
        help="Linear and 1x1 layers become two thinner ones that keep this share of their energy, where that saves.",
        reference="share of the squared singular values that a truncated SVD keeps, Denton et al. 2014",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.nodes == 0:
            object.__setattr__(self, "importance", Importance.L2.value)

    def describe(self) -> list[str]:
        """Words for a person, settings that are not the default named."""
        blocks = len(self.drop) + self.blocks
        return [
            *[f"{blocks} block{'s' * (blocks > 1)} dropped"] * bool(blocks),
            *[f"{100 * self.nodes:.4g} % of nodes removed ({self.importance})"] * bool(self.nodes),
            *["batch norm folded"] * self.fold,
            *["linear merged"] * self.merge,
            *[f"rank at {100 * self.energy:.4g} % energy"] * (self.energy < 1),
        ]
