"""Studies of the zoo that ship with the project, so that no page of it is empty on a machine that has measured nothing.

    python -m benchmarks.studies [--write] [--only exact|stage|times] [--budget S] [MODEL ...]

For every model whose data are here: its graph, the sensitivity of each layer, suggestions for the wishes that the page
Layers opens with, the waterfalls of what the model opens on and of two presets, and the latency study of what the model
opens on, of int8 and of the baseline, but for PyTorch's compiler, which takes minutes a model. All is measured anew.
--write replaces assets/studies/MODEL.json (`paretoscope.service.shipped`). --only: what no machine changes, steps of
the page Present, or what depends on the machine, best taken on a still one; the other documents stay. --budget: seconds
for each timing at most. What depends on the machine is shown with the name of the one that took the times.
"""

import argparse
import datetime
import json
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import paretoscope
from paretoscope.base import files
from paretoscope.base.progress import SILENT
from paretoscope.measure.machine import processor_name
from paretoscope.networks import zoo
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe
from paretoscope.recipe.revision import METHODS
from paretoscope.search.suggest import default_targets
from paretoscope.service import stage
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.presets import best_known
from paretoscope.service.shipped import FOLDER, Origin, Place, Shipped, to_json
from paretoscope.service.store import Store
from paretoscope.service.studies import STUDIES
from paretoscope.service.study import StudyKind, plain
from paretoscope.service.timing import StudyPart, Timing, study_parts
from paretoscope.service.works.timing import measure

BUDGET_S = 1.0
TORCH_COMPILED = "torch-compiled"
# Presets whose waterfalls ship beside that of what a model opens on.
TAKEN_APART = ("int8", "deep-compression")


def wanted(bench: Knowledge, model: str) -> Iterator[tuple[StudyKind, tuple[Any, ...]]]:
    """What is shown of a model before anything is measured, but for its timings: kinds with their arguments."""
    yield StudyKind.GRAPH, (model,)
    yield StudyKind.SENSITIVITY, (model,)
    dense = bench.subject(model).baseline.size_bytes
    opens = best_known(model).recipe
    for base in dict.fromkeys((Recipe(repair=opens.repair, code=opens.code), Recipe())):
        for target in default_targets(dense):
            yield StudyKind.SUGGEST, (model, target, base)
    for recipe in dict.fromkeys((opens.untrained, *(presets.get(name).recipe for name in TAKEN_APART))):
        yield StudyKind.WATERFALL, (model, recipe)


def timed(bench: Knowledge, model: str) -> list[StudyPart]:
    """The parts of the latency studies of a model; those that are one timing, once."""
    timing, parts = Timing(), {}
    for recipe in (best_known(model).recipe, presets.get("int8").recipe, Recipe()):
        for part in study_parts(recipe, timing):
            ships_as = STUDIES[part.what].ships_as
            if ships_as is not None and part.timing.runtime != TORCH_COMPILED:
                parts.setdefault(ships_as(bench, *part.arguments(model)), part)
    return list(parts.values())


def exact(bench: Knowledge, model: str) -> Iterator[tuple[Place, str]]:
    """The documents of a model that no machine changes, measured now, with their JSON."""
    for kind, arguments in wanted(bench, model):
        study, begun = STUDIES[kind], time.perf_counter()
        found = bench.run(kind, SILENT, *arguments)
        yield study.place(bench, *arguments), _text(found)
        _tell(model, kind, begun)


def staged(bench: Knowledge, model: str) -> Iterator[tuple[Place, str]]:
    """The documents of the steps that the page Present shows, measured now, with their JSON."""
    study = STUDIES[StudyKind.STAGE]
    for recipe in dict.fromkeys(stage.recipes(bench, model).values()):
        if recipe is not None and recipe != Recipe():
            begun = time.perf_counter()
            yield study.place(bench, model, recipe), _text(bench.run(StudyKind.STAGE, SILENT, model, recipe))
            _tell(model, f"{StudyKind.STAGE}: {recipe.describe()}", begun)


def times(bench: Knowledge, model: str) -> Iterator[tuple[Place, str]]:
    """The documents of a model that depend on the machine, measured now, with their JSON."""
    study, begun = STUDIES[StudyKind.LAYERS], time.perf_counter()
    yield study.ships_as(bench, model), _text(bench.run(StudyKind.LAYERS, SILENT, model))
    _tell(model, StudyKind.LAYERS, begun)
    for part in timed(bench, model):
        begun = time.perf_counter()
        arguments, study = part.arguments(model), STUDIES[part.what]
        measure(bench, SILENT, model, [part])
        found = bench.known(part.what, *arguments)
        if found is not None:
            yield study.ships_as(bench, *arguments), _text(found)
        problem = bench.problem(model, part.recipe, part.timing, part.what)
        _tell(model, f"{part.label}{f': {problem}' if problem else ''}", begun)


def _text(found: Any) -> str:
    return json.dumps(found, default=plain, separators=(",", ":"))


def _tell(model: str, what: str, begun: float) -> None:
    print(f"{model:<22}{time.perf_counter() - begun:>7.1f} s  {what}", flush=True)


def origin() -> Origin:
    """This machine, by its processor alone, and today."""
    return Origin(processor_name(), os.cpu_count() or 1, datetime.date.today().isoformat(), paretoscope.__version__)


PARTS = {"exact": exact, "stage": staged, "times": times}


def part_of(kind: str) -> str:
    """The part that a kind of document is of."""
    if kind == StudyKind.STAGE:
        return "stage"
    return "times" if kind in {each for each, row in STUDIES.items() if row.ships_as} else "exact"


def made_before(model: str) -> tuple[Origin, list[tuple[Place, str]]] | None:
    """Whence the times of a model's file are, and its documents, where they are of these methods."""
    path = FOLDER / f"{model}.json"
    data = json.loads(path.read_text()) if path.exists() else {}
    if data.get("methods") != METHODS:
        return None
    return Origin(**data["origin"]), [((kind, key), _text(found)) for kind, key, found in data["documents"]]


def made(bench: Knowledge, model: str, only: str | None) -> str:
    """The text of a model's file."""
    before = made_before(model) if only else None
    source, kept = origin(), []
    if before is not None:
        source = source if only == "times" else before[0]
        kept = [(place, text) for place, text in before[1] if part_of(place[0]) != only]
    measured = chain(*(PARTS[name](bench, model) for name in PARTS if only in (name, None)))
    return to_json(model, source, [*kept, *measured])


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("models", nargs="*", metavar="MODEL", help="all of the zoo by default")
    asked.add_argument("--write", action="store_true", help="replace the files in assets/studies/")
    asked.add_argument("--only", choices=PARTS, help="one part; what the file has of the others stays")
    asked.add_argument("--budget", type=float, default=BUDGET_S, help=f"seconds a timing, {BUDGET_S:g} by default")
    options = asked.parse_args()
    begun = time.perf_counter()
    for model in options.models or zoo.models.names():
        if not zoo.datasets.get(zoo.models.get(model).dataset).here():
            print(f"{model}: left out, its data are not here.")
            continue
        with tempfile.TemporaryDirectory() as folder:
            # A store of its own, and nothing that ships: all is measured.
            bench = Knowledge(STUDIES, Store(Path(folder) / "store"), budget_s=options.budget, shipped=Shipped(None))
            text = made(bench, model, options.only)
            bench.close()
        print(f"{model}: {len(text) / 1000:.0f} KB")
        if options.write:
            FOLDER.mkdir(exist_ok=True)
            files.write_atomically(FOLDER / f"{model}.json", text.encode())
    print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
