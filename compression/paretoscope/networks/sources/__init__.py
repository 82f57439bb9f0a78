"""Sources of networks, one file each; importing this registers them."""

from paretoscope.networks.network import Input, Network, NetworkSource, find, names, sources
from paretoscope.networks.sources import library as _library  # noqa: F401  (registers the source)

# In the order in which choosers show them.
from paretoscope.networks.sources import zoo as _zoo  # noqa: F401  (registers the source)

__all__ = ["Input", "Network", "NetworkSource", "find", "names", "sources"]
