"""A subject: a network, its data, the task that judges it, and what no recipe changes about them."""

import copy
import hashlib
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from paretoscope import codec, runtimes
from paretoscope.base.batch import head, parts
from paretoscope.base.errors import ModelError, RecipeError, RuntimeUnavailableError
from paretoscope.base.lock import machine
from paretoscope.base.progress import SILENT, Progress
from paretoscope.base.text import reason
from paretoscope.codec import shelf
from paretoscope.data.data import CHUNK, Data, Part
from paretoscope.measure.engine import Engine, engine_for
from paretoscope.measure.judged import Judged, check_samples, chunk_of, quick_samples, seconds_of
from paretoscope.measure.latency import (
    BUDGET_S,
    WIDTH,
    Measurement,
    Noise,
    measure_latency,
    measure_noise,
    repeated,
)
from paretoscope.measure.rates import rates, touched
from paretoscope.measure.record import Digests, Record, Touched
from paretoscope.measure.size import ladder
from paretoscope.measure.variant import Form, Variant
from paretoscope.methods.pipeline import notes_of
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.model.structure import Structure
from paretoscope.networks.network import Input, Network
from paretoscope.recipe.recipe import Recipe, Simplify
from paretoscope.runtimes import Program
from paretoscope.tasks import Answers, BaselineFigures, Task

if TYPE_CHECKING:
    from paretoscope.runtimes.integer.blueprint import Blueprint
    from paretoscope.runtimes.onnx_graph import Arrays

# Simplified networks that are kept with their statistics, a few times the model's own memory each; chosen by hand.
KEPT_VARIANTS = 4

