"""Every registered task against slow closed forms: its figures, paired test, harm, loss, words, and what is kept."""

import dataclasses
import json
import math
import string
from itertools import product

import numpy as np
import pytest
import torch
from paretoscope.base.intervals import mcnemar
from paretoscope.tasks import Flip, Task, plain, tasks
from paretoscope.tasks.reference import kept
from paretoscope.tasks.words import ErrorWords, Words
from torch import Tensor

CLASSES = ("cat", "dog", "fox")
CHUNKS = (1, 4, 5, 100)

ALL = pytest.mark.parametrize("kind", tasks, ids=tasks.names())


def outputs(seed: int, n: int = 24) -> Tensor:
    return torch.randn(n, len(CLASSES), generator=torch.Generator().manual_seed(seed))


LABELS = np.random.default_rng(5).integers(0, len(CLASSES), 24)


def answered(task: Task, raw: Tensor, reference: Tensor | None = None, chunk: int = 5):
    *_, last = task.answer(lambda part: part, raw.split(chunk), None if reference is None else kept(reference))
    return last


def baseline_of(task: Task, seed: int = 99, n: int = 24) -> Tensor:
    return task.comparable(outputs(seed, n))


def truth(task: Task) -> Tensor:
    """What the outputs of 24 samples are held against."""
    return torch.from_numpy(LABELS) if task.needs_labels else outputs(98)


@ALL
def test_entries_are_described(kind: type[Task]) -> None:
    assert kind.name == kind.name.lower() and kind.title and kind.reference
    assert kind.summary.endswith(".")
    assert len({each.key for each in kind.further}) == len(kind.further)
    assert all(each.title and each.help.endswith(".") and each.decimals >= 0 for each in kind.further)


@ALL
def test_every_word_is_there(kind: type[Task]) -> None:
    said = [kind.words] + ([kind.words.errors] if kind.words.errors is not None else [])
    for words in said:
        for field in dataclasses.fields(words):
            value = getattr(words, field.name)
            assert callable(value) or value is None or value == 0 or value, field.name
    assert kind.words.title[0].isupper() and kind.words.name[0].islower()
    assert kind.words.unit in kind.words.axis and kind.words.title in kind.words.lost
    assert kind.words.value(0.5) != kind.words.value(0.501) and kind.words.value(0.123456, 2)
    assert kind.words.change(0.01)[0] == "+" and kind.words.change(-0.01)[0] == "-"
    low, high = kind.words.ends(0.25, 0.5)
    assert float(low) == 0.25 * kind.words.factor and float(high) == 0.5 * kind.words.factor
    assert kind.words.unit in kind.words.number % 12.345 and kind.words.change_unit in kind.words.difference % -1.5
    if (errors := kind.words.errors) is not None:
        assert {name for _, name, *_ in string.Formatter().parse(errors.pair) if name} == {"truth", "answer"}


@ALL
def test_answers_do_not_depend_on_the_chunks(kind: type[Task]) -> None:
    task, raw = kind(CLASSES), outputs(1)
    reference = task.outputs(lambda part: part, [outputs(2)])
    whole = task.write_answers(task.answers(task.comparable(raw), reference))
    for chunk in CHUNKS:
        parts = list(task.answer(lambda part: part, raw.split(chunk), kept(reference)))
        assert [len(each) for each in parts] == [min(end, 24) for end in range(chunk, 24 + chunk, chunk)]
        assert task.write_answers(parts[-1]) == whole
        assert torch.equal(task.outputs(lambda part: part, raw.split(chunk)), task.comparable(raw))


@ALL
def test_answers_come_back_from_what_is_kept(kind: type[Task]) -> None:
    task = kind(CLASSES)
    found = answered(task, outputs(1), baseline_of(task))
    parts = task.write_answers(found)
    assert tuple(map(len, parts)) == tuple(size * len(found) for size in kind.answer_bytes)
    again = task.read_answers(parts)
    assert len(again) == len(found) and task.write_answers(again) == parts
    with pytest.raises(ValueError):
        task.read_answers((parts[0], parts[1][:-1]))


