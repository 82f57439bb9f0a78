"""Training: what a recipe allows, bit for bit again, chosen by validation, blind to the test split."""

import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from paretoscope import codec
from paretoscope.base.errors import CompressionError, RecipeError
from paretoscope.base.progress import Calling
from paretoscope.data.data import Part
from paretoscope.data.dataset import ImageData
from paretoscope.measure.judged import Judged
from paretoscope.measure.subject import Subject
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.tensors import Codebook, Integers, Plain
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects
from paretoscope.training.epochs import Epoch, Recovery, best_of
from paretoscope.training.split import Split, train_split
from paretoscope.training.train import Trainer
from safetensors.torch import load, save

pytestmark = pytest.mark.slow

RATE = {"bits": 8, "calibration": "rate", "exchange": 1e-3, "rest": "rate", "coder": "context"}
GPTQ = {"rounding": "gptq", "bias": True, "batchnorm": True}

# Every kind of trainable weight, from the start and gradually.
KINDS = {
    "floats": {"sparsity": 0.6},
    "floats, gradually": {"sparsity": 0.6, "ramp": 0.5},
    "grid": {"sparsity": 0.6, "bits": 3, "calibration": "mse"},
    "grid, gradually": {"sparsity": 0.6, "bits": 3, "ramp": 0.5, "rest": "fp16"},
    "grid, asymmetric, repaired": {"bits": 4, "symmetric": False, "granularity": "tensor", **GPTQ},
    "shared": {"sparsity": 0.5, "clusters": 6},
    "shared on a grid, gradually": {"sparsity": 0.5, "clusters": 6, "bits": 4, "ramp": 0.5},
    "binary": {"bits": 1},
    "binary, gradually": {"bits": 1, "ramp": 0.5},
    "ternary": {"bits": 1, "ternary": 0.7, "power_of_two": True},
    "by rate": {**RATE, **GPTQ},
    "by rate, sparse, gradually": {**RATE, "sparsity": 0.6, "ramp": 0.5},
    "integer activations": {"bits": 8, "activations": 8},
    "by rate, integer activations": {**RATE, **GPTQ, "activations": 8},
}
# What most tests' subjects lack: integer kernels, residuals, batch normalisation, another structure, an early end.
RESUMED = {
    "integer activations": ("lenet-300-100", {"activations": 8, "bits": 8}),
    "by rate, integer activations, gradually": (
        "lenet-300-100",
        {**RATE, **GPTQ, "activations": 8, "sparsity": 0.5, "ramp": 0.7, "epochs": 3},
    ),
    "fewer nodes, integer activations, gradually": (
        "lenet-300-100",
        {"nodes": 0.5, "clusters": 6, "bits": 8, "activations": 8, "ramp": 0.5},
    ),
    "patience": ("lenet-300-100", {"patience": 2, "epochs": 4, "bits": 4, "learning_rate": 1.0}),
    "batch norm": ("simple-cnn", {"bits": 4, "sparsity": 0.5, "ramp": 0.7, "epochs": 3}),
    "batch norm, by rate, integer activations": ("simple-cnn", {**RATE, "activations": 8}),
    "folded, by rate, integer activations": ("simple-cnn", {**RATE, **GPTQ, "fold": True, "activations": 8}),
    "averaged, by rate, gradually": ("lenet-300-100", {**RATE, "average": 0.9, "ramp": 0.5}),
    "averaged, shared, integer activations": (
        "lenet-300-100",
        {"average": 0.9, "clusters": 6, "bits": 8, "activations": 8},
    ),
    "fewer blocks": ("resnet-20", {"blocks": 2, "bits": 4, "distill": 0.5}),
}
PRUNED = [name for name, settings in KINDS.items() if "sparsity" in settings]


def trainer(subject: Subject, **settings) -> Trainer:
    return Trainer(subject, Recipe.of(**{"epochs": 4, "learning_rate": 3e-3, **settings}))


def done(subject: Subject, **settings) -> Trainer:
    made = trainer(subject, **settings)
    list(made.run())
    return made


def file_of(made: Trainer) -> bytes:
    return codec.write(made.result().compressed)


def learned(made: Trainer) -> CompressedModel:
    """What has been learned so far, as the checkpoint keeps it."""
    return codec.read(load(made.checkpoint())["current"].numpy().tobytes())


def timeless(epochs) -> list[Epoch]:
    return [replace(epoch, seconds=0.0) for epoch in epochs]


def sizeless(epochs) -> list[Epoch]:
    """A file names its recipe: where training was ended is some bytes more."""
    return [replace(epoch, size=0) for epoch in timeless(epochs)]


