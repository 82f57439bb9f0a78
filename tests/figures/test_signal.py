import numpy as np
import pytest
from paretoscope.figures import signal
from paretoscope.figures.theme import DARK, LIGHT


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_each_channel_is_a_line_on_the_axis_that_all_share(theme, validated) -> None:
    data = signal.gather(np.array([[0.0, 1.0, 2.0], [3.0, 2.0, 1.0]]), -1.0, 5.0)
    figure = validated(signal.draw(data, theme))
    assert [list(line.y) for line in figure.data] == [[0, 1, 2], [3, 2, 1]]
    low, high = figure.layout.yaxis.range
    assert low < -1 and high > 5
    assert data.alt == "2 channels over 3 points, from 0 to 3."


def test_a_signal_that_stands_still_has_an_axis(validated) -> None:
    figure = validated(signal.draw(signal.gather(np.ones((1, 4)), 1.0, 1.0)))
    low, high = figure.layout.yaxis.range
    assert low < 1 < high
