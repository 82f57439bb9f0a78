"""The epochs of a training: their figures, which of them is kept, and the result as it is stored."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from paretoscope.recipe.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Epoch:
    """Figures of one pass over the training part.

    number: from 1; 0 is the start, before any training. loss, train_accuracy: means over the batches as they were
    trained on (None for the start). validation_accuracy, validation_loss (cross-entropy, nats): of the decoded
    compressed model on the validation part. size: bytes of its file. sparsity: zero weights / weights. learning_rate:
    of the last batch. holds: whether the recipe held in full, so that the epoch may be kept. seconds: of training so
    far. validated: images of the validation part.
    """

    number: int
    loss: float | None
    train_accuracy: float | None
    validation_accuracy: float
    validation_loss: float
    size: int
    sparsity: float
    learning_rate: float
    holds: bool
    seconds: float
    validated: int


def best_of(epochs: Sequence[Epoch]) -> Epoch | None:
    """The epoch whose model is kept: the last in which the recipe held and that is not clearly worse than the best.

    None where it held in none. "Clearly" is by more than a standard error of the best accuracy so far (after the rule
    of Breiman et al., Classification and Regression Trees, 1984, section 3.4.3). Among such epochs the longest trained
    is the best guess: on a few hundred images many epochs are about equally accurate, and the baseline has seen these
    images in its own training, which favours epochs near the start.
    """
    kept, most = None, 0.0
    for epoch in epochs:
        if epoch.holds:
            most = max(most, epoch.validation_accuracy)
            if epoch.validation_accuracy >= most - math.sqrt(most * (1 - most) / epoch.validated):
                kept = epoch
    return kept


@dataclass(frozen=True, slots=True)
class Recovery:
    """The stored result of a training. recipe: of its result. best: the epoch kept. epochs: all, the start first."""

    recipe: Recipe
    best: int
    epochs: tuple[Epoch, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"recipe": self.recipe.to_dict(), "best": self.best, "epochs": [asdict(each) for each in self.epochs]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Recovery":
        """Read what `to_dict` wrote; raises KeyError, TypeError or RecipeError for anything else."""
        epochs = tuple(Epoch(**each) for each in data["epochs"])
        return cls(Recipe.from_dict(data["recipe"]), data["best"], epochs)
