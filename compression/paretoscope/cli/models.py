"""`paretoscope models`, `presets`: what there is to start from."""

import json
import sys

from paretoscope.cli.shared import Json, Model, reporting
from paretoscope.recipe.presets import presets_of
from paretoscope.service.presets import best_known, known


@reporting
def models(as_json: Json = False) -> None:
    """List the models, with their accuracy measured now on the test split, where their data are on this machine."""
    from paretoscope.networks import zoo
    from paretoscope.service import subjects

    rows = []
    for entry in zoo.models:
        if not zoo.datasets.get(entry.dataset).here():
            print(f"Not listed: {entry.name}, whose data ({entry.dataset}) are not here yet.", file=sys.stderr)
            continue
        subject = subjects.load(entry.name)
        rows.append(
            {
                "name": entry.name,
                "title": entry.title,
                "summary": entry.summary,
                "reference": entry.reference,
                "input_shape": list(entry.input_shape),
                "dataset": entry.dataset,
                "parameters": sum(parameter.numel() for parameter in subject.model.parameters()),
                "size_bytes": subject.baseline.size_bytes,
                "n": len(subject.labels),
                "correct": subject.baseline.correct,
                "accuracy": subject.baseline.accuracy,
                "f1": subject.baseline.f1,
            }
        )
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'model':<20}{'accuracy':>10}{'correct':>11}{'parameters':>12}{'fp32 bytes':>12}  summary")
    for row in rows:
        print(
            f"{row['name']:<20}{row['accuracy']:>10.2%}{row['correct']:>7}/{row['n']:<6}{row['parameters']:>12,}"
            f"{row['size_bytes']:>12,}  {row['summary']}"
        )


@reporting
def presets(model: Model, as_json: Json = False) -> None:
    """List the presets of a model with what was measured of each; the dashboard opens on the one that is marked."""
    from paretoscope.networks import zoo

    name, rows = zoo.models.get(model).name, []
    opens = best_known(name)
    for preset in presets_of(name):
        figures = known(name, preset.recipe)
        rows.append(
            {
                "name": preset.name,
                "title": preset.title,
                "summary": preset.summary,
                "opens": preset is opens,
                "correct": figures and figures.correct,
                "n": figures and figures.n,
                "size": figures and figures.size,
                "chance": figures and figures.chance,
            }
        )
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print(f"  {'preset':<24}{'accuracy':>9}{'bytes':>12}  summary")
    for row in rows:
        measured = f"{row['correct'] / row['n']:>9.2%}{row['size']:>12,}" if row["n"] else f"{'not measured':>21}"
        summary = f"{'No better than guessing here. ' if row['chance'] else ''}{row['summary']}"
        print(f"{'*' if row['opens'] else ' '} {row['name']:<24}{measured}  {summary}")
