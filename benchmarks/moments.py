"""What assumed second moments do where harm is weighted by magnitude, and what their two constants should be.

    python -m benchmarks.moments [--judged]

Tuned on: the LeNets and the simple CNN, on digits and (where its files are at hand) MNIST, and four small networks of
other kinds that are trained here, in two or three minutes: plain convolutions with batch normalisation, depthwise
separable ones, an encoder and decoder with skips, a transformer. Each is compressed at twelve exchange rates, without
compensation and with each pair of constants. Figures: harm at equal bytes over that without compensation, geometric
mean over the sizes that both reach, and the scatter of harm about a cubic of its logarithm over that of bytes. Harm is
taken over 500 images of the train split. The three pairs of least geometric mean over all networks are compared again
at 36 rates, because chance decides between them at twelve.

Judged (--judged: this part alone): resnet-20, vit-tiny, mobilenet-v2 on the test split, with the constants that the
code has. Wanted: harm falls strictly with size over ten exchange rates. Two more rates lie between each pair of them.
"""

import copy
from collections.abc import Iterator, Sequence
from unittest import mock

import numpy as np
import torch
from paretoscope import codec
from paretoscope.base.errors import CompressionError
from paretoscope.data.data import CHUNK
from paretoscope.methods import moments
from paretoscope.methods.pipeline import compress
from paretoscope.model.statistics import ModelStatistics
from paretoscope.networks import zoo
from paretoscope.networks.zoo import train
from paretoscope.networks.zoo.model import ModelEntry, TrainingSettings
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects
from paretoscope.tasks.classification import Classification
from torch import nn
from torch.nn import functional as F

from benchmarks.measured import Table, columns, keep, parser

TUNED_ON = ("lenet-300-100", "lenet-5", "simple-cnn", "lenet-300-100-mnist", "lenet-5-mnist")
JUDGED = ("resnet-20", "vit-tiny", "mobilenet-v2")
MEANS = (0.02, 0.05, 0.1, 0.2)
CORRELATIONS = (0.3, 0.5, 0.7)
RATES = np.geomspace(1e-5, 5e-3, 12)
FINAL, FINAL_RATES = 3, np.geomspace(1e-5, 5e-3, 36)
# Ten from 4 times smaller files to where accuracy begins to suffer, and two between each pair of them.
JUDGED_RATES = np.geomspace(1e-6, 3e-3, 28)
TEN = slice(None, None, 3)
IMAGES = 500
Network = tuple[str, nn.Module, torch.Tensor]
BY_MAGNITUDE = {"bits": 12, "calibration": "rate", "weighting": "magnitude", "rest": "rate", "coder": "context"}


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]


def plain() -> nn.Module:
    """Five convolutions with batch normalisation and two linear layers."""
    layers = []
    for inputs, outputs, pooled in ((1, 16, 0), (16, 16, 1), (16, 32, 0), (32, 32, 1), (32, 64, 1)):
        layers += _convolution(inputs, outputs) + [nn.MaxPool2d(2)] * pooled
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(576, 64), nn.ReLU(), nn.Linear(64, 10))


