"""A subject: a trained model, the data it is measured on, and what no recipe changes about the two."""

import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from compression import codec, runtimes, zoo
from compression.errors import ModelError
from compression.measure.accuracy import Predictions, predict, score
from compression.measure.latency import measure_latency
from compression.measure.rates import rates
from compression.measure.record import Baseline, Digests, Latency, Record
from compression.measure.size import ladder
from compression.pipeline import CompressedModel, compress
from compression.recipe import Recipe
from compression.runtimes import Program
from compression.statistics import ModelStatistics
from compression.zoo import Data


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """A record and the predictions it was made from; both cover the first `record.figures.n` test samples."""

    record: Record
    predictions: Predictions


@dataclass(frozen=True, eq=False)
class Subject:
    """model: the baseline, in evaluation mode, not to be changed. labels: int64 (n,), of the test split.

    predictions, baseline: what the baseline says of the whole test split, and the figures made of it.
    """

    name: str
    dataset: str
    model: nn.Module
    data: Data
    statistics: ModelStatistics
    labels: np.ndarray
    predictions: Predictions
    baseline: Baseline
    _idle: list[tuple[nn.Module, dict[str, torch.Tensor]]] = field(default_factory=list, repr=False)

    @classmethod
    def load(cls, name: str) -> "Subject":
        """The zoo's model of that name with its dataset; runs the baseline over the test split once."""
        entry = zoo.models.get(name)
        model = zoo.load_model(name)
        data = zoo.load_data(entry.dataset, entry.input_shape)
        statistics = ModelStatistics.of(model, name)
        labels = data.test_labels.numpy()
        *_, predictions = predict(model, data.test_images)
        figures = score(predictions.classes, labels, predictions.classes, len(data.classes))
        baseline = Baseline(figures.correct, figures.accuracy, figures.f1, statistics.size_bytes)
        return cls(name, entry.dataset, model, data, statistics, labels, predictions, baseline)

    def compress(self, recipe: Recipe) -> CompressedModel:
        return compress(self.statistics, recipe)

    def evaluate(self, recipe: Recipe) -> Iterator[Evaluation]:
        """Compress, encode and run the test split; yields after each chunk, the last evaluation being the exact one."""
        return self.evaluate_compressed(self.compress(recipe))

    def evaluate_compressed(self, compressed: CompressedModel, artefact: bytes | None = None) -> Iterator[Evaluation]:
        """The same for a compressed model that the caller has; `artefact` is its file, where the caller has that too.

        Raises ModelError when it was made from other weights than this subject's.
        """
        if compressed.source != self.statistics.digest:
            raise ModelError(
                f"an artefact must come from the weights of {self.name} in this version; its source is "
                f"{compressed.source[:12]}, theirs {self.statistics.digest[:12]}. Compress the model again."
            )
        artefact = codec.write(compressed) if artefact is None else artefact
        size, share = ladder(compressed, artefact), rates(compressed)
        digests = Digests(
            model=self.statistics.digest,
            dataset=self.data.digest,
            recipe=compressed.recipe.digest,
            artefact=hashlib.sha256(artefact).hexdigest(),
        )
        # A copy of the module is reused from one evaluation to the next: making one takes longer than filling it.
        model, state = self._idle.pop() if self._idle else self._copy()
        compressed.copy_into(state)
        try:
            for predictions in predict(model, self.data.test_images):
                figures = score(predictions.classes, self.labels, self.predictions.classes, len(self.data.classes))
                record = Record(
                    self.name, self.dataset, compressed.recipe, digests, figures, self.baseline, share, size
                )
                yield Evaluation(record, predictions)
        finally:
            self._idle.append((model, state))

    def _copy(self) -> tuple[nn.Module, dict[str, torch.Tensor]]:
        model = copy.deepcopy(self.model).eval()
        return model, model.state_dict()

    def decoded(self, compressed: CompressedModel) -> nn.Module:
        """A module of its own with the decoded weights."""
        return compressed.load_into(copy.deepcopy(self.model))

    def program(self, compressed: CompressedModel, runtime: str) -> Program:
        """What a runtime loads of a compressed model: for ONNX Runtime the file that is timed and exported.

        Raises UnknownNameError or ModelError.
        """
        subject = runtimes.Subject(
            module=self.decoded(compressed),
            input_shape=self._input_shape,
            bits=compressed.recipe.bits,
            weights=compressed.weights,
            calibration_images=self.data.calibration_images.numpy(),
        )
        return runtimes.runtimes.get(runtime).build(subject)

    def time(
        self,
        compressed: CompressedModel,
        runtime: str,
        batch: int = 1,
        threads: int = 1,
        check: Callable[[], None] | None = None,
    ) -> Latency:
        """Time a compressed model against the baseline in one runtime; `check` is called between the pairs."""
        chosen = runtimes.runtimes.get(runtime)
        return measure_latency(
            chosen,
            self.program(compressed, runtime),
            chosen.build(runtimes.Subject(self.model, self._input_shape)),
            self.data.calibration_images.numpy(),
            measured_for=compressed.recipe.digest,
            batch=batch,
            threads=threads,
            check=check,
        )

    @property
    def _input_shape(self) -> tuple[int, int, int]:
        return tuple(self.data.test_images.shape[1:])
