"""Simplify and repair as the subject applies them: what each may change, and what it may look at."""

import copy
import dataclasses
from collections import OrderedDict

import numpy as np
import pytest
import torch
from paretoscope import codec
from paretoscope.measure.subject import KEPT_VARIANTS, Subject
from paretoscope.measure.variant import Form, Variant
from paretoscope.methods import input_moments, recalibrate
from paretoscope.methods.pipeline import compress, with_rest
from paretoscope.model.compressed import CompressedModel
from paretoscope.recipe.recipe import Recipe, Simplify
from paretoscope.service import subjects

NORMALISED = "resnet-20"


def fresh(subject: Subject, **data: torch.Tensor) -> Subject:
    """A subject without anything kept, with other data."""
    changed = dataclasses.replace(subject.data, **data)
    return dataclasses.replace(subject, data=changed, _forms=OrderedDict(), _variants=OrderedDict())


@pytest.fixture(scope="module")
def resnet() -> Subject:
    whole = subjects.load(NORMALISED)
    return fresh(whole, calibration=whole.data.calibration[:32])


def changed(one: CompressedModel, other: CompressedModel) -> set[str]:
    assert one.order == other.order
    return {name for name in one.order if not np.array_equal(one.decode(name), other.decode(name))}


STATISTICS = ("running_mean", "running_var")


class TestRepair:
    @pytest.mark.slow
    def test_gptq_changes_the_codes_of_every_layer_and_nothing_else(self, resnet):
        plain = resnet.compress(Recipe.of(bits=4))
        repaired = resnet.compress(Recipe.of(bits=4, rounding="gptq"))
        assert changed(plain, repaired) == set(plain.weights)
        for name in plain.weights:
            one, other = plain.weights[name], repaired.weights[name]
            np.testing.assert_array_equal(one.scale, other.scale)
            assert np.abs(one.codes.astype(int) - other.codes).max() >= 1

    @pytest.mark.slow
    def test_batchnorm_changes_its_statistics_and_nothing_else(self, resnet):
        plain = resnet.compress(Recipe.of(bits=3))
        repaired = resnet.compress(Recipe.of(bits=3, batchnorm=True))
        statistics = {name for name in plain.rest if name.endswith(STATISTICS)}
        assert changed(plain, repaired) == statistics and statistics
        module = plain.load_into(copy.deepcopy(resnet.model))
        by_hand = recalibrate.reestimate_batchnorm(module, resnet.data.calibration)
        assert by_hand.keys() == statistics
        for name, values in by_hand.items():
            np.testing.assert_array_equal(repaired.decode(name), values)

    @pytest.mark.slow
    def test_bias_changes_biases_and_running_means(self, resnet, subject):
        plain, repaired = (resnet.compress(Recipe.of(bits=3, bias=bias)) for bias in (False, True))
        # Its convolutions have no bias; the mean that normalisation takes away does the same.
        assert changed(plain, repaired) == {
            name for name in plain.rest if name.endswith("running_mean") or name == "fc.bias"
        }
        plain, repaired = (subject.compress(Recipe.of(bits=3, bias=bias)) for bias in (False, True))
        assert changed(plain, repaired) == {"fc1.bias", "fc2.bias", "fc3.bias"}

    @pytest.mark.slow
    def test_biases_and_normalisation_are_one_pass_that_restores_outputs(self, resnet):
        plain = resnet.compress(Recipe.of(bits=3))
        module = plain.load_into(copy.deepcopy(resnet.model))
        wanted = with_rest(plain, recalibrate.restore_outputs(resnet.model, module, resnet.data.calibration))
        both = resnet.compress(Recipe.of(bits=3, batchnorm=True, bias=True))
        assert not changed(wanted, both)
        assert changed(resnet.compress(Recipe.of(bits=3, batchnorm=True)), both)

    def test_a_repaired_model_computes_the_means_that_it_had(self, subject):
        """What bias correction is for, on the images that it saw."""
        images = subject.data.calibration
        with torch.no_grad():
            wanted = subject.model(images).mean(0)
            plain, repaired = (
                subject.decoded(subject.compress(Recipe.of(bits=2, bias=bias)))(images).mean(0)
                for bias in (False, True)
            )
        assert (repaired - wanted).abs().max() < 1e-3
        assert (plain - wanted).abs().max() > 0.1

    @pytest.mark.slow
    def test_error_compensation_computes_more_nearly_the_same(self, subject):
        images = subject.data.calibration
        with torch.no_grad():
            wanted = subject.model(images)
            errors = [
                (subject.decoded(subject.compress(Recipe.of(bits=2, calibration="mse", rounding=rounding)))(images))
                .sub(wanted)
                .square()
                .mean()
                for rounding in ("nearest", "gptq")
            ]
        assert errors[1] < 0.5 * errors[0]

    def test_halves_are_kept_where_the_recipe_says_so(self, subject):
        repaired = subject.compress(Recipe.of(bits=3, bias=True, rest="fp16"))
        assert {tensor.values.dtype.name for tensor in repaired.rest.values()} == {"float16"}

    def test_without_normalisation_there_is_nothing_to_estimate(self, subject):
        plain, repaired = (subject.compress(Recipe.of(bits=3, batchnorm=batchnorm)) for batchnorm in (False, True))
        assert not changed(plain, repaired)
        assert repaired.notes == ("There is no batch normalisation to re-estimate.",)

    def test_without_quantization_error_compensation_makes_good_nothing(self, subject):
        plain, repaired = (subject.compress(Recipe.of(sparsity=0.5, rounding=r)) for r in ("nearest", "gptq"))
        assert not changed(plain, repaired)

    @pytest.mark.slow
    def test_zeros_stay_zeros_under_error_compensation(self, subject):
        settings = {"bits": 4, "sparsity": 0.8, "rounding": "gptq"}
        pruned = subject.compress(Recipe.of(sparsity=0.8))
        repaired = subject.compress(Recipe.of(**settings))
        for name in pruned.weights:
            assert not repaired.decode(name)[pruned.decode(name) == 0].any()

    @pytest.mark.slow
    def test_the_second_moments_are_taken_once(self, subject, monkeypatch):
        calls, measure = [], input_moments.hessians
        monkeypatch.setattr(input_moments, "hessians", lambda *given: calls.append(given) or measure(*given))
        other = fresh(subject)
        for bits in (2, 3, 4):
            other.compress(Recipe.of(bits=bits, rounding="gptq"))
        assert len(calls) == 1


