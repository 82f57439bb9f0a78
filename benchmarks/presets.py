"""What each preset gives on each model: the figures on its button, and those that a model opens by.

    python -m benchmarks.presets [--write]

For every model whose data are on this machine and every preset that it is offered: bytes of the file and right answers
on the test split, as the dashboard measures them, which are only told; and right answers on the validation part of the
train split (`paretoscope.training.split.Split`), beside the baseline's on the same images, which a model opens by
(`paretoscope.service.presets.best_known`). Trained presets did not train on that part, though their best epoch was
chosen by it; the baselines did train on it. Trained ones are measured without their training too, because sliders move
what is left of a recipe without it (`paretoscope.service.presets.movable`).

--write replaces assets/preset_figures.json, where lines of models whose data are not here stay, and the section of
docs/measured.md.
"""

from itertools import chain

import numpy as np
from paretoscope import codec
from paretoscope.base import files
from paretoscope.data.data import CHUNK
from paretoscope.measure.subject import Subject
from paretoscope.networks import zoo
from paretoscope.recipe.presets import presets, presets_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.recipe.revision import METHODS
from paretoscope.service import subjects
from paretoscope.service.presets import FIGURES, PresetFigures, chosen, load_figures, to_json
from paretoscope.training.split import Split

from benchmarks import measured as page


def measured(subject: Subject, named: str, recipe: Recipe) -> PresetFigures:
    """Figures of a recipe on a model, measured now."""
    compressed = subject.compress(recipe)
    artefact = codec.write(compressed)
    *_, evaluation = subject.evaluate_compressed(compressed, artefact)
    split = Split.of(subject, recipe.recover.seed if recipe.recover else 0)
    labels = split.validation_labels.numpy()
    with subject.running(compressed) as forward:
        *_, found = subject.task.answer(forward, split.validation_samples.split(CHUNK))
    *_, before = subject.task.answer(subject.model, split.validation_samples.split(CHUNK))
    right, was_right = found.classes == labels, before.classes == labels
    return PresetFigures(
        model=subject.name,
        preset=named,
        model_digest=subject.statistics.digest,
        recipe_digest=recipe.digest,
        methods=METHODS,
        size=len(artefact),
        n=evaluation.record.figures.n,
        correct=evaluation.record.figures.correct,
        majority=int(np.bincount(subject.labels).max()),
        validation_n=len(labels),
        validation_correct=int(right.sum()),
        validation_baseline=int(was_right.sum()),
        validation_p=subject.task.compare(before, found, labels).p_value,
    )


def of_model(name: str) -> list[PresetFigures]:
    """Figures of all presets of a model; each is printed, and the one that the model opens on is named."""
    subject, found, others = subjects.load(name), [], []
    for preset in presets_of(name):
        found.append((preset, told(measured(subject, preset.name, preset.recipe))))
        if preset.recipe.recover is not None:
            others.append(told(measured(subject, f"{preset.name} without its training", preset.recipe.untrained)))
    print(f"{name} opens on {chosen(found).name}.")
    return [*(figures for _, figures in found), *others]


def told(figures: PresetFigures) -> PresetFigures:
    """The figures, printed."""
    print(
        f"{figures.model:<20}{figures.preset:<46}{figures.size:>9,}{figures.accuracy:>9.2%}"
        f"{figures.validation_correct / figures.validation_n:>12.2%}{figures.validation_p:>9.2g}"
        f"{'  chance' * figures.chance}",
        flush=True,
    )
    return figures


def table(found: dict[str, list[PresetFigures]]) -> page.Table:
    """Every model under the presets that all are offered: bytes and right answers, of the test split."""
    common = [preset for preset in presets if preset.model is None]
    made = page.Table(page.columns("model", *((each.title, "{:.1f} KB, {:.2f} %") for each in common), "opens on"))
    for model, figures in found.items():
        by_name = {each.preset: each for each in figures}
        cells = [(by_name[each.name].size / 1000, 100 * by_name[each.name].accuracy) for each in common]
        opens = chosen([(preset, by_name[preset.name]) for preset in presets_of(model)])
        made.add(model, *cells, opens.title)
    return made


def main() -> None:
    options = page.parser(__doc__).parse_args()
    print(f"{'model':<20}{'preset':<46}{'bytes':>9}{'test':>9}{'validation':>12}{'p':>9}")
    found: dict[str, list[PresetFigures]] = {}
    for entry in zoo.models:
        if zoo.datasets.get(entry.dataset).here():
            found[entry.name] = of_model(entry.name)
        else:
            print(f"{entry.name}: left out, its data ({entry.dataset}) are not here.")
    print()
    made = table(found)
    if options.write:
        before = load_figures() if FIGURES.exists() else ()
        kept = {name: [each for each in before if each.model == name] for name in zoo.models.names()}
        text = to_json(chain.from_iterable((kept | found).values()))
        files.write_atomically(FIGURES, text.encode())
        page.keep("presets", [made], options)


if __name__ == "__main__":
    main()