@pytest.fixture(scope="module")
def trained(subject) -> Callable[[str], tuple[Trainer, list[CompressedModel]]]:
    """The training of each kind, made once for tests that only look at it; with each epoch's model if it prunes."""

    @cache
    def run(name: str) -> tuple[Trainer, list[CompressedModel]]:
        made = trainer(subject, **KINDS[name])
        return made, [learned(made) for epoch in made.run() if epoch.number and name in PRUNED]

    return run


@pytest.mark.parametrize("name", PRUNED)
def test_a_pruned_weight_never_leaves_zero_in_any_epoch(subject, trained, name):
    made, models = trained(name)
    assert len(models) == 4
    stages = [{weight: tensor.decode() == 0 for weight, tensor in each.weights.items()} for each in models]
    gradual = bool(KINDS[name].get("ramp"))
    asked = subject.compress(Recipe.of(sparsity=KINDS[name]["sparsity"]))
    total = sum(tensor.decode().size for tensor in asked.weights.values())
    assert made.epochs[-1].sparsity >= 0.6 - 1 / total or "shared" in name
    for weight, tensor in asked.weights.items():
        pruned = tensor.decode() == 0
        assert pruned.any()
        if not gradual:
            assert all(zeros[weight][pruned].all() for zeros in stages)
        # Two epochs ramp; what the last of them pruned stays. Sharing may bring more groups to zero, never fewer.
        if "floats" in name or "shared" in name:
            for before, after in itertools.pairwise(stages):
                assert after[weight][before[weight]].all()


@pytest.mark.parametrize("name", ["floats, gradually", "by rate, sparse, gradually"])
def test_sparsity_is_what_each_epoch_asks_for(trained, name):
    made, _ = trained(name)
    asked = [0.6, 0.6 * 7 / 8, 0.6, 0.6, 0.6]
    if name.startswith("floats"):
        assert [epoch.sparsity for epoch in made.epochs] == pytest.approx(asked, abs=1e-4)
    assert all(epoch.sparsity >= least - 1e-4 for epoch, least in zip(made.epochs, asked, strict=True))


def test_what_rounding_made_zero_may_leave_it(subject):
    """Only pruning is for ever: at two bits most weights round to zero that were not pruned."""
    made = done(subject, sparsity=0.5, bits=2, epochs=6, learning_rate=1e-2)
    start, end = subject.compress(Recipe.of(sparsity=0.5, bits=2)), learned(made)
    pruned = subject.compress(Recipe.of(sparsity=0.5))
    left = 0
    for name in start.weights:
        zero, kept = start.decode(name) == 0, pruned.decode(name) != 0
        assert np.mean(zero & kept) > 0.2
        left += np.count_nonzero(end.decode(name)[zero & kept])
    assert left > 100


@pytest.mark.parametrize("name", ["shared", "shared on a grid, gradually"])
def test_shared_weights_stay_shared(subject, name):
    made, groups, values = trainer(subject, **KINDS[name], learning_rate=2e-2), {}, {}
    for epoch in made.run():
        if not epoch.holds or not epoch.number:
            continue
        for weight, tensor in learned(made).weights.items():
            decoded = tensor.decode()
            # Groups that met in one epoch may part in the next: who belongs together is what the first one says.
            members = groups.setdefault(weight, made._now.student.twin(weight).indices.numpy().copy())
            assert members.max() <= 6
            found = [np.unique(decoded[members == group]) for group in np.unique(members)]
            assert all(len(each) == 1 for each in found)
            assert members.min() > 0 or not found[0].any()
            values.setdefault(weight, []).append(np.concatenate(found))
    assert all(len(each) >= 2 for each in values.values())
    assert any((each[0] != each[-1]).any() for each in values.values())


