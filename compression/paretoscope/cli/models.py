"""`paretoscope models`, `presets`: what there is to start from."""

import dataclasses
import json
import sys
from typing import Any

from paretoscope.base.errors import CompressionError
from paretoscope.base.text import printable
from paretoscope.cli.shared import Json, Model, reporting
from paretoscope.recipe.presets import presets_of
from paretoscope.service.presets import best_known, known


@reporting
def models(as_json: Json = False) -> None:
    """List the models, with their accuracy measured now on the test split, where their data are on this machine."""
    from paretoscope.networks import library, zoo

    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    names: list[str] = []
    for entry in zoo.models:
        if not zoo.datasets.get(entry.dataset).here():
            print(f"Not listed: {entry.name}, whose data ({entry.dataset}) are not here yet.", file=sys.stderr)
            continue
        _list(entry.name, entry.summary, entry.reference, rows, lines, names)
    for own in library.entries():
        if isinstance(own, library.Damaged):
            print(f"Not listed: {own.name}. {printable(own.problem)}", file=sys.stderr)
            continue
        try:
            _list(own.name, f"Yours, from {printable(own.source)}.", own.source, rows, lines, names)
        except CompressionError as error:
            print(f"Not listed: {own.name}. {printable(str(error))}", file=sys.stderr)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    figures = "/".join(dict.fromkeys(names))
    print(f"{'model':<20}{figures:>10}{'correct':>11}{'parameters':>12}{'fp32 bytes':>12}  summary")
    print("\n".join(lines))


def _list(
    name: str, summary: str, reference: str, rows: list[dict[str, Any]], lines: list[str], names: list[str]
) -> None:
    """Add a model, with its figures measured now, to the rows of JSON, the lines of the table and its headings."""
    from paretoscope.service import subjects
    from paretoscope.tasks.plain import Counted, figure

    subject = subjects.load(name)
    network, baseline, words, n = subject.network, subject.baseline, subject.task.words, len(subject.labels)
    own = {key: value for key, value in dataclasses.asdict(baseline).items() if key != "size_bytes"}
    share = f"{baseline.correct:>7}/{n:<6}" if isinstance(baseline, Counted) else f"{n:>8}{'':6}"
    names.append(words.name)
    lines.append(
        f"{name:<20}{figure(words, baseline.value):>10}{share}{subject.parameters:>12,}{baseline.size_bytes:>12,}  "
        f"{summary}"
    )
    rows.append(
        {
            "name": name,
            "title": network.title,
            "summary": summary,
            "reference": reference,
            "input_shape": list(network.input_shape),
            "dataset": network.data,
            "parameters": subject.parameters,
            "size_bytes": baseline.size_bytes,
            "n": n,
            **own,
        }
    )


@reporting
def presets(model: Model, as_json: Json = False) -> None:
    """List the presets of a model with what was measured of each; the dashboard opens on the one that is marked."""
    from paretoscope.networks import sources
    from paretoscope.service import subjects
    from paretoscope.tasks.plain import figure, sentence

    name, rows, lines = sources.find(model).name, [], []
    opens, words = best_known(name), subjects.task_of(name).words
    for preset in presets_of(name):
        figures = known(name, preset.recipe)
        measured, chance = f"{'not measured':>21}", ""
        if figures is not None:
            measured = f"{figure(words, figures.accuracy):>9}{figures.size:>12,}"
            chance = f"{sentence(words.chance)} here. " if figures.chance else ""
        lines.append(f"{'*' if preset is opens else ' '} {preset.name:<24}{measured}  {chance}{preset.summary}")
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
    print(f"  {'preset':<24}{words.name:>9}{'bytes':>12}  summary")
    print("\n".join(lines))