@ALL
def test_harm_is_the_mean_divergence_and_nothing_harms_itself(kind: type[Task]) -> None:
    task = kind(CLASSES)
    one, other = task.comparable(outputs(1)), task.comparable(outputs(2))
    apart = task.divergence(one, other)
    assert apart.shape == (24,) and apart.dtype == torch.float64 and bool((apart > 0).all())
    assert answered(task, outputs(2), one).harm == pytest.approx(float(apart.mean()), rel=1e-12)
    assert answered(task, outputs(1), one).harm == pytest.approx(0.0, abs=1e-12)
    assert answered(task, outputs(2)).harm == 0.0


@ALL
def test_figures_of_equal_models_are_equal_and_indistinguishable(kind: type[Task]) -> None:
    task = kind(CLASSES)
    found = answered(task, outputs(1))
    figures = task.score(found, LABELS, found)
    baseline = task.baseline(figures, 1234)
    assert figures.n == 24 and figures.low <= figures.value <= figures.high
    assert figures.p_value == 1.0 and not figures.distinguishable
    assert (baseline.value, baseline.size_bytes) == (figures.value, 1234)
    assert task.interval(baseline, 24) == (figures.low, figures.high)
    assert task.lost(baseline, figures) == 0.0
    for each in task.further:
        if math.isnan(each.of(figures)):
            assert each.text(figures) == each.change(figures, baseline) == "none"
            continue
        assert each.of(figures) == each.of(baseline)
        assert float(each.change(figures, baseline)) == 0.0 and float(each.text(figures)) == pytest.approx(
            each.of(figures), abs=10**-each.decimals
        )


@ALL
def test_a_score_is_of_the_first_samples_in_any_order(kind: type[Task]) -> None:
    task = kind(CLASSES)
    raw, said = outputs(1)[:10], baseline_of(task)
    figures = task.score(answered(task, raw, said), LABELS, answered(task, outputs(2), said))
    order = torch.randperm(10, generator=torch.Generator().manual_seed(3))
    mixed = answered(task, raw[order], said[:10][order])
    again = task.score(mixed, LABELS[:10][order], answered(task, outputs(2)[:10][order], said[:10][order]))
    assert dataclasses.replace(again, harm=figures.harm) == figures
    assert again.harm == pytest.approx(figures.harm)


@ALL
def test_the_paired_test_is_symmetric_and_agrees_with_the_score(kind: type[Task]) -> None:
    task = kind(CLASSES)
    for seed in range(4):
        said = baseline_of(task)
        one, other = answered(task, outputs(seed), said), answered(task, outputs(seed + 10), said)
        forth, back = task.compare(one, other, LABELS), task.compare(other, one, LABELS)
        assert forth.points == -back.points and forth.p_value == back.p_value
        assert 0 < forth.p_value <= 1
        before, after = task.score(one, LABELS, one), task.score(other, LABELS, one)
        assert after.p_value == forth.p_value
        assert forth.points == pytest.approx(task.words.factor * (after.value - before.value))
        assert task.lost(task.baseline(before, 1), after) == pytest.approx(-forth.points)


@ALL
def test_flips_are_symmetric_and_what_the_paired_test_counts(kind: type[Task]) -> None:
    task = kind(CLASSES)
    words = [plain.flip(task.words, each) for each in Flip if each is not Flip.SAME]
    assert len({each.title for each in words}) == len({each.told for each in words}) == 3
    for seed in range(4):
        said = baseline_of(task)
        one, other = answered(task, outputs(seed), said), answered(task, outputs(seed + 10), said)
        forth, back, still = (task.flips(*pair, LABELS) for pair in ((one, other), (other, one), (one, one)))
        broken, mended = forth.count(Flip.BROKEN), forth.count(Flip.MENDED)
        assert broken and mended and forth.kinds.dtype == np.int8
        assert (broken, mended) == (back.count(Flip.MENDED), back.count(Flip.BROKEN))
        if task.needs_labels:
            assert mcnemar(mended, broken) == task.compare(one, other, LABELS).p_value
        assert still.same and not forth.same
        assert still.count(Flip.SAME) == len(still.sizes) == 24
        for place in range(24):
            answer, sure = task.said(other, place)
            assert answer and isinstance(sure, str)