@pytest.mark.parametrize("name", KINDS)
def test_the_result_is_exactly_what_the_recipe_can_represent(subject, trained, name):
    made, _ = trained(name)
    found, plan = made.result().compressed, made.recipe
    again = codec.read(codec.write(found))
    assert again.recipe == made.recipe
    assert all(torch.equal(again.state_dict()[key], value) for key, value in found.state_dict().items())
    one_shot = subject.compress(plan.untrained)
    for weight, tensor in found.weights.items():
        assert type(tensor) is type(one_shot.weights[weight])
        grid = tensor.entries if isinstance(tensor, Codebook) else tensor
        if isinstance(tensor, Codebook):
            assert grid.shape[0] <= plan.share.clusters
        if isinstance(grid, Integers):
            assert grid.bits == plan.bits
            low, high = int(grid.codes.min(initial=0)), int(grid.codes.max(initial=0))
            top = max(1, 2 ** (plan.bits - 1) - 1)
            # The trellis has codes of its own step, which `bits` limits too.
            assert -top - (grid.zero is not None) <= low <= high <= top
            assert grid.trellis == (plan.quantize.calibration == "rate")
            assert (
                grid.scale.shape
                == (tensor.shape[:1] if plan.quantize.granularity == "channel" else ())[
                    : 0 if isinstance(tensor, Codebook) else 1
                ]
            )
        if isinstance(tensor, Plain):
            assert plan.quantize is None
    for rest, tensor in found.rest.items():
        kinds = (type(tensor), getattr(tensor, "bits", None))
        assert kinds == (type(one_shot.rest[rest]), getattr(one_shot.rest[rest], "bits", None))


@pytest.mark.parametrize("name", KINDS)
def test_what_is_validated_is_what_is_exported(subject, trained, name):
    found = trained(name)[0].result()
    best = found.epochs[found.best]
    data = codec.write(found.compressed)
    split = Split.of(subject, 0)
    with subject.running(codec.read(data)) as network, torch.inference_mode():
        logits = network(split.validation_samples)
    assert best.number == found.best
    assert best.size == len(data)
    right = (logits.argmax(1) == split.validation_labels).double().mean()
    assert best.validation_accuracy == pytest.approx(float(right))
    loss = torch.nn.functional.cross_entropy(logits, split.validation_labels)
    assert best.validation_loss == pytest.approx(float(loss), rel=1e-5)


def test_integer_recipes_are_validated_as_the_integer_network(subject, trained):
    found = trained("integer activations")[0].result()
    split = Split.of(subject, 0)
    with torch.inference_mode():
        logits = subject.decoded(found.compressed)(split.validation_samples)
    floats = float(torch.nn.functional.cross_entropy(logits, split.validation_labels))
    assert found.epochs[found.best].validation_loss != pytest.approx(floats, rel=1e-5)


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("name", [name for name in KINDS if "integer" not in name])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tied, name, after):
    assert_resumes(tied, after, {**KINDS[name], "distill": 0.5})


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_of_a_network_of_the_zoo(cut, loaded, name):
    model, settings = RESUMED[name]
    assert_resumes(cut(loaded(model), 20), 1, {"epochs": 2, "minibatch": 9, **settings})


def assert_resumes(subject: Subject, after: int, settings: dict) -> None:
    """The file, the epochs and what has been learned are those of an uninterrupted run, bit for bit."""
    straight = done(subject, **settings)
    first = trainer(subject, **settings)
    for epoch in first.run():
        if epoch.number == after:
            break
    assert len(straight.epochs) > len(first.epochs)
    second = trainer(subject, **settings)
    second.restore(first.checkpoint())
    del first
    list(second.run())
    assert file_of(second) == file_of(straight)
    assert timeless(second.epochs) == timeless(straight.epochs)
    assert codec.write(learned(second)) == codec.write(learned(straight))


def test_a_resumed_run_of_shared_weights_whose_groups_met(subject):
    """Three bits leave seven values to sixteen groups: fewer are stored than train."""
    settings = {"clusters": 16, "bits": 3, "learning_rate": 1e-2, "epochs": 3}
    straight, first, second = done(subject, **settings), trainer(subject, **settings), trainer(subject, **settings)
    for epoch in first.run():
        if epoch.number == 1:
            break
    assert any(tensor.entries.shape[0] < 7 for tensor in learned(first).weights.values())
    second.restore(first.checkpoint())
    list(second.run())
    assert file_of(second) == file_of(straight)


def test_a_resumed_run_with_residuals_and_batch_norm(cut, loaded):
    subject = cut(loaded("resnet-20"), 20)
    settings = {"sparsity": 0.5, "bits": 4, "epochs": 2, "ramp": 0.5, "minibatch": 9}
    straight, first, second = done(subject, **settings), trainer(subject, **settings), trainer(subject, **settings)
    for epoch in first.run():
        if epoch.number == 1:
            break
    second.restore(first.checkpoint())
    list(second.run())
    assert file_of(second) == file_of(straight)
    # Statistics of batch normalisation moved, and its counter with them.
    baseline, found = subject.statistics.rest, learned(straight)
    assert (found.decode("bn.running_mean") != baseline["bn.running_mean"]).any()
    counters = [name for name in baseline if name.endswith("num_batches_tracked")]
    steps = 2 * math.ceil(17 / 9)
    assert all(found.decode(name) == baseline[name] + steps for name in counters)