# Runs of a profile; chosen by hand, no benchmark.
PROFILE_RUNS = 30
# Samples of the train split whose outputs the task is told; chosen by hand, no benchmark.
KNOWN_SAMPLES = 32
# Height and width of the largest images that are timed.
LARGEST_SIZE = 1024
# Enough to calibrate integer formats for a timing, while a hundred large images take long; by hand, no benchmark.
RESIZED_IMAGES = 16


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """A record and the predictions it was made from; both cover the first `record.figures.n` test samples."""

    record: Record
    predictions: Answers


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with its data and its task, on which recipes are tried; `of` makes one.

    model: the network's module, the baseline, in evaluation mode, not to be changed. task: how answers are judged.
    judged: the samples of the test part, with what the baseline says of them. parameters: of the baseline.
    """

    network: Network
    model: nn.Module
    data: Data
    task: Task
    statistics: ModelStatistics
    judged: Judged
    parameters: int
    _forms: OrderedDict[Hashable, Form] = field(default_factory=OrderedDict, repr=False)
    _variants: OrderedDict[tuple[Simplify | None, bool], Variant] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def of(cls, network: Network, data: Data, task: Task) -> "Subject":
        """Open a network and run it over the samples of a quick evaluation; raises ModelError.

        These are the whole test split of a network that takes about `judged.QUICK_S` for it, as those of the zoo do.
        """
        model = network.load()
        statistics = ModelStatistics.of(model, network.name, network.digest)
        # The package's own networks keep the chunks that their published figures were measured in.
        chunk = CHUNK if network.graph is None else chunk_of(model, head(data.calibration, 1))
        outputs, seconds = seconds_of(model, head(data.calibration, min(chunk, KNOWN_SAMPLES)))
        task = task.knowing(outputs)
        n = data.length(Part.TEST)
        quick = n if network.graph is None else quick_samples(seconds, n)
        judged = Judged(model, data, task, statistics.size_bytes, chunk, quick, seconds)
        task.check(judged.labels if data.labelled else None)
        judged.run(quick)
        return cls(
            network=network,
            model=model,
            data=data,
            task=task,
            statistics=statistics,
            judged=judged,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
        )

    @property
    def name(self) -> str:
        return self.network.name

    @property
    def dataset(self) -> str:
        """The name of the data."""
        return self.network.data

    @property
    def labels(self) -> np.ndarray:
        """Of the test split, (n, ...); (n, 0) where there are none."""
        return self.judged.labels

    @property
    def reach(self) -> float:
        """The share of the parameters that recipes act on, from 0 to 1."""
        return min(1.0, sum(each.weight.size for each in self.statistics.layers.values()) / max(1, self.parameters))

    @property
    def predictions(self) -> Answers:
        """The baseline's answers on the test split, as far as they are known: at least those of a quick evaluation."""
        return self.judged.answers

    @property
    def baseline(self) -> BaselineFigures:
        """The baseline's figures on the whole test split; on a quick evaluation's samples until it ran over all."""
        return self.judged.baseline(self.judged.settled)

    def compress(self, recipe: Recipe) -> CompressedModel:
        """All steps of a recipe; raises RecipeError or ModelError where one cannot be applied to this model.

        A recipe with training gives what it gave when it was trained; RecipeError where it never was.
        """
        if recipe.recover is not None:
            found = shelf.find(self.statistics.digest, recipe)
            if found is None:
                raise RecipeError(
                    f"a recipe with training must have been trained on this machine; {self.name} with "
                    f"{recipe.describe()} was not. Train it on the page Recover, or by: python -m paretoscope recover."
                )
            return replace(found, notes=notes_of({name: each.shape for name, each in found.weights.items()}, recipe))
        reestimate = recipe.repair is not None and recipe.repair.batchnorm
        return self.variant(recipe.simplify, reestimate=reestimate).compress(recipe)

    def variant(self, step: Simplify | None, *, reestimate: bool = False) -> Variant:
        """The network as the simplify step leaves it; the last few are kept.

        reestimate: whether batch normalisation is estimated anew before it is folded; nothing else depends on it here.
        """
        reestimate = reestimate and step is not None and step.fold
        key = step, reestimate
        with self._lock:
            if key not in self._variants:
                images = self.data.calibration
                if step is None:
                    made = Variant(self.model, Structure(), self.statistics, self.statistics.digest, images)
                else:
                    made = Variant.of(self.model, self.statistics, step, images, reestimate=reestimate)
                self._variants[key] = made
                if len(self._variants) > KEPT_VARIANTS:
                    self._variants.popitem(last=False)
            self._variants.move_to_end(key)
            return self._variants[key]

    def evaluate(self, recipe: Recipe, samples: int | None = None) -> Iterator[Evaluation]:
        """Compress, encode and run the test split; yields after each chunk, the last evaluation being the exact one.

        samples: how many to end after, always the same, which is no exact evaluation then; `judged.quick` take a few
        seconds.
        """
        return self.evaluate_compressed(self.compress(recipe), samples=samples)

    def evaluate_compressed(
        self, compressed: CompressedModel, artefact: bytes | None = None, samples: int | None = None
    ) -> Iterator[Evaluation]:
        """Evaluate a compressed model that the caller has; `artefact` is its file, where the caller has that too.

        samples: as for `evaluate`.

        Raises ModelError when it was made from other weights than this subject's.
        """
        if compressed.source != self.statistics.digest:
            raise ModelError(
                f"an artefact must come from the weights of {self.name} in this version; its source is "
                f"{compressed.source[:12]}, theirs {self.statistics.digest[:12]}. Compress the model again."
            )
        check_samples(samples)
        judged = self.judged
        artefact = codec.write(compressed) if artefact is None else artefact
        form = self._form(compressed)
        share = replace(rates(compressed), architecture_simplification=form.parameters / self.parameters)
        size = ladder(compressed, artefact)
        digests = Digests(
            model=self.statistics.digest,
            dataset=self.data.digest,
            recipe=compressed.recipe.digest,
            artefact=hashlib.sha256(artefact).hexdigest(),
        )
        n = len(judged) if samples is None else min(samples, len(judged))
        chunks = judged.chunks(n)
        with self.running(compressed) as forward:
            # The tensors are known to be those of the network from here on.
            acted_on = self.touched(compressed)
            engine = Engine.TORCH
            # The package's own networks are published as PyTorch runs them.
            if (
                self.network.graph is not None
                and isinstance(forward, nn.Module)
                and form.speeds.pays(n, judged.seconds)
            ):
                first = next(chunks)
                chunks = itertools.chain([first], chunks)
                forward, engine = engine_for(forward, self.network.inputs, first, form.speeds)
            for predictions in self.task.answer(forward, chunks, judged.reference):
                figures = self.task.score(predictions, judged.labels, judged.answers)
                # Of the same samples, where the baseline was not asked about all.
                known = None if judged.known == len(judged) else len(predictions)
                record = Record(
                    self.name,
                    self.dataset,
                    compressed.recipe,
                    digests,
                    figures,
                    judged.baseline(known),
                    share,
                    size,
                    task=self.task.name,
                    touched=acted_on,
                    engine=engine.value,
                )
                yield Evaluation(record, predictions)

    def touched(self, compressed: CompressedModel) -> Touched:
        """What the recipe acted on, of the baseline's parameters."""
        return touched(compressed, self.statistics, self._form(compressed).kinds, self.parameters)

    @contextmanager
    def running(self, compressed: CompressedModel) -> Iterator[Callable[..., Any]]:
        """The function from inputs to outputs that is evaluated: the decoded or the integer network."""
        form = self._form(compressed)
        with form.loaded(compressed) as module:
            if compressed.recipe.integer:
                samples = self._arrays()
                yield form.blueprint.calibrate(module, compressed.weights, samples, compressed.ranges)
            else:
                yield module

    def blueprint(self, compressed: CompressedModel) -> "Blueprint":
        """The blueprint of integer networks of the compressed model's structure; raises ModelError."""
        return self._form(compressed).blueprint

    def train_harm(self, compressed: CompressedModel) -> float:
        """Mean divergence from the baseline's outputs over the train split, by which choices are made; over as many of
        its samples as a quick evaluation takes, where those are fewer."""
        train = self._train
        with self._form(compressed).loaded(compressed) as module:
            *_, found = self.task.answer(module, train.chunks(train.quick), train.reference)
        return found.harm

    @cached_property
    def _train(self) -> Judged:
        n, judged = self.data.length(Part.TRAIN), self.judged
        quick = n if judged.quick == len(judged) else min(n, judged.quick)
        return replace(judged, quick=quick, part=Part.TRAIN, _outputs={}, _answers={}, _lock=threading.RLock())

    def _form(self, compressed: CompressedModel) -> Form:
        """The network that a compressed model decodes into; the last few are kept."""
        simplified = compressed.recipe.simplify is not None or compressed.structure != Structure()
        graph = compressed.graph.to_json() if compressed.graph is not None else ""
        key = (compressed.structure, tuple(compressed.shapes().items()), graph) if simplified else None
        with self._lock:
            if key not in self._forms:
                self._forms[key] = Form(compressed.build() if simplified else self.model, self.network.inputs)
                if len(self._forms) > KEPT_VARIANTS:
                    self._forms.popitem(last=False)
            self._forms.move_to_end(key)
            return self._forms[key]

    def decoded(self, compressed: CompressedModel) -> nn.Module:
        """A module of its own with the decoded weights."""
        return compressed.load_into(copy.deepcopy(self._form(compressed).module))

    def program(
        self, compressed: CompressedModel, runtime: str, *, size: int | None = None, number_format: str | None = None
    ) -> Program:
        """The program of a compressed model in a runtime: for ONNX Runtime the file that is timed and exported.

        size: height and width of the input images, None for the model's own. number_format: None for the recipe's.
        Raises UnknownNameError, ModelError or RuntimeUnavailableError.
        """
        chosen = runtimes.runtimes.get(runtime)
        chosen.require()
        images = self.resized(size)
        module = self.decoded(compressed)
        self._try(module, images, size)
        runnable = runtimes.Runnable(
            module=module,
            inputs=self._inputs(images),
            integer=compressed.recipe.integer,
            weights=compressed.weights,
            calibration=images,
            ranges=compressed.ranges if size is None else None,
        )
        return chosen.build(runnable, number_format)

    def time(
        self,
        compressed: CompressedModel,
        runtime: str,
        batch: int = 1,
        threads: int = 1,
        *,
        size: int | None = None,
        number_format: str | None = None,
        budget_s: float = BUDGET_S,
        width: float = WIDTH,
        progress: Progress = SILENT,
    ) -> Measurement:
        """Time a compressed model against the baseline in one runtime, which runs the baseline in fp32.

        size, number_format: as for `program`; the images are resized. budget_s, width, progress: as for `compare`.
        """
        program = self.program(compressed, runtime, size=size, number_format=number_format)
        return measure_latency(
            runtimes.runtimes.get(runtime),
            program,
            self._baseline_program(runtime, size),
            self.resized(size),
            measured_for=compressed.recipe.digest,
            batch=batch,
            threads=threads,
            budget_s=budget_s,
            width=width,
            progress=progress,
        )

    def noise(
        self,
        runtime: str,
        batch: int = 1,
        threads: int = 1,
        *,
        size: int | None = None,
        budget_s: float = BUDGET_S,
        width: float = WIDTH,
        progress: Progress = SILENT,
    ) -> Noise:
        """Time the baseline against itself, as `time` does: how far the ratio is from 1 is noise."""
        return measure_noise(
            runtimes.runtimes.get(runtime),
            self._baseline_program(runtime, size),
            self.resized(size),
            batch=batch,
            threads=threads,
            budget_s=budget_s,
            width=width,
            progress=progress,
        )

    def profile(
        self,
        compressed: CompressedModel,
        runtime: str,
        batch: int = 1,
        threads: int = 1,
        *,
        size: int | None = None,
        number_format: str | None = None,
        runs: int = PROFILE_RUNS,
    ) -> dict[str, float]:
        """Microseconds a call of each weight's layer, by state-dict name, and of the rest ("other").

        Measured by the runtime's own profile, over `runs` calls after warming up; the machine is held meanwhile.
        Raises RuntimeUnavailableError for a runtime that has none, and as `program` does.
        """
        chosen = runtimes.runtimes.get(runtime)
        if chosen.profile is None:
            able = ", ".join(each.name for each in runtimes.runtimes if each.profile is not None)
            raise RuntimeUnavailableError(
                f"the time of each layer needs a runtime that profiles; {chosen.name} does not. Choose one of {able}."
            )
        program = self.program(compressed, runtime, size=size, number_format=number_format)
        with machine(exclusive=True):
            return chosen.profile(program, repeated(self.resized(size), batch), threads, runs)

    def _baseline_program(self, runtime: str, size: int | None) -> Program:
        images = self.resized(size)
        self._try(self.model, images, size)
        runnable = runtimes.Runnable(self.model, self._inputs(images), calibration=images)
        return runtimes.runtimes.get(runtime).build(runnable)

    def resized(self, size: int | None) -> "Arrays":
        """Calibration samples, an array (n, ...) for each input, of that height and width; None for its own.

        Raises ModelError for another value than 1 to LARGEST_SIZE, and for samples that are no images.
        """
        if size is None:
            return self._arrays()
        images = self.data.calibration
        if isinstance(images, tuple) or images.ndim != 4 or images.dtype != torch.float32:
            raise ModelError(
                f"a size is a height and width of images (channels, height, width); {self.name} takes "
                f"{self._input_shape}. Leave the size out."
            )
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LARGEST_SIZE:
            raise ModelError(
                f"size must be a whole number from 1 to {LARGEST_SIZE}; got {size!r}. "
                f"Leave it out for the model's own, {images.shape[2]}."
            )
        if (size, size) == tuple(images.shape[2:]):
            return images.numpy()
        return F.interpolate(images[:RESIZED_IMAGES], (size, size), mode="bilinear", align_corners=False).numpy()

    def _arrays(self) -> "Arrays":
        """Calibration samples as runtimes take them."""
        arrays = tuple(each.numpy() for each in parts(self.data.calibration))
        return arrays[0] if len(arrays) == 1 else arrays

    def _inputs(self, samples: "Arrays") -> tuple[Input, ...]:
        """The network's inputs, of the size of these samples."""
        arrays = samples if isinstance(samples, tuple) else (samples,)
        return tuple(replace(i, shape=each.shape[1:]) for i, each in zip(self.network.inputs, arrays, strict=True))

    def _try(self, module: nn.Module, images: "Arrays", size: int | None) -> None:
        """Raises ModelError unless the module takes images of that size."""
        if size is None or isinstance(images, tuple):
            return
        try:
            with torch.inference_mode(), machine(exclusive=False):
                module(torch.from_numpy(images[:1]))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ModelError(
                f"images must have a size that {self.name} can take; {size} x {size} gives: {reason(error, 300)}. "
                f"Leave the size out for the model's own, {self._input_shape[1]}, or choose another model."
            ) from None

    @property
    def _input_shape(self) -> tuple[int, ...]:
        return self.network.input_shape
