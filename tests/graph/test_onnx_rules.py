"""Every rule against ONNX Runtime: small modules, batches of one and three."""

import own_networks
import pytest
import torch
from paretoscope.base.batch import parts, tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.graph.network_graph import GraphInput
from paretoscope.graph.trace import NoRuleError
from paretoscope.runtimes.onnx_graph import drawn, export_fp32, run_session
from paretoscope.runtimes.sessions import open_session
from torch import nn
from torch.nn import functional as F


class Call(nn.Module):
    def __init__(self, function, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.function = function

    def forward(self, *x):
        return self.function(*x, *self.layers)


VECTOR, SIGNAL, MAP, VOLUME, TOKENS = (12,), (4, 10), (4, 8, 6), (2, 4, 6, 4), (7,)
CELL = nn.LSTM(1, 2, batch_first=True).eval()
# By name: the shape of a sample, what is computed, layers.
CASES = {
    **{
        name: (VECTOR, function)
        for name, function in {
            "hardswish": F.hardswish,
            "hardsigmoid": F.hardsigmoid,
            "silu": F.silu,
            "mish": F.mish,
            "sigmoid": torch.sigmoid,
            "tanh": torch.tanh,
            "elu": lambda x: F.elu(x, 0.7),
            "celu": lambda x: F.celu(x, 0.7),
            "selu": F.selu,
            "leaky": lambda x: F.leaky_relu(x, 0.2),
            "softplus": lambda x: F.softplus(x, 2.0),
            "gelu": lambda x: F.gelu(x, approximate="tanh"),
            "relu6": F.relu6,
            "glu": F.glu,
            "logsigmoid": F.logsigmoid,
            "softsign": F.softsign,
            "exp": torch.exp,
            "logs": lambda x: torch.log(x.abs() + 1) + torch.log1p(x.square()),
            "roots": lambda x: torch.sqrt(x.abs()) + torch.rsqrt(x.abs() + 1),
            "powers": lambda x: x**2 + 2**x + x.pow(3),
            "waves": lambda x: x.sin() + x.cos() + x.erf(),
            "scalars": lambda x: (1 - x) * 2 / 3 + 1 / (x.abs() + 1) - x / 4,
            "alpha": lambda x: torch.add(x, x, alpha=2) - torch.sub(x, x * x, alpha=3),
            "clamps": lambda x: x.clamp(-0.5, 0.5) + x.clamp(min=0.1) + torch.clamp_max(x, 0.2),
            "truth": lambda x: torch.where((x > 0) & ~(x > 1) | (x == 2), x, -x),
            "others": lambda x: torch.where(x.lt(0).logical_not() & x.ne(1), x, 0.5) + (x <= 0.3).float(),
            "masked": lambda x: x.masked_fill(x > 0, -1.0),
            "extremes": lambda x: torch.maximum(x, x * x) + torch.minimum(x, x * 2),
            "softmax": lambda x: x.softmax(1),
            "log softmax": lambda x: F.log_softmax(x, dim=-1),
            "cumsum": lambda x: x.cumsum(1),
            "floors": lambda x: torch.div(x, 0.3, rounding_mode="floor") + x.floor() + x.ceil() + x.sign(),
            "argmax": lambda x: x.argmax(1, keepdim=True).float() + x,
            "variance": lambda x: x.var(1, keepdim=True) + x.std(1, keepdim=True, correction=0),
            "norms": lambda x: F.normalize(x) + torch.linalg.vector_norm(x, dim=1, keepdim=True),
            "sums": lambda x: x.sum(1, keepdim=True) + x.amax(1, keepdim=True) + x.amin(1, keepdim=True),
            "mean": lambda x: x.mean(1),
            "constant": lambda x: x + torch.arange(12) * 0.5,
            "grown": lambda x: torch.cat([torch.zeros(len(x), 2), x, torch.ones_like(x)], 1),
            "expanded": lambda x: x + torch.ones(1, 12).expand(len(x), 12),
            "casts": lambda x: (x * 3).long().to(torch.int32).float(),
        }.items()
    },
    **{
        name: (MAP, function)
        for name, function in {
            "mean of maps": lambda x: x.mean((2, 3)) + x.mean((1, 3))[:, :4],
            "avg_pool2d": lambda x: F.avg_pool2d(x, 3, 2, 1),
            "avg_pool2d bare": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
            "max_pool2d": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
            "adaptive": lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
            "adaptive uneven": lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
            "adaptive maximum": lambda x: F.adaptive_max_pool2d(x, (4, 1)),
            "chunk": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
            "split": lambda x: torch.stack([p.sum(1) for p in x.split([1, 3], 1)], 1),
            "unbind": lambda x: x.unbind(1)[2] - x.unbind(-1)[0].sum(1, keepdim=True).transpose(1, 2)[:, :, :1],
            "slices": lambda x: x[:, 1:3, ::2, -3:],
            "indices": lambda x: x[:, None, torch.tensor([0, 2]), ..., 1],
            "select": lambda x: x.select(2, -1) + x.narrow(1, 0, 4)[..., 0, :],
            "gather": lambda x: x.gather(3, (x > 0).long()) + x.index_select(1, torch.tensor([3, 2, 1, 0])),
            "roll": lambda x: torch.roll(x, (1, -2), (2, 3)).flip(3),
            "pads": lambda x: F.pad(x, (1, 2, 0, 1), value=0.5)[..., 1:] + F.pad(x, (1, 1, 0, 1), mode="reflect"),
            "replicate": lambda x: F.pad(x, (2, 1, 0, 1), mode="replicate"),
            "repeat": lambda x: x.repeat(1, 2, 1, 1),
            "windows": lambda x: x.view(len(x), 4, 2, 4, 3, 2).permute(0, 2, 4, 1, 3, 5).reshape(-1, 4, 4, 2).sum(1)
            .view(len(x), -1),
            "shuffle": lambda x: F.pixel_shuffle(x, 2) + F.pixel_shuffle(x, 2).flip(2),
            "unshuffle": lambda x: F.pixel_unshuffle(x, 2),
            "channels": lambda x: F.channel_shuffle(x, 2),
            "squeeze": lambda x: x.mean(1, keepdim=True).squeeze(1).unsqueeze(-1).unflatten(1, (2, 4)),
            "nearest": lambda x: F.interpolate(x, scale_factor=2),
            "bilinear": lambda x: F.interpolate(x, size=(5, 9), mode="bilinear", align_corners=False),
            "corners": lambda x: F.interpolate(x, size=(5, 9), mode="bilinear", align_corners=True),
            "triangles": lambda x: x.tril() - x.triu(1),
            "batch in the middle": lambda x: x.permute(1, 0, 2, 3).reshape(4, len(x), 48).transpose(0, 1),
            "batch and more": lambda x: x.transpose(0, 1).reshape(4, len(x) * 8, 6).view(4, len(x), 8, 6).sum(0),
            "attention": lambda x: F.scaled_dot_product_attention(x, x + 1, x * 2),
            "causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
            "masks": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=torch.eye(8).bool()),
            "einsum": lambda x: torch.einsum("b c h w, b c v w -> b c h v", x, x),
            "products": lambda x: x @ x.mT + torch.matmul(x[0:, :1], x.transpose(2, 3)),
        }.items()
    },
    "signals": (SIGNAL, lambda x: F.avg_pool1d(x, 2) + F.max_pool1d(x, 2) + F.adaptive_avg_pool1d(x, 5)),
    "volumes": (VOLUME, lambda x: F.avg_pool3d(x, 2) + F.max_pool3d(x, 2) + F.adaptive_avg_pool3d(x, (2, 3, 2))),
    "upsampled signal": (SIGNAL, lambda x: F.interpolate(x, scale_factor=2, mode="linear")),
    "bmm": (SIGNAL, lambda x: torch.baddbmm(x[..., :4], x, x.transpose(1, 2), beta=0.5, alpha=2)),
    "conv1d": (SIGNAL, lambda x, f: f(x), nn.Conv1d(4, 6, 3, 2, 1, groups=2)),
    "conv1d same": (SIGNAL, lambda x, f: f(x), nn.Conv1d(4, 6, 4, padding="same")),
    "conv3d": (VOLUME, lambda x, f: f(x), nn.Conv3d(2, 3, 3, padding=1)),
    "transposed1d": (SIGNAL, lambda x, f: f(x), nn.ConvTranspose1d(4, 6, 3, 2, 1, 1)),
    "transposed2d": (MAP, lambda x, f: f(x), nn.ConvTranspose2d(4, 6, 2, 2, groups=2)),
    "prelu": (MAP, lambda x, f: f(x), nn.PReLU(4)),
    "group norm": (MAP, lambda x, f: f(x), nn.GroupNorm(2, 4)),
    "instance norm": (MAP, lambda x, f: f(x), nn.InstanceNorm2d(4, affine=True)),
    "batch norm 1d": (SIGNAL, lambda x, f: f(x), nn.BatchNorm1d(4)),
    "batch norm 3d": (VOLUME, lambda x, f: f(x), nn.BatchNorm3d(2)),
    "rms norm": (SIGNAL, lambda x, f: f(x), nn.RMSNorm(10)),
    "layer norm": (MAP, lambda x, f: f(x), nn.LayerNorm((8, 6), bias=False)),
    "linear over axes": (MAP, lambda x, f: f(x.transpose(2, 3)), nn.Linear(8, 5)),
    "lstm": (SIGNAL, lambda x, f: f(x)[0], nn.LSTM(10, 6, 2, batch_first=True, bidirectional=True)),
    "lstm states": (SIGNAL, lambda x, f: f(x)[1][0].transpose(0, 1), nn.LSTM(10, 6, 2, batch_first=True)),
    "lstm first": (SIGNAL, lambda x, f: f(x.transpose(0, 1))[0].transpose(0, 1), nn.LSTM(10, 6, bias=False)),
    "gru": (SIGNAL, lambda x, f: f(x)[1].transpose(0, 1), nn.GRU(10, 6, 2, batch_first=True, bidirectional=True)),
    "gru started": (SIGNAL, lambda x, f: f(x, x[:, :1, :6].transpose(0, 1) * 1.0)[0], nn.GRU(10, 6, batch_first=True)),
    "rnn": (SIGNAL, lambda x, f: f(x)[0], nn.RNN(10, 6, nonlinearity="relu", batch_first=True)),
    "rnn tanh": (SIGNAL, lambda x, f: f(x)[0], nn.RNN(10, 6, batch_first=True)),
}  # fmt: skip


