"""The two LeNets of Deep Compression's first tables, for 28x28 images of one channel."""

from collections import OrderedDict

from torch import nn


def lenet_300_100(classes: int = 10) -> nn.Module:
    """Fully connected 784-300-100-classes with ReLU; input (n, 1, 28, 28). LeCun et al. 1998."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(28 * 28, 300),
            relu1=nn.ReLU(),
            fc2=nn.Linear(300, 100),
            relu2=nn.ReLU(),
            fc3=nn.Linear(100, classes),
        )
    )


def lenet_5(classes: int = 10) -> nn.Module:
    """The Caffe variant 20-50-500-classes; input (n, 1, 28, 28).

    As in Caffe's model of that name, the convolutions are followed by pooling alone; only fc1 has a ReLU.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 20, 5),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(20, 50, 5),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(50 * 4 * 4, 500),
            relu1=nn.ReLU(),
            fc2=nn.Linear(500, classes),
        )
    )
