"""What a screen asks for: records, at once where they are known, by a job where they are not.

One workbench serves all sessions of a process. It keeps subjects and records in memory and in the store; where the
store fails, memory goes on and `store_error` says why. All measurements are jobs of one scheduler: timings run alone.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from compression import codec, runtimes
from compression.convert import Checked, Conversion, Verification, formats, produce
from compression.errors import StoreError
from compression.jobs import Job, Scheduler
from compression.measure.latency import machine_id
from compression.measure.layers import layer_table
from compression.measure.record import Latency, Record
from compression.measure.sensitivity import Sensitivity, measure_sensitivity
from compression.measure.subject import Evaluation, Subject
from compression.pipeline import CompressedModel
from compression.presets import presets
from compression.recipe import Recipe
from compression.search.allot import allot
from compression.search.cliff import Cliff, find_cliff
from compression.search.suggest import Suggestion, Target, find
from compression.search.waterfall import Waterfall, attribute
from compression.store import Store, TimingKey

NOW, SOON, LATER = 0, 1, 2

# A tab in the background asks once a minute; one that was closed never again.
PATIENCE_S = 90.0

# Of converted files that are kept for download.
KEPT_BYTES = 1 << 28

SWEEP_SPARSITIES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
SWEEP_CLUSTERS = (None, 256, 64, 32, 16, 8, 4, 2)
SWEEP_BITS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Timing:
    """How latency is measured: the runtime's name, samples a batch, threads."""

    runtime: str = "onnxruntime"
    batch: int = 1
    threads: int = 1


def sweeps(recipe: Recipe) -> dict[str, list[Recipe]]:
    """The three one-slider sweeps around a recipe, by the name of the setting that varies.

    Where another rule than a rate prunes the recipe, the sweep of the sparsity replaces it.
    """
    grids = {"sparsity": SWEEP_SPARSITIES, "clusters": SWEEP_CLUSTERS, "bits": SWEEP_BITS}
    return {name: [recipe.with_setting(name, value) for value in grid] for name, grid in grids.items()}