REPAIRED = {"bits": 3, "rounding": "gptq", "bias": True, "batchnorm": True}
SIMPLIFIED = {"nodes": 0.25, "blocks": 1, "fold": True, "energy": 0.95}
RECIPES = [
    Recipe.of(**REPAIRED),
    Recipe.of(**SIMPLIFIED),
    Recipe.of(**REPAIRED, **SIMPLIFIED, clusters=16, sparsity=0.3, keep_ends=True, rest="fp16"),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.describe())
class TestAnyRecipe:
    @pytest.mark.slow
    def test_gives_the_same_file_again(self, resnet, recipe):
        wanted = codec.write(resnet.compress(recipe))
        assert codec.write(resnet.compress(recipe)) == wanted
        torch.manual_seed(77)
        other = fresh(resnet)
        other.compress(Recipe.of(nodes=0.5))
        assert codec.write(other.compress(recipe)) == wanted

    @pytest.mark.slow
    def test_sees_calibration_images_only(self, resnet, recipe):
        data = resnet.data
        blind = fresh(
            resnet,
            test_images=torch.full_like(data.test_images, torch.nan),
            test_labels=torch.zeros_like(data.test_labels),
            train_images=torch.full_like(data.train_images, torch.nan),
            train_labels=torch.zeros_like(data.train_labels),
        )
        assert codec.write(blind.compress(recipe)) == codec.write(resnet.compress(recipe))

    @pytest.mark.slow
    def test_leaves_the_baseline_alone(self, resnet, recipe):
        before = {name: value.clone() for name, value in resnet.model.state_dict().items()}
        images = resnet.data.calibration.clone()
        generator = torch.random.get_rng_state()
        fresh(resnet).compress(recipe)
        assert all(torch.equal(value, before[name]) for name, value in resnet.model.state_dict().items())
        assert torch.equal(resnet.data.calibration, images)
        assert torch.equal(torch.random.get_rng_state(), generator)
        assert not any(part.training for part in resnet.model.modules())
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in resnet.model.modules())


@pytest.mark.slow
@pytest.mark.parametrize("repair", [{"rounding": "gptq"}, {"bias": True}, {"batchnorm": True}], ids=str)
def test_repair_depends_on_the_calibration_images(resnet, repair):
    other = fresh(resnet, calibration=resnet.data.calibration.flip(3).neg())
    recipe = Recipe.of(bits=3, **repair)
    assert changed(other.compress(recipe), resnet.compress(recipe))


