"""Training that wins back what compression lost, within what the recipe can represent.

Weights start from the recipe's one-shot result and are trained on labels, on a teacher's answers (Hinton, Vinyals and
Dean, Distilling the Knowledge in a Neural Network, 2015), or on both. The teacher is the baseline, or another model of
the zoo. A part of the train split is kept back to choose the best epoch; the test split is never looked at. What is
measured after each epoch, and what is given back, is the compressed model that the recipe's file holds, decoded.

Repair is of the one-shot result, the start. Training goes on from there where the recipe holds from the first epoch,
but for recipes by rate: those start from the weights as they were, since codes that make good each other's errors leave
training a network that is worse and a file that is larger (measured). What training moves is not repaired again.

By rate, training lowers harm and size together: a batch's loss has the file's kilobytes, as a Laplacian source gives
them, times the exchange rate, added (entropy-constrained training, as Oktay et al. 2020, Scalable model compression by
entropy penalized reparameterization).
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from paretoscope import codec
from paretoscope.base.errors import CompressionError, RecipeError
from paretoscope.base.lock import machine
from paretoscope.base.progress import SILENT, Progress
from paretoscope.base.text import shown
from paretoscope.data.dataset import digest_of
from paretoscope.measure.subject import Subject
from paretoscope.methods.dependent import KILOBYTE
from paretoscope.methods.pipeline import compress, layer_plans
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.model.tensors import CompressedTensor, Integers
from paretoscope.networks.zoo import load_model, models, teachers_of
from paretoscope.networks.zoo.train import augment
from paretoscope.recipe.recipe import Recipe, Recover
from paretoscope.tasks import Task
from paretoscope.training.integers import RoundedActivations
from paretoscope.training.stages import pruning_of, ramp_epochs, stage
from paretoscope.training.student import Student

# The validation part is this share of the train split, at most so many images; each seed draws its own.
VALIDATION_SHARE, VALIDATION_LIMIT = 0.15, 5_000
WARM_UP_SHARE = 0.05
# A part of a quantization step; a half might round to either side.
NEARLY_HALF = np.float32(0.49)
# Twins that cannot follow every step of the optimiser are put back on what can be represented this often.
PROJECT_EVERY = 20


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training part came to.

    number: from 1; 0 is the start, before any training. loss, train_accuracy: means over the batches as they were
    trained on (None for the start). validation_accuracy, validation_loss (cross-entropy, nats): of the decoded
    compressed model on the validation part. size: bytes of its file. sparsity: zero weights / weights. holds: whether
    the recipe held in full, so that it may be kept. seconds: of training so far. validated: images of that part.
    """

    number: int
    loss: float | None
    train_accuracy: float | None
    validation_accuracy: float
    validation_loss: float
    size: int
    sparsity: float
    learning_rate: float
    holds: bool
    seconds: float
    validated: int


def best_of(epochs: Sequence[Epoch]) -> Epoch | None:
    """The epoch whose model is kept: the last in which the recipe held and that is not clearly worse than the best.

    None where it held in none. Clearly is by more than a standard error of the best accuracy so far (after the rule of
    Breiman et al., Classification and Regression Trees, 1984, section 3.4.3). Among such epochs the longest trained is
    the best guess: of a few hundred images many epochs get about equally many right, and the baseline has seen them in
    its own training, which speaks for epochs near the start.
    """
    kept, most = None, 0.0
    for epoch in epochs:
        if epoch.holds:
            most = max(most, epoch.validation_accuracy)
            if epoch.validation_accuracy >= most - math.sqrt(most * (1 - most) / epoch.validated):
                kept = epoch
    return kept