class Workbench:
    """store_error: why the last use of the store failed, or None; measurements go on without it."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or Store()
        self.store_error: str | None = None
        self._machine = machine_id()
        self._scheduler = Scheduler()
        self._lock = threading.RLock()
        self._subjects: dict[str, Subject] = {}
        self._records: dict[str, dict[str, Record]] = {}
        self._evaluations: dict[tuple[str, str], Evaluation] = {}
        self._latencies: dict[TimingKey, Latency] = {}
        self._studies: dict[tuple[str, str], Any] = {}
        self._jobs: dict[tuple[object, ...], Job] = {}
        self._conversions: OrderedDict[tuple[str, str, str], Conversion] = OrderedDict()

    def close(self) -> None:
        """End the worker thread; jobs that wait are cancelled."""
        self._scheduler.close()

    def subject(self, model: str) -> Subject:
        """The subject of that name, loaded once; raises UnknownNameError or ModelError."""
        with self._lock:
            if model not in self._subjects:
                subject = Subject.load(model)
                stored = self._from_store(lambda: self.store.records(subject.statistics.digest, subject.data.digest))
                self._records[model] = {record.digests.recipe: record for record in stored or ()}
                self._subjects[model] = subject
            return self._subjects[model]

    def loaded(self, model: str) -> bool:
        """Whether `subject` would answer at once."""
        return model in self._subjects

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
        """The timing of a recipe's graph and number format, if it was taken before on this machine."""
        return self._known_latency(self._timing_key(model, recipe, timing))

    def _known_latency(self, key: TimingKey) -> Latency | None:
        with self._lock:
            if key in self._latencies:
                return self._latencies[key]
        found = self._from_store(lambda: self.store.get_latency(key))
        if found is not None:
            with self._lock:
                self._latencies[key] = found
        return found

    def time(self, model: str, recipe: Recipe, timing: Timing, priority: int = SOON) -> Job:
        """The job that times a recipe against the baseline; its result is a Latency."""
        number_format = runtimes.runtimes.get(timing.runtime).number_format(recipe.integer)
        return self._submit(
            ("time", self._timing_key(model, recipe, timing)),
            lambda job: self._time(job, model, recipe, timing),
            priority,
            f"Timing {number_format} on {timing.runtime}",
        )

    def fill(self, model: str, recipe: Recipe, timing: Timing) -> Job:
        """The job that fills in what the plots need around a recipe: timings, the presets, the three sweeps."""
        return self._submit(
            ("fill", model, recipe, timing),
            lambda job: self._fill(job, model, recipe, timing),
            LATER,
            "Filling in presets and sweeps",
        )

    def missing(self, model: str, recipe: Recipe, timing: Timing) -> bool:
        """Whether `fill` would have anything to do."""
        return bool(self._unknown(model, self._around(recipe)) or self._untimed(model, recipe, timing))

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
            ("sensitivity", model), lambda job: self._sensitivity(job, model), LATER, "Measuring each layer alone"
        )

    def waterfall(self, model: str, recipe: Recipe) -> Waterfall | None:
        """What each step of a recipe contributes, if it was measured before."""
        return self._studied("waterfall", self._study_key(model, recipe), Waterfall.from_dict)

    def measure_waterfall(self, model: str, recipe: Recipe) -> Job:
        """The job that evaluates all subsets of a recipe's steps."""
        return self._submit(
            ("waterfall", model, recipe),
            lambda job: self._waterfall(job, model, recipe),
            LATER,
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
        text = self._from_store(lambda: self.store.get_document(kind, key))
        try:
            found = None if text is None else read(json.loads(text))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            found = None  # of an earlier version: measured anew
        if found is not None:
            with self._lock:
                self._studies[kind, key] = found
        return found

    def _keep_study(self, kind: str, key: str, study: Any) -> None:
        with self._lock:
            self._studies[kind, key] = study
        text = json.dumps(study.to_dict())
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
        known = self.latency(model, recipe, timing)
        if known is not None:
            return known
        subject = self.subject(model)
        latency = subject.time(
            subject.compress(recipe), timing.runtime, timing.batch, timing.threads, check=job.checkpoint
        )
        key = self._timing_key(model, recipe, timing)
        self._from_store(lambda: self.store.put_latency(key, latency))
        with self._lock:
            self._latencies[key] = latency
        return latency

    def _fill(self, job: Job, model: str, recipe: Recipe, timing: Timing) -> None:
        untimed = self._untimed(model, recipe, timing)
        unknown = self._unknown(model, self._around(recipe))
        total = len(untimed) + len(unknown)
        for done, (work, item) in enumerate(
            [(self._time, (each, timing)) for each in untimed] + [(self._evaluate, (each,)) for each in unknown]
        ):
            job.checkpoint(done / total)
            work(job, model, *item)

    def _around(self, recipe: Recipe) -> list[Recipe]:
        swept = [each for sweep in sweeps(recipe).values() for each in sweep]
        return list(dict.fromkeys([preset.recipe for preset in presets] + swept))

    def _unknown(self, model: str, recipes: Iterable[Recipe]) -> list[Recipe]:
        self.subject(model)
        with self._lock:
            return [recipe for recipe in recipes if recipe.digest not in self._records[model]]

    def _untimed(self, model: str, recipe: Recipe, timing: Timing) -> list[Recipe]:
        """One recipe for each graph and number format that has no timing, the current recipe's own first."""
        recipes: dict[TimingKey, Recipe] = {}
        for each in (recipe, Recipe(), Recipe.of(bits=8, activations=8)):
            recipes.setdefault(self._timing_key(model, each, timing), each)
        return [each for key, each in recipes.items() if self._known_latency(key) is None]

    def _remember(self, evaluation: Evaluation) -> None:
        record = evaluation.record
        with self._lock:
            self._evaluations[record.model, record.digests.recipe] = evaluation
            self._records[record.model][record.digests.recipe] = record

    def _timing_key(self, model: str, recipe: Recipe, timing: Timing) -> TimingKey:
        return TimingKey(
            model=self.subject(model).statistics.digest,
            form=recipe.form,
            machine=self._machine,
            runtime=timing.runtime,
            number_format=runtimes.runtimes.get(timing.runtime).number_format(recipe.integer),
            batch=timing.batch,
            threads=timing.threads,
        )

    def _submit(self, key: tuple[object, ...], work, priority: int, label: str) -> Job:
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.ended or job.cancelling or job.priority > priority:
                self._jobs = {key: job for key, job in self._jobs.items() if not job.ended}
                job = self._jobs[key] = self._scheduler.submit(
                    work, priority=priority, label=label, patience=PATIENCE_S
                )
            return job

    def _from_store(self, operation):
        try:
            result = operation()
        except StoreError as error:
            self.store_error = str(error)
            return None
        self.store_error = None
        return result
