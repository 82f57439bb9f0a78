"""Studies of the zoo that ship with the project, so that no page of it is empty on a machine that has measured nothing.

    python -m benchmarks.studies [--write] [--stage] [--budget S] [MODEL ...]

For every model whose data are here: its graph, the steps of the page Present, the sensitivity of each layer,
suggestions for the wishes that the page Layers opens with, the waterfall of each preset, and the latency study of what
the model opens on, of int8 and of the baseline. All is measured anew. --write replaces assets/studies/MODEL.json
(`paretoscope.service.shipped`). --budget: seconds for each timing at most. What depends on the machine is shown with
the name of this one.
"""

import argparse
import datetime
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paretoscope
from paretoscope.base import files
from paretoscope.base.progress import SILENT
from paretoscope.measure.machine import processor_name
from paretoscope.networks import zoo
from paretoscope.recipe.presets import presets, presets_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.recipe.revision import METHODS
from paretoscope.search.suggest import default_targets
from paretoscope.search.waterfall import steps_of
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


def wanted(bench: Knowledge, model: str) -> Iterator[tuple[StudyKind, tuple[Any, ...]]]:
    """What is shown of a model before anything is measured, but for its timings: kinds with their arguments."""
    yield StudyKind.GRAPH, (model,)
    yield StudyKind.LAYERS, (model,)
    yield from staged(bench, model)
    yield StudyKind.SENSITIVITY, (model,)
    offered = [preset.recipe.untrained for preset in presets_of(model)]
    dense = bench.subject(model).baseline.size_bytes
    opens = best_known(model).recipe
    for base in dict.fromkeys((Recipe(repair=opens.repair, code=opens.code), Recipe())):
        for target in default_targets(dense):
            yield StudyKind.SUGGEST, (model, target, base)
    for recipe in dict.fromkeys(offered):
        if steps_of(recipe):
            yield StudyKind.WATERFALL, (model, recipe)


def staged(bench: Knowledge, model: str) -> Iterator[tuple[StudyKind, tuple[Any, ...]]]:
    """What the page Present shows of a model."""
    for recipe in dict.fromkeys(stage.recipes(bench, model).values()):
        if recipe is not None and recipe != Recipe():
            yield StudyKind.STAGE, (model, recipe)


def timed(bench: Knowledge, model: str) -> list[StudyPart]:
    """The parts of the latency studies of a model; those that are one timing, once."""
    timing, parts = Timing(), {}
    for recipe in (best_known(model).recipe, presets.get("int8").recipe, Recipe()):
        for part in study_parts(recipe, timing):
            ships_as = STUDIES[part.what].ships_as
            if ships_as is not None:
                parts.setdefault(ships_as(bench, *part.arguments(model)), part)
    return list(parts.values())


def documents(bench: Knowledge, model: str, only: bool = False) -> Iterator[tuple[Place, str]]:
    """All documents of a model, measured now, with their JSON. only: those of the page Present."""
    for kind, arguments in staged(bench, model) if only else wanted(bench, model):
        study, begun = STUDIES[kind], time.perf_counter()
        found = bench.run(kind, SILENT, *arguments)
        place = study.ships_as or study.place
        yield place(bench, *arguments), _text(found)
        _tell(model, kind, begun)
    for part in [] if only else timed(bench, model):
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


def kept_of(model: str) -> tuple[dict[Place, str], Origin | None]:
    """What the file of a model has beside the page Present, and where that was measured."""
    path = FOLDER / f"{model}.json"
    if not path.exists() or (data := json.loads(path.read_text()))["methods"] != METHODS:
        return {}, None
    rest = {(kind, key): _text(found) for kind, key, found in data["documents"] if kind != StudyKind.STAGE}
    return rest, Origin(**data["origin"]) if rest else None


def origin() -> Origin:
    """This machine, by its processor alone, and today."""
    return Origin(processor_name(), os.cpu_count() or 1, datetime.date.today().isoformat(), paretoscope.__version__)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("models", nargs="*", metavar="MODEL", help="all of the zoo by default")
    asked.add_argument("--write", action="store_true", help="replace the files in assets/studies/")
    asked.add_argument("--budget", type=float, default=BUDGET_S, help=f"seconds a timing, {BUDGET_S:g} by default")
    asked.add_argument("--stage", action="store_true", help="only what the page Present shows; the rest stays as it is")
    options = asked.parse_args()
    made, begun = origin(), time.perf_counter()
    for model in options.models or zoo.models.names():
        if not zoo.datasets.get(zoo.models.get(model).dataset).here():
            print(f"{model}: left out, its data are not here.")
            continue
        with tempfile.TemporaryDirectory() as folder:
            # A store of its own, and nothing that ships: all is measured.
            bench = Knowledge(STUDIES, Store(Path(folder) / "store"), budget_s=options.budget, shipped=Shipped(None))
            found = dict(documents(bench, model, options.stage))
            kept, before = kept_of(model) if options.stage else ({}, None)
            text = to_json(model, before or made, (kept | found).items())
            bench.close()
        print(f"{model}: {len(text) / 1000:.0f} KB")
        if options.write:
            FOLDER.mkdir(exist_ok=True)
            files.write_atomically(FOLDER / f"{model}.json", text.encode())
    print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
