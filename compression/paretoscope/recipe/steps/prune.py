"""Magnitude pruning: the smallest weights become zero."""

import re
from dataclasses import dataclass

from paretoscope.base.errors import RecipeError
from paretoscope.recipe.conditions import ALONE, PRUNED
from paretoscope.recipe.schema import Effect, check, setting
from paretoscope.recipe.values import Choice, Field, Number, Term, Text, fraction, percent

# A recipe prunes by one of these rules at a time.
RULES = ("sparsity", "threshold", "pattern")


class Scope(Term):
    """Which weights are ranked together to find the smallest."""

    GLOBAL = "global", "all layers together"
    LAYER = "layer", "each layer alike"


def _is_pattern(text: str) -> bool:
    match = re.fullmatch(r"(\d{1,3}):(\d{1,3})", text)
    return text == "" or (match is not None and 1 <= int(match[1]) < int(match[2]))


@dataclass(frozen=True, slots=True)
class Prune:
    """Magnitude pruning: the smallest weights become zero.

    One of three rules. sparsity: fraction of the compressible weights to zero, in [0, 1); scope "global" ranks the
    weights of all layers together, "layer" takes the same fraction of each. threshold: every weight of a magnitude
    below it. pattern: "N:M", the N largest of every M consecutive weights of an output channel's inputs stay.
    """

    sparsity: float = setting(
        0.0,
        of=fraction(offered=tuple(share / 100 for share in range(100)), said=percent),
        label="Pruning sparsity",
        help="Share of the weights that become zero, the smallest first.",
        reference="sparsity of unstructured magnitude pruning, Han et al. 2015",
        sample="0.8",
        prominent=True,
        written=True,
    )
    scope: str = setting(
        "global",
        of=Choice(Scope),
        label="Ranked",
        help="Where the smallest weights are looked for: in all layers together, or the same share of each.",
        reference="global or layerwise (uniform) pruning",
        effect=Effect(
            lambda s: s["sparsity"] > 0 and not (s["threshold"] or s["pattern"] or s.get(ALONE)),
            "a sparsity by which layers are ranked",
            lambda s: {"threshold": 0.0, "pattern": "", **PRUNED},
            layers=True,
        ),
        written=True,
    )
    threshold: float = setting(
        0.0,
        of=Number(0, remedy="Pass a magnitude, e.g. 0.01.", field=Field(0.0, None, 0.005, "%.4f")),
        label="Threshold",
        help="Instead of a share: weights of a smaller magnitude become zero.",
        reference="magnitude threshold, Han et al. 2015",
    )
    pattern: str = setting(
        "",
        of=Text(
            _is_pattern,
            "N:M with 1 <= N < M, N weights of every M stay",
            "Pass e.g. 2:4.",
            "N:M, for example 2:4",
            "N:M",
            ("2:4", "1:2", "1:4", "4:8", "2:8", "1:8"),
            "off",
        ),
        label="Pattern",
        help="Instead of a share: N weights of every M consecutive inputs of an output stay, as sparse hardware wants "
        "it.",
        reference="N:M structured sparsity, Mishra et al. 2021",
        sample="2:4",
    )

    def __post_init__(self) -> None:
        check(self)
        if bool(self.sparsity) + bool(self.threshold) + bool(self.pattern) > 1:
            raise RecipeError(
                f"prune must follow one rule of sparsity, threshold and pattern; got sparsity {self.sparsity:g}, "
                f"threshold {self.threshold:g}, pattern {self.pattern!r}. Leave two of them out."
            )
        if self.threshold or self.pattern:
            object.__setattr__(self, "scope", "global")

    @property
    def kept_of(self) -> tuple[int, int]:
        """N and M of the pattern."""
        kept, group = self.pattern.split(":")
        return int(kept), int(group)

    def describe(self) -> list[str]:
        """Words for a person, settings that are not the default named."""
        if self.pattern:
            return [f"{self.pattern} sparse"]
        if self.threshold:
            return [f"weights below {self.threshold:.4g} zero"]
        return [f"{100 * self.sparsity:.4g} % sparse" + " in each layer" * (self.scope == Scope.LAYER)]
