"""Weight sharing: the non-zero weights of a layer take few different values."""

from dataclasses import dataclass

from paretoscope.base.errors import RecipeError
from paretoscope.base.text import shown
from paretoscope.recipe.conditions import SHARED, SHARING, shared
from paretoscope.recipe.schema import Effect, check, setting
from paretoscope.recipe.values import Choice, Field, Term, Whole

MIN_CLUSTERS, MAX_CLUSTERS = 2, 256


class Start(Term):
    """How the shared values are found."""

    OPTIMAL = "optimal", "optimal grouping"
    LINEAR = "linear", "k-means, linear start"
    DENSITY = "density", "k-means, density start"
    PLUS_PLUS = "k-means++", "k-means, k-means++ start"
    BEST = "best", "best of the three starts"


class Moved(Term):
    """Where the weights of a dropped group go."""

    ZERO = "zero", "to zero"
    NEAREST = "nearest", "to the nearest group"


@dataclass(frozen=True, slots=True)
class Share:
    """Weight sharing: the non-zero weights of a layer take at most `clusters` different values (k-means).

    start: of k-means; "optimal" is the optimal grouping, "best" the least error of "linear", "density", "k-means++".
    Afterwards groups of fewer than `population` weights and the `rarest` groups are dropped; their weights become
    zero or move to the nearest group left, as `moved` says ("zero" or "nearest").
    """

    clusters: int = setting(
        of=Whole(
            MIN_CLUSTERS,
            MAX_CLUSTERS,
            remedy="Pass e.g. 16, or leave the step out to share no weights.",
            off="off",
            allowed=f"{MIN_CLUSTERS} to {MAX_CLUSTERS}, or off",
            # 0 stands for off.
            offered=(0, MAX_CLUSTERS, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 5, 4, 3, 2),
            said=lambda value: str(value or "off"),
        ),
        off=None,
        label="Shared-weight clusters",
        help="How many different non-zero values each layer may keep (k-means). Off: any.",
        reference="size of the codebook of weight sharing, Han et al. 2016",
        sample="16",
        prominent=True,
        written=True,
    )
    start: str = setting(
        "optimal",
        of=Choice(Start),
        flag="--kmeans-init",
        label="Groups by",
        help="How shared values are found; best is the least error of the three classic starts of k-means.",
        reference="k-means initialisation; optimal is Ckmeans.1d.dp, Wang and Song 2011",
        effect=SHARING,
    )
    population: int = setting(
        0,
        of=Whole(field=Field(0, None, 1)),
        flag="--min-cluster-size",
        label="Drop groups smaller than",
        help="After sharing, values that fewer weights use are dropped.",
        reference="minimum cluster size",
        effect=SHARING,
    )
    rarest: int = setting(
        0,
        of=Whole(field=Field(0, MAX_CLUSTERS - 1, 1), allowed="0 to below clusters"),
        label="Drop the rarest groups",
        help="After sharing, so many of the rarest values are dropped; one stays.",
        reference="cluster pruning by frequency",
        effect=Effect(shared, "clusters", lambda s: {"clusters": max(16, s["rarest"] + 1)}, layers=True),
    )
    moved: str = setting(
        "nearest",
        of=Choice(Moved),
        label="Dropped weights go",
        help="Where the weights of a dropped group go.",
        reference="reassignment to the nearest centroid, or pruning",
        effect=Effect(
            lambda s: shared(s) and bool(s["population"] or s["rarest"]),
            "clusters of which some are dropped",
            lambda s: {**SHARED, "population": 2},
            layers=True,
        ),
    )

    def __post_init__(self) -> None:
        check(self)
        if self.rarest >= self.clusters:
            raise RecipeError(
                f"rarest must be less than clusters; got {shown(self.rarest)} of {self.clusters}. Keep one group."
            )
        if not self.population and not self.rarest:
            object.__setattr__(self, "moved", Moved.NEAREST.value)

    def describe(self) -> list[str]:
        """Words for a person, settings that are not the default named."""
        dropped = [f"groups under {self.population} weights"] * bool(self.population)
        dropped += [f"{self.rarest} rarest"] * bool(self.rarest)
        return [
            f"{self.clusters} clusters",
            *[f"{self.start} start"] * (self.start != Start.OPTIMAL),
            *[f"{' and '.join(dropped)} to {self.moved}"] * bool(dropped),
        ]
