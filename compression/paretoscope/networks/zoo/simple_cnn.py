"""A small convolutional net: two convolutions, two linear layers."""

from collections import OrderedDict

from torch import nn


def simple_cnn(classes: int = 10) -> nn.Module:
    """Input (n, 3, 32, 32); 98 % of the weights are in fc1, as in the nets that Deep Compression shrank most."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 16, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(16, 32, 3, padding=1),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(32 * 8 * 8, 128),
            relu3=nn.ReLU(),
            fc2=nn.Linear(128, classes),
        )
    )