def test_checkpoints_of_another_training_are_refused(subject, tied):
    made = trainer(subject, bits=4)
    next(made.run())
    kept = made.checkpoint()
    for other in (trainer(subject, bits=3), trainer(subject, bits=4, seed=1), trainer(tied, bits=4)):
        with pytest.raises(CompressionError, match="a checkpoint must be one of this training"):
            other.restore(kept)
    data = replace(subject.data, digest="0" * 64)
    with pytest.raises(CompressionError, match="another recipe, model or dataset"):
        trainer(replace(subject, data=data), bits=4).restore(kept)


def test_damaged_checkpoints_are_refused(tied):
    made = trainer(tied, sparsity=0.5, bits=4)
    it = made.run()
    next(it), next(it)
    kept = made.checkpoint()
    tensors = load(kept)
    length = int.from_bytes(kept[:8], "little")
    notes = json.loads(json.loads(kept[8 : 8 + length])["__metadata__"]["training"])

    def written(notes, without: str = "", **changed) -> bytes:
        left = {name: tensor for name, tensor in {**tensors, **changed}.items() if name != without}
        return save(left, {"training": json.dumps(notes)})

    damaged = [
        *(kept[:size] for size in (0, 4, 8, 100, length, len(kept) - 1)),
        kept + b"\0",
        b"\xff" * 100,
        save(tensors),
        save(tensors, {"training": "no JSON"}),
        written([]),
        *(written({key: value for key, value in notes.items() if key != gone}) for gone in notes),
        written({**notes, "epochs": []}),
        written({**notes, "epochs": [{}]}),
        written({**notes, "epochs": 3}),
        written({**notes, "best": "first"}),
        written({**notes, "recipe": {"version": 1}}),
        written(notes, "current"),
        written(notes, "student.twins.0.value"),
        written(notes, "student.values.0"),
        written(notes, current=torch.zeros(10, dtype=torch.uint8)),
        written(notes, best=torch.zeros(10, dtype=torch.uint8)),
        written(notes, **{"student.twins.0.value": torch.zeros(3)}),
        written(notes, **{"optimizer.none": torch.zeros(3)}),
        written(notes, **{"optimizer.x.step": torch.zeros(3)}),
    ]
    straight = done(tied, sparsity=0.5, bits=4)
    for data in damaged:
        fresh = trainer(tied, sparsity=0.5, bits=4)
        with pytest.raises(CompressionError, match="a checkpoint must be one of this training"):
            fresh.restore(data)
    # What was refused has left nothing behind.
    list(fresh.run())
    assert file_of(fresh) == file_of(straight)
    fresh = trainer(tied, sparsity=0.5, bits=4)
    fresh.restore(written(notes))
    list(fresh.run())
    assert file_of(fresh) == file_of(straight)


@pytest.mark.parametrize("name", ["grid", "by rate", "shared on a grid, gradually", "integer activations"])
def test_the_test_split_is_never_touched(subject, name):
    """A subject whose test images are no numbers, and whose test labels are all wrong, trains to the same bits."""
    data = subject.data
    blind = replace(
        data, test_images=torch.full_like(data.test_images, math.nan), test_labels=torch.full_like(data.test_labels, -1)
    )
    settings = {**KINDS[name], "distill": 0.5, "epochs": 2}
    judged = Judged(subject.model, blind, subject.task, subject.judged.size_bytes)
    unseen = replace(subject, data=blind, judged=judged)
    expected, found = done(subject, **settings), done(unseen, **settings)
    assert file_of(found) == file_of(expected)
    assert timeless(found.epochs) == timeless(expected.epochs)


def bare(data: ImageData) -> SimpleNamespace:
    """What of a subject its split depends on."""
    return SimpleNamespace(task=None, model=None, judged=SimpleNamespace(chunk=100), data=data)


def numbered(numbers: torch.Tensor) -> ImageData:
    """A train split whose images are their own labels."""
    none = numbers[:0]
    return ImageData(numbers, numbers, none, none, none, "")


@pytest.mark.parametrize("seed", [0, 1, 2**62])
def test_validation_and_training_parts_share_no_image(seed):
    numbers = torch.arange(1000)
    split = Split.of(bare(numbered(numbers)), seed)
    training, validation = set(split.samples.tolist()), set(split.validation_samples.tolist())
    assert (len(training), len(validation)) == (850, 150)
    assert training | validation == set(range(1000))
    assert torch.equal(split.samples, split.labels)
    assert torch.equal(split.validation_samples, split.validation_labels)


