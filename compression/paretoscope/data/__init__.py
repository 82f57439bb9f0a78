"""Sets of data, one file each; importing this registers them."""

from paretoscope.data import dataset as _dataset  # noqa: F401  (registers the digits)
from paretoscope.data import mnist as _mnist  # noqa: F401  (registers MNIST)
