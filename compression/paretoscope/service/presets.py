"""What each preset was measured to give on each model, and what a model opens on."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from paretoscope.base.errors import ModelError
from paretoscope.networks.zoo import models
from paretoscope.recipe.presets import PATH, Preset, presets, presets_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.recipe.revision import METHODS

if TYPE_CHECKING:
    from paretoscope.tasks.classification import Classification

FIGURES = PATH.with_name("preset_figures.json")

# McNemar's exact test at this level must not tell a preset's answers on the validation part from the baseline's, unless
# the preset loses no more than this share. The baseline trained on those images and a trained preset did not, so that
# losing a little there says nothing. The level is the usual one; the share was chosen by hand, no benchmark.
LEVEL, MARGIN = 0.05, 0.01

# Where nothing is known of a model.
FALLBACK = "int8"


@dataclass(frozen=True, slots=True)
class PresetFigures:
    """What a preset was measured to give on a model (`benchmarks.presets`).

    model, preset: names, for a reader (of a preset with training also what it is without); the digests of the
    model's weights and of the recipe, and the revision of the methods, say what the figures are of. size: bytes of
    the file. n, correct: of the test split, which no choice looks at; majority: images of its largest class.
    validation_n, validation_correct: of the validation part of the train split; validation_baseline: what the
    baseline has right of it; validation_p: of McNemar's exact test of the two.
    """

    model: str
    preset: str
    model_digest: str
    recipe_digest: str
    methods: int
    size: int
    n: int
    correct: int
    majority: int
    validation_n: int
    validation_correct: int
    validation_baseline: int
    validation_p: float

    @property
    def accuracy(self) -> float:
        """On the test split."""
        return self.correct / self.n

    @property
    def chance(self) -> bool:
        """Whether the test split does not tell it from guessing."""
        return _task().at_chance(self.correct, self.n, self.majority / self.n)

    @property
    def holds(self) -> bool:
        """Whether it answers like the baseline on the validation part, as `best_known` has it."""
        lost = self.validation_baseline - self.validation_correct
        return self.validation_p >= LEVEL or lost <= MARGIN * self.validation_n


def load_figures() -> tuple[PresetFigures, ...]:
    """All figures that ship, also those of other weights, recipes or methods than the ones here."""
    return tuple(PresetFigures(**entry) for entry in json.loads(FIGURES.read_text()))


def to_json(figures: Iterable[PresetFigures]) -> str:
    """The text of the file, a line for each."""
    return "[\n" + ",\n".join(json.dumps(asdict(each)) for each in figures) + "\n]\n"


@lru_cache(maxsize=1)
def _shipped() -> dict[tuple[str, int], dict[str, PresetFigures]]:
    """By recipe and methods, then by model: most recipes are no preset's, and ask for no weights."""
    found: dict[tuple[str, int], dict[str, PresetFigures]] = {}
    for each in load_figures():
        found.setdefault((each.recipe_digest, each.methods), {})[each.model_digest] = each
    return found


@lru_cache(maxsize=128)
def _digest(model: str) -> str:
    # Torch is loaded by whoever asks for a model, not by who lists presets.
    from paretoscope.model.statistics import ModelStatistics
    from paretoscope.networks import zoo

    return ModelStatistics.of(zoo.load_model(model), model).digest


def known(model: str, recipe: Recipe) -> PresetFigures | None:
    """Figures of a recipe on a model: of these weights, by these methods; None where none ship."""
    found = _shipped().get((recipe.digest, METHODS))
    if not found or model not in models:
        return None
    try:
        return found.get(_digest(model))
    except ModelError:
        return None  # the weights cannot be opened: whoever asks for the model is told


def best_known(model: str, *, trained: bool = True) -> Preset:
    """The preset that a model opens on: the smallest file that answers like the baseline on the validation part.

    Of the presets offered for the model, the one of the fewest bytes among those whose answers on that part of the
    train split McNemar's exact test does not tell from the baseline's at the 5 % level, or that get at most one point
    less of it right. The test split has no say. One with training counts where its trained model is here, and where
    `trained` wants it. Where no such figures are known, "int8".
    """
    offered = [preset for preset in presets_of(model) if trained or preset.recipe.recover is None]
    found = [(preset, known(model, preset.recipe)) for preset in offered]
    return chosen([(preset, figures) for preset, figures in found if figures is not None and _here(figures, preset)])


def movable(model: str, recipe: Recipe) -> Recipe:
    """What a slider moves: the recipe without training, which is of one recipe alone.

    Training makes bearable what ruins a network without, such as most nodes removed. Where a recipe is known not to
    hold without, as with most presets, it is the best that is known of the model without training instead.
    """
    if recipe.recover is None:
        return recipe
    figures = known(model, recipe.untrained)
    return best_known(model, trained=False).recipe if figures and not figures.holds else recipe.untrained


def chosen(found: Sequence[tuple[Preset, PresetFigures]]) -> Preset:
    """The choice of `best_known` among presets with their figures."""
    held = [(figures.size, preset.name) for preset, figures in found if figures.holds]
    return presets.get(min(held)[1] if held else FALLBACK)


def _here(figures: PresetFigures, preset: Preset) -> bool:
    from paretoscope.codec import shelf

    return preset.recipe.recover is None or shelf.has(figures.model_digest, preset.recipe)


def _task() -> "type[Classification]":
    """Whose figures those that ship are: the zoo classifies."""
    from paretoscope.tasks.classification import Classification  # loads torch, which a list of names does not need

    return Classification


def told_figures(figures: PresetFigures) -> str:
    """One sentence on what a preset gives on a model."""
    words = _task().words
    worth = words.chance if figures.chance else f"{figures.size / 1000:,.1f} KB"
    value = f"{words.factor * figures.accuracy:.1f} {words.unit}"
    return f"{value} on this model: {worth} (measured, {figures.n:,} test images)."


def cautions(model: str, recipe: Recipe) -> tuple[str, ...]:
    """What a person should know before taking a recipe to a model: that it was measured to be no better than chance."""
    figures = known(model, recipe)
    return (f"{figures.preset} gives {told_figures(figures)}",) if figures and figures.chance else ()