@ALL
def test_figures_come_back_from_json(kind: type[Task]) -> None:
    task = kind(CLASSES)
    found = answered(task, outputs(1), baseline_of(task))
    figures = task.score(found, LABELS, answered(task, outputs(2)))
    baseline = task.baseline(figures, 1234)
    kept = json.loads(json.dumps({"other": 1, **dataclasses.asdict(figures)}))
    assert kind.read_figures(kept) == figures
    assert kind.read_baseline(json.loads(json.dumps(dataclasses.asdict(baseline)))) == baseline
    kept.pop("n")
    with pytest.raises(KeyError):
        kind.read_figures(kept)


@ALL
def test_training_lowers_the_loss_and_the_distance_to_a_teacher(kind: type[Task]) -> None:
    task = kind(CLASSES)
    for lowered in (
        lambda raw: task.loss(raw, truth(task)),
        lambda raw: task.distillation(raw, outputs(7), 2.0),
    ):
        raw = outputs(1).requires_grad_()
        before = lowered(raw)
        before.backward()
        assert before.ndim == 0 and float(lowered(raw.detach() - 0.1 * raw.grad)) < float(before.detach())
    assert float(task.distillation(outputs(7), outputs(7), 2.0)) == pytest.approx(0.0, abs=1e-6)


@ALL
def test_chance_has_a_limit(kind: type[Task]) -> None:
    held = [kind.at_chance(correct, 100, 0.3) for correct in range(101)]
    assert held[0] and held[30] and not held[100]
    assert held == sorted(held, reverse=True)


# Classification, sample by sample in plain Python.


def slow(task: str, raw: Tensor, labels: np.ndarray) -> tuple[int, float, float]:
    """How many are right, macro F1, cross-entropy."""
    rows = raw.double().tolist()
    said = [row.index(max(row)) for row in rows]
    right = sum(a == b for a, b in zip(said, labels, strict=True))
    scores = []
    for each in range(len(CLASSES)):
        hit = sum(a == b == each for a, b in zip(said, labels, strict=True))
        named, true = said.count(each), int((labels == each).sum())
        if named + true:
            scores.append(2 * hit / (named + true))
    loss = sum(math.log(sum(map(math.exp, row))) - row[label] for row, label in zip(rows, labels, strict=True))
    return right, sum(scores) / len(scores), loss / len(rows)


@pytest.mark.parametrize(("seed", "n"), list(product(range(3), (1, 2, 24))))
def test_classification_counts_as_a_loop_does(seed: int, n: int) -> None:
    task = tasks.get("classification")(CLASSES)
    raw, labels = outputs(seed, n), LABELS[:n]
    right, f1, loss = slow(task.name, raw, labels)
    figures = task.score(answered(task, raw), labels, answered(task, raw))
    assert (figures.correct, figures.value) == (right, right / n)
    assert figures.f1 == pytest.approx(f1)
    assert task.correct(raw, torch.from_numpy(labels)).tolist() == [
        int(a) == b for a, b in zip(raw.argmax(1), labels, strict=True)
    ]
    assert float(task.loss(raw, torch.from_numpy(labels))) == pytest.approx(loss, rel=1e-5)
    apart = task.divergence(task.comparable(raw), task.comparable(outputs(9, n)))
    for p, q, found in zip(
        raw.double().softmax(1).tolist(), outputs(9, n).double().softmax(1).tolist(), apart, strict=True
    ):
        assert float(found) == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))


def test_words_are_values() -> None:
    words = tasks.get("classification").words
    assert isinstance(words, Words) and isinstance(words.errors, ErrorWords)
    assert words == dataclasses.replace(words)
    assert words.axis == "Accuracy (%)" and words.number % 99.5 == "99.50 %" and words.difference % -0.5 == "-0.50 pt"
