import math

import numpy as np
import own_networks as own
import pytest
import torch
from paretoscope.base.batch import head, tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.measure import judged as judging
from paretoscope.measure.engine import Engine, Speeds, agree, engine_for
from paretoscope.measure.judged import Judged, check_samples, chunk_of, quick_samples
from paretoscope.measure.subject import Subject
from paretoscope.networks.network import Input
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks import tasks
from torch import nn


def judged(name: str = "unet", chunk: int = 50) -> Judged:
    model, data = own.module(name), own.data(name)
    task = tasks.get("agreement")(()).knowing(model(head(data.calibration, 8)).detach())
    return Judged(model, data, task, 1, chunk)


def test_the_baseline_runs_when_it_is_asked_and_once():
    found = judged()
    assert found.known == 0
    found.run(60)
    assert found.known == 60
    found.run()
    assert found.known == len(found) == own.TEST
    kept = found.reference(0, head(own.data("unet").test, 50))
    assert torch.equal(kept, found.reference(0, head(own.data("unet").test, 50)))


def test_outputs_that_do_not_fit_are_asked_for_again(monkeypatch):
    whole = judged()
    whole.run()
    monkeypatch.setattr(judging, "KEPT_BYTES", 0)
    found = judged()
    found.run()
    assert not found._outputs and found.known == own.TEST
    chunk = head(own.data("unet").test, 50)
    assert torch.equal(found.reference(0, chunk), whole.reference(0, chunk))


@pytest.mark.parametrize(
    ("seconds", "n", "quick"), [(0.01, 100, 100), (0.01, 5000, 200), (0.2, 5000, 10), (5.0, 5000, 10), (5.0, 4, 4)]
)
def test_quick_samples(seconds, n, quick):
    assert quick_samples(seconds, n) == quick


@pytest.mark.parametrize("samples", [0, -1, True, 2.5])
def test_what_is_no_number_of_samples(samples):
    with pytest.raises(ModelError, match="samples must be a whole number"):
        check_samples(samples)


def test_chunks_follow_what_a_network_writes():
    assert chunk_of(nn.Linear(4, 4), torch.zeros(1, 4)) == 100
    assert chunk_of(nn.Linear(4, 2**22), torch.zeros(1, 4)) == 32


def test_a_sample_is_the_first_of_the_whole():
    subject = Subject.of(own.network("unet"), own.data("unet"), tasks.get("agreement")(()))
    *_, some = subject.evaluate(Recipe.of(bits=4), samples=30)
    *_, whole = subject.evaluate(Recipe.of(bits=4))
    assert (some.record.figures.n, whole.record.figures.n) == (30, own.TEST)
    np.testing.assert_allclose(some.predictions.errors, whole.predictions.errors[:30], rtol=1e-6)


def test_an_engine_that_says_something_else_is_refused():
    one = torch.tensor([[1.0, 2.0]])
    assert agree(one, one * (1 + 1e-5)) and not agree(one, one * 1.001) and not agree(one, one * math.nan)
    assert agree((one, one), [one, one])


def test_onnx_runtime_agrees_and_gives_the_first_chunk_as_pytorch_does():
    model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 5)).eval()
    samples, speeds = torch.randn(8, 64), Speeds()
    forward, engine = engine_for(model, (Input("x", (64,)),), samples, speeds)
    assert not speeds.refused and speeds.build_s > 0
    assert engine in tuple(Engine)
    with torch.no_grad():
        for batch in (samples, torch.randn(3, 64)):
            (found,) = tensors_in(forward(batch))
            torch.testing.assert_close(found, model(batch), rtol=1e-4, atol=1e-5)


def test_a_network_without_a_graph_stays_with_pytorch():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    speeds = Speeds()
    model = Odd().eval()
    assert engine_for(model, (Input("x", (4,)),), torch.randn(2, 4), speeds) == (model, Engine.TORCH)
    assert speeds.refused and not speeds.pays(10**6, 1.0)