def check(module: nn.Module, inputs, samples=None) -> None:
    data = export_fp32(module.eval(), inputs, samples)
    session = open_session(data)
    for n in (1, 3):
        batch = drawn(inputs, n, samples)
        with torch.no_grad():
            expected = list(tensors_in(module(*map(torch.from_numpy, batch))))
        found = run_session(session, batch)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(one), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_a_graph_computes_what_pytorch_computes(name):
    torch.manual_seed(0)
    shape, function, *layers = CASES[name]
    check(Call(function, *layers), (GraphInput("x", shape),))


@pytest.mark.parametrize("name", own_networks.MAKERS)
def test_imported_networks_are_written_with_all_their_inputs_and_outputs(name):
    found = own_networks.imported(name)
    samples = tuple(each.numpy() for each in parts(own_networks.data(name).calibration))
    check(found.module(), found.graph.inputs, samples)


def test_inputs_keep_their_names_and_types_and_outputs_are_numbered():
    found = own_networks.imported("detector")
    session = open_session(export_fp32(found.module(), found.graph.inputs))
    assert [each.name for each in session.get_inputs()] == [each.name for each in found.graph.inputs]
    assert [each.name for each in session.get_outputs()] == ["output_0", "output_1"]
    text = own_networks.imported("text")
    (tokens,) = open_session(export_fp32(text.module(), text.graph.inputs)).get_inputs()
    assert tokens.type == "tensor(int64)"


