import os
import stat

import numpy as np
import pytest
import torch
from compressed_models import data_of, logits_of, model_of, noise, shape_of
from paretoscope.base.errors import ModelError, RuntimeUnavailableError
from paretoscope.runtimes import Runnable, predict, torch_compiled
from paretoscope.runtimes.torch_compiled import TORCH_COMPILED
from torch import nn

pytestmark = pytest.mark.slow

compiled = pytest.mark.skipif(bool(TORCH_COMPILED.missing), reason=f"install {TORCH_COMPILED.missing}")


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()


@compiled
def test_predictions_over_the_test_split_are_pytorchs():
    """In one batch: each size of a batch is compiled."""
    model, images = model_of("lenet-300-100"), data_of("lenet-300-100").test_images.numpy()
    session = TORCH_COMPILED.prepare(TORCH_COMPILED.build(Runnable(model, shape_of("lenet-300-100"))))
    predicted = predict(session, images, chunk=len(images))
    np.testing.assert_array_equal(predicted, logits_of(model, images).argmax(1))


@compiled
def test_one_structure_is_compiled_once_for_any_weights():
    """The first are such that a compiler could make something of their values."""
    uniform = network(0)
    with torch.no_grad():
        for parameter in uniform.parameters():
            parameter.fill_(0 if parameter.ndim == 1 else 1)
    before = set(torch_compiled._libraries)
    images = noise(2, 1, 4, 4)
    for module in (uniform, network(0), network(1)):
        session = TORCH_COMPILED.prepare(TORCH_COMPILED.build(Runnable(module, (1, 4, 4))), threads=2)
        np.testing.assert_allclose(session.run(images), logits_of(module, images), atol=1e-5)
        np.testing.assert_allclose(session.bind(images)().numpy(), logits_of(module, images), atol=1e-5)
        session.close()
        with pytest.raises(ModelError, match="cannot run after `close`"):
            session.run(images)
    ((_, shapes, threads),) = set(torch_compiled._libraries) - before
    assert (shapes, threads) == (((2, 1, 4, 4),), 2)


@compiled
def test_a_library_that_answers_something_else_is_refused(monkeypatch):
    program = TORCH_COMPILED.build(Runnable(network(0), (1, 4, 4)))
    library = torch_compiled._library(program, 2, 2)
    with torch.no_grad():
        wrong = {name: tensor + 1 for name, tensor in program.content.state_dict().items()}
    monkeypatch.setattr(program.content, "state_dict", lambda: wrong)
    with pytest.raises(ModelError, match="must give PyTorch's logits"):
        TORCH_COMPILED.prepare(program, threads=2).bind(noise(2, 1, 4, 4))
    assert program.content not in library.verified


@compiled
def test_a_session_does_not_follow_the_weights_of_its_program():
    images = noise(2, 1, 4, 4)
    program = TORCH_COMPILED.build(Runnable(network(0), (1, 4, 4)))
    session = TORCH_COMPILED.prepare(program, threads=2)
    before = session.run(images)
    with torch.no_grad():
        program.content[0].weight.zero_()
    np.testing.assert_array_equal(session.run(images), before)


class Uncompilable(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) * (1 if images.sum().item() > 0 else 2)


@compiled
def test_what_cannot_be_compiled_is_refused_with_the_reason():
    session = TORCH_COMPILED.prepare(TORCH_COMPILED.build(Runnable(Uncompilable().eval(), (1, 4, 4))))
    for use in (session.bind, session.run):
        with pytest.raises(
            RuntimeUnavailableError, match=r"must be able to compile the network; it says: .+ Use the torch"
        ):
            use(noise(1, 1, 4, 4))


def test_a_compiler_is_looked_for_as_pytorch_does(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert torch_compiled._compiler() is None
    for name in ("clang++", "g++", "mine"):
        (tmp_path / name).touch()
        os.chmod(tmp_path / name, stat.S_IRWXU)
        if name == "mine":
            monkeypatch.setenv("CXX", "mine")
        assert torch_compiled._compiler() == str(tmp_path / name)