@dataclass(frozen=True, slots=True)
class Recovery:
    """What is kept of a training: the recipe of its result, which epoch that is, and all epochs, the start first."""

    recipe: Recipe
    best: int
    epochs: tuple[Epoch, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"recipe": self.recipe.to_dict(), "best": self.best, "epochs": [asdict(each) for each in self.epochs]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Recovery":
        """What `to_dict` wrote; KeyError, TypeError or RecipeError when it is not that."""
        epochs = tuple(Epoch(**each) for each in data["epochs"])
        return cls(Recipe.from_dict(data["recipe"]), data["best"], epochs)


@dataclass(frozen=True, eq=False, slots=True)
class Recovered:
    """The best epoch's compressed model; its recipe tells how it was trained. epochs: all of them, the start first."""

    compressed: CompressedModel
    best: int
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """The train split in two parts; images float32 (n, C, H, W), labels int64 (n,).

    The second, 15 % of all and at most 5,000 images, is kept back to choose the best epoch by.
    """

    images: Tensor
    labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    task: Task

    @classmethod
    def of(cls, subject: Subject, seed: int) -> "Split":
        images, labels = subject.data.train_images, subject.data.train_labels
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        kept = min(round(VALIDATION_SHARE * len(labels)), VALIDATION_LIMIT)
        validation, training = order[:kept], order[kept:]
        return cls(images[training], labels[training], images[validation], labels[validation], subject.task)

    @torch.inference_mode()
    def validate(self, network: nn.Module) -> tuple[float, float]:
        """Share of the validation part that a network has right, and the mean of the task's loss."""
        parts = []
        for images in self.validation_images.split(200):
            with machine(exclusive=False):
                parts.append(network(images))
        logits = torch.cat(parts)
        right = self.task.correct(logits, self.validation_labels)
        return float(right.float().mean()), float(self.task.loss(logits, self.validation_labels))


@dataclass(eq=False)
class Trainer:
    """The training of one recipe, epoch by epoch.

    epochs: what has been done so far. `checkpoint` gives all that the rest depends on; a trainer that was restored from
    it goes on bit for bit as this one would, on the same machine with the same number of threads.
    """

    subject: Subject
    recipe: Recipe
    epochs: list[Epoch] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.recipe.recover is None:
            raise RecipeError("a recipe must say how it is trained; this one has no epochs. Set epochs, e.g. 20.")
        self.step = self.recipe.recover
        repair = self.recipe.repair
        self.variant = self.subject.variant(self.recipe.simplify, reestimate=repair is not None and repair.batchnorm)
        self.split = Split.of(self.subject, self.step.seed)
        self._teacher = _teacher(self.subject, self.step)
        self._data = digest_of(self.subject.data.train_images, self.subject.data.train_labels)
        self._best: CompressedModel | None = None
        self._best_epoch = 0
        self._student: Student | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._stage: Recipe | None = None
        self._means: list[Tensor] = []  # of what is trained, over steps of the optimiser

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do: all epochs, or no better one for as long as the recipe's patience."""
        done = self.epochs[-1].number if self.epochs else -1
        patience, ramp = self.step.patience, ramp_epochs(self.recipe)
        held = [epoch for epoch in self.epochs if epoch.holds]
        gained = max(held, key=lambda each: (each.validation_accuracy, -each.validation_loss)).number if held else 0
        impatient = patience and done - max(gained, ramp) >= patience
        return done >= (self.step.stopped or self.step.epochs) or bool(impatient)

    def run(self, progress: Progress = SILENT) -> Iterator[Epoch]:
        """Train to the end, an epoch at a time; `progress` is asked before each batch and may raise to stop."""
        if not self.epochs:
            yield self._start()
        while not self.ended:
            yield self._epoch(self.epochs[-1].number + 1, progress)

    def result(self) -> Recovered:
        """The best epoch so far in which the recipe held, or the start; raises CompressionError before the first."""
        done = self.epochs[-1].number if self.epochs else 0
        if not done:
            raise CompressionError(
                "training must go through an epoch before there is a result; it was ended before. Let it run longer."
            )
        # Ended by hand or by a budget: whoever repeats it must end it there too.
        early = done < self.step.epochs and not self.ended
        step = replace(self.step, stopped=done if early else self.step.stopped)
        recipe = replace(self.recipe, recover=step)
        return Recovered(replace(self._best, recipe=recipe), self._best_epoch, tuple(self.epochs))

    def _start(self) -> Epoch:
        first, whole = stage(self.recipe, 1), self.variant.compress(self.recipe.untrained)
        by_rate = any(isinstance(tensor, Integers) and tensor.trellis for tensor in whole.weights.values())
        repaired = first == self.recipe.untrained and not by_rate
        begun = whole if repaired else self.variant.compress(replace(first, repair=None))
        self._enter(first, begun, _floats(self.variant.statistics))
        return self._note(0, whole, None, None, 0.0, holds=True, seconds=0.0)

    def _epoch(self, number: int, progress: Progress) -> Epoch:
        now = stage(self.recipe, number)
        if now != self._stage:
            state = self._student.float_state()
            self._enter(now, self._project(state, now), state)
        began, waited = time.perf_counter(), 0.0
        step, images, labels = self.step, self.split.images, self.split.labels
        batches = math.ceil(len(labels) / step.minibatch)
        total, correct, rate = 0.0, 0, 0.0
        with torch.random.fork_rng(devices=[]):
            # Each epoch has numbers of its own, so that a resumed run draws what an uninterrupted one does.
            torch.manual_seed((step.seed * 1_000_003 + number) % 2**63)
            order = torch.randperm(len(labels))
            for place, batch in enumerate(order.split(step.minibatch)):
                paused = time.perf_counter()
                progress.report()
                waited += time.perf_counter() - paused
                if place % PROJECT_EVERY == 0:
                    self._reproject()
                rate = self._learning_rate((number - 1) * batches + place, step.epochs * batches)
                with machine(exclusive=False):
                    loss, right = self._train(self._augmented(images[batch]), labels[batch], rate)
                total += loss * len(batch)
                correct += right
        with self._averaged():
            self._reproject()
            compressed = self._student.eval().compressed()
        seconds = self.epochs[-1].seconds + time.perf_counter() - began - waited
        holds = now == self.recipe.untrained
        return self._note(number, compressed, total / len(labels), correct / len(labels), rate, holds, seconds)

    def _train(self, images: Tensor, labels: Tensor, rate: float) -> tuple[float, int]:
        """One step of the optimiser; returns the loss, and how many of the batch were right."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        logits = self._student.train()(images)
        loss = self._loss(logits, images, labels)
        self._optimizer.zero_grad()
        (loss + self._cost_of_size()).backward()
        self._optimizer.step()
        if self._means:
            with torch.no_grad():
                torch._foreach_lerp_(self._means, list(self._student.parameters()), 1 - self.step.average)
        return loss.item(), int(self.subject.task.correct(logits, labels).sum())

    def _loss(self, logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Labels and the teacher's softened answers, mixed; the latter times T**2 (Hinton et al. 2015, section 2)."""
        mix, heat = self.step.distill, self.step.temperature
        task = self.subject.task
        loss = (1 - mix) * task.loss(logits, labels) if mix < 1 else logits.new_zeros(())
        if mix > 0:
            with torch.no_grad():
                taught = self._teacher(images)
            loss = loss + mix * heat**2 * task.distillation(logits, taught, heat)
        return loss

    def _cost_of_size(self) -> Tensor | float:
        """What the recipe takes the file size of weights by rate to be worth, in nats."""
        return sum(price * twin.bits() for price, twin in self._prices)

    def _learning_rate(self, done: int, steps: int) -> float:
        warm_up = max(1, round(WARM_UP_SHARE * steps))
        if done < warm_up:
            return self.step.learning_rate * (done + 1) / warm_up
        if self.step.schedule == "constant":
            return self.step.learning_rate
        return self.step.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - warm_up) / max(1, steps - warm_up)))

    def _augmented(self, images: Tensor) -> Tensor:
        settings = models.get(self.subject.name).training
        return augment(images, settings) if self.step.augment else images

    def _enter(self, now: Recipe, compressed: CompressedModel, state: dict[str, np.ndarray]) -> None:
        """Begin a stage; state: weights before rounding."""
        # By the weights that were compressed: what only rounding made zero may leave it.
        pruned = self._project(state, pruning_of(now)) if pruning_of(now) != Recipe() else None
        kept = {} if pruned is None else {name: tensor.decode() != 0 for name, tensor in pruned.weights.items()}
        latents = {name: _near(tensor, state[name]) for name, tensor in compressed.weights.items()}
        self._set_student(self._student_of(compressed, latents, kept), now)

    def _student_of(
        self, compressed: CompressedModel, latents: dict[str, np.ndarray] | None, kept: dict[str, np.ndarray]
    ) -> Student:
        activations = None
        if compressed.recipe.integer:
            with self.subject.running(compressed) as network:
                activations = RoundedActivations(self.subject.blueprint(compressed), compressed, network)
        return Student(compressed, self.variant.module, latents, kept, activations)

    def _set_student(self, student: Student, now: Recipe) -> None:
        self._student, self._stage = student, now
        plans = layer_plans(tuple(self.variant.statistics.layers), now)
        self._prices = [(plans[name].quantize.exchange / KILOBYTE, twin) for name, twin in student.projected()]
        self._optimizer = torch.optim.Adam(student.parameters(), lr=self.step.learning_rate)
        self._means = [each.detach().clone() for each in student.parameters()] if self.step.average else []

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within, the student has the running means in place of what it trains, where the recipe asks for them."""
        trained = list(self._student.parameters()) if self._means else []
        own = [each.detach().clone() for each in trained]
        with torch.no_grad():
            for each, mean in zip(trained, self._means, strict=True):
                each.copy_(mean)
            yield
            for each, before in zip(trained, own, strict=True):
                each.copy_(before)
        if trained:
            self._reproject()

    def _project(self, state: dict[str, np.ndarray], recipe: Recipe) -> CompressedModel:
        """The one-shot compression of other float weights of the same network."""
        statistics = self.variant.statistics.with_values(state)
        return compress(
            statistics,
            recipe,
            source=self.variant.source,
            structure=self.variant.structure,
            fisher=self.variant.fisher if recipe.by_fisher else None,
        )

    def _reproject(self) -> None:
        twins = dict(self._student.projected())
        if twins:
            found = self._project(self._student.float_state(), self._stage)
            for name, twin in twins.items():
                twin.project(found.weights[name])

    def _note(
        self,
        number: int,
        compressed: CompressedModel,
        loss: float | None,
        train_accuracy: float | None,
        rate: float,
        holds: bool,
        seconds: float,
    ) -> Epoch:
        compressed = replace(compressed, recipe=self.recipe)
        with self.subject.running(compressed) as network:
            accuracy, loss_there = self.split.validate(network)
        weights = [tensor.decode() for tensor in compressed.weights.values()]
        epoch = Epoch(
            number=number,
            loss=loss,
            train_accuracy=train_accuracy,
            validation_accuracy=accuracy,
            validation_loss=loss_there,
            size=len(codec.write(compressed)),
            sparsity=float(1 - sum(map(np.count_nonzero, weights)) / sum(weight.size for weight in weights)),
            learning_rate=rate,
            holds=holds,
            seconds=seconds,
            validated=len(self.split.validation_labels),
        )
        self.epochs.append(epoch)
        if best_of(self.epochs) is epoch:
            self._best, self._best_epoch = compressed, number
        return epoch

    def checkpoint(self) -> bytes:
        """All that the rest of the training depends on, as a safetensors file; after an epoch."""
        tensors = {f"student.{name}": tensor for name, tensor in self._student.state_dict().items()}
        for place, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{place}.{name}": value for name, value in state.items()}
        tensors |= {f"mean.{place}": mean for place, mean in enumerate(self._means)}
        tensors["current"] = _as_tensor(codec.write(self._student.eval().compressed()))
        if self._best is not None:
            tensors["best"] = _as_tensor(codec.write(self._best))
        notes = {
            "recipe": self.recipe.to_dict(),
            "model": self.subject.statistics.digest,
            "dataset": self.subject.data.digest,
            "train": self._data,
            "best": self._best_epoch,
            "epochs": [asdict(epoch) for epoch in self.epochs],
        }
        return to_bytes(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, {"training": json.dumps(notes)}
        )

    def restore(self, data: bytes) -> None:
        """Go on from a checkpoint of the same recipe and model; raises CompressionError where it is none."""
        try:
            tensors = from_bytes(data)
            notes = json.loads(_metadata(data)["training"])
            recipe, epochs = Recipe.from_dict(notes["recipe"]), [Epoch(**each) for each in notes["epochs"]]
            done, best = epochs[-1].number, int(notes["best"])
            ours = self.recipe, self.subject.statistics.digest, self.subject.data.digest, self._data
            if (recipe, notes["model"], notes["dataset"], notes["train"]) != ours:
                raise ValueError("it is of another recipe, model or dataset")
            current = codec.read(_as_bytes(tensors["current"]))
            student = {name.removeprefix("student."): t for name, t in tensors.items() if name.startswith("student.")}
            kept = {
                name: student[f"twins.{place}.kept"].numpy()
                for place, name in enumerate(current.weights)
                if f"twins.{place}.kept" in student
            }
            made = self._student_of(current, None, kept)
            made.load_state_dict(student)
            self._set_student(made, stage(self.recipe, max(1, done)))
            self._optimizer.load_state_dict(self._optimizer_state(tensors))
            self._means = [tensors[f"mean.{place}"] for place in range(len(self._means))]
            self._best = codec.read(_as_bytes(tensors["best"])) if "best" in tensors else None
        except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError, CompressionError) as error:
            raise CompressionError(
                f"a checkpoint must be one of this training; {error}. Remove it, and start anew."
            ) from None
        self._best_epoch, self.epochs = best, epochs

    def _optimizer_state(self, tensors: dict[str, Tensor]) -> dict:
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, place, key = name.split(".")
                state.setdefault(int(place), {})[key] = tensor
        return {**self._optimizer.state_dict(), "state": state}


def _teacher(subject: Subject, step: Recover) -> nn.Module:
    if not step.teacher:
        return subject.model
    if step.teacher not in (others := teachers_of(subject.name)):
        raise RecipeError(
            f"teacher must be another model for the images of {subject.name}: "
            f"{' or '.join(others) or 'there is none'}; got {shown(step.teacher)}. "
            "Name one, or leave it out for the baseline."
        )
    return load_model(step.teacher)


def _floats(statistics: ModelStatistics) -> dict[str, np.ndarray]:
    return {**{name: layer.weight for name, layer in statistics.layers.items()}, **statistics.rest}


def _near(tensor: CompressedTensor, weight: np.ndarray) -> np.ndarray:
    """Weights before rounding: as they were, as far as they round to what was compressed.

    How far a weight is from the next code is worth keeping: from the middle of a wide step none would move in time.
    """
    if not isinstance(tensor, Integers) or tensor.bits == 1 or tensor.trellis:
        return weight
    decoded = tensor.decode()
    reach = NEARLY_HALF * tensor.scale.reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(weight, decoded - reach, decoded + reach)


def _as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _as_bytes(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()


def _metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file: the JSON header's `__metadata__`."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]).get("__metadata__", {})
