"""Networks that were imported: a graph and its tensors as a `Network`."""

from collections.abc import Callable

from torch import Tensor

from paretoscope.graph.graph_module import GraphModule
from paretoscope.graph.importer import Imported
from paretoscope.graph.network_graph import NetworkGraph
from paretoscope.graph.shapes import shapes_of
from paretoscope.networks.network import Input, Network


def network_of(
    name: str,
    graph: NetworkGraph,
    state: Callable[[], dict[str, Tensor]],
    *,
    title: str | None = None,
    data: str = "",
    task: str = "agreement",
    outputs: tuple[tuple[int, ...], ...] | None = None,
    train: str = "",
    preprocess: str = "",
    digest: str = "",
) -> Network:
    """A network from its graph. state: reads its tensors when they are needed first; it may raise ModelError.

    outputs: shapes of one sample's, where they are known; else the graph is run without values.
    """
    inputs = tuple(Input(each.name, each.shape, each.dtype) for each in graph.inputs)
    return Network(
        name=name,
        title=name if title is None else title,
        inputs=inputs,
        outputs=outputs_of(graph) if outputs is None else outputs,
        data=data,
        bare=lambda: GraphModule(graph),
        opened=lambda: Imported(graph, state()).module(),
        task=task,
        graph=graph,
        train=train,
        preprocess=preprocess,
        digest=digest,
    )


def outputs_of(graph: NetworkGraph) -> tuple[tuple[int, ...], ...]:
    """The shape of one sample's outputs, each, found without any values; raises ModelError as `shapes_of` does."""
    found = shapes_of(graph)[""]
    return tuple(each[1:] for each in (found if isinstance(found, list) else [found]) if isinstance(each, tuple))
