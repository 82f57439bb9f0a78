"""What every runtime promises: whatever is registered and installed is walked; a new one needs no test of its own."""

import copy

import numpy as np
import pytest
import torch
from compressed_models import NAMES, data_of, logits_of, model_of, noise, shape_of, small, small_program, subject
from paretoscope.base.errors import ModelError
from paretoscope.model import weights
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import Runnable, Runtime, predict, runtimes

# It compiles for 10 s before it can do anything: test_torch_compiled.py asks the same of it, of fewer programs.
COMPILED = "torch-compiled"


@pytest.fixture(params=[entry.name for entry in runtimes if entry.name != COMPILED])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    entry = runtimes.get(request.param)
    if entry.missing:
        pytest.skip(entry.missing)
    return entry


@pytest.mark.parametrize("entry", runtimes, ids=lambda entry: entry.name)
def test_it_is_described(entry: Runtime) -> None:
    assert runtimes.get(entry.name) is entry
    assert entry.title.strip() and entry.summary.strip() and entry.reference.strip()
    assert bool(entry.version) or bool(entry.missing)
    assert "fp32" in entry.number_formats
    assert {entry.number_format(integer) for integer in (False, True)} <= set(entry.number_formats)
    assert entry.number_format(False) == "fp32"


@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize("name", NAMES)
def test_it_predicts_what_pytorch_predicts(runtime: Runtime, name: str, bits: int) -> None:
    given = subject(name, Recipe.of(bits=bits, activations=bits))
    program = runtime.build(given)
    assert (program.runtime, program.number_format) == (runtime.name, runtime.number_format(bits == 8))
    images = data_of(name).test_images[:200].numpy()
    expected = logits_of(given.module, images)
    predicted = predict(runtime.prepare(program), images)
    assert predicted.dtype == np.int64
    wrong = np.flatnonzero(predicted != expected.argmax(1))
    assert len(wrong) <= (2 if program.number_format == "int8" else 0)


def test_a_graph_depends_on_the_architecture_and_the_number_format_only(runtime: Runtime) -> None:
    baseline = runtime.build(Runnable(model_of("lenet-5"), shape_of("lenet-5")))
    pruned = runtime.build(subject("lenet-5", Recipe.of(sparsity=0.5)))
    assert small_program(runtime.name).graph != baseline.graph
    if runtime.sees_zeros:
        assert pruned.graph != baseline.graph
        return
    eight = runtime.build(subject("lenet-5", Recipe.of(bits=8, activations=8)))
    four = runtime.build(subject("lenet-5", Recipe.of(bits=4, clusters=8, granularity="tensor", activations=8)))
    assert pruned.graph == baseline.graph
    assert eight.graph == four.graph
    assert (eight.graph == baseline.graph) == ("int8" not in runtime.number_formats)


def test_a_program_does_not_follow_the_module_that_it_was_built_from(runtime: Runtime) -> None:
    module = small()
    program = runtime.build(Runnable(module, (1, 4, 4)))
    images = noise(3, 1, 4, 4)
    expected = logits_of(copy.deepcopy(module), images)
    with torch.no_grad():
        module[0].weight.zero_()
    np.testing.assert_allclose(runtime.prepare(program).run(images), expected, atol=1e-5)


def test_a_bound_call_runs_and_a_session_describes_itself(runtime: Runtime) -> None:
    session = runtime.prepare(small_program(runtime.name), threads=2)
    call = session.bind(noise(2, 1, 4, 4))
    call()
    call()
    description = session.describe()
    assert description["threads"] == 2
    assert (description["number format"], description["version"]) == ("fp32", runtime.version)
    session.close()


def test_a_closed_session_says_so(runtime: Runtime) -> None:
    session = runtime.prepare(small_program(runtime.name))
    session.run(noise(2, 1, 4, 4))
    session.close()
    for use in (session.run, session.bind):
        with pytest.raises(ModelError, match="cannot run after `close`"):
            use(noise(2, 1, 4, 4))


@pytest.mark.parametrize("number_format", ["fp32", "int8"])
def test_a_profile_names_every_weight_and_the_rest(runtime: Runtime, number_format: str) -> None:
    if runtime.profile is None or number_format not in runtime.number_formats:
        pytest.skip("keeps no such profile")
    bits = 8 if number_format == "int8" else 32
    program = runtime.build(subject("lenet-5", Recipe.of(bits=bits, activations=bits)))
    times = runtime.profile(program, data_of("lenet-5").test_images[:2].numpy(), 1, 4)
    assert set(times) == {*weights.names(model_of("lenet-5")), "other"}
    assert min(times.values()) >= 0 and sum(times.values()) > 0


def test_a_plan_tells_of_every_weight(runtime: Runtime) -> None:
    if runtime.plan is None:
        pytest.skip("skips no zeros")
    given = subject("lenet-5", Recipe.of(sparsity=0.9))
    plan = runtime.plan(runtime.build(given), data_of("lenet-5").test_images[:1].numpy(), 1)
    assert {layer.weight for layer in plan} == {*weights.names(model_of("lenet-5"))}
    for layer in plan:
        weight = given.module.get_parameter(layer.weight)
        assert layer.density == weight.count_nonzero() / weight.numel()
        assert weight.count_nonzero() <= layer.multiplied <= weight.numel()


WRONG_IMAGES = {
    "another shape": noise(2, 1, 5, 4),
    "no batch axis": noise(1, 4, 4),
    "no image": noise(0, 1, 4, 4),
    "float64": noise(2, 1, 4, 4).astype(np.float64),
}


@pytest.mark.parametrize("images", WRONG_IMAGES)
def test_images_of_another_kind_are_refused(runtime: Runtime, images: str) -> None:
    session = runtime.prepare(small_program(runtime.name))
    for use in (session.run, session.bind):
        with pytest.raises(ModelError, match="images must be float32"):
            use(WRONG_IMAGES[images])


def test_images_in_any_memory_order_are_taken(runtime: Runtime) -> None:
    session = runtime.prepare(small_program(runtime.name))
    images = noise(4, 4, 1, 5).transpose(3, 2, 0, 1)
    np.testing.assert_allclose(session.run(images), logits_of(small(), images.copy()), atol=1e-5)


@pytest.mark.parametrize("threads", [0, -1, 1.0, True, "2"])
def test_threads_must_be_a_positive_whole_number(runtime: Runtime, threads: object) -> None:
    with pytest.raises(ModelError, match="threads"):
        runtime.prepare(small_program(runtime.name), threads)


def test_the_program_of_another_runtime_is_refused(runtime: Runtime) -> None:
    other = "onnxruntime" if runtime.name == "torch" else "torch"
    with pytest.raises(ModelError, match=f"the runtime that built it, {other}"):
        runtime.prepare(small_program(other))
