"""The networks that the user added."""

from paretoscope.networks import library
from paretoscope.networks.network import Network


class Library:
    """Networks of `paretoscope.networks.library`, by the names that the user gave them."""

    name = "library"
    title = "Yours"
    summary = "Networks that you added, from files or from Python."
    reference = "Yours"

    def names(self) -> tuple[str, ...]:
        return library.names()

    def get(self, name: str) -> Network:
        return library.get(name).network
