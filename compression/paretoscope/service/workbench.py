"""What a screen asks for: records, at once where they are known, by a job where they are not.

One workbench serves all visitors of a process; what they may ask for, its limits say. It keeps subjects and records in
memory and in the store; where the store fails, memory goes on, `store_error` says why, and the store keeps what is to
be written later. All measurements are jobs of one scheduler: timings run alone.

What is known (subjects, records, evaluations, latencies, studies, conversions, jobs) is shared by the pages' threads
and the job's, and is read and written under one lock, which is held for look-ups alone: never while something is
measured, read from the store or waited for. A job is submitted under it, so that two who ask at once share one.
"""

import json
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from paretoscope import codec, runtimes
from paretoscope.base import cache
from paretoscope.base.errors import CompressionError, StoreError
from paretoscope.base.lock import machine
from paretoscope.base.progress import Cancelled
from paretoscope.codec import shelf
from paretoscope.export import Checked, Conversion, Verification, formats, produce
from paretoscope.measure.latency import BUDGET_S, WIDTH, Noise, Samples, machine_id, repeated
from paretoscope.measure.layers import layer_table
from paretoscope.measure.machine import Machine, measure_machine
from paretoscope.measure.paired import paired_ms, reference_ms
from paretoscope.measure.record import Latency, Record
from paretoscope.measure.roofline import LayerWork, layer_work
from paretoscope.measure.sensitivity import Sensitivity, measure_sensitivity
from paretoscope.measure.subject import Evaluation, Subject
from paretoscope.model.compressed import CompressedModel
from paretoscope.networks.zoo import models
from paretoscope.recipe.presets import presets_of
from paretoscope.recipe.recipe import Recipe, Recover
from paretoscope.runtimes.sparse import runtime as sparse
from paretoscope.search.allot import allot
from paretoscope.search.cliff import Cliff, find_cliff
from paretoscope.search.suggest import Suggestion, Target, find
from paretoscope.search.waterfall import Waterfall, attribute
from paretoscope.service import subjects
from paretoscope.service.jobs import Job, Kind, Scheduler, asking_party
from paretoscope.service.limits import NONE, Limits
from paretoscope.service.memory import session_memory
from paretoscope.service.presets import movable
from paretoscope.service.store import Store, TimingKey
from paretoscope.training import interrupted
from paretoscope.training.progress import seconds_left
from paretoscope.training.shrink import ShrinkStep, required_accuracy, shrink, students
from paretoscope.training.train import Epoch, Recovery, Trainer, best_of

# Of jobs: what is on the screen, what follows it, studies that were asked for, what is filled in unasked, trainings.
NOW, SOON, ASKED, LATER, LAST = range(5)

# A tab in the background asks once a minute; one that was closed never again.
PATIENCE_S = 90.0

# Seconds until a timing whose interval was too wide is taken again, after the first such, the second and so on; then it
# rests until somebody asks for it: on a machine that is never still it would not end.
AGAIN_AFTER_S = (15.0, 60.0, 300.0)

STUDY_BATCHES = (1, 2, 4, 8, 16, 32)
HALF = 0.5
# Where the time depends on the zeros, these sparsities are timed and the others are predicted from them.
ANCHORS = (0.5, 0.8, 0.9, 0.95, 0.98)

# What `Workbench(again=True)` does not read from the store.
STUDIED_ANEW = ("profile", "plan", "noise", "machine", "memory", "recovery")

# Of converted files that are kept for download.
KEPT_BYTES = 1 << 28

SWEEP_SPARSITIES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
SWEEP_CLUSTERS = (None, 256, 64, 32, 16, 8, 4, 2)
SWEEP_BITS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Timing:
    """How latency is measured: the runtime's name, samples a batch, threads, height and width of the images.

    size: None for the model's own. number_format: None for the recipe's.
    """

    runtime: str = "onnxruntime"
    batch: int = 1
    threads: int = 1
    size: int | None = None
    number_format: str | None = None

    @property
    def chosen(self) -> runtimes.Runtime:
        """The runtime; raises UnknownNameError."""
        return runtimes.runtimes.get(self.runtime)


@dataclass(frozen=True, slots=True)
class Task:
    """A measurement of a recipe under a timing, of which only the setting counts for a machine.

    what: "time", "evaluate", "profile", "plan", "noise", "machine" or "memory"; the workbench's getter of that name,
    for "time" `latency` and for "evaluate" `find`, knows it afterwards. label: what a person is told meanwhile.
    """

    label: str
    what: str
    recipe: Recipe
    timing: Timing


def study_tasks(recipe: Recipe, timing: Timing) -> list[Task]:
    """All that is shown of a recipe's latency, the most important first."""
    groups = study_timings(recipe, timing)
    told = f"batch {timing.batch}, {timing.threads} thread{'s' * (timing.threads > 1)}"
    return [
        Task(f"Timing in {timing.chosen.title}, {told}", "time", recipe, timing),
        Task("Profiling the layers", "profile", recipe, timing),
        Task("Profiling the baseline's layers", "profile", Recipe(), timing),
        *([Task("Choosing the form of each layer", "plan", recipe, timing)] if timing.chosen.sees_zeros else []),
        Task("Timing the baseline against itself", "noise", Recipe(), timing),
        *(
            Task(f"Timing {each.number_format} in {each.chosen.title}", "time", recipe, each)
            for each in groups["runtimes"]
            if not each.chosen.missing
        ),
        *(
            Task(f"{label} {name}", what, each, timing)
            for name, each in alternatives(recipe, timing).items()
            for label, what in (("Timing", "time"), ("Evaluating", "evaluate"))
        ),
        *(Task(f"Timing batch {each.batch}", "time", recipe, each) for each in groups["batch"]),
        *(Task(f"Timing {each.threads} threads", "time", recipe, each) for each in groups["threads"]),
        Task("Measuring this machine", "machine", recipe, timing),
        Task("Measuring memory", "memory", recipe, timing),
        Task("Measuring the baseline's memory", "memory", Recipe(), timing),
    ]