@pytest.mark.parametrize(("count", "kept"), [(20, 3), (33_333, 5_000), (60_000, 5_000)])
def test_no_more_is_kept_back_than_choosing_an_epoch_takes(count, kept):
    numbers = torch.arange(count)
    split = Split.of(bare(numbered(numbers)), 0)
    assert (len(split.labels), len(split.validation_labels)) == (count - kept, kept)


def test_a_train_split_that_comes_in_chunks_is_split_alike():
    """Data need not give all samples at once, whatever is asked for."""
    numbers = torch.arange(1000)

    class Chunked(ImageData):
        def samples(self, part: Part, size: int = 100) -> Iterator[torch.Tensor]:
            return super().samples(part, 7)

        def labels(self, part: Part, size: int = 100) -> Iterator[torch.Tensor]:
            return super().labels(part, 7)

    none = numbers[:0]
    chunked = Chunked(numbers, numbers, none, none, none, "")
    whole, parts = (Split.of(bare(data), 1) for data in (numbered(numbers), chunked))
    assert torch.equal(whole.samples, parts.samples) and torch.equal(whole.validation_labels, parts.validation_labels)
    assert train_split(numbered(numbers))[0].data_ptr() == numbers.data_ptr()


def test_before_it_has_begun_a_training_has_no_checkpoint(subject):
    with pytest.raises(CompressionError, match="a training must have begun; this one has not"):
        trainer(subject, bits=4).checkpoint()


def test_seeds(tied):
    same, again, other = (done(tied, bits=4, seed=seed, epochs=2) for seed in (1, 1, 2))
    assert file_of(same) == file_of(again)
    assert codec.write(learned(same)) != codec.write(learned(other))
    assert not torch.equal(same.split.validation_samples, other.split.validation_samples)
    # The largest that a recipe may have.
    assert len(done(tied, bits=4, seed=2**63 - 1, epochs=1).epochs) == 2


def test_training_leaves_random_numbers_and_the_baseline_alone(tied):
    state = {name: tensor.clone() for name, tensor in tied.model.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    done(tied, bits=4, epochs=1, distill=0.5)
    assert torch.equal(torch.rand(3), expected)
    assert not tied.model.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in tied.model.state_dict().items())


def test_patience_ends_it(subject):
    made = done(subject, epochs=9, learning_rate=10.0, patience=2)
    assert [epoch.number for epoch in made.epochs] == [0, 1, 2]
    assert made.result().best == 0
    # Nothing was cut short by hand: the recipe is what was asked for.
    assert made.result().compressed.recipe == made.recipe
    # During the ramp there is nothing to be patient about.
    made = done(subject, epochs=9, learning_rate=10.0, patience=2, sparsity=0.5, ramp=0.34)
    assert made.epochs[-1].number == 5


@pytest.mark.parametrize("name", ["grid", "shared on a grid, gradually", "by rate"])
@pytest.mark.parametrize("last", [1, 3])
def test_a_training_ended_early_is_reproducible_from_its_recipe(tied, name, last):
    made = trainer(tied, **KINDS[name])
    for epoch in made.run():
        if epoch.number == last:
            break
    found = made.result()
    recipe = found.compressed.recipe
    assert recipe == replace(made.recipe, recover=replace(made.recipe.recover, stopped=last))
    anew = Trainer(tied, recipe)
    list(anew.run())
    assert anew.ended
    assert anew.epochs[-1].number == last
    assert codec.write(anew.result().compressed) == codec.write(found.compressed)
    assert sizeless(anew.epochs) == sizeless(found.epochs)


def test_ended_in_the_middle_of_an_epoch_the_epochs_before_count(subject):
    made, calls = trainer(subject, bits=4, minibatch=10), []

    def check(*_: object) -> None:
        calls.append(len(made.epochs))
        if calls.count(3) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(made.run(Calling(check)))
    assert calls.count(1) == calls.count(2) == 17
    recipe = made.result().compressed.recipe
    assert recipe.recover.stopped == 2
    assert file_of(made) == codec.write(done_with(subject, recipe).result().compressed)


def done_with(subject: Subject, recipe: Recipe) -> Trainer:
    made = Trainer(subject, recipe)
    list(made.run())
    return made


def test_there_is_no_result_before_an_epoch(subject):
    made = trainer(subject, bits=4)
    with pytest.raises(CompressionError, match="must go through an epoch"):
        made.result()
    next(made.run())
    # The start alone would pass for all epochs: a recipe cannot say that it was ended before the first.
    with pytest.raises(CompressionError, match="must go through an epoch"):
        made.result()


