"""What a timing depends on: the key by which it is kept and found."""

import json
from dataclasses import asdict, dataclass, replace

from paretoscope.measure.latency import machine_id
from paretoscope.recipe.recipe import Code, Recipe
from paretoscope.runtimes import Runtime


@dataclass(frozen=True, slots=True)
class TimingKey:
    """What a timing depends on: the model's digest, the machine, runtime, number format, batch, threads and input size.

    form: what the recipe makes of the graph, `Recipe.form`; where the runtime's time depends on the zeros, the recipe.
    size: height and width of the images, or None for the model's own.
    """

    model: str
    form: str
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
        form = replace(recipe, code=Code()).digest if runtime.sees_zeros else recipe.form
        number_format = number_format or runtime.number_format(recipe.integer)
        return cls(model, form, machine_id(runtime.name), runtime.name, number_format, batch, threads, size)

    def to_json(self) -> str:
        """The key as a text."""
        return json.dumps(asdict(self), sort_keys=True)
