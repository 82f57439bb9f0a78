import math

import numpy as np
import pytest
import torch
from paretoscope.base.errors import ModelError
from paretoscope.tasks import tasks
from paretoscope.tasks.agreement import MOST, Agreement, Closeness
from paretoscope.tasks.reference import asked, kept


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def answered(task: Agreement, was, now) -> Closeness:
    *_, found = task.answer(lambda part: now, [was if isinstance(was, torch.Tensor) else was[0]], kept(was))
    return found


# Shapes of the outputs of one network, without the samples.
SHAPES = [((3,),), ((1,),), ((),), ((7, 3),), ((2, 4, 4),), ((6, 4), (6,)), ((5, 1),)]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_errors_are_those_of_a_loop(shapes):
    n = 5
    was = tuple(10**place * drawn(n, *shape, seed=place) for place, shape in enumerate(shapes))
    now = tuple(each + 0.1 * each.std() * drawn(*each.shape, seed=9) for each in was)
    task = Agreement(()).knowing(was)
    joined = was if len(was) > 1 else was[0], now if len(now) > 1 else now[0]
    found = answered(task, *joined)
    wanted = []
    for sample in range(n):
        ratios = []
        for a, b in zip(was, now, strict=True):
            power = sum(float(each) ** 2 for each in a.reshape(-1)) / a.numel()
            apart = [
                (float(x) - float(y)) ** 2 for x, y in zip(a[sample].reshape(-1), b[sample].reshape(-1), strict=True)
            ]
            ratios.append(sum(apart) / len(apart) / power)
        wanted.append(math.sqrt(sum(ratios) / len(ratios)))
    assert found.errors.tolist() == pytest.approx(wanted, rel=1e-5)
    figures = task.score(found, np.empty((n, 0)), task.answers(joined[0]))
    assert figures.agreement == pytest.approx(sum(1 - min(each, 1) for each in wanted) / n)
    assert figures.sqnr == pytest.approx(-10 * math.log10(sum(each**2 for each in wanted) / n))
    assert figures.error == pytest.approx(sum(wanted) / n)


def test_sqnr_of_a_known_error():
    was = drawn(4, 6)
    assert answered_figures(was, 1.1 * was).sqnr == pytest.approx(20, abs=1e-4)
    assert answered_figures(was, 1.01 * was).sqnr == pytest.approx(40, abs=1e-2)
    assert answered_figures(was, was).sqnr is None


def answered_figures(was, now):
    task = Agreement(()).knowing(was)
    return task.score(answered(task, was, now), np.empty((len(was), 0)), task.answers(was))


@pytest.mark.parametrize(
    ("shape", "now", "top"),
    [
        ((2, 2), [[0, 1], [0, 1]], 0.5),
        ((2, 1), [[0], [9]], None),
        ((2,), [0, 9], None),
        # Two positions of two classes: the first sample keeps both, the second one of them.
        ((2, 2, 2), [[[0, 1], [1, 0]], [[1, 0], [1, 0]]], 0.75),
    ],
)
def test_top_answers(shape, now, top):
    was = {(2, 2): [[0, 1], [1, 0]], (2, 1): [[0], [1]], (2,): [0, 1]}.get(shape, [[[0, 1], [1, 0]], [[0, 1], [1, 0]]])
    assert answered_figures(torch.tensor(was).float(), torch.tensor(now).float()).top == top


def test_pictures_have_their_classes_in_the_second_axis():
    was = torch.zeros(1, 2, 2, 2)
    was[0, 1, 0, 0] = was[0, 0, 0, 1] = was[0, 0, 1, 0] = was[0, 1, 1, 1] = 1
    now = was.clone()
    now[0, 0, 0, 0] = 2
    assert answered_figures(was, now).top == 0.75


def test_each_output_counts_alike_whatever_its_unit():
    small, large = drawn(8, 3), 1e6 * drawn(8, 5, seed=1)
    for now in ((1.2 * small, large), (small, 1.2 * large)):
        task = Agreement(()).knowing((small, large))
        noise = answered(task, (small, large), now).errors ** 2
        assert noise.mean() == pytest.approx(0.04 / 2, rel=0.01)


def test_harm_is_kl_of_classes_and_noise_of_anything_else():
    was, now = drawn(4, 5), drawn(4, 5, seed=1)
    wanted = torch.nn.functional.kl_div(now.log_softmax(1), was.log_softmax(1), log_target=True, reduction="none")
    task = Agreement(()).knowing(was)
    torch.testing.assert_close(task.divergence(was, now), wanted.sum(1).double(), rtol=1e-5, atol=1e-6)
    # Positions: their mean.
    torch.testing.assert_close(
        task.divergence(was.reshape(2, 2, 5), now.reshape(2, 2, 5)), task.divergence(was, now).reshape(2, 2).mean(1)
    )
    classifier = tasks.get("classification")(())
    torch.testing.assert_close(
        task.divergence(was, now), classifier.divergence(classifier.comparable(was), classifier.comparable(now))
    )
    for shape in ((4, 5, 1), (4, 5, 1, 1)):
        flat, moved = was.reshape(shape), now.reshape(shape)
        task = Agreement(()).knowing(flat)
        torch.testing.assert_close(task.divergence(flat, moved), task._errors(flat, moved) ** 2)