class TestSimplified:
    def test_the_statistics_are_those_of_the_smaller_network(self, subject):
        variant = subject.variant(Simplify(nodes=0.5))
        shapes = {name: layer.weight.shape for name, layer in variant.statistics.layers.items()}
        assert shapes == {n: tuple(p.shape) for n, p in variant.module.named_parameters() if p.ndim > 1}
        assert shapes != {name: layer.weight.shape for name, layer in subject.statistics.layers.items()}
        pruned = variant.compress(Recipe.of(nodes=0.5, sparsity=0.5))
        zeros = sum(np.count_nonzero(pruned.decode(name) == 0) for name in shapes)
        assert zeros == sum(layer.weight.size for layer in variant.statistics.layers.values()) // 2

    def test_the_source_is_the_baselines(self, subject):
        compressed = subject.compress(Recipe.of(nodes=0.5))
        assert compressed.source == subject.statistics.digest
        assert compressed.source != subject.variant(Simplify(nodes=0.5)).statistics.digest

    def test_what_was_done_is_noted_and_not_written(self, subject):
        compressed = subject.compress(Recipe.of(nodes=0.5, pattern="2:4", overrides=[{"layers": "fc3.1", "bits": 2}]))
        text = " ".join(compressed.notes)
        assert "50 % of the nodes removed" in text and "No layer is called 'fc3.1' here" in text
        read = codec.read(codec.write(compressed))
        assert read.notes == ()
        assert codec.write(dataclasses.replace(compressed, notes=())) == codec.write(compressed)

    def test_the_last_few_are_kept(self, subject):
        other = fresh(subject)
        steps = [Simplify(nodes=fraction / 10) for fraction in range(1, KEPT_VARIANTS + 2)]
        made = [other.variant(step) for step in steps]
        assert other.variant(steps[-1]) is made[-1]
        assert other.variant(steps[1]) is made[1]
        again = other.variant(steps[0])
        assert again is not made[0]
        assert len(other._variants) == KEPT_VARIANTS
        assert again.statistics.digest == made[0].statistics.digest
        assert codec.write(again.compress(Recipe.of(bits=4))) == codec.write(made[0].compress(Recipe.of(bits=4)))

    def test_repair_compares_with_the_simplified_network(self, subject):
        """What simplify took away is not for the biases to bring back."""
        step = {"nodes": 0.5}
        variant = subject.variant(Simplify(**step))
        repaired = subject.compress(Recipe.of(**step, bits=2, bias=True))
        plain = subject.compress(Recipe.of(**step, bits=2))
        module = plain.load_into(copy.deepcopy(variant.module))
        by_hand = recalibrate.correct_bias(variant.module, module, subject.data.calibration)
        assert by_hand.keys() == {"fc1.bias", "fc2.bias", "fc3.bias"}
        for name, values in by_hand.items():
            np.testing.assert_array_equal(repaired.decode(name), values)

    def test_of_one_step_is_that_of_the_method(self, subject):
        by_hand = Variant.of(subject.model, subject.statistics, Simplify(nodes=0.5), subject.data.calibration)
        kept = subject.variant(Simplify(nodes=0.5))
        assert by_hand.structure == kept.structure and by_hand.statistics.digest == kept.statistics.digest
        assert by_hand.notes == kept.notes


class TestForm:
    @pytest.fixture
    def form(self, subject) -> Form:
        return Form(subject.model, (1, 28, 28))

    def test_counts_the_parameters(self, form, subject):
        assert form.parameters == subject.parameters == 266_610

    def test_modules_are_used_again_and_never_shared(self, form, subject):
        one, other = (compress(subject.statistics, Recipe.of(bits=bits)) for bits in (1, 8))
        with form.loaded(one) as first, form.loaded(other) as second:
            assert first is not second and first is not form.module
            for module, compressed in ((first, one), (second, other)):
                assert all(torch.equal(v, compressed.state_dict()[n]) for n, v in module.state_dict().items())
        with form.loaded(one) as third:
            assert third in (first, second)

    def test_a_module_comes_back_after_an_error(self, form, subject):
        compressed = compress(subject.statistics, Recipe())
        with pytest.raises(ZeroDivisionError), form.loaded(compressed) as first:
            raise ZeroDivisionError
        with form.loaded(compressed) as second:
            assert second is first
