"""Files such as users bring: a program of torch.export and arrays, of the networks of `own_networks`."""

from pathlib import Path

import numpy as np
import own_networks
import torch
from paretoscope.base.batch import head, parts
from torch import nn


def write_program(path: Path, name: str) -> Path:
    """A network of `own_networks` as a `.pt2` for any number of samples."""
    sample = parts(head(own_networks.data(name).train, 2))
    free = tuple({0: torch.export.Dim("n")} for _ in sample)
    torch.export.save(torch.export.export(own_networks.module(name), sample, dynamic_shapes=free), path)
    return path


def write_arrays(path: Path, name: str, *, labelled: bool = True) -> Path:
    """Its samples as an `.npz`: an array for each input, and the labels as y."""
    data = own_networks.data(name, labelled=labelled)
    names = [each.name for each in own_networks.network(name).inputs]
    pairs = zip(names, parts(data.train), parts(data.test), strict=True)
    arrays = {each: torch.cat(both).numpy() for each, *both in pairs}
    if data.train_labels is not None and data.test_labels is not None:
        arrays["y"] = torch.cat([data.train_labels, data.test_labels]).numpy()
    np.savez(path, **arrays)
    return path


def write_pictures(folder: Path) -> tuple[Path, Path]:
    """A network that finds the brighter half of pictures from -1 to 1, and pictures from 0 to 255 with labels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(1, 2, (4, 8)), nn.Flatten(), nn.Linear(10, 2))
    convolution, last = module[0], module[2]
    with torch.no_grad():
        convolution.weight.fill_(1 / 32)
        convolution.bias.zero_()
        last.weight.zero_()
        # Dark halves are below zero: only pixels from -1 to 1 tell which half is bright.
        last.weight[0, 0], last.weight[1, 0] = 8.0, -8.0
        last.bias.zero_()
    random = np.random.RandomState(0)
    labels = np.arange(200) % 2
    pictures = random.randint(0, 60, (200, 1, 8, 8)).astype(np.uint8)
    pictures[labels == 0, :, :4] += 180
    np.savez(folder / "pictures.npz", x=pictures, y=labels)
    example = torch.zeros(2, 1, 8, 8)
    program = torch.export.export(module.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, folder / "halves.pt2")
    return folder / "halves.pt2", folder / "pictures.npz"