def test_a_recipe_must_train(subject):
    with pytest.raises(RecipeError, match="this one has no epochs"):
        Trainer(subject, Recipe.of(bits=4))


@pytest.mark.parametrize("name", ["floats, gradually", "shared on a grid, gradually", "grid"])
def test_the_best_epoch_is_the_best_in_which_the_recipe_held(subject, name):
    found = done(subject, **{**KINDS[name], "epochs": 6}).result()
    gradual = "ramp" in KINDS[name]
    # Floats hold in full in the last epoch of the ramp; sharing comes after it.
    held = {"floats, gradually": [0, 3, 4, 5, 6], "shared on a grid, gradually": [0, 4, 5, 6]}
    assert [e.number for e in found.epochs if e.holds] == held.get(name, list(range(7)))
    assert found.best == best_of(found.epochs).number
    assert gradual or found.best > 0


def test_of_equal_accuracies_the_last_is_kept_and_patience_is_with_the_best(subject, monkeypatch):
    wanted = iter([(0.5, 3.0), (0.9, 2.0), (0.9, 1.0), (0.9, 1.5), (0.5, 0.1)])
    note = Trainer._note

    def noted(self, number, *others, **names) -> Epoch:
        accuracy, loss = next(wanted)
        monkeypatch.setattr(
            "paretoscope.training.train.Epoch",
            lambda **values: Epoch(**{**values, "validation_accuracy": accuracy, "validation_loss": loss}),
        )
        return note(self, number, *others, **names)

    monkeypatch.setattr(Trainer, "_note", noted)
    found = done(subject, bits=4, epochs=9, patience=2)
    assert found.result().best == 3
    # The last gain was the second epoch's, of accuracy or of loss.
    assert found.epochs[-1].number == 4


def softmax(logits: np.ndarray, heat: float = 1.0) -> np.ndarray:
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)) / heat)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("mix", "heat"), [(0.0, 4.0), (0.3, 4.0), (0.5, 1.0), (1.0, 2.5)])
def test_the_loss_is_that_of_hinton(subject, mix, heat):
    """(1 - a) cross-entropy + a T^2 KL(teacher || student), both softened by T; in float64, in the long form."""
    made = trainer(subject, distill=mix, temperature=heat)
    images, labels = made.split.samples[:7], made.split.labels[:7]
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 3, (7, 10)).astype(np.float32)).requires_grad_()
    loss = made._loss(logits, images, labels)
    loss.backward()
    with torch.no_grad():
        taught = softmax(made.subject.model(images).double().numpy(), heat if mix else 1.0)
    own = logits.detach().double().numpy()
    soft = softmax(own, heat)
    truth = np.eye(10)[labels.numpy()]
    hard = -(truth * np.log(softmax(own))).sum(1).mean()
    divergence = sum(p * math.log(p / q) for p, q in zip(taught.ravel(), soft.ravel(), strict=True)) / 7
    assert loss.item() == pytest.approx((1 - mix) * hard + mix * heat**2 * divergence, rel=1e-5)
    slope = ((1 - mix) * (softmax(own) - truth) + mix * heat * (soft - taught)) / 7
    np.testing.assert_allclose(logits.grad.numpy(), slope, atol=1e-6)


def test_what_is_kept_of_averaged_weights_is_their_running_mean(subject, monkeypatch):
    """Each step's weights count 1 - d of what all before them count together; the optimiser goes on from its own."""
    steps, train = [], Trainer._train

    def watched(self, *batch) -> tuple[float, int]:
        if not steps:
            steps.append({name: value.detach().clone() for name, value in self._now.student.named_parameters()})
        answer = train(self, *batch)
        steps.append({name: value.detach().clone() for name, value in self._now.student.named_parameters()})
        return answer

    monkeypatch.setattr(Trainer, "_train", watched)
    made = done(subject, epochs=2, average=0.75, sparsity=0.5)
    kept = made.result().compressed
    assert made.result().best == 2 and len(steps) > 5
    for place, name in enumerate(kept.weights):
        parameter = f"twins.{place}.value"
        mean = steps[0][parameter].double()
        for step in steps[1:]:
            mean = 0.75 * mean + 0.25 * step[parameter].double()
        np.testing.assert_allclose(kept.decode(name), mean.numpy(), atol=1e-6)
        assert not np.allclose(kept.decode(name), steps[-1][parameter].numpy(), atol=1e-5)
    # The last step's are still the student's.
    own = dict(made._now.student.named_parameters())
    assert all(torch.equal(own[name], value) for name, value in steps[-1].items())


