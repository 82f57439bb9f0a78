"""A report of all that was measured of a recipe's latency: plain data, as JSON and as lines for a terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from paretoscope.base.units import format_bytes, format_percent
from paretoscope.measure.devices import ENERGY_SOURCE, Projection
from paretoscope.measure.latency import Noise
from paretoscope.measure.machine import Machine
from paretoscope.measure.record import Latency
from paretoscope.measure.roofline import Bound
from paretoscope.measure.wording import NOT_ALONE, UNDECIDED_WHY, faster, speed
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes.plans import LayerPlan
from paretoscope.search.verdict import Verdict

# Quantiles of the single calls behind a median, in percent.
QUANTILES = (0, 5, 25, 50, 75, 95, 99, 100)


@dataclass(frozen=True, slots=True)
class CallQuantiles:
    """The distribution behind a median. n: single calls a side. candidate_ms, baseline_ms: quantiles, at QUANTILES."""

    n: int
    candidate_ms: tuple[float, ...]
    baseline_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TimingRow:
    """A timing that was asked for. latency: None where there is none, and then `note` says why.

    stored: whether it was known before. measured_for: the recipe of the same graph and number format that was timed,
    in words, "" for this very recipe.
    """

    title: str
    runtime: str
    number_format: str
    batch: int
    threads: int
    latency: Latency | None
    calls: CallQuantiles | None = None
    stored: bool = False
    measured_for: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class LayerTime:
    """A layer in a runtime. name: of its weight, or "other".

    time_us, baseline_us: microseconds a call by the runtime's own profile, None where there is none, or no such layer.
    macs, bytes, intensity: of a batch, of the layer as it is run; estimate_us, bound: by the roofline of this machine.
    """

    name: str
    kind: str
    time_us: float | None
    baseline_us: float | None
    macs: int | None = None
    bytes: int | None = None
    intensity: float | None = None
    estimate_us: float | None = None
    bound: Bound | None = None


@dataclass(frozen=True, slots=True)
class RuntimeDetails:
    """A runtime in a number format, at the first batch and number of threads.

    noise: of the baseline in this runtime. memory, baseline_memory: peak bytes of a session. estimate_ms,
    baseline_estimate_ms: of a call, by the roofline of this machine; of layers that run sparse, the non-zeros alone.
    plan: what the sparse runtime does with each layer. problems: what could not be measured, and why.
    """

    title: str
    runtime: str
    number_format: str
    noise: Noise | None
    memory: int | None
    baseline_memory: int | None
    estimate_ms: float | None
    baseline_estimate_ms: float | None
    layers: tuple[LayerTime, ...]
    plan: tuple[LayerPlan, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OtherRecipe:
    """What else was timed in the first runtime. name: what it does, e.g. "half the channels"."""

    name: str
    recipe: Recipe
    latency: Latency


@dataclass(frozen=True, slots=True)
class DeviceEstimate:
    """A projection to another device, for the recipe and for the baseline in fp32."""

    title: str
    own: Projection
    baseline: Projection


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """All of it. batch, threads: of everything but the timings, which say their own. size: height of the images,
    0 for samples that are none.

    verdict: on the first runtime, None where that could not be timed. machine: None where it could not be measured.
    """

    model: str
    dataset: str
    recipe: Recipe
    batch: int
    threads: int
    size: int
    artefact_bytes: int
    verdict: Verdict | None
    timings: tuple[TimingRow, ...]
    details: tuple[RuntimeDetails, ...]
    others: tuple[OtherRecipe, ...]
    machine: Machine | None
    devices: tuple[DeviceEstimate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        verdict = None
        if self.verdict is not None:
            advised = self.verdict.recipe
            verdict = {**asdict(self.verdict), "recipe": None if advised is None else advised.to_dict()}
        return {
            "model": self.model,
            "dataset": self.dataset,
            "recipe": self.recipe.to_dict(),
            "batch": self.batch,
            "threads": self.threads,
            "size": self.size,
            "artefact_bytes": self.artefact_bytes,
            "verdict": verdict,
            "timings": [{**asdict(row), "latency": _latency(row.latency)} for row in self.timings],
            "details": [{**asdict(each), "noise": _noise(each.noise)} for each in self.details],
            "others": [
                {"name": each.name, "recipe": each.recipe.to_dict(), "latency": _latency(each.latency)}
                for each in self.others
            ],
            "machine": None if self.machine is None else self.machine.to_dict(),
            "devices": [{"estimate": True, **asdict(each)} for each in self.devices],
        }

    def text(self) -> str:
        """The report as lines for a terminal."""
        parts = [
            self._head(),
            _section("Timings, milliseconds a batch; the baseline in the same runtime beside each", self._timings()),
            _section("Single calls, milliseconds", self._calls()),
            _section(f"Each runtime at {self._setting}", self._details()),
            *(self._plan(each) for each in self.details if each.plan),
            _section("What else was timed", self._others()),
            *(self._layers(each) for each in self.details if each.layers),
            self._machine(),
            self._devices(),
        ]
        return "\n\n".join(filter(None, parts))

    @property
    def _setting(self) -> str:
        return f"batch {self.batch}, {self.threads} thread{'s' * (self.threads > 1)}"

    def _head(self) -> str:
        images = f"images of {self.size} x {self.size}, " if self.size else ""
        lines = [
            f"{self.model} on {self.dataset or 'random numbers'}: {self.recipe.describe()}; {images}"
            f"file of {format_bytes(self.artefact_bytes)}"
        ]
        if self.verdict is not None:
            lines += [self.verdict.text, *filter(None, (self.verdict.advice, self.verdict.caveat))]
        return "\n".join(lines)

    def _timings(self) -> Iterator[str]:
        head = "runtime|format|batch|threads|median|p95|p99|images/s|baseline|p95|p99|images/s|speed|pairs"
        rows = [[*head.split("|"), "outliers", "ended by", "taken"]]
        for row in self.timings:
            if (one := row.latency) is None:
                continue
            measured = f"{'stored' if row.stored else 'now'}{f', for {row.measured_for}' * bool(row.measured_for)}"
            own = (one.median_ms, one.p95_ms, one.p99_ms, one.throughput)
            baseline = (one.baseline_median_ms, one.baseline_p95_ms, one.baseline_p99_ms, one.baseline_throughput)
            rows.append(
                [
                    *(row.title, row.number_format, str(row.batch), str(row.threads)),
                    *map(_digits, (*own, *baseline)),
                    *(str(speed(one)), str(one.pairs)),
                    *(str(one.outliers), one.stopped_by, measured),
                ]
            )
        yield from _table(rows, left=("runtime", "format", "speed", "ended by", "taken"))
        timed = [(row, row.latency) for row in self.timings if row.latency is not None]
        yield from dict.fromkeys(UNDECIDED_WHY for _, one in timed if not one.decided)
        yield from (f"{row.title} {row.number_format}: {NOT_ALONE}" for row, one in timed if one.alone is False)
        yield from dict.fromkeys(f"{row.title} {row.number_format}: {row.note}" for row in self.timings if row.note)

    def _calls(self) -> Iterator[str]:
        rows = [["runtime", "format", "batch", "threads", "side", "calls", *(f"{each} %" for each in QUANTILES)]]
        for row in self.timings:
            if row.calls is not None:
                name = [row.title, row.number_format, str(row.batch), str(row.threads)]
                sides = {"recipe": row.calls.candidate_ms, "baseline": row.calls.baseline_ms}
                rows += [[*name, side, str(row.calls.n), *map(_digits, values)] for side, values in sides.items()]
        yield from _table(rows, left=("runtime", "format", "side"))

    def _details(self) -> Iterator[str]:
        rows = [["runtime", "format", "noise", "95 %", "contains 1", "peak memory", "baseline"]]
        rows[0] += ["estimate, ms", "measured", "times", "baseline's estimate", "measured", "times"]
        measured = {
            (row.runtime, row.number_format): row.latency
            for row in self.timings
            if (row.batch, row.threads) == (self.batch, self.threads)
        }
        for each in self.details:
            noise, latency = each.noise, measured[each.runtime, each.number_format]
            told = ["-"] * 3
            if noise is not None:
                told = [f"{noise.speedup:.3f}", _interval(noise.low, noise.high), "yes" if noise.contains_one else "NO"]
            row = [each.title, each.number_format, *told]
            row += ["-" if size is None else format_bytes(size) for size in (each.memory, each.baseline_memory)]
            for estimate, real in (
                (each.estimate_ms, None if latency is None else latency.median_ms),
                (each.baseline_estimate_ms, None if latency is None else latency.baseline_median_ms),
            ):
                ratio = None if estimate is None or real is None else real / estimate
                row += [_digits(estimate), _digits(real), _digits(ratio)]
            rows.append(row)
        yield from _table(rows, left=("runtime", "format"))
        for each in self.details:
            yield from (f"{each.title} {each.number_format}: {problem}" for problem in each.problems)

    def _plan(self, details: RuntimeDetails) -> str:
        rows = [["layer", "form", "non-zero", "multiplied", "pays below", "dense, us", "sparse, us"]]
        for each in details.plan:
            rows.append(
                [
                    *(each.weight, each.form, format_percent(each.density), f"{each.multiplied:,}"),
                    *(format_percent(each.break_even), _digits(each.dense_us), _digits(each.sparse_us)),
                ]
            )
        title = f"What {details.title} does with each layer at {self._setting}, by break-evens measured here"
        return _section(title, _table(rows, left=("layer", "form")))

    def _others(self) -> Iterator[str]:
        rows = [["recipe", "median, ms", "baseline", "speed", "in words"]]
        for each in self.others:
            one = each.latency
            times = map(_digits, (one.median_ms, one.baseline_median_ms))
            rows.append([each.name, *times, str(speed(one)), each.recipe.describe()])
        yield from _table(rows, left=("recipe", "speed", "in words"))

    def _layers(self, details: RuntimeDetails) -> str:
        rows = [["layer", "kind", "time, us", "share", "baseline", "MACs", "bytes", "operations/byte"]]
        rows[0] += ["estimate, us", "bound by"]
        spent = sum(layer.time_us or 0.0 for layer in details.layers)
        for layer in details.layers:
            share = "-" if layer.time_us is None or not spent else format_percent(layer.time_us / spent)
            counts = ["-" if count is None else f"{count:,}" for count in (layer.macs, layer.bytes)]
            times = [_digits(layer.time_us), share, _digits(layer.baseline_us)]
            rest = [_digits(layer.intensity), _digits(layer.estimate_us), layer.bound or "-"]
            rows.append([layer.name, layer.kind, *times, *counts, *rest])
        title = f"Layers in {details.title} {details.number_format} at {self._setting}, by its own profile"
        return _section(title, _table(rows, left=("layer", "kind", "bound by")))

    def _machine(self) -> str:
        if (here := self.machine) is None:
            return ""
        peaks = (
            ("matrix products", here.flops, here.int8_ops),
            ("convolutions", *here.convolution),
            ("depthwise convolutions", *here.depthwise),
        )
        lines = [f"{name}: fp32 {fp32 / 1e9:.3g} GFLOP/s, int8 {int8 / 1e9:.3g} GOP/s" for name, fp32, int8 in peaks]
        caches = ", ".join(f"{format_bytes(size)} at {speed / 1e9:.3g} GB/s" for size, speed in here.curve)
        lines += [
            f"memory: {here.bandwidth / 1e9:.3g} GB/s; a small model's cache: {here.cache_bandwidth / 1e9:.3g} GB/s",
            f"sets that are read again and again: {caches}",
            f"overhead: a call {1e6 * here.call_s:.3g} us, a convolution {1e6 * here.layer_s:.3g} us, "
            f"another step {1e6 * here.node_s:.3g} us",
        ]
        return _section(f"This machine, measured on {here.threads} thread(s): {here.name}", lines)

    def _devices(self) -> str:
        rows = [["device", "~ ms", "~ baseline", "~ speed", "fits", "RAM", "flash", "~ transfer, ms", "~ energy, uJ"]]
        for each in self.devices:
            own, baseline = each.own, each.baseline
            seconds = [own.seconds, baseline.seconds]
            rows.append(
                [
                    *(each.title, *(_digits(1e3 * each) for each in seconds), faster(seconds[1] / seconds[0])),
                    *("yes" if own.fits else "NO", format_bytes(own.ram_needed)),
                    format_bytes(own.flash_needed) if own.flash_needed else "-",
                    _digits(1e3 * own.transfer_s),
                    _digits(None if own.energy_j is None else 1e6 * own.energy_j),
                ]
            )
        lines = [*_table(rows, left=("device",))]
        told = [[line for line in each.own.assumptions if ENERGY_SOURCE not in line] for each in self.devices]
        shared = [line for line in told[0] if all(line in each for each in told)]
        lines.append(f"All: {' '.join(shared)}")
        for each, assumptions in zip(self.devices, told, strict=True):
            lines.append(f"{each.title}: {' '.join(line for line in assumptions if line not in shared)}")
        lines.append(f"Energy: {ENERGY_SOURCE}.")
        return _section(f"Other devices, batch {self.batch}: ESTIMATES by roofline, not measurements", lines)


def _latency(latency: Latency | None) -> dict[str, Any] | None:
    if latency is None:
        return None
    rates = {"throughput": latency.throughput, "baseline_throughput": latency.baseline_throughput}
    return {**asdict(latency), **rates}


def _noise(noise: Noise | None) -> dict[str, Any] | None:
    return None if noise is None else {**asdict(noise), "contains_one": noise.contains_one}


def _section(title: str, lines: "Iterator[str] | Sequence[str]") -> str:
    """ "" where there are no lines."""
    found = list(lines)
    return "\n".join([title, *(f"  {line}" for line in found)]) if found else ""


def _table(rows: Sequence[Sequence[str]], left: Sequence[str]) -> list[str]:
    """Lines, the first row being the head; columns of the heads `left` are aligned so. [] where there is no more."""
    if len(rows) < 2:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<" if head in left else ">" for head in rows[0]]
    cells = list(zip(sides, widths, strict=True))
    return ["  ".join(f"{c:{s}{w}}" for c, (s, w) in zip(row, cells, strict=True)).rstrip() for row in rows]


def _digits(value: float | None) -> str:
    """Three significant digits, or all before the point."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _interval(low: float, high: float) -> str:
    return f"[{low:.3f}, {high:.3f}]"