@pytest.mark.parametrize(
    "function, reason",
    [
        (torch.special.i0, "special"),
        (lambda x: x + torch.arange(len(x)).float()[:, None], "place in the batch"),
        (lambda x: x.sin() if len(x) == 3 else x.exp().unsqueeze(1), "depend on the batch"),
        (lambda x: x.max(1)[0], "max"),
        (lambda x: CELL(x[:, :, None])[1][1].transpose(0, 1), "this output of torch.lstm"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(function, reason):
    with pytest.raises(NoRuleError, match=reason):
        export_fp32(Call(function).eval(), (GraphInput("x", (4,)),))


def test_values_written_in_place_are_refused():
    def function(x):
        y = x * 2
        y[:, 0] = 1.0
        return y

    with pytest.raises(ModelError, match="__setitem__"):
        export_fp32(Call(function).eval(), (GraphInput("x", (4,)),))


def test_weights_that_are_called_as_constants_and_values_are_keep_their_own():
    """An imported graph calls its constants constant_0 and so on, and a module may call a parameter anything."""

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            for name in ("constant_0", "constant_1", "constant_2", "Mul_0", "Add_1", "Add_2"):
                self.register_parameter(name, nn.Parameter(torch.full((12,), float(len(self._parameters) + 2))))

        def forward(self, x):
            x = x * 3.5 + self.constant_1 + self.Mul_0
            return x[:, 2:7] * self.constant_0[:5] + self.Add_1[1:6] - 0.25

    x = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    module = Named().eval()
    (found,) = open_session(export_fp32(module, VECTOR)).run(None, {"images": x.numpy()})
    assert torch.allclose(torch.from_numpy(found), module(x), atol=1e-5)