def test_a_column_is_never_taken_for_classes():
    was = drawn(6, 1)
    task = Agreement(()).knowing(was)
    assert task.divergence(was, was + 5).min() > 1  # a softmax of one column would see no difference
    assert float(task.loss(was + 5, was)) > 1


def test_probabilities_are_taken_for_what_they_are():
    logits, moved = drawn(6, 4), drawn(6, 4, seed=1)
    for name in ("agreement", "classification"):
        plain = tasks.get(name)(()).knowing(logits)
        softened = tasks.get(name)(()).knowing(logits.softmax(1))
        assert not plain.shares and softened.shares
        apart = plain.divergence(plain.comparable(logits), plain.comparable(moved))
        same = softened.divergence(softened.comparable(logits.softmax(1)), softened.comparable(moved.softmax(1)))
        torch.testing.assert_close(same, apart, rtol=1e-4, atol=1e-5)
        labels = torch.arange(6) % 4 if plain.needs_labels else None
        one, other = (labels, labels) if labels is not None else (logits, logits.softmax(1))
        assert float(softened.loss(moved.softmax(1), other)) == pytest.approx(float(plain.loss(moved, one)), rel=1e-4)


def test_what_overflows_agrees_in_nothing():
    was = drawn(3, 2)
    now = was.clone()
    now[0], now[1] = math.inf, math.nan
    task = Agreement(()).knowing(was)
    found = answered(task, was, now)
    assert found.errors[:2].tolist() == [MOST, MOST] and found.errors[2] == 0
    figures = task.score(found, np.empty((3, 0)), task.answers(was))
    assert figures.agreement == pytest.approx(1 / 3) and math.isfinite(figures.harm)


def test_the_sign_test_has_ties():
    task = Agreement(())
    still, worse = Closeness(np.zeros(8), np.ones(8)), Closeness(np.full(8, 0.005), np.ones(8))
    assert task.compare(still, worse, np.empty((8, 0))).p_value == 1.0
    assert task.compare(still, Closeness(np.full(8, 0.02), np.ones(8)), np.empty((8, 0))).p_value == 2 / 2**8


def test_a_reference_that_is_asked_again_is_the_one_that_was_kept():
    model, samples = torch.nn.Linear(4, 3).eval(), drawn(10, 4)
    other = torch.nn.Linear(4, 3).eval()
    task = Agreement(()).knowing(model(samples).detach())
    outputs = task.outputs(model, samples.split(3))
    found = [
        list(task.answer(other, samples.split(3), each)) for each in (kept(outputs), asked(model, task.comparable))
    ]
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one.errors, two.errors)
        assert one.harm == two.harm


@pytest.mark.parametrize("outputs", [(), (torch.zeros(()),), (torch.zeros(3, 2), torch.zeros(2, 2))], ids=str)
def test_outputs_without_samples_are_refused(outputs):
    with pytest.raises(ModelError, match="first axis"):
        Agreement(()).knowing(outputs)
    with pytest.raises(ModelError, match="the 3 samples as its first axis"):
        list(Agreement(()).answer(lambda part: part[:1], [torch.zeros(3, 2)]))


def test_a_baseline_that_is_not_finite_is_refused():
    with pytest.raises(ModelError, match="must be finite"):
        Agreement(()).knowing(torch.tensor([[math.nan]]))


@pytest.mark.parametrize(
    "outputs", [torch.zeros(3, 1), torch.zeros(3), torch.zeros(3, 4, 5), (torch.zeros(3, 2), torch.zeros(3, 2))]
)
def test_classification_refuses_other_outputs(outputs):
    with pytest.raises(ModelError, match=r"classification needs one output .* Take the task agreement"):
        tasks.get("classification")(()).knowing(outputs)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, "data with labels"),
        (np.array([0.5, 1.0]), "whole numbers"),
        (np.zeros((2, 2), int), "a label a sample"),
        (np.array([0, 4]), "from 0 to 3"),
        (np.array([-1, 2]), "got -1 to 2"),
    ],
)
def test_classification_refuses_labels_that_do_not_fit(labels, said):
    with pytest.raises(ModelError, match=said):
        tasks.get("classification")(()).knowing(torch.zeros(2, 4)).check(labels)