def study_timings(recipe: Recipe, timing: Timing) -> dict[str, list[Timing]]:
    """The timings of a recipe that the figures of latency show.

    "runtimes": every runtime in every number format that the recipe can run in, installed or not; "batch" and
    "threads": the chosen runtime over batches, and over threads up to the cores of this machine.
    """
    formats = ("fp32", "int8") if recipe.integer else ("fp32",)
    cores = os.cpu_count() or 1
    counts = [2**power for power in range(cores.bit_length()) if 2**power < cores] + [cores]
    return {
        "runtimes": [
            replace(timing, runtime=runtime.name, number_format=number_format)
            for runtime in runtimes.runtimes
            for number_format in runtime.number_formats
            if number_format in formats
        ],
        "batch": [replace(timing, batch=batch) for batch in sorted({*STUDY_BATCHES, timing.batch})],
        "threads": [replace(timing, threads=threads) for threads in sorted({*counts, timing.threads})],
    }


def alternatives(recipe: Recipe, timing: Timing) -> dict[str, Recipe]:
    """What else might be faster in a runtime, by name: recipes that change one thing about this one."""
    settings = recipe.untrained.settings()
    found = {}
    if settings["nodes"] < HALF:
        found["half the channels"] = Recipe.of(**{**settings, "nodes": HALF})
    if not recipe.integer and "int8" in timing.chosen.number_formats:
        found["integer kernels"] = Recipe.of(**{**settings, "bits": min(settings["bits"], 8), "activations": 8})
    return found


def sweeps(recipe: Recipe) -> dict[str, list[Recipe]]:
    """The three one-slider sweeps around a recipe, by the name of the setting that varies.

    Where another rule than a rate prunes the recipe, the sweep of the sparsity replaces it.
    """
    grids = {"sparsity": SWEEP_SPARSITIES, "clusters": SWEEP_CLUSTERS, "bits": SWEEP_BITS}
    return {name: [recipe.with_setting(name, value) for value in grid] for name, grid in grids.items()}


