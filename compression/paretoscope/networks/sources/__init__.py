"""Sources of networks, one file each; importing this registers them."""

from paretoscope.networks.network import Input, Network, NetworkSource, alike, find, names, sources
from paretoscope.networks.sources.library import Library
from paretoscope.networks.sources.zoo import Zoo

__all__ = ["Input", "Network", "NetworkSource", "alike", "find", "names", "sources"]

# In the order in which choosers show them.
sources.add(Zoo())
sources.add(Library())
