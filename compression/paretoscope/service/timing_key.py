"""What a timing depends on: the key by which it is kept and found."""

import json
from dataclasses import asdict, dataclass, replace

from paretoscope.measure.latency import machine_id
from paretoscope.recipe.recipe import Code, Recipe
from paretoscope.runtimes import Runtime


@dataclass(frozen=True, slots=True)
class TimingKey:
    """What a timing depends on: the model's digest, the machine, runtime, number format, batch, threads and input size.

    graph_key: of the recipe, `Recipe.graph_key`; where the runtime's time depends on the zeros, the recipe's digest.
    size: height and width of the images, or None for the model's own.
    """

    model: str
    graph_key: str
    machine: str
    runtime: str
    number_format: str
    batch: int
    threads: int
    size: int | None = None

    @classmethod
    def of(
        cls,
        model: str,
        recipe: Recipe,
        runtime: Runtime,
        number_format: str | None = None,
        *,
        batch: int,
        threads: int,
        size: int | None = None,
    ) -> "TimingKey":
        """The key of a recipe's timing in a runtime. model: its digest. number_format: None for the recipe's."""
        # How codes are written changes no weight.
        graph_key = replace(recipe, code=Code()).digest if runtime.sees_zeros else recipe.graph_key
        number_format = number_format or runtime.number_format(recipe.integer)
        return cls(model, graph_key, machine_id(runtime.name), runtime.name, number_format, batch, threads, size)

    def to_json(self) -> str:
        """The key as a text, by the names under which stores have it."""
        names = {"graph_key": "form"}
        return json.dumps({names.get(name, name): value for name, value in asdict(self).items()}, sort_keys=True)
