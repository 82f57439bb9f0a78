import numpy as np
import onnx
import pytest
import torch
from compressed_models import NAMES, data_of, logits_of, model_of, noise, shape_of
from onnx import numpy_helper
from paretoscope.base.errors import CompressionError, ModelError
from paretoscope.graph.trace import NoRuleError, rule
from paretoscope.runtimes.onnx_graph import export_any, export_fp32, graph_digest, verify
from paretoscope.runtimes.sessions import open_session
from torch import nn
from torch.nn import functional as F


class Lambda(nn.Module):
    """A layer, and a function of (layer, images) that makes logits of it."""

    def __init__(self, layer: nn.Module, function) -> None:
        super().__init__()
        self.layer = layer
        self.function = function

    def forward(self, images):
        return self.function(self.layer, images)


def small_cnn(width: int = 4, stride: int = 1) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, width, 3, stride), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(width, 3)).eval()


def initializers(data: bytes) -> dict[str, np.ndarray]:
    model = onnx.load_model_from_string(data)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def operators(data: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(data).graph.node]


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_of_a_model_gives_its_logits_for_any_batch(name):
    session = open_session(export_fp32(model_of(name), shape_of(name)))
    images = data_of(name).test_images[:40].numpy()
    expected = logits_of(model_of(name), images)
    for n in (1, 2, 3, 40):
        (logits,) = session.run(["logits"], {"images": images[:n]})
        np.testing.assert_allclose(logits, expected[:n], rtol=0, atol=1e-4 * np.abs(expected).max())
        assert (logits.argmax(1) == expected[:n].argmax(1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_holds_every_weight_bit_for_bit_under_its_name(name):
    data = export_fp32(model_of(name), shape_of(name))
    onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)
    found = initializers(data)
    state = model_of(name).state_dict()
    weights = {key: value.numpy() for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert set(weights) <= set(found)
    for key, value in weights.items():
        assert found[key].dtype == value.dtype and np.array_equal(found[key], value), key


def test_equal_modules_give_equal_bytes_whatever_happened_between():
    first = export_fp32(small_cnn(), (1, 8, 8))
    torch.rand(3)
    export_fp32(small_cnn(width=5), (1, 8, 8))
    assert export_fp32(small_cnn(), (1, 8, 8)) == first


def test_exporting_changes_neither_the_module_nor_the_number_of_threads():
    module, before = small_cnn(), torch.get_num_threads()
    state = {key: value.clone() for key, value in module.state_dict().items()}
    torch.set_num_threads(2)
    export_fp32(module, (1, 8, 8))
    threads = torch.get_num_threads()
    torch.set_num_threads(before)
    assert threads == 2
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def test_the_digest_is_of_the_structure_alone():
    digest = graph_digest(export_fp32(small_cnn(), (1, 8, 8)))
    other_weights = small_cnn()
    with torch.no_grad():
        other_weights[0].weight.mul_(2)
    assert graph_digest(export_fp32(other_weights, (1, 8, 8))) == digest

    class Renamed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = small_cnn()

        def forward(self, images):
            return self.body(images)

    assert graph_digest(export_fp32(Renamed().eval(), (1, 8, 8))) == digest
    others = [(small_cnn(width=5), (1, 8, 8)), (small_cnn(stride=2), (1, 8, 8)), (small_cnn(), (1, 9, 9))]
    digests = {graph_digest(export_fp32(module, shape)) for module, shape in others}
    assert len(digests | {digest}) == 4


def test_the_digest_counts_the_integers_that_shape_tensors_and_no_other_constants():
    def digest(function) -> str:
        return graph_digest(export_fp32(Lambda(nn.Linear(6, 4), function).eval(), (1, 4, 3)))

    def clipped(low):
        return digest(lambda layer, x: F.hardtanh(layer(x.reshape(-1, 2, 6)[:, 0]), low, 1.0))

    def chosen(part):
        return digest(lambda layer, x: layer(x.reshape(-1, 2, 6)[:, part]))

    assert clipped(-1.0) == clipped(-2.0)
    assert chosen(0) != chosen(1)


def test_axes_that_only_move_and_come_back_leave_no_nodes():
    module = Lambda(nn.Linear(12, 4), lambda layer, x: layer(x.transpose(1, 2).permute(0, 2, 1, 3).reshape(-1, 12)))
    assert operators(export_fp32(module.eval(), (1, 4, 3))) == ["Reshape", "Gemm"]


def test_a_linear_layer_over_tokens_is_one_gemm():
    module = Lambda(nn.Linear(6, 2), lambda layer, x: layer(x.reshape(-1, 8, 6)).reshape(-1, 16))
    data = export_fp32(module.eval(), (1, 8, 6))
    assert operators(data) == ["Reshape", "Gemm", "Reshape"]
    images = noise(4, 1, 8, 6)
    (logits,) = open_session(data).run(None, {"images": images})
    np.testing.assert_allclose(logits, logits_of(module, images), atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_self_attention_agrees_with_pytorch(bias):
    torch.manual_seed(1)
    attention = nn.MultiheadAttention(8, 2, bias=bias, batch_first=True)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.5)

    def function(layer, images):
        tokens = images.reshape(-1, 6, 8)
        return layer(tokens, tokens, tokens, need_weights=False)[0][:, 2]

    module = Lambda(attention, function).eval()
    images = noise(5, 1, 6, 8)
    (logits,) = open_session(export_fp32(module, (1, 6, 8))).run(None, {"images": images})
    np.testing.assert_allclose(logits, logits_of(module, images), atol=1e-5)


def test_values_changed_in_place_are_followed():
    def function(layer, images):
        x = layer(images.flatten(1))
        shortcut = x
        x = F.relu(x, inplace=True)
        x += shortcut
        return x

    module = Lambda(nn.Linear(4, 4), function).eval()
    images = noise(7, 1, 2, 2)
    (logits,) = open_session(export_fp32(module, (1, 2, 2))).run(None, {"images": images})
    np.testing.assert_allclose(logits, logits_of(module, images), atol=1e-6)


def test_normalisation_without_parameters_of_its_own_and_means_over_maps():
    torch.manual_seed(2)
    layers = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6, affine=False), nn.LayerNorm(5, elementwise_affine=False)
    )
    layers[1].running_var.uniform_(0.5, 2)
    module = Lambda(layers, lambda layer, x: layer(x).mean((2, 3)))
    images = noise(4, 2, 5, 5)
    (logits,) = open_session(export_fp32(module.eval(), (2, 5, 5))).run(None, {"images": images})
    np.testing.assert_allclose(logits, logits_of(module, images), atol=1e-5)