def test_another_model_of_the_same_images_teaches(subject):
    """All of the loss is the divergence from its answers: none from itself."""
    made = trainer(subject, distill=1.0, teacher="lenet-5")
    images, labels = made.split.samples[:7], made.split.labels[:7]
    with torch.no_grad():
        logits, own = zoo.load_model("lenet-5")(images), subject.model(images)
    assert made._loss(logits, images, labels).item() == pytest.approx(0, abs=1e-6)
    assert made._loss(own, images, labels).item() > 0.01


@pytest.mark.parametrize("name", ["resnet-20", "lenet-300-100", "lenet-5-mnist", "nobody"])
def test_a_teacher_of_other_images_is_refused(subject, name):
    """A teacher of another dataset or shape, the model itself, or none at all."""
    with pytest.raises(RecipeError, match=f"the inputs of lenet-300-100: lenet-5; got '{name}'"):
        trainer(subject, distill=0.5, teacher=name)
    trainer(subject, teacher=name)  # asks for no answers


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_learning_rate_by_hand(subject, monkeypatch, schedule):
    rates = []

    def train(self, images, labels, rate) -> tuple[float, int]:
        rates.append(rate)
        return 0.0, 0

    monkeypatch.setattr(Trainer, "_train", train)
    made = done(subject, epochs=10, minibatch=17, learning_rate=0.2, schedule=schedule)
    assert len(rates) == 100  # 170 images
    warm = [0.2 * step / 5 for step in range(1, 6)]
    rest = [0.2 * (1 + math.cos(math.pi * step / 95)) / 2 if schedule == "cosine" else 0.2 for step in range(95)]
    assert rates == pytest.approx(warm + rest)
    assert [epoch.learning_rate for epoch in made.epochs] == [0.0, *rates[9::10]]


@pytest.mark.parametrize("fixture", ["subject", "tied"])
def test_every_image_of_the_training_part_is_seen_once_an_epoch(request, monkeypatch, fixture):
    subject = request.getfixturevalue(fixture)
    seen = []

    def train(self, images, labels, rate) -> tuple[float, int]:
        seen.append((images.clone(), labels.clone()))
        return 1.0, len(labels)

    monkeypatch.setattr(Trainer, "_train", train)
    made = done(subject, epochs=1, minibatch=40, augment=False)
    images, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
    order = sorted(range(len(labels)), key=lambda at: images[at].flatten().tolist())
    wanted = sorted(range(len(labels)), key=lambda at: made.split.samples[at].flatten().tolist())
    assert torch.equal(images[order], made.split.samples[wanted])
    assert not torch.equal(images, made.split.samples)
    assert (made.epochs[-1].loss, made.epochs[-1].train_accuracy) == (1.0, 1.0)


@pytest.mark.parametrize("settings", [{"nodes": 0.5}, {"fold": True}, {"drop": ("stage1.1",), "fold": True, **RATE}])
def test_simplified_networks_train(cut, loaded, settings):
    subject = cut(loaded("resnet-20"), 20)
    found = done(subject, **{"bits": 4, "epochs": 1, **settings}).result()
    shapes = subject.compress(Recipe.of(**settings)).shapes()
    assert found.compressed.shapes() == shapes
    assert codec.read(codec.write(found.compressed)).build() is not None
    assert found.compressed.recipe.simplify is not None


def test_transformers_train(cut):
    subject = cut(subjects.load("vit-tiny"), 30)
    found = done(subject, bits=4, epochs=1, sparsity=0.5)
    before, after = subject.compress(Recipe.of(bits=4, sparsity=0.5)), learned(found)
    changed = {name for name in before.order if (before.decode(name) != after.decode(name)).any()}
    assert changed == set(before.order) - {n for n in before.rest if n not in dict(subject.model.named_parameters())}


def test_tied_weights_stay_tied_and_train(tied):
    made = done(tied, bits=4, epochs=1)
    found = learned(made)
    assert found.ties == {"second.weight": "first.weight"}
    np.testing.assert_array_equal(found.decode("second.weight"), found.decode("first.weight"))
    assert (found.decode("first.weight") != tied.compress(Recipe.of(bits=4)).decode("first.weight")).any()


