"""Networks of others in every format that is installed: each is checked as it is before it is given away."""

import own_networks
import pytest
from paretoscope import export
from paretoscope.measure.subject import Subject
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks.agreement import Agreement


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two", "detector", "text", "unet", "lstm"])
def test_every_format_takes_networks_of_several_inputs_and_outputs(name):
    subject = Subject.of(own_networks.network(name), own_networks.data(name), Agreement(()))
    compressed = subject.compress(Recipe.of(bits=8, activations=8))
    original = export.Original(subject, compressed)
    for format in export.formats:
        if format.available() and format.name != "tflite":
            checked = export.produce(compressed, format.name, subject, original=original)
            assert checked.verification.passed, checked.verification.problem
            assert 0 < checked.verification.correct <= checked.verification.n
