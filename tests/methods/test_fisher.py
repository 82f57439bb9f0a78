"""Tests of the diagonal Fisher information, against a closed form, a plain loop and the KL divergence itself."""

import math

import numpy as np
import pytest
import torch
from paretoscope.methods.fisher import diagonal_fisher
from torch import nn


@pytest.fixture
def images():
    return torch.randn(96, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def module():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).eval()


def by_a_plain_loop(module, images):
    """One gradient for each image and class."""
    sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in module.named_parameters()}
    for image in images.split(1):
        log = module(image).log_softmax(1)[0]
        for y in range(len(log)):
            gradients = torch.autograd.grad(log[y], list(module.parameters()), retain_graph=True)
            for total, gradient in zip(sums.values(), gradients, strict=True):
                total += float(log[y].detach().exp()) * gradient.double() ** 2 / len(images)
    return {name: total.reshape(len(total), -1).mean(1).numpy() for name, total in sums.items()}


@pytest.mark.slow
def test_it_agrees_with_a_plain_loop(module, images):
    found, expected = [diagonal_fisher(module, images, seed) for seed in range(30)], by_a_plain_loop(module, images)
    assert list(found[0]) == list(expected)
    for name in expected:
        # Random signs: exact in the mean.
        np.testing.assert_allclose(np.mean([each[name] for each in found], axis=0), expected[name], rtol=0.25)
        np.testing.assert_allclose([each[name].mean() for each in found], expected[name].mean(), rtol=0.6)


def test_a_linear_classifier_has_a_closed_form():
    # log p of a linear map: the information of weight (r, j) is p_r (1 - p_r) x_j^2.
    torch.manual_seed(2)
    module, image = nn.Linear(4, 3, bias=False), torch.randn(1, 4)
    p = module(image).softmax(1)[0].double()
    expected = (p * (1 - p)).detach().numpy() * float((image.double() ** 2).mean())
    found = np.mean([diagonal_fisher(module, image, seed)["weight"] for seed in range(200)], axis=0)
    np.testing.assert_allclose(found, expected, rtol=0.15)


def test_it_predicts_the_divergence_of_small_errors(module, images):
    found = diagonal_fisher(module, images)
    generator, size = torch.Generator().manual_seed(3), 1e-3
    reference = module(images).double().log_softmax(1).detach()
    weight = module[0].weight.data
    before, measured = weight.clone(), []
    for _ in range(60):
        weight.copy_(before + size * torch.randn(weight.shape, generator=generator))
        other = module(images).double().log_softmax(1).detach()
        measured.append(float((reference.exp() * (reference - other)).sum(1).mean()))
    weight.copy_(before)
    predicted = 0.5 * size**2 * found["0.weight"].sum() * weight.shape[1]
    assert np.mean(measured) == pytest.approx(predicted, rel=0.25)


def test_the_model_is_not_touched_and_equal_seeds_agree(module, images):
    module.train().requires_grad_(False)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    one, two = diagonal_fisher(module, images), diagonal_fisher(module, images)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert module.training and not any(p.requires_grad for p in module.parameters())
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in state.items())
    assert math.isfinite(sum(map(np.sum, one.values())))


def test_a_parameter_that_is_not_used_has_none(images):
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(5, 2), nn.Linear(5, 2)

        def forward(self, x):
            return self.used(x)

    found = diagonal_fisher(Idle(), images)
    assert not found["idle.weight"].any() and found["used.weight"].all()


class TestOtherOutputs:
    """Noise over signal: the information is twice the squared gradients over the outputs' mean square."""

    def test_a_linear_map_has_a_closed_form(self):
        torch.manual_seed(4)
        module, samples = nn.Linear(4, 1, bias=False), torch.randn(1, 4)
        power = float(module(samples).square().mean())
        # One output of one sample: its gradient is x, whatever the sign.
        expected = 2 * float(samples.double().square().mean()) / power
        np.testing.assert_allclose(diagonal_fisher(module, samples)["weight"], [expected], rtol=1e-5)

    def test_it_predicts_noise_over_signal(self):
        class TwoOutputs(nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.two = nn.Linear(5, 6), nn.Linear(5, 4)

            def forward(self, x, y):
                return self.one(x).view(-1, 2, 3).tanh(), [self.two(y), x.argmax(1)]

        torch.manual_seed(5)
        module, samples = TwoOutputs(), (torch.randn(8, 5), torch.randn(8, 5))
        found = diagonal_fisher(module, samples)
        reference = [each.detach() for each in (module(*samples)[0], module(*samples)[1][0])]
        generator, size, measured = torch.Generator().manual_seed(6), 1e-3, []
        state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        for _ in range(300):
            for name, tensor in module.state_dict().items():
                tensor.copy_(state[name] + size * torch.randn(tensor.shape, generator=generator))
            outputs = module(*samples)
            terms = [
                (each.detach() - was).double().square().mean() / was.double().square().mean()
                for each, was in zip((outputs[0], outputs[1][0]), reference, strict=True)
            ]
            measured.append(float(sum(terms)) / 2)
        counts = {name: tensor[0].numel() for name, tensor in state.items()}
        predicted = 0.5 * size**2 * sum(float(found[name].sum()) * counts[name] for name in state)
        assert np.mean(measured) == pytest.approx(predicted, rel=0.25)

    def test_classes_at_positions_are_the_mean_of_the_positions(self):
        torch.manual_seed(7)
        module, samples = nn.Linear(4, 3), torch.randn(6, 4)
        one = np.mean([diagonal_fisher(module, samples, seed)["weight"] for seed in range(100)], axis=0)
        several = [diagonal_fisher(module, samples.view(2, 3, 4), seed)["weight"] for seed in range(100)]
        np.testing.assert_allclose(np.mean(several, axis=0), one, rtol=0.2)