def test_the_loss_by_rate_counts_the_kilobytes_by_each_layers_own_exchange_rate(subject):
    overrides = [{"layers": "fc2*", "exchange": 5e-2}, {"layers": "fc3*", "calibration": "mse"}]
    made = trainer(subject, **{**RATE, "overrides": overrides})
    next(made.run())
    bits = {name: twin.bits().item() for name, twin in made._now.student.projected()}
    assert bits.keys() == {"fc1.weight", "fc2.weight"}
    expected = (1e-3 * bits["fc1.weight"] + 5e-2 * bits["fc2.weight"]) / 8000
    assert made._cost_of_size().item() == pytest.approx(expected, rel=1e-5)
    plain = trainer(subject, bits=4)
    next(plain.run())
    assert plain._cost_of_size() == 0


def test_counting_kilobytes_makes_the_file_smaller(subject, monkeypatch):
    settings = {**RATE, "exchange": 4e-3, "epochs": 6}
    counted = done(subject, **settings).epochs[-1]
    monkeypatch.setattr(Trainer, "_cost_of_size", lambda self: 0.0)
    free = done(subject, **settings).epochs[-1]
    assert counted.size < 0.95 * free.size
    assert counted.loss < 1.1 * free.loss


def test_by_rate_repair_is_of_the_start_alone(subject):
    """Training starts from the weights as they were, not from codes that make good each other's errors."""
    plain, repaired = done(subject, **RATE, epochs=1), done(subject, **RATE, **GPTQ, epochs=1)
    assert plain.epochs[0] != repaired.epochs[0]
    ours, theirs = learned(plain), learned(repaired)
    assert all((ours.decode(name) == theirs.decode(name)).all() for name in ours.order)


def test_training_starts_from_what_repair_made_where_the_recipe_holds_at_once(subject):
    plain, repaired = done(subject, bits=3, epochs=1), done(subject, bits=3, **GPTQ, epochs=1)
    ours, theirs = learned(plain), learned(repaired)
    assert any((ours.decode(name) != theirs.decode(name)).any() for name in ours.weights)


def test_batch_norm_is_estimated_before_it_is_folded(cut, loaded):
    subject = cut(loaded("simple-cnn"), 30)
    plan = Recipe.of(bits=4, fold=True, batchnorm=True, epochs=1)
    made = Trainer(subject, plan)
    next(made.run())
    assert codec.write(replace(made._best, recipe=plan.untrained)) == codec.write(subject.compress(plan.untrained))


def test_scales_move_no_faster_than_weights(subject):
    """A scale is hundreds of times smaller than its weights; an optimiser that moves both alike would ruin it."""
    made = done(subject, bits=8, epochs=1, learning_rate=1e-3)
    before, after = subject.compress(Recipe.of(bits=8)).weights, learned(made).weights
    for name in before:
        # Four steps, the first of them to warm up, of 5e-3 each.
        ratio = after[name].scale / before[name].scale
        assert np.abs(np.log(ratio)).max() < 0.021
        assert (ratio != 1).any()


def test_epochs_and_recoveries_are_plain_data(subject):
    found = done(subject, bits=4, epochs=1).result()
    kept = Recovery(found.compressed.recipe, found.best, found.epochs)
    text = json.dumps(kept.to_dict())
    assert Recovery.from_dict(json.loads(text)) == kept
    kinds = {type(value) for each in kept.to_dict()["epochs"] for value in each.values()}
    assert kinds == {int, float, bool, type(None)}
    for damaged in ({}, {**kept.to_dict(), "epochs": [{"number": 1}]}):
        with pytest.raises((KeyError, TypeError)):
            Recovery.from_dict(damaged)


def test_waiting_is_not_training(subject, monkeypatch):
    """The clock stands still in this test but for what `check` takes."""
    now = [100.0]
    monkeypatch.setattr("paretoscope.training.train.time.perf_counter", lambda: now[0])

    def check(*_: object) -> None:
        now[0] += 1000

    made = trainer(subject, bits=4, epochs=1)
    assert [epoch.seconds for epoch in made.run(Calling(check))] == [0.0, 0.0]


def test_training_wins_back_what_one_shot_compression_ruined():
    whole = subjects.load("lenet-5")
    recipe = Recipe.of(sparsity=0.97, bits=3, calibration="mse", epochs=3, learning_rate=3e-3, distill=0.5)
    *_, before = whole.evaluate(recipe.untrained)
    made = done_with(whole, recipe)
    *_, after = whole.evaluate_compressed(made.result().compressed)
    assert before.record.figures.accuracy < 0.85
    assert after.record.figures.accuracy > before.record.figures.accuracy + 0.10
    assert after.record.rates.sparse_rate >= 0.97
    assert after.record.size.artefact < 1.1 * before.record.size.artefact
