"""Artefacts as an origin of networks: the graph that the file carries, with its decoded weights."""

from paretoscope.base import files
from paretoscope.base.errors import ModelError
from paretoscope.codec.artefact import read
from paretoscope.graph.importer import Imported
from paretoscope.networks.origins import Opened, Options, origins
from paretoscope.networks.origins.origin import existing, refuse_options, suffixed


class Artefact:
    name = "artefact"
    title = "Artefact"
    summary = "A compressed network of this program: its file carries its graph, and opens anywhere."
    reference = "compression/paretoscope/codec/FORMAT.md"
    form = "FILE.psc"
    place = 30

    def takes(self, text: str) -> bool:
        return suffixed(text, ".psc")

    def open(self, text: str, options: Options) -> Opened:
        from paretoscope.graph.programs import import_module
        from paretoscope.networks import sources

        refuse_options(options, weights="an artefact has its weights", inputs="an artefact has its shapes")
        compressed = read(files.read(existing(text)))
        if not compressed.architecture:
            raise ModelError(
                f"an artefact must hold a network; {text} was packed from weights alone. "
                "Add the network itself, with --weights."
            )
        title, note = f"{compressed.architecture}, compressed", f"Compressed by: {compressed.recipe.describe()}."
        if compressed.graph is not None:
            return Opened(Imported(compressed.graph, compressed.state_dict()), title, None, (note,))
        module = compressed.build()
        example = sources.find(compressed.architecture).empty(2)
        return Opened(import_module(module, example), title, module, (note,))


origins.add(Artefact())
