"""A network is measured on the data that it names."""

from dataclasses import replace

import paretoscope
from paretoscope.data.dataset import datasets, load_data


def test_a_network_is_measured_on_it() -> None:
    assert datasets.get("noisy-digits").title == "Noisy digits"
    clean = paretoscope.open_network("lenet-300-100")
    noisy = replace(clean, data="noisy-digits")
    small = paretoscope.compress(noisy, "int8")
    there, here = paretoscope.evaluate(small, noisy), paretoscope.evaluate(small, clean)
    assert (there.dataset, here.dataset) == ("noisy-digits", "digits")
    assert there.digests.dataset != here.digests.dataset
    assert 0.5 < there.baseline.value < here.baseline.value
    assert load_data("noisy-digits", (1, 28, 28)).digest == there.digests.dataset