class Workbench:
    """One for all sessions.

    again: whether timings and studies are taken anew even where the store has them. budget_s, width: of each timing, as
    for `paretoscope.measure.latency.compare`. limits, present: what visitors may ask for, and whether one is there
    (`paretoscope.service.jobs.Scheduler`).
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        again: bool = False,
        budget_s: float = BUDGET_S,
        width: float = WIDTH,
        limits: Limits = NONE,
        present: Callable[[str], bool] = lambda visitor: True,
    ) -> None:
        self.store = store or Store()
        self._again = again
        self._effort = {"budget_s": budget_s, "width": width}
        self._read_error: str | None = None
        self._earlier: dict[str, frozenset[str]] = {}
        cache.tidy()
        self.limits = limits
        self._scheduler = Scheduler(limits, present)
        self._lock = threading.RLock()
        self._subjects: dict[str, Future[Subject]] = {}
        self._records: dict[str, dict[str, Record]] = {}
        self._evaluations: dict[tuple[str, str], Evaluation] = {}
        self._latencies: dict[TimingKey, Latency] = {}
        # Of timings that are not decided: how often they were tried, and when they are tried again.
        self._tries: dict[TimingKey, tuple[int, float]] = {}
        self._references: dict[TimingKey, float | None] = {}
        self._problems: dict[TimingKey, dict[str, str]] = {}
        self._work: dict[TimingKey, list[LayerWork]] = {}
        self._studies: dict[tuple[str, str], Any] = {}
        self._jobs: dict[tuple[object, ...], Job] = {}
        self._conversions: OrderedDict[tuple[str, str, str], Conversion] = OrderedDict()

    def close(self) -> None:
        """End the worker thread; jobs that wait are cancelled, and what is not on disk is written, where it can be."""
        self._scheduler.close()
        with suppress(StoreError):  # it tells when the process ends
            self.store.close()

    @property
    def store_error(self) -> str | None:
        """How many results are not on disk and why, or why the last look at the store failed; None where all is well.

        Measurements go on without the store.
        """
        return self.store.problem or self._read_error

    def store_notes(self, model: str) -> tuple[str, ...]:
        """What a person should know of a model's history: what is left out of it, and what is lost."""
        with self._lock:
            count = len(self._earlier.get(model, frozenset()) - self._records.get(model, {}).keys())
        earlier = (
            f"{count:,} records of another version are not shown; they are measured again when they are opened."
            if count > 1
            else "1 record of another version is not shown; it is measured again when it is opened."
        )
        return *[earlier] * bool(count), *self.store.notes, *shelf.left_out(), *interrupted.unreadable()

    def ahead(self, job: Job) -> list[Job]:
        """What a waiting job waits for."""
        return self._scheduler.ahead(job)

    def subject(self, model: str) -> Subject:
        """The subject of that name, loaded once, and anew after an error; raises UnknownNameError or ModelError."""
        found, mine = self._claim(model)
        if mine:
            self._load(model, found)
        return found.result()

    def load(self, model: str) -> "Future[Subject]":
        """The same without waiting: it is loaded in a thread of its own, for all who ask meanwhile."""
        found, mine = self._claim(model)
        if mine:
            threading.Thread(target=self._load, args=(model, found), name=f"load {model}", daemon=True).start()
        return found

    def _claim(self, model: str) -> "tuple[Future[Subject], bool]":
        """Where the subject is or will be, and whether it is the caller who must load it."""
        with self._lock:
            found = self._subjects.get(model)
            if found is not None:
                return found, False
            self._subjects[model] = claimed = Future()
            return claimed, True

    def _load(self, model: str, claimed: "Future[Subject]") -> None:
        try:
            subject = subjects.load(model)
            digests = subject.statistics.digest, subject.data.digest
            stored = self._from_store(lambda: self.store.records(*digests))
            self._earlier[model] = self._from_store(lambda: self.store.earlier(*digests)) or frozenset()
            with self._lock:
                self._records[model] = {record.digests.recipe: record for record in stored or ()}
            claimed.set_result(subject)
        except BaseException as error:  # whatever it is, others wait for it
            with self._lock:
                del self._subjects[model]
            claimed.set_exception(error)

    def loaded(self, model: str) -> bool:
        """Whether `subject` would answer at once."""
        return (found := self._subjects.get(model)) is not None and found.done()

    def records(self, model: str, timing: Timing) -> list[Record]:
        """Every exact record of a model, with its latency under `timing` where that is known."""
        self.subject(model)
        with self._lock:
            known = list(self._records[model].values())
        keys = [self._timing_key(model, record.recipe, timing) for record in known]
        latencies = {key: self._known_latency(key) for key in set(keys)}
        return [replace(record, latency=latencies[key]) for record, key in zip(known, keys, strict=True)]

    def find(self, model: str, recipe: Recipe) -> Evaluation | None:
        """The exact evaluation of a recipe, if it was made before, by this process or another."""
        subject = self.subject(model)
        key = model, recipe.digest
        with self._lock:
            known = self._evaluations.get(key)
        if known is None:
            digests = subject.statistics.digest, subject.data.digest, recipe.digest
            known = self._from_store(lambda: self.store.get(*digests))
            if known is not None:
                self._remember(known)
        return known

    def evaluate(self, model: str, recipe: Recipe, priority: int = NOW) -> Job:
        """The job that evaluates a recipe: its partial results and its result are evaluations."""
        return self._submit(
            ("evaluate", model, recipe),
            lambda job: self._evaluate(job, model, recipe),
            priority,
            f"Measuring {recipe.describe()}",
        )

    def latency(self, model: str, recipe: Recipe, timing: Timing) -> Latency | None:
        """The timing of a recipe's graph and number format, if it was taken before on this machine.

        It may be one that is not `decided`: `due` says whether it is to be taken again.
        """
        return self._known_latency(self._timing_key(model, recipe, timing))

    def due(self, model: str, recipe: Recipe, timing: Timing) -> bool:
        """Whether a recipe is to be timed: it was not yet, or its interval is too wide and the machine had a rest."""
        return self._due(self._timing_key(model, recipe, timing))

    def _due(self, key: TimingKey) -> bool:
        wait = self._seconds_until_again(key)
        return wait is not None and wait <= 0

    def seconds_until_again(self, model: str, recipe: Recipe, timing: Timing) -> float | None:
        """Until a timing that is not decided is taken again; None where none is to come."""
        return self._seconds_until_again(self._timing_key(model, recipe, timing))

    def _seconds_until_again(self, key: TimingKey) -> float | None:
        known = self._known_latency(key)
        if known is not None and known.decided:
            return None
        tries, when = self._tries.get(key, (0, -math.inf))
        return None if tries > len(AGAIN_AFTER_S) else max(0.0, when - time.monotonic())

    def reference_ms(self, model: str, timing: Timing) -> float | None:
        """Milliseconds of the baseline under a timing, by which all recipes' are told; None until one was timed."""
        setting = replace(self._timing_key(model, Recipe(), timing), form="", number_format="")
        with self._lock:
            if setting in self._references:
                return self._references[setting]
            taken = [
                each for key, each in self._latencies.items() if replace(key, form="", number_format="") == setting
            ]
        stored = [] if self._again else self._from_store(lambda: self.store.timings_beside(setting))
        found = reference_ms([*taken, *(stored or ())])
        with self._lock:
            self._references[setting] = found
        return found

    def _known_latency(self, key: TimingKey) -> Latency | None:
        with self._lock:
            if key in self._latencies:
                return self._latencies[key]
        found = None if self._again else self._from_store(lambda: self.store.get_latency(key))
        if found is not None:
            with self._lock:
                self._latencies[key] = found
                self._references.clear()
        return found

    def samples(self, model: str, recipe: Recipe, timing: Timing) -> Samples | None:
        """The single calls behind `latency`."""
        key = self._timing_key(model, recipe, timing)
        return self._from_store(lambda: self.store.get_samples(key))

    def problem(self, model: str, recipe: Recipe, timing: Timing, what: str | None = None) -> str | None:
        """Why a task of a study could not be done, or None. what: the one that is meant, None for the first of all."""
        found = self._problems.get(self._timing_key(model, recipe, timing), {})
        return found.get(what) if what else next(iter(found.values()), None)

    def noise(self, model: str, timing: Timing) -> Noise | None:
        """The baseline against itself, if it was measured before on this machine."""
        return self._studied("noise", self._timing_key(model, Recipe(), timing).to_json(), lambda data: Noise(**data))

    def profile(self, model: str, recipe: Recipe, timing: Timing) -> dict[str, float] | None:
        """Microseconds a call of each weight's layer and of the rest ("other"), by the runtime's own profile."""
        return self._studied("profile", self._timing_key(model, recipe, timing).to_json(), dict)

    def memory(self, model: str, recipe: Recipe, timing: Timing) -> int | None:
        """Peak bytes of the session."""
        return self._studied("memory", self._timing_key(model, recipe, timing).to_json(), int)

    def plan(self, model: str, recipe: Recipe, timing: Timing) -> list[sparse.LayerPlan] | None:
        """How each layer runs in the sparse runtime, and why; None for other runtimes."""
        key = self._timing_key(model, recipe, timing).to_json()
        return self._studied("plan", key, lambda data: [sparse.LayerPlan(**row) for row in data])

    def machine(self, threads: int = 1) -> Machine | None:
        """What this machine can do on so many threads, if that was measured before."""
        return self._studied("machine", self._machine_key(threads), Machine.from_dict)

    def work(self, model: str, recipe: Recipe, timing: Timing) -> list[LayerWork]:
        """What the layers of a recipe's network have to compute and to move; raises CompressionError."""
        key = self._timing_key(model, recipe, timing)
        with self._lock:
            if key in self._work:
                return self._work[key]
        found = layer_work(
            self.subject(model), self.compressed(model, recipe), timing.batch, timing.size, key.number_format
        )
        with self._lock:
            self._work[key] = found
        return found

    def expected(self, model: str, records: Iterable[Record], timing: Timing) -> dict[str, float]:
        """Milliseconds that are predicted for records whose speed-up is not known, by their digest.

        Only where the time depends on the zeros: interpolated over the sparsity between recipes that were timed.
        """
        if not timing.chosen.sees_zeros:
            return {}
        anchors = [(sparsity, Recipe.of(sparsity=sparsity) if sparsity else Recipe()) for sparsity in (0.0, *ANCHORS)]
        reference = self.reference_ms(model, timing)
        timed = [(at, found) for at, each in anchors if (found := self.latency(model, each, timing)) and found.decided]
        if len(timed) < 2 or reference is None:
            return {}
        known = [(at, paired_ms(found, reference)) for at, found in timed]
        return {
            record.digests.recipe: float(np.interp(record.rates.sparse_rate, *zip(*known, strict=True)))
            for record in records
            if (record.latency is None or not record.latency.decided) and record.recipe.simplify is None
        }

    def time(self, model: str, recipe: Recipe, timing: Timing, priority: int = SOON) -> Job:
        """The job that times a recipe against the baseline; its result is a Latency. Raises LimitError."""
        self._check_timing(timing)
        key = self._timing_key(model, recipe, timing)
        return self._submit(
            ("time", key),
            lambda job: self._time(job, model, recipe, timing),
            priority,
            f"Timing {key.number_format} in {timing.chosen.title}",
        )

    def study(self, model: str, recipe: Recipe, timing: Timing) -> Job:
        """The job that measures all that is shown of a recipe's latency, the most important first.

        Its partial result is a text, what it does just now. What cannot be measured is told by `problem`. Raises
        LimitError.
        """
        self._check_timing(timing)
        return self._submit(
            ("study", model, recipe, timing),
            lambda job: self._carry_out(job, model, self._allowed(study_tasks(recipe, timing))),
            SOON,
            "Studying the latency",
        )

    def measure(self, model: str, tasks: Sequence[Task]) -> Job:
        """The job that carries out these tasks, in their order, as `study` does."""
        return self._submit(
            ("measure", model, *tasks), lambda job: self._carry_out(job, model, tasks), SOON, "Measuring the latency"
        )

    def fill(self, model: str, recipe: Recipe, timing: Timing) -> Job:
        """The job that fills in what the plots need around a recipe: timings, the presets, the three sweeps.

        Raises LimitError.
        """
        self._check_timing(timing)
        return self._submit(
            ("fill", model, recipe, timing),
            lambda job: self._fill(job, model, recipe, timing),
            LATER,
            "Filling in presets and sweeps",
        )

    def missing(self, model: str, recipe: Recipe, timing: Timing) -> bool:
        """Whether `fill` would have anything to do."""
        unknown = self._unknown(model, recipe)
        return bool(self._untimed(model, recipe, timing)) or next(unknown, None) is not None

    def artefact(self, model: str, recipe: Recipe) -> bytes:
        """The file of a recipe; made anew, byte for byte the one that was measured."""
        return codec.write(self.compressed(model, recipe))

    def compressed(self, model: str, recipe: Recipe) -> CompressedModel:
        return self.subject(model).compress(recipe)

    def verification(self, model: str, recipe: Recipe, format: str) -> Verification | None:
        """What a recipe's conversion to a format was found to say, if it was checked before with this runtime."""
        return self._studied(self._conversion_kind(format), self._study_key(model, recipe), Verification.from_dict)

    def conversion(self, model: str, recipe: Recipe, format: str) -> Conversion | None:
        """The files of a conversion that passed its check, while they are kept."""
        with self._lock:
            return self._conversions.get((model, recipe.digest, format))

    def convert(self, model: str, recipe: Recipe, format: str) -> Job:
        """The job that converts a recipe's model and checks the files; its result is a Checked, also where they fail.

        Raises UnknownNameError.
        """
        return self._submit(
            ("convert", model, recipe, format),
            lambda job: self._convert(job, model, recipe, format),
            SOON,
            f"Converting to {formats.get(format).title}",
        )

    def recovery(self, model: str, recipe: Recipe) -> Recovery | None:
        """What training by a recipe came to, if it has ended or was cancelled before."""
        return self._studied("recovery", self._study_key(model, recipe), Recovery.from_dict)

    def resumable(self, model: str, recipe: Recipe) -> bool:
        """Whether training by a recipe was interrupted and can go on from a checkpoint."""
        return shelf.checkpoint_path(self.subject(model).statistics.digest, recipe).exists()

    def recover(self, model: str, recipe: Recipe, minutes: float | None = None) -> Job:
        """The job that trains by a recipe; its partial results are its epochs so far, its result a Recovery.

        It goes on from the last checkpoint, where there is one. minutes: a budget of training in all, without pauses.
        What it ends, and what is cancelled, keeps the best so far; the recipe of the result tells after which epoch.
        One that runs already is joined, with its own budget. Once those who want it have left for the grace of the
        limits, it ends as if it were cancelled. Raises LimitError.
        """
        self._check_training(recipe.recover, minutes)
        return self._train(
            ("recover", model, recipe),
            lambda job: self._recover(job, model, recipe, minutes),
            f"Training {recipe.untrained.describe()}",
        )

    def shrink(self, model: str, recipe: Recipe, axis: str, points: float, epochs: int) -> Job:
        """The job that trains smaller and smaller students of a recipe, until one misses the required accuracy.

        axis: "width" or "depth". points: that the validation accuracy may fall below the baseline's, of 100. epochs: of
        each student. Its partial results and its result are the steps so far, a tuple of ShrinkStep; each that has
        ended is kept as `recover` keeps it, so a job that was cancelled goes on where it was. Raises LimitError.
        """
        self._check_training(Recover(epochs=epochs))
        return self._train(
            ("shrink", model, recipe, axis, points, epochs),
            lambda job: self._shrink(job, model, recipe, axis, points, epochs),
            f"Shrinking the {axis}",
        )

    def layers(self, model: str) -> Job:
        """The job that makes the table of a model's layers, with their shares of size and time: list[LayerRow]."""
        return self._submit(
            ("layers", model), lambda job: layer_table(self.subject(model)), SOON, "Profiling the layers"
        )

    def sensitivity(self, model: str) -> Sensitivity | None:
        """The curves of a model, if they were measured before."""
        return self._studied("sensitivity", self._study_key(model), Sensitivity.from_dict)

    def measure_sensitivity(self, model: str) -> Job:
        """The job that measures them; its partial results hold the layers that are complete."""
        return self._submit(
            ("sensitivity", model), lambda job: self._sensitivity(job, model), ASKED, "Measuring each layer alone"
        )

    def waterfall(self, model: str, recipe: Recipe) -> Waterfall | None:
        """What each step of a recipe contributes, if it was measured before."""
        return self._studied("waterfall", self._study_key(model, recipe), Waterfall.from_dict)

    def measure_waterfall(self, model: str, recipe: Recipe) -> Job:
        """The job that evaluates all subsets of a recipe's steps."""
        return self._submit(
            ("waterfall", model, recipe),
            lambda job: self._waterfall(job, model, recipe),
            ASKED,
            "Evaluating the steps in every order",
        )

    def suggest(self, model: str, curves: Sensitivity, target: Target, base: Recipe) -> Job:
        """The job that turns curves into a recipe for a wanted size or a wanted loss; its result is a Suggestion."""
        return self._submit(
            ("suggest", model, target, base),
            lambda job: self._suggest(job, model, curves, target, base),
            SOON,
            "Looking for a recipe",
        )

    def allot(self, model: str, recipe: Recipe, *, size: int | None = None, harm: float | None = None) -> Job:
        """The job that looks for the exchange rate of a wanted size, in bytes, or harm, in nats; gives an Allotment."""
        return self._submit(
            ("allot", model, recipe, size, harm),
            lambda job: allot(self.subject(model), recipe, size=size, harm=harm, check=job.checkpoint),
            SOON,
            "Looking for an exchange rate",
        )

    def cliff(self, model: str, recipe: Recipe, setting: str) -> Cliff | None:
        """Where a slider's accuracy falls off, if it was looked for before."""
        return self._studied(f"cliff {setting}", self._study_key(model, recipe), Cliff.from_dict)

    def find_cliff(self, model: str, recipe: Recipe, setting: str) -> Job:
        """The job that looks for the last value of a slider that cannot be told from the baseline."""
        return self._submit(
            ("cliff", model, recipe, setting),
            lambda job: self._cliff(job, model, recipe, setting),
            SOON,
            f"Looking for the cliff of {setting}",
        )

    def _recover(self, job: Job, model: str, recipe: Recipe, minutes: float | None) -> Recovery:
        known = self.recovery(model, recipe)
        if known is not None and known.recipe == recipe and self._on_shelf(model, recipe):
            self._evaluate(job, model, recipe)
            return known
        trainer = Trainer(self.subject(model), recipe)
        source = trainer.subject.statistics.digest
        if (kept := shelf.checkpoint(source, recipe)) is not None:
            try:
                trainer.restore(kept)
            except CompressionError:
                shelf.set_checkpoint_aside(source, recipe)
        last = recipe.recover.stopped or recipe.recover.epochs
        before = trainer.epochs[-1].seconds if trainer.epochs else 0.0
        budget = min(math.inf if minutes is None else 60 * minutes, before + 60 * self.limits.minutes)
        try:
            for epoch in trainer.run(job.checkpoint):
                shelf.keep_checkpoint(source, recipe, trainer.checkpoint())
                left = seconds_left(trainer.epochs, last)
                job.checkpoint(
                    epoch.number / last,
                    tuple(trainer.epochs),
                    step=f"epoch {epoch.number} of {last}",
                    left=None if left is None else min(left, max(0.0, budget - epoch.seconds)),
                )
                if epoch.number and epoch.seconds > budget:
                    break
        except Cancelled:
            if trainer.epochs and trainer.epochs[-1].number:
                with suppress(CompressionError):  # nothing to keep yet
                    self._keep_recovery(model, recipe, trainer)
            raise
        return self._keep_recovery(model, recipe, trainer)

    def _keep_recovery(self, model: str, recipe: Recipe, trainer: Trainer) -> Recovery:
        found = trainer.result()
        shelf.put(found.compressed)
        *_, evaluation = trainer.subject.evaluate_compressed(found.compressed)
        self._from_store(lambda: self.store.put(evaluation))
        self._remember(evaluation)
        kept = Recovery(found.compressed.recipe, found.best, found.epochs)
        for each in {recipe, kept.recipe}:
            self._keep_study("recovery", self._study_key(model, each), kept)
        if trainer.ended:
            shelf.drop_checkpoint(trainer.subject.statistics.digest, recipe)
        return kept

    def _shrink(
        self, job: Job, model: str, recipe: Recipe, axis: str, points: float, epochs: int
    ) -> tuple[ShrinkStep, ...]:
        subject, steps = self.subject(model), ()
        required = required_accuracy(subject, recipe, points)
        recipes = list(students(subject, recipe, axis, epochs))

        def train(student: Recipe) -> Recovery:
            def checkpoint(
                done: float | None = None,
                trained: tuple[Epoch, ...] | None = None,
                step: str = "",
                left: float | None = None,
            ) -> None:
                if trained is None:
                    return job.checkpoint()
                running = ShrinkStep(student, best_of(trained).number, trained, None)
                return job.checkpoint(
                    (len(steps) + done) / len(recipes), (*steps, running), step=f"student {len(steps) + 1}, {step}"
                )

            return self._recover(SimpleNamespace(checkpoint=checkpoint, priority=LAST), model, student, None)

        for step in shrink(recipes, train, required, job.checkpoint):
            steps = (*steps, step)
            job.checkpoint(len(steps) / len(recipes), steps)
        return steps

    def _on_shelf(self, model: str, recipe: Recipe) -> bool:
        """Whether the model of a trained recipe is still there."""
        return shelf.find(self.subject(model).statistics.digest, recipe) is not None

    def _sensitivity(self, job: Job, model: str) -> Sensitivity:
        found = measure_sensitivity(self.subject(model), check=job.checkpoint)
        self._keep_study("sensitivity", self._study_key(model), found)
        return found

    def _waterfall(self, job: Job, model: str, recipe: Recipe) -> Waterfall:
        def measure(each: Recipe) -> tuple[int, float]:
            record = self._evaluate(job, model, each).record
            return record.size.artefact, record.figures.accuracy

        found = attribute(recipe, measure, self.subject(model).baseline.size_bytes, check=job.checkpoint)
        self._keep_study("waterfall", self._study_key(model, recipe), found)
        return found

    def _suggest(self, job: Job, model: str, curves: Sensitivity, target: Target, base: Recipe) -> Suggestion:
        subject = self.subject(model)

        def lost(recipe: Recipe) -> float:
            figures = self._evaluate(job, model, recipe).record.figures
            return 100 * (subject.baseline.accuracy - figures.accuracy)

        def measure(recipe: Recipe) -> int:
            return len(self.artefact(model, recipe))

        return find(curves, subject.statistics, target, base, measure, lost, check=job.checkpoint)

    def _cliff(self, job: Job, model: str, recipe: Recipe, setting: str) -> Cliff:
        found = find_cliff(
            lambda each: self._evaluate(job, model, each).record.figures, recipe, setting, check=job.checkpoint
        )
        self._keep_study(f"cliff {setting}", self._study_key(model, recipe), found)
        return found

    def _convert(self, job: Job, model: str, recipe: Recipe, format: str) -> Checked:
        checked = produce(
            self.compressed(model, recipe),
            format,
            self.subject(model),
            check=job.checkpoint,
        )
        if checked.verification.size:
            self._keep_study(self._conversion_kind(format), self._study_key(model, recipe), checked.verification)
        if checked.conversion is not None:
            self._keep_conversion((model, recipe.digest, format), checked.conversion)
        return checked

    def _keep_conversion(self, key: tuple[str, str, str], conversion: Conversion) -> None:
        with self._lock:
            self._conversions[key] = conversion
            self._conversions.move_to_end(key)
            while len(self._conversions) > 1 and sum(c.size for c in self._conversions.values()) > KEPT_BYTES:
                self._conversions.popitem(last=False)

    @staticmethod
    def _conversion_kind(format: str) -> str:
        return f"conversion {format} in {formats.get(format).runtime}"

    def _study_key(self, model: str, recipe: Recipe | None = None) -> str:
        subject = self.subject(model)
        return " ".join([subject.statistics.digest, subject.data.digest, recipe.digest if recipe else ""])

    def _studied(self, kind: str, key: str, read: Callable[[Any], Any]) -> Any:
        with self._lock:
            if (kind, key) in self._studies:
                return self._studies[kind, key]
        unread = self._again and kind in STUDIED_ANEW
        # A trained model is the same file whatever version looks at it.
        lasting = kind == "recovery"
        text = None if unread else self._from_store(lambda: self.store.get_document(kind, key, any_revision=lasting))
        try:
            found = None if text is None else read(json.loads(text))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, CompressionError):
            found = None
            self.store.unread_document(kind, key)
        if found is not None:
            with self._lock:
                self._studies[kind, key] = found
        return found

    def _keep_study(self, kind: str, key: str, study: Any) -> None:
        text = json.dumps(study, default=lambda each: each.to_dict() if hasattr(each, "to_dict") else asdict(each))
        with self._lock:
            self._studies[kind, key] = study
        self._from_store(lambda: self.store.put_document(kind, key, text))

    def _evaluate(self, job: Job, model: str, recipe: Recipe) -> Evaluation:
        known = self.find(model, recipe)
        if known is not None:
            return known
        subject = self.subject(model)
        for evaluation in subject.evaluate(recipe):
            if job.priority == NOW:
                job.checkpoint(evaluation.record.figures.n / len(subject.labels), evaluation)
            else:
                job.checkpoint()
        self._from_store(lambda: self.store.put(evaluation))
        self._remember(evaluation)
        return evaluation

    def _time(self, job: Job, model: str, recipe: Recipe, timing: Timing) -> Latency:
        key = self._timing_key(model, recipe, timing)
        known = self._known_latency(key)
        if known is not None and not self._due(key):
            return known
        return self._time_anew(job, model, recipe, timing)

    def _time_asked(self, job: Job, model: str, recipe: Recipe, timing: Timing) -> Latency:
        """The same for somebody who asks for it: what is not decided is taken again at once."""
        known = self.latency(model, recipe, timing)
        return known if known is not None and known.decided else self._time_anew(job, model, recipe, timing)

    def _time_anew(self, job: Job, model: str, recipe: Recipe, timing: Timing) -> Latency:
        subject = self.subject(model)
        found = subject.time(
            subject.compress(recipe),
            timing.runtime,
            timing.batch,
            timing.threads,
            size=timing.size,
            number_format=timing.number_format,
            check=job.checkpoint,
            **self._effort,
        )
        key = self._timing_key(model, recipe, timing)
        self._from_store(lambda: self.store.put_latency(key, found.latency, found.samples))
        with self._lock:
            self._latencies[key] = found.latency
            self._references.clear()
            tries = 0 if found.latency.decided else self._tries.get(key, (0, 0.0))[0] + 1
            rest = AGAIN_AFTER_S[min(tries, len(AGAIN_AFTER_S)) - 1]
            self._tries[key] = tries, time.monotonic() + rest
        return found.latency

    def _carry_out(self, job: Job, model: str, tasks: Sequence[Task]) -> None:
        works = {
            "time": self._time_asked,
            "evaluate": lambda job, model, recipe, _: self._evaluate(job, model, recipe),
            "profile": self._profile,
            "plan": self._plan,
            "noise": self._noise,
            "machine": self._measure_machine,
            "memory": self._memory,
        }
        for done, task in enumerate(tasks):
            job.checkpoint(done / len(tasks), task.label)
            problems = self._problems.setdefault(self._timing_key(model, task.recipe, task.timing), {})
            try:
                works[task.what](job, model, task.recipe, task.timing)
                problems.pop(task.what, None)
            except CompressionError as error:
                problems[task.what] = str(error)

    def _noise(self, job: Job, model: str, recipe: Recipe, timing: Timing) -> None:
        if self.noise(model, timing) is None:
            found = self.subject(model).noise(
                timing.runtime,
                timing.batch,
                timing.threads,
                size=timing.size,
                check=job.checkpoint,
                **self._effort,
            )
            self._keep_study("noise", self._timing_key(model, recipe, timing).to_json(), found)

    def _profile(self, job: Job, model: str, recipe: Recipe, timing: Timing) -> None:
        if timing.chosen.profile is not None and self.profile(model, recipe, timing) is None:
            subject = self.subject(model)
            found = subject.profile(
                subject.compress(recipe),
                timing.runtime,
                timing.batch,
                timing.threads,
                size=timing.size,
                number_format=timing.number_format,
            )
            self._keep_study("profile", self._timing_key(model, recipe, timing).to_json(), found)

    def _plan(self, job: Job, model: str, recipe: Recipe, timing: Timing) -> None:
        if timing.runtime == sparse.SPARSE.name and self.plan(model, recipe, timing) is None:
            subject = self.subject(model)
            program = subject.program(subject.compress(recipe), sparse.SPARSE.name, size=timing.size)
            images = repeated(subject.resized(timing.size), timing.batch)
            with machine(exclusive=True):
                found = sparse.plan(program, images, timing.threads)
            self._keep_study("plan", self._timing_key(model, recipe, timing).to_json(), found)

    def _memory(self, job: Job, model: str, recipe: Recipe, timing: Timing) -> None:
        if self.memory(model, recipe, timing) is None:
            key = self._timing_key(model, recipe, timing)
            found = session_memory(
                model, recipe, timing.runtime, timing.batch, timing.threads, timing.size, key.number_format
            )
            self._keep_study("memory", key.to_json(), found)

    def _measure_machine(self, job: Job, model: str, recipe: Recipe, timing: Timing) -> None:
        if self.machine(timing.threads) is None:
            found = measure_machine(timing.threads, check=job.checkpoint)
            self._keep_study("machine", self._machine_key(timing.threads), found)

    @staticmethod
    def _machine_key(threads: int) -> str:
        return f"{machine_id('onnxruntime')} {threads}"

    def _fill(self, job: Job, model: str, recipe: Recipe, timing: Timing) -> None:
        untimed = self._untimed(model, recipe, timing)
        # Those with training first: they were tuned for this model.
        unknown = sorted(self._unknown(model, recipe), key=lambda each: each.recover is None)
        total = len(untimed) + len(unknown)
        for done, (work, item) in enumerate(
            [(self._time, (each, timing)) for each in untimed] + [(self._evaluate, (each,)) for each in unknown]
        ):
            job.checkpoint(done / total)
            work(job, model, *item)

    def _unknown(self, model: str, recipe: Recipe) -> Iterator[Recipe]:
        """Of what the plots show around a recipe, that which was not evaluated and can be.

        A preset with training can where its model is on the shelf; reading it takes a while, so that is looked up last.
        """
        source = self.subject(model).statistics.digest
        swept = [each for sweep in sweeps(movable(model, recipe)).values() for each in sweep]
        around = dict.fromkeys([preset.recipe for preset in presets_of(model)] + swept)
        with self._lock:
            unknown = [each for each in around if each.digest not in self._records[model]]
        yield from (each for each in unknown if each.recover is None)
        yield from (each for each in unknown if each.recover is not None and shelf.find(source, each) is not None)

    def _untimed(self, model: str, recipe: Recipe, timing: Timing) -> list[Recipe]:
        """One recipe for each graph and number format that is to be timed, the current recipe's own first."""
        recipes: dict[TimingKey, Recipe] = {}
        anchors = [Recipe.of(sparsity=sparsity) for sparsity in ANCHORS] if timing.chosen.sees_zeros else []
        for each in (recipe, Recipe(), Recipe.of(bits=8, activations=8), *anchors):
            recipes.setdefault(self._timing_key(model, each, timing), each)
        return [each for key, each in recipes.items() if self._due(key)]

    def _remember(self, evaluation: Evaluation) -> None:
        record = evaluation.record
        with self._lock:
            self._evaluations[record.model, record.digests.recipe] = evaluation
            self._records[record.model][record.digests.recipe] = record

    def _timing_key(self, model: str, recipe: Recipe, timing: Timing) -> TimingKey:
        return TimingKey.of(
            self.subject(model).statistics.digest,
            recipe,
            timing.chosen,
            timing.number_format,
            batch=timing.batch,
            threads=timing.threads,
            size=timing.size,
        )

    def _check_timing(self, timing: Timing) -> None:
        self.limits.check("batch", "the batch of a timing", timing.batch, "Choose a smaller one.")
        self.limits.check("threads", "the threads of a timing", timing.threads, "Choose fewer.")

    def _allowed(self, tasks: Sequence[Task]) -> list[Task]:
        """Tasks of a study that the limits allow: it goes over batches and threads that nobody has chosen."""
        limits = self.limits
        return [task for task in tasks if task.timing.batch <= limits.batch and task.timing.threads <= limits.threads]

    def _check_training(self, step: Recover | None, minutes: float | None = None) -> None:
        epochs = 0 if step is None else step.stopped or step.epochs
        self.limits.check("epochs", "the epochs of a training", epochs, "Train fewer, or on your own machine.")
        if minutes is not None:
            self.limits.check("minutes", "the minutes of a training", minutes, "Allow fewer: it can be gone on with.")

    def _train(self, key: tuple[object, ...], work: Callable[[Job], Any], label: str) -> Job:
        patience = 60 * self.limits.grace_minutes
        return self._submit(key, work, LAST, label, patience, Kind.TRAINING, models.get(key[1]).title)

    def _submit(
        self,
        key: tuple[object, ...],
        work,
        priority: int,
        label: str,
        patience: float = PATIENCE_S,
        kind: Kind = Kind.OTHER,
        named: str = "",
    ) -> Job:
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.priority > priority or not job.want(asking_party()):
                self._jobs = {key: job for key, job in self._jobs.items() if not job.ended}
                job = self._jobs[key] = self._scheduler.submit(
                    work, priority=priority, label=label, patience=patience, kind=kind, named=named
                )
            return job

    def _from_store(self, operation):
        try:
            result = operation()
        except StoreError as error:
            self._read_error = str(error)
            return None
        self._read_error = None
        return result
