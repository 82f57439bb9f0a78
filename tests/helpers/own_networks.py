"""Small networks such as users bring: each is exported, imported, and given data; nothing of the zoo is in them."""

from collections.abc import Callable
from functools import lru_cache

import torch
from paretoscope.base.batch import Batch, call, mapped, tensors_in
from paretoscope.data.arrays import ArrayData
from paretoscope.graph.importer import Imported
from paretoscope.graph.programs import import_module
from paretoscope.networks.imported import network_of
from paretoscope.networks.network import Network
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """A convolutional net with normalisation and blocks that can be dropped."""

    def __init__(self, width: int = 12):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(2))
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        x = F.relu(self.bn(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.a, self.b = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(x + self.bn(self.b(F.hardswish(self.a(x)))))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]):
        super().__init__()
        self.rnn = kind(6, 16, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class Sensor(nn.Module):
    """Windows of a sensor: convolutions along time."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(6, 16, 5, padding=2), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(16, 16, 3, groups=16), nn.SiLU(), nn.Conv1d(16, 24, 5), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        return self.head(self.body(x))


class Text(nn.Module):
    """A text encoder: embedding, positions as a bare parameter, two transformer layers."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(200, 32)
        self.pos = nn.Parameter(torch.randn(1, 12, 32) * 0.02)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.enc = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 3)

    def forward(self, tokens):
        return self.head(self.enc(self.emb(tokens) + self.pos).mean(1))


class Language(nn.Module):
    """A language model whose output layer is its embedding; its outputs are (n, length, vocabulary)."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(100, 24)
        self.gru = nn.GRU(24, 24, batch_first=True)
        self.out = nn.Linear(24, 100, bias=False)
        self.out.weight = self.emb.weight

    def forward(self, tokens):
        return self.out(self.gru(self.emb(tokens))[0])


class UNet(nn.Module):
    """Segments pictures: its outputs are (n, 2, 16, 16)."""

    def __init__(self):
        super().__init__()
        self.a, self.b = _conv(3, 8), _conv(8, 16)
        self.up, self.d = nn.ConvTranspose2d(16, 8, 2, 2), _conv(16, 8)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        return self.out(self.d(torch.cat([self.up(b), a], 1)))


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Bare(nn.Module):
    """No layers: parameters and matrix products."""

    def __init__(self):
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.randn(20, 32) * 0.3), nn.Parameter(torch.zeros(32))
        self.w2 = nn.Parameter(torch.randn(32, 4))

    def forward(self, x):
        return torch.tanh(x @ self.w1 + self.b1) @ self.w2


class Two(nn.Module):
    """Two inputs, a vector and a picture."""

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(8, 16), nn.Conv2d(1, 8, 3, padding=1)
        self.o = nn.Linear(24, 3)

    def forward(self, x, picture):
        return self.o(torch.cat([F.relu(self.a(x)), F.relu(self.c(picture)).mean((2, 3))], 1))


class Detector(nn.Module):
    """Two outputs: boxes (n, 6, 4) and scores (n, 6)."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.boxes, self.scores = nn.Linear(8, 24), nn.Linear(8, 6)

    def forward(self, x):
        found = self.body(x)
        return self.boxes(found).view(-1, 6, 4), self.scores(found).sigmoid()


class Regression(nn.Module):
    """One column, which is no class."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.net(x)


def _floats(*shape: int) -> Callable[[int], Batch]:
    return lambda n: torch.randn(n, *shape)


def _tokens(most: int, length: int) -> Callable[[int], Batch]:
    return lambda n: torch.randint(0, most, (n, length))


# How each is made, and how samples for it are drawn.
MAKERS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Batch]]] = {
    "residual": (Residual, _floats(3, 16, 16)),
    "lstm": (lambda: Recurrent(nn.LSTM), _floats(12, 6)),
    "gru": (lambda: Recurrent(nn.GRU), _floats(12, 6)),
    "sensor": (Sensor, _floats(6, 32)),
    "text": (Text, _tokens(200, 12)),
    "language": (Language, _tokens(100, 10)),
    "unet": (UNet, _floats(3, 16, 16)),
    "bare": (Bare, _floats(20)),
    "two": (Two, lambda n: (torch.randn(n, 8), torch.randn(n, 1, 12, 12))),
    "detector": (Detector, _floats(3, 16, 16)),
    "regression": (Regression, _floats(10)),
}
# Those whose one output is (n, classes).
CLASSIFIERS = ("residual", "lstm", "gru", "sensor", "text", "bare", "two")
TRAIN, CALIBRATION, TEST = 200, 32, 120


@lru_cache(maxsize=32)
def module(name: str) -> nn.Module:
    """The network as its author has it, with running statistics that fit its inputs; not to be changed."""
    make, draw = MAKERS[name]
    with torch.random.fork_rng():
        torch.manual_seed(sum(map(ord, name)))
        made = make().train()
        with torch.no_grad():
            for _ in range(20):
                call(made, draw(32))
    return made.eval()


@lru_cache(maxsize=32)
def imported(name: str) -> Imported:
    return import_module(module(name), _drawn(name, 2, seed=1))


def network(name: str) -> Network:
    """The network as Paretoscope has it once it was imported."""
    found = imported(name)
    task = "classification" if name in CLASSIFIERS else "agreement"
    return network_of(name, found.graph, lambda: found.state, data=f"{name}-data", task=task)


@lru_cache(maxsize=32)
def data(name: str, *, labelled: bool = True) -> ArrayData:
    """Drawn samples; the labels are the network's own answers, one in ten of them another one."""
    train, test = _drawn(name, TRAIN, seed=2), _drawn(name, TEST, seed=3)
    labels = [_labels(name, part) for part in (train, test)] if labelled and name in CLASSIFIERS else [None, None]
    calibration = mapped(train, lambda each: each[:CALIBRATION])
    return ArrayData.of(train, test, calibration, *labels)


def _drawn(name: str, n: int, seed: int) -> Batch:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MAKERS[name][1](n)


def _labels(name: str, samples: Batch) -> torch.Tensor:
    with torch.no_grad():
        (logits,) = tensors_in(call(module(name), samples))
    found = logits.argmax(dim=1)
    found[::10] = (found[::10] + 1) % logits.shape[1]
    return found
