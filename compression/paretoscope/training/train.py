"""Training that wins back what compression lost, within what the recipe can represent.

Weights start from the recipe's one-shot result and are trained on labels, on a teacher's answers (Hinton, Vinyals and
Dean, Distilling the Knowledge in a Neural Network, 2015), or on both. The teacher is the baseline, or another model of
the zoo. A part of the train split is kept back to choose the best epoch; the test split is never looked at. What is
measured after each epoch, and what is given back, is the compressed model that the recipe's file holds, decoded.

Repair applies to the one-shot result, the start. Training goes on from the repaired weights where the recipe holds from
the first epoch. Recipes by rate start from the weights as they were instead: codes that make good each other's errors
gave a worse network and a larger file (no benchmark shows it). Weights that training moved are not repaired again.

By rate, training lowers harm and size together: the loss of a batch has a term for the file's kilobytes, estimated as
those of a Laplacian source, times the exchange rate (entropy-constrained training, as Oktay et al. 2020, Scalable model
compression by entropy penalized reparameterization).
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paretoscope import codec
from paretoscope.base.batch import Batch, call, mapped, parts
from paretoscope.base.errors import CompressionError, RecipeError
from paretoscope.base.lock import machine
from paretoscope.base.progress import SILENT, Progress
from paretoscope.base.text import shown
from paretoscope.measure.subject import Subject
from paretoscope.methods.dependent import KILOBYTE
from paretoscope.methods.pipeline import compress, layer_plans, samples
from paretoscope.methods.registry import Sampled
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.model.tensors import CompressedTensor, Integers
from paretoscope.networks import sources
from paretoscope.networks.zoo import models
from paretoscope.networks.zoo.train import augment
from paretoscope.recipe.recipe import Recipe, Recover
from paretoscope.recipe.steps.recover import Schedule
from paretoscope.runtimes.integer.blueprint import IntegerNetwork
from paretoscope.training.checkpoint import Checkpoint, Origin, refused
from paretoscope.training.epochs import Epoch, best_of
from paretoscope.training.integers import RoundedActivations
from paretoscope.training.split import Split, train_digest
from paretoscope.training.stages import pruning_of, ramp_epochs, stage
from paretoscope.training.student import Student
from paretoscope.training.trainable import Projected

# Share of the optimiser's steps over which the learning rate rises; chosen by hand, no benchmark.
WARM_UP_SHARE = 0.05
# A part of a quantization step; a half might round to either side. Chosen by hand, no benchmark.
NEARLY_HALF = np.float32(0.49)
# Steps of the optimiser between projections of weights by rate; chosen by hand, no benchmark.
PROJECT_EVERY = 20

NOT_MOVED = "Samples are trained on as they are: augment moves only the pictures that the package comes with."


@dataclass(frozen=True, eq=False, slots=True)
class Recovered:
    """The result of a training. compressed: of the best epoch, with the recipe that repeats it. best: its number.

    epochs: all of them, the start first.
    """

    compressed: CompressedModel
    best: int
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True, eq=False, slots=True)
class _Course:
    """What is trained while one stage lasts. recipe: of the stage.

    prices: nats a bit, with the weights by rate that they are for. means: of the parameters over the optimiser's steps,
    or none.
    """

    recipe: Recipe
    student: Student
    optimizer: torch.optim.Optimizer
    prices: list[tuple[float, Projected]]
    means: list[Tensor]


@dataclass(eq=False)
class Trainer:
    """The training of one recipe, epoch by epoch. Raises RecipeError for a recipe without training.

    epochs: those done so far. `checkpoint` gives all that the rest depends on; a trainer that was restored from it goes
    on bit for bit as this one would, on the same machine with the same number of threads.
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
        self._origin = Origin(
            self.recipe,
            self.subject.statistics.digest,
            self.subject.data.digest,
            train_digest(self.subject.data),
        )
        self._best: CompressedModel | None = None
        self._best_epoch = 0
        self._course: _Course | None = None

    @property
    def ended(self) -> bool:
        """Whether training is over: all epochs are done, or none was better for as long as the recipe's patience."""
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
        if not done or self._best is None:
            raise CompressionError(
                "training must go through an epoch before there is a result; it was ended before. Let it run longer."
            )
        # A training that was ended by hand or by a budget is repeated by ending it at the same epoch.
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
        if now != self._now.recipe:
            state = self._now.student.float_state()
            self._enter(now, self._project(state, now), state)
        began, waited = time.perf_counter(), 0.0
        step, count = self.step, len(self.split.labels)
        batches = math.ceil(count / step.minibatch)
        total, right, rate = 0.0, 0.0, 0.0
        with torch.random.fork_rng(devices=[]):
            # Each epoch has a seed of its own, so that a resumed run draws what an uninterrupted one does.
            torch.manual_seed((step.seed * 1_000_003 + number) % 2**63)
            order = torch.randperm(count)
            for place, batch in enumerate(order.split(step.minibatch)):
                paused = time.perf_counter()
                progress.report()
                waited += time.perf_counter() - paused
                if place % PROJECT_EVERY == 0:
                    self._reproject()
                rate = self._learning_rate((number - 1) * batches + place, step.epochs * batches)
                samples, labels = self.split.batch(batch)
                with machine(exclusive=False):
                    loss, found = self._train(self._augmented(samples), labels, rate)
                total += loss * len(batch)
                right += found
        with self._averaged():
            self._reproject()
            compressed = self._now.student.eval().compressed()
        seconds = self.epochs[-1].seconds + time.perf_counter() - began - waited
        holds = now == self.recipe.untrained
        return self._note(number, compressed, total / count, right / count, rate, holds, seconds)

    def _train(self, samples: Batch, labels: Tensor, rate: float) -> tuple[float, float]:
        """One step of the optimiser; returns the loss, and the sum of how right each of the batch was."""
        now = self._now
        for group in now.optimizer.param_groups:
            group["lr"] = rate
        truth = self.split.truth(samples, labels)
        outputs = now.student.train()(*parts(samples))
        loss = self._loss(outputs, samples, truth)
        now.optimizer.zero_grad()
        (loss + self._cost_of_size()).backward()
        now.optimizer.step()
        if now.means:
            with torch.no_grad():
                torch._foreach_lerp_(now.means, list(now.student.parameters()), 1 - self.step.average)
        with torch.no_grad():
            return loss.item(), float(self.subject.task.correct(outputs, truth).sum())

    def _loss(self, outputs: Any, samples: Batch, truth: Any) -> Tensor:
        """The loss on the truth and that on the teacher's softened answers, mixed.

        The latter is times temperature**2 (Hinton et al. 2015, section 2).
        """
        mix, heat = self.step.distill, self.step.temperature
        task = self.subject.task
        loss = (1 - mix) * task.loss(outputs, truth) if mix < 1 else torch.zeros(())
        if mix > 0:
            with torch.no_grad():
                taught = call(self._teacher, samples)
            loss = loss + mix * heat**2 * task.distillation(outputs, taught, heat)
        return loss

    def _cost_of_size(self) -> Tensor | float:
        """The file size of weights by rate times the exchange rate, in nats."""
        return sum(price * twin.bits() for price, twin in self._now.prices)

    def _learning_rate(self, done: int, steps: int) -> float:
        warm_up = max(1, round(WARM_UP_SHARE * steps))
        if done < warm_up:
            return self.step.learning_rate * (done + 1) / warm_up
        if self.step.schedule == Schedule.CONSTANT:
            return self.step.learning_rate
        return self.step.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - warm_up) / max(1, steps - warm_up)))

    def _augmented(self, samples: Batch) -> Batch:
        # Only of the package's own data is it known how they may be moved.
        if not self.step.augment or self.subject.name not in models:
            return samples
        settings = models.get(self.subject.name).training
        return mapped(samples, lambda images: augment(images, settings))

    def _enter(self, now: Recipe, compressed: CompressedModel, state: dict[str, np.ndarray]) -> None:
        """Begin a stage; state: weights before rounding."""
        # Masks come from pruning alone: a weight that only rounding made zero may leave it.
        pruned = self._project(state, pruning_of(now)) if pruning_of(now) != Recipe() else None
        kept = {} if pruned is None else {name: tensor.decode() != 0 for name, tensor in pruned.weights.items()}
        latents = {name: _near(tensor, state[name]) for name, tensor in compressed.weights.items()}
        self._course = self._course_of(self._student_of(compressed, latents, kept), now)

    def _student_of(
        self, compressed: CompressedModel, latents: dict[str, np.ndarray] | None, kept: dict[str, np.ndarray]
    ) -> Student:
        activations = None
        if compressed.recipe.integer:
            with self.subject.running(compressed) as network:
                if not isinstance(network, IntegerNetwork):
                    raise TypeError("a recipe with integer activations must run as an integer network")
                activations = RoundedActivations(self.subject.blueprint(compressed), compressed, network)
        return Student(compressed, self.variant.module, latents, kept, activations)

    def _course_of(self, student: Student, now: Recipe) -> _Course:
        plans = layer_plans(tuple(self.variant.statistics.layers), now)
        exchanges = {name: plan.quantize.exchange for name, plan in plans.items() if plan.quantize is not None}
        return _Course(
            recipe=now,
            student=student,
            optimizer=torch.optim.Adam(student.parameters(), lr=self.step.learning_rate),
            prices=[(exchanges[name] / KILOBYTE, twin) for name, twin in student.projected()],
            means=[each.detach().clone() for each in student.parameters()] if self.step.average else [],
        )

    @property
    def _now(self) -> _Course:
        if self._course is None:
            raise CompressionError("a training must have begun; this one has not. Run it first.")
        return self._course

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Give the student the running means for as long as the context lasts, where the recipe asks for them."""
        means = self._now.means
        trained = list(self._now.student.parameters()) if means else []
        own = [each.detach().clone() for each in trained]
        with torch.no_grad():
            for each, mean in zip(trained, means, strict=True):
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
            fisher=self.variant.fisher if Sampled.FISHER in samples(recipe) else None,
        )

    def _reproject(self) -> None:
        student = self._now.student
        twins = dict(student.projected())
        if twins:
            found = self._project(student.float_state(), self._now.recipe)
            for name, twin in twins.items():
                projected = found.weights[name]
                # By rate, every weight of the recipe is compressed to codes.
                assert isinstance(projected, Integers)
                twin.project(projected)

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
        if self.step.augment and self.subject.name not in models:
            compressed = replace(compressed, notes=(*compressed.notes, NOT_MOVED))
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
        """All that the rest of the training depends on, as a file (see `Checkpoint`).

        Raises CompressionError before the training has begun.
        """
        now = self._now
        if self._best is None:
            raise CompressionError("a checkpoint must be of a training that has begun; this one has not. Run it first.")
        return Checkpoint(
            origin=self._origin,
            student=now.student.state_dict(),
            optimizer=now.optimizer.state_dict()["state"],
            means=tuple(now.means),
            current=now.student.eval().compressed(),
            best=self._best,
            best_epoch=self._best_epoch,
            epochs=tuple(self.epochs),
        ).to_bytes()

    def restore(self, data: bytes) -> None:
        """Go on from a checkpoint of the same recipe and model; raises CompressionError where it is none."""
        found = Checkpoint.from_bytes(data, self._origin)
        kept = {
            name: found.student[f"twins.{place}.kept"].numpy()
            for place, name in enumerate(found.current.weights)
            if f"twins.{place}.kept" in found.student
        }
        try:
            student = self._student_of(found.current, None, kept)
            student.load_state_dict(found.student)
            course = self._course_of(student, stage(self.recipe, max(1, found.epochs[-1].number)))
            course.optimizer.load_state_dict({**course.optimizer.state_dict(), "state": found.optimizer})
            if len(found.means) != len(course.means):
                raise ValueError(f"it has {len(found.means)} running means instead of {len(course.means)}")
        except (LookupError, TypeError, ValueError, RuntimeError, CompressionError) as error:
            raise refused(error) from None
        self._course = replace(course, means=list(found.means))
        self._best, self._best_epoch, self.epochs = found.best, found.best_epoch, list(found.epochs)


def _teacher(subject: Subject, step: Recover) -> nn.Module:
    if not step.teacher:
        return subject.model
    if step.teacher not in (others := sources.alike(subject.name)):
        raise RecipeError(
            f"teacher must be another model for the inputs of {subject.name}: "
            f"{' or '.join(others) or 'there is none'}; got {shown(step.teacher)}. "
            "Name one, or leave it out for the baseline."
        )
    return sources.find(step.teacher).load()


def _floats(statistics: ModelStatistics) -> dict[str, np.ndarray]:
    return {**{name: layer.weight for name, layer in statistics.layers.items()}, **statistics.rest}


def _near(tensor: CompressedTensor, weight: np.ndarray) -> np.ndarray:
    """Weights before rounding: as they were, clipped so that they round to the compressed ones.

    Their places within a step are kept: from the middle of a wide step no weight would reach the next code in time.
    """
    if not isinstance(tensor, Integers) or tensor.bits == 1 or tensor.trellis:
        return weight
    decoded = tensor.decode()
    reach = NEARLY_HALF * tensor.scale.reshape(-1, *[1] * (weight.ndim - 1))
    clipped: np.ndarray = np.clip(weight, decoded - reach, decoded + reach)
    return clipped
