"""The record: everything measured for one (model, dataset, recipe), the unit of plots, tables, store and export."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from paretoscope.measure import migrations
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks import BaselineFigures, Figures, tasks

# Records that name no task are of this one.
FIRST_TASK = "classification"
# Records that name no engine were evaluated in this one.
FIRST_ENGINE = "torch"

# An interval of a speed-up whose ends differ by a larger factor is too wide to be used: what is compared here (number
# formats, runtimes, half the channels) differs by factors of 1.3 to 2 (`python -m benchmarks.latency`).
WIDEST = 1.5


@dataclass(frozen=True, slots=True)
class Digests:
    """SHA-256 of the model's weights, the dataset's test split, the recipe and the artefact (64 hex characters).

    artefact: of the file without figures, as `compress` writes it; an exported file holds them too and is just as long.
    """

    model: str
    dataset: str
    recipe: str
    artefact: str


@dataclass(frozen=True, slots=True)
class Rates:
    """Fractions of the compressible (convolution, linear, attention projection) weights.

    sparse_rate: weights that decode to zero / weights.
    shared_rate: weights whose codebook entry at least two weights use / weights.
    architecture_simplification: parameters after / before the simplify step; 1.0 without it.
    """

    sparse_rate: float
    shared_rate: float
    architecture_simplification: float


@dataclass(frozen=True, slots=True)
class Touched:
    """What a recipe acted on.

    share: parameters that it took away, or that are not stored as they were / all parameters of the baseline. left:
    the share of each kind of parameter that it left as it was, the largest first.
    """

    share: float
    left: tuple[tuple[str, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"share": self.share, "left": dict(self.left)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Touched":
        return cls(float(data["share"]), tuple((str(kind), float(share)) for kind, share in data["left"].items()))


@dataclass(frozen=True, slots=True)
class Ladder:
    """Bytes of the whole model in each encoding, biases, normalisation, scales and codebooks always included.

    dense: fp32. sparse: fp32 non-zeros with relative indices. packed: bit-packed codes. huffman, ans: entropy
    coded codes. artefact: the length of the file as written.
    """

    dense: int
    sparse: int
    packed: int
    huffman: int
    ans: int
    artefact: int


class StoppedBy(StrEnum):
    """What ended a timing: an interval as narrow as was wanted, the time allowed, or the rounds allowed."""

    PRECISION = "precision"
    BUDGET = "budget"
    ROUNDS = "rounds"


@dataclass(frozen=True, slots=True)
class Latency:
    """One timing of a (graph, number format) against the baseline in the same runtime and process.

    size: height of the input images, 0 for samples that are none. median_ms, p95_ms, p99_ms and the baseline's:
    milliseconds a batch, outliers included. speedup: median of baseline / candidate over rounds of interleaved pairs,
    each round with sessions loaded anew, and its bootstrap 95 % interval. pairs: samples of each side. outliers: calls
    of the candidate above Tukey's far fence, third quartile + 3 interquartile ranges. stopped_by: the value of a
    `StoppedBy`. measured_for: digest of the recipe that was timed; another recipe of the same graph and number format
    reuses the timing. alone: whether it had the machine to itself throughout; None of timings from before that was
    noted.
    """

    runtime: str
    number_format: str
    batch: int
    threads: int
    size: int
    graph: str
    median_ms: float
    p95_ms: float
    p99_ms: float
    baseline_median_ms: float
    baseline_p95_ms: float
    baseline_p99_ms: float
    speedup: float
    speedup_low: float
    speedup_high: float
    pairs: int
    outliers: int
    stopped_by: str
    measured_for: str
    alone: bool | None = None

    @property
    def decided(self) -> bool:
        """Whether the interval is narrow enough to say how fast this is; if not, it is not known yet."""
        return self.speedup_high <= WIDEST * self.speedup_low

    @property
    def throughput(self) -> float:
        """Samples a second."""
        return 1e3 * self.batch / self.median_ms

    @property
    def baseline_throughput(self) -> float:
        """Samples a second of the baseline."""
        return 1e3 * self.batch / self.baseline_median_ms

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with a version after the first."""
        return {**migrations.version_of(migrations.TIMINGS), **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, data: object) -> "Latency":
        """The timing that `to_dict` of this or an older version wrote; raises as `Record.from_dict` does."""
        return cls(**migrations.migrated(data, migrations.TIMINGS))


@dataclass(frozen=True, slots=True)
class Record:
    """What one recipe costs and gains. `latency` is None until it has been timed. task: whose figures these are.

    touched: None in records from before that was noted.
    engine: what ran the network over its samples: PyTorch, or ONNX Runtime where it was faster and agreed.
    """

    model: str
    dataset: str
    recipe: Recipe
    digests: Digests
    figures: Figures
    baseline: BaselineFigures
    rates: Rates
    size: Ladder
    latency: Latency | None = None
    task: str = FIRST_TASK
    touched: Touched | None = None
    engine: str = FIRST_ENGINE

    @property
    def ratio(self) -> float:
        """Compression ratio: baseline fp32 bytes / artefact bytes."""
        return self.baseline.size_bytes / self.size.artefact

    @property
    def latency_reused(self) -> bool:
        """Whether the timing was taken on another recipe of the same graph and number format."""
        return self.latency is not None and self.latency.measured_for != self.digests.recipe

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the task's figures at the top level, as the command line prints it; a version after the first."""
        return {
            **migrations.version_of(migrations.RECORDS),
            **({} if self.task == FIRST_TASK else {"task": self.task}),
            **({} if self.engine == FIRST_ENGINE else {"engine": self.engine}),
            "model": self.model,
            "dataset": self.dataset,
            "recipe": self.recipe.to_dict(),
            "digests": dataclasses.asdict(self.digests),
            **dataclasses.asdict(self.figures),
            "baseline": dataclasses.asdict(self.baseline),
            "rates": dataclasses.asdict(self.rates),
            **({} if self.touched is None else {"touched": self.touched.to_dict()}),
            "size": dataclasses.asdict(self.size),
            "ratio": self.ratio,
            "latency": None if self.latency is None else self.latency.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: object) -> "Record":
        """The record that `to_dict` of this or an older version wrote.

        Raises KeyError, TypeError, ValueError or AttributeError when it is none, RecipeError for its recipe.
        """
        data = migrations.migrated(data, migrations.RECORDS)
        if (name := data.get("task", FIRST_TASK)) not in tasks:
            raise ValueError(f"a record must be of a known task; this one is of {name!r}")
        task = tasks.get(name)
        return cls(
            model=data["model"],
            dataset=data["dataset"],
            recipe=Recipe.from_dict(data["recipe"]),
            digests=Digests(**data["digests"]),
            figures=task.read_figures(data),
            baseline=task.read_baseline(data["baseline"]),
            rates=Rates(**data["rates"]),
            size=Ladder(**data["size"]),
            latency=None if data["latency"] is None else Latency.from_dict(data["latency"]),
            task=task.name,
            touched=Touched.from_dict(data["touched"]) if data.get("touched") is not None else None,
            engine=str(data.get("engine", FIRST_ENGINE)),
        )

    def to_json(self, indent: int | None = None) -> str:
        return json.dumps(self.to_dict(), indent=indent)
