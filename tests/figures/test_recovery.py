"""The curves of a training: what is gathered, where it is drawn, both themes."""

import math

import pytest
from paretoscope.figures import recovery
from paretoscope.figures.theme import DARK, LIGHT
from paretoscope.tasks.classification import WORDS
from paretoscope.training.epochs import Epoch

RAMP = 2


def epochs(count: int = 5) -> list[Epoch]:
    """A start that has collapsed, two epochs of the ramp, then one better than the other."""
    start = Epoch(0, None, None, 0.1, 4.0, 30_000, 0.9, 0.0, True, 0.0, 200)
    return [start] + [
        Epoch(n, 1.0 / n, 0.9, 0.95 + n / 1000, 0.3 / n, 60_000 - 5_000 * n, 0.9, 1e-3, n > RAMP, float(n), 200)
        for n in range(1, count + 1)
    ]


def trace(figure, name):
    return next(each for each in figure.data if each.name == name)


def test_gather_finds_the_best_and_the_ramp():
    data = recovery.gather(epochs(), 8, WORDS)
    assert (data.total, data.best, data.ramp) == (8, 5, RAMP)
    assert recovery.gather(epochs(), 8, WORDS, best=3).best == 3
    assert "5 of 8 epochs" in data.alt and "from 10.0 % to 95.5 %" in data.alt and "epoch 5" in data.alt


def test_while_the_ramp_lasts_the_start_is_kept():
    data = recovery.gather(epochs(2), 8, WORDS)
    assert data.best == 0
    figure = recovery.draw(data, "size")
    assert list(trace(figure, "Kept").x) == [0]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
@pytest.mark.parametrize("quantity", recovery.QUANTITIES)
@pytest.mark.parametrize("count", [-1, 0, 1, 5])
def test_every_figure_is_valid(validated, quantity, theme, count):
    data = recovery.gather(epochs(count) if count >= 0 else [], 8, WORDS)
    figure = validated(recovery.draw(data, quantity, theme))
    colour = {"loss": "Validation", "figure": "Validation", "size": "File"}[quantity]
    assert trace(figure, colour).line.color == theme.accent
    assert len(trace(figure, colour).x) == count + 1
    assert figure.layout.xaxis.range[1] > 8


def test_the_start_has_no_training_figures():
    data = recovery.gather(epochs(), 5, WORDS)
    for quantity in ("loss", "figure"):
        figure = recovery.draw(data, quantity)
        assert list(trace(figure, "Training").x) == [1, 2, 3, 4, 5]
        assert list(trace(figure, "Validation").x) == [0, 1, 2, 3, 4, 5]


def test_losses_lie_within_their_logarithmic_axis_and_a_loss_of_zero_is_left_out():
    rows = epochs()
    rows.append(Epoch(6, 0.0, 1.0, 1.0, 0.0, 30_000, 0.9, 1e-3, True, 6.0, 200))
    figure = recovery.draw(recovery.gather(rows, 6, WORDS), "loss")
    low, high = figure.layout.yaxis.range
    shown = [y for name in ("Training", "Validation") for y in trace(figure, name).y]
    assert min(shown) > 0 and low < math.log10(min(shown)) and math.log10(max(shown)) < high
    assert 2 <= len(figure.layout.yaxis.tickvals) <= 7
    assert 6 not in trace(figure, "Validation").x


def test_accuracies_are_percent_where_epochs_are_compared_and_no_order_is_changed():
    figure = recovery.draw(recovery.gather(epochs(), 5, WORDS), "figure")
    heights = list(trace(figure, "Validation").y)
    assert heights[1:] == pytest.approx([95.1, 95.2, 95.3, 95.4, 95.5])
    # The collapsed start is in the compressed strip, below all and within the axis.
    assert figure.layout.yaxis.range[0] < heights[0] < 95
    ring = trace(figure, "Kept")
    assert (ring.x[0], ring.y[0]) == (5, heights[5])


def test_size_is_in_its_own_unit_and_begins_at_zero():
    figure = recovery.draw(recovery.gather(epochs(), 5, WORDS), "size")
    assert list(trace(figure, "File").y) == [30, 55, 50, 45, 40, 35]
    assert "(KB)" in figure.layout.yaxis.title.text and figure.layout.yaxis.rangemode == "tozero"
    assert "35 KB" in trace(figure, "File").hovertext[-1] and "Epoch 5" in trace(figure, "File").hovertext[-1]


def test_epochs_in_which_the_recipe_does_not_hold_are_shaded():
    (shape,) = recovery.draw(recovery.gather(epochs(), 5, WORDS), "size").layout.shapes
    assert (shape.x0, shape.x1) == (0.5, RAMP + 0.5)
    assert not recovery.draw(recovery.gather(epochs()[:1] + epochs()[3:], 5, WORDS), "size").layout.shapes
