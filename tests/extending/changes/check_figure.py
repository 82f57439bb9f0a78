"""The figure draws what the records say."""

import paretoscope
from paretoscope.figures import harm
from paretoscope.figures.theme import DARK

NAME = "lenet-300-100"


def test_it_draws_from_records() -> None:
    recipes = [paretoscope.Recipe.of(bits=bits) for bits in (8, 4, 2)]
    records = [paretoscope.evaluate(paretoscope.compress(NAME, recipe)) for recipe in recipes]
    data = harm.gather(records)
    assert data.points == tuple((each.size.artefact, each.figures.harm) for each in reversed(records))
    assert data.alt == "3 recipes by size and by KL divergence from the baseline."
    drawn = harm.draw(data, DARK)
    assert list(drawn.data[0].x) == sorted(each.size.artefact for each in records)
    assert list(drawn.data[0].y) == [each.figures.harm for each in reversed(records)]
    assert drawn.layout.yaxis.title.text == "Harm (nats)" and drawn.data[0].marker.color == DARK.accent