REFUSED = {
    "an operation without a rule": (lambda layer, x: torch.special.i0(layer(x.flatten(1))), "special.i0"),
    "an argument without a rule": (lambda layer, x: torch.div(layer(x.flatten(1)), 2, rounding_mode="trunc"), "trunc"),
    "an argument that is not covered": (lambda layer, x: layer(x.flatten(1)).argmax(), "argmax"),
    "no layer at all": (lambda layer, x: x, "outputs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_exported_is_refused_with_a_reason(case):
    function, reason = REFUSED[case]
    with pytest.raises(ModelError, match=reason):
        export_fp32(Lambda(nn.Linear(4, 4), function).eval(), (1, 2, 2))


def test_a_graph_that_disagrees_with_pytorch_is_refused():
    # Two passes are traced; the others are compared.
    passes = iter((1.0, 1.0, 2.0, 2.0))
    module = Lambda(nn.Linear(4, 4), lambda layer, x: F.hardtanh(layer(x.flatten(1)), 0.0, next(passes)))
    nn.init.constant_(module.layer.bias, 5.0)
    with pytest.raises(ModelError, match="PyTorch's logits"):
        export_fp32(module.eval(), (1, 2, 2))


def test_the_tolerance_grows_with_the_rounding_error_that_a_model_amplifies():
    # The first layer sums pairs that cancel; the second makes what rounding leaves of them large.
    module = nn.Sequential(nn.Flatten(), nn.Linear(512, 1, bias=False), nn.Linear(1, 3)).eval()
    half = torch.from_numpy(noise(256))
    with torch.no_grad():
        module[1].weight.copy_(torch.cat([half, -half.flip(0)]))
        module[2].weight.fill_(1e6)
    images = noise(2, 1, 16, 16)
    images = np.concatenate([images, images[:, :, ::-1, ::-1]], axis=2)
    logits = logits_of(module, images)
    error = np.abs(logits - module[2].bias.detach().numpy()).max()
    assert error > 0.01

    verify(lambda: logits + 5 * error, module, images)
    with pytest.raises(ModelError, match="PyTorch's logits"):
        verify(lambda: logits + 20 * error, module, images)


def test_a_module_in_training_mode_is_refused():
    with pytest.raises(ModelError, match="evaluation mode"):
        export_fp32(small_cnn().train(), (1, 8, 8))


def test_a_function_has_one_rule():
    with pytest.raises(CompressionError, match="one ONNX rule"):
        rule(F.relu)(lambda *args: "")


def test_what_has_no_rule_goes_through_the_exporter_of_pytorch_and_a_note_says_so():
    module = Lambda(nn.Linear(4, 4), lambda layer, x: torch.atan(layer(x.flatten(1)))).eval()
    inputs = (1, 2, 2)
    with pytest.raises(NoRuleError, match="atan"):
        export_fp32(module, inputs)
    data, note = export_any(module, inputs)
    assert "atan" in note
    assert export_any(small_cnn(), (1, 8, 8))[1] == ""
    for n in (1, 3):
        images = noise(n, 1, 2, 2)
        (logits,) = open_session(data).run(["logits"], {"images": images})
        np.testing.assert_allclose(logits, logits_of(module, images), atol=1e-6)