def separable() -> nn.Module:
    """Four depthwise separable convolutions, all followed by ReLU."""
    layers = _convolution(1, 16)
    for inputs, outputs, stride in ((16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)):
        layers += _convolution(inputs, inputs, 3, stride, inputs) + _convolution(inputs, outputs, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class Skips(nn.Module):
    """An encoder and decoder of three scales, joined by skips."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Sequential(*_convolution(*each)) for each in ((1, 16), (16, 32), (32, 64)))
        self.up = nn.ModuleList(nn.Sequential(*_convolution(*each)) for each in ((96, 32), (48, 16)))
        self.head = nn.Linear(16 * 49, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.down[0](x)
        middle = self.down[1](F.max_pool2d(fine, 2))
        x = F.interpolate(self.down[2](F.max_pool2d(middle, 2)), scale_factor=2)
        x = F.interpolate(self.up[0](torch.cat([middle, x], 1)), scale_factor=2)
        return self.head(F.avg_pool2d(self.up[1](torch.cat([fine, x], 1)), 4).flatten(1))


class Transformer(nn.Module):
    """Three layers over 16 patches, normalised first, 48 features wide."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Linear(49, width)
        self.place = nn.Parameter(0.02 * torch.randn(1, 16, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 3, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.embed(F.unfold(x, 7, stride=7).mT) + self.place).mean(1))


OWN = {
    "plain": (plain, TrainingSettings(15, 3e-3)),
    "separable": (separable, TrainingSettings(30, 5e-3)),
    "skips": (Skips, TrainingSettings(15, 3e-3)),
    "transformer": (Transformer, TrainingSettings(60, 2e-3)),
}


def networks() -> Iterator[Network]:
    """Name, network and images of the train split of all that constants are tuned on."""
    for name in TUNED_ON:
        entry = zoo.models.get(name)
        try:
            data = zoo.load_data(entry.dataset, entry.input_shape)
        except CompressionError as error:
            print(f"without {name}: {error}")
            continue
        yield name, zoo.load_model(name), data.train_images
    for name, (build, settings) in OWN.items():
        zoo.models.add(ModelEntry(name, name, build.__doc__, "", (1, 28, 28), "digits", build, settings))
        result = train.train(name)
        model = zoo.build(name)
        model.load_state_dict(result.state_dict)
        print(f"trained {name}: {result.test_accuracy:.2%} in {result.seconds:.0f} s", flush=True)
        yield name, model, zoo.load_data("digits", (1, 28, 28)).train_images


def curve(model: nn.Module, statistics: ModelStatistics, images: torch.Tensor, rates: np.ndarray) -> np.ndarray:
    """(rates, 2): bytes and harm."""
    task = Classification(())
    reference = task.outputs(model, images.split(CHUNK))
    points = []
    for rate in rates:
        compressed = compress(statistics, Recipe.of(**BY_MAGNITUDE, exchange=float(rate)))
        found = task.outputs(compressed.load_into(copy.deepcopy(model)), images.split(CHUNK))
        points.append((len(codec.write(compressed)), float(task.divergence(reference, found).mean())))
    return np.array(points)


def harm_ratio(curve: np.ndarray, reference: np.ndarray) -> float:
    """Harm at equal bytes over a reference's: geometric mean over the sizes that both reach."""
    x, y = np.log(curve[::-1]).T
    other_x, other_y = np.log(reference[::-1]).T
    sizes = np.linspace(max(x[0], other_x[0]), min(x[-1], other_x[-1]), 50)
    return float(np.exp(np.mean(np.interp(sizes, x, y) - np.interp(sizes, other_x, other_y))))


def scatter(curve: np.ndarray) -> float:
    """Root mean square of the logarithm of harm about its cubic."""
    x, y = np.log(curve).T
    return float(np.sqrt(np.mean(np.square(y - np.polyval(np.polyfit(x - x.mean(), y, 3), x - x.mean())))))


def without() -> mock._patch:
    return mock.patch.object(moments, "assumed", lambda shape: None)


def constants(mean: float, correlation: float) -> mock._patch:
    real = moments.assumed
    return mock.patch.object(
        moments, "assumed", lambda shape: real(shape) and moments.Assumed.of(shape, mean, correlation)
    )


def compare(
    tried: Sequence[Network], pairs: Sequence[tuple[float, float]], rates: np.ndarray
) -> tuple[np.ndarray, Table]:
    """Geometric means over networks of `harm_ratio`, a pair each; the table has each network's, and scatters."""
    named = ["without", *(f"{mean:g}, {correlation:g}" for mean, correlation in pairs)]
    table = Table(columns("network", *((pair, "{:.3f} ({:.2f})") for pair in named)), f"{len(rates)} rates")
    ratios, scatters = [], []
    for name, model, images in tried:
        chosen = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:IMAGES]]
        statistics = ModelStatistics.of(model, name)
        with without():
            reference = curve(model, statistics, chosen, rates)
        found = {}
        for mean, correlation in pairs:
            # A kernel of one position knows no correlation.
            kernels = any(layer.weight.ndim > 2 for layer in statistics.layers.values())
            key = mean, correlation if kernels else None
            if key not in found:
                with constants(mean, correlation):
                    found[key] = curve(model, statistics, chosen, rates)
            found[mean, correlation] = found[key]
        each = [found[pair] for pair in pairs]
        ratios.append([harm_ratio(points, reference) for points in each])
        scatters.append([scatter(points) for points in (reference, *each)])
        table.add(name, *_cells(ratios[-1], scatters[-1]))
    means = np.exp(np.log(ratios).mean(axis=0))
    table.add("all", *_cells(means, np.mean(scatters, axis=0)))
    return means, table


def _cells(ratios: Sequence[float], scatters: Sequence[float]) -> list[tuple[float, float]]:
    return [(float(ratio), float(each)) for ratio, each in zip((1.0, *ratios), scatters, strict=True)]


def tune() -> list[Table]:
    """Harm at equal bytes over that without compensation, and scatter in brackets, by mean and correlation."""
    tried = list(networks())
    pairs = [(mean, correlation) for mean in MEANS for correlation in CORRELATIONS]
    means, all_pairs = compare(tried, pairs, RATES)
    best = [pairs[place] for place in np.argsort(means)[:FINAL]]
    means, final = compare(tried, best, FINAL_RATES)
    print(f"best: {best[int(means.argmin())]}; in the code: {(moments.MEAN, moments.CORRELATION)}")
    return [all_pairs, final]


def judge() -> list[Table]:
    """What compensation does on the judged networks, and their ten rates."""
    both = "{:.0f}, {:.0f}"
    summary = Table(
        columns(
            "network",
            ("harm at equal bytes, with / without", "{:.2f}"),
            ("of 9 steps, harm does not fall at: without, with", both),
            ("of 27 steps", both),
            ("scatter of ln harm: without, with", "{:.2f}, {:.2f}"),
        )
    )
    points = Table(
        columns(
            "network",
            ("nats a KB", "{:.2g}"),
            ("bytes, without", "{:,.0f}"),
            ("harm", "{:.3g}"),
            ("bytes, with", "{:,.0f}"),
            ("harm", "{:.3g}"),
        )
    )
    rows = []
    for name in JUDGED:
        subject = subjects.load(name)
        with without():
            before = curve(subject.model, subject.statistics, subject.data.test_images, JUDGED_RATES)
        after = curve(subject.model, subject.statistics, subject.data.test_images, JUDGED_RATES)
        for rate, (size, harm), (own_size, own_harm) in zip(JUDGED_RATES[TEN], before[TEN], after[TEN], strict=True):
            points.add(name, *map(float, (rate, size, harm, own_size, own_harm)))
        ten, all_of_them = (
            [int((np.diff(side[each, 1]) <= 0).sum()) for side in (before, after)] for each in (TEN, slice(None))
        )
        rows.append((name, harm_ratio(after, before), ten, all_of_them, (scatter(before), scatter(after))))
    print()
    for row in rows:
        summary.add(*row)
    return [summary, points]


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--judged", action="store_true", help="the judged networks alone")
    options = asked.parse_args()
    torch.set_num_threads(1)
    if not options.judged:
        keep("moments", tune(), options)
    keep("moments-judged", judge(), options)


if __name__ == "__main__":
    main()
