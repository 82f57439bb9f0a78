"""The public API: what `paretoscope` gives to those who import it.

Thin: each function puts together what the rooms have, and the command line does the same. The networks that were used
last stay open, at most `OPEN` of them, with their data and with what no recipe changes.
"""

import os
import warnings
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from paretoscope import codec
from paretoscope.base import files
from paretoscope.base.errors import ModelError
from paretoscope.base.progress import SILENT, Progress
from paretoscope.measure.record import Record
from paretoscope.measure.subject import Subject
from paretoscope.model.compressed import CompressedModel
from paretoscope.networks import sources
from paretoscope.networks.network import Network
from paretoscope.recipe.given import recipe_given
from paretoscope.recipe.presets import Preset, presets_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import runtimes
from paretoscope.service import subjects

if TYPE_CHECKING:
    from torch import nn

    from paretoscope.data.data import Data
    from paretoscope.export import Verification

# Each holds a network and its data; scripts work on one or two at a time.
OPEN = 4

Path = str | os.PathLike[str]

# The data of networks that `from_module` made: they are in no library.
_data: "WeakKeyDictionary[Network, Data]" = WeakKeyDictionary()


def open_network(name: str) -> Network:
    """A network by its name, of any source, such as the zoo's "resnet-20"; nothing is loaded yet.

    Raises UnknownNameError, which tells the names that there are.
    """
    return sources.find(name)


def from_module(module: "nn.Module", data: "Data", *, name: str = "network", task: str | None = None) -> Network:
    """A network of your own module and your own samples, for `compress` and `evaluate`; no library is needed for it.

    module: is exported by torch.export, as it answers in evaluation mode; not changed. data: e.g. `ArrayData.of(train,
    test, calibration, train_labels, test_labels)`, tensors (n, ...) as the module takes them, a tuple of them for
    several inputs. task: "classification" or "agreement"; None for classification of data with labels, else agreement,
    as for labels that can be no classes (real numbers, a network of one output column), of which a warning tells.
    Raises ModelError for a module that cannot be exported or has an operator that is not known, CompressionError for a
    name that is none, and DataError for labels that do not fit the outputs.
    """
    # The importer takes a second to import, and is for networks of one's own alone.
    from paretoscope.base.batch import head
    from paretoscope.base.library import check_name
    from paretoscope.graph.programs import import_module
    from paretoscope.networks.imported import network_of
    from paretoscope.service.adding import chosen_task
    from paretoscope.service.labels import leaves_out

    imported = import_module(module, head(data.calibration, 2))
    network = network_of(check_name("network", name), imported.graph, lambda: imported.state, data=name)
    chosen, why = chosen_task(data, network) if task is None else (task, None)
    if why is not None and leaves_out(data):
        warnings.warn(why, stacklevel=2)
    network = replace(network, task=chosen)
    _data[network] = data
    return network


def add_network(
    name: str,
    source: str,
    *,
    data: str = "",
    train: str = "",
    task: str | None = None,
    preprocess: str | None = None,
    weights: str = "",
    replace: bool = False,
) -> Network:
    """Add a network to your library, as the command `add` does: from then on it is a model like any other.

    source: a file such as "mine.pt2" or "mine.onnx", "torchvision:NAME", or "package.module:function", which is run.
    data, train: what it is measured and trained on: names of data of the library, or sources of data. task,
    preprocess: None for what they and the source say. Raises CompressionError, and leaves nothing behind then.
    """
    from paretoscope.networks.origins import Options
    from paretoscope.service import adding

    options = Options(weights, code=True)
    candidate = adding.open_candidate(
        name, source, options, data=data, train=train, task=task, preprocess=preprocess, replace=replace
    )
    try:
        candidate.subject()
        return candidate.keep(replace=replace).network
    except BaseException:
        candidate.discard()
        raise


def presets(network: Network | str) -> tuple[Preset, ...]:
    """The named recipes that are offered for a network: name, title, one sentence, and the recipe."""
    return tuple(presets_of(_name(network)))


def compress(network: Network | str, recipe: Recipe | Path = Recipe()) -> CompressedModel:  # noqa: B008 (immutable)
    """What a recipe makes of a network; equal arguments give equal results. The network itself is not changed.

    recipe: a Recipe, the name of a preset, a link of the dashboard, or the path of a JSON or YAML file; left out,
    nothing is changed, only coded. `notes` of the result tell what had no effect. Raises RecipeError or ModelError
    where it cannot be applied to this network, and RecipeError where its training was not done on this machine.
    """
    return _opened(_network(network)).compress(recipe_given(recipe, _name(network)))


def evaluate(
    compressed: CompressedModel,
    network: Network | str | None = None,
    *,
    runtime: str | None = None,
    batch: int = 1,
    threads: int = 1,
    progress: Progress = SILENT,
) -> Record:
    """Measure a compressed model on the whole test split: figures, size in bytes, rates and, in a runtime, latency.

    network: what it was made of; None for the one of that name. runtime: such as "onnxruntime" or "torch", in which
    it is timed side by side with the baseline, `batch` samples at a time on so many threads, which takes some seconds;
    None times nothing, and `latency` is None. Raises ModelError where it was made of other weights, UnknownNameError or
    RuntimeUnavailableError for a runtime that is not there.
    """
    if runtime is not None:
        runtimes.get(runtime).require()
    subject = _opened(_network(compressed.architecture if network is None else network))
    *_, evaluation = subject.evaluate_compressed(compressed)
    if runtime is None:
        return evaluation.record
    timing = subject.time(compressed, runtime, batch, threads, progress=progress)
    return replace(evaluation.record, latency=timing.latency)


def save(compressed: CompressedModel, path: Path) -> int:
    """Write a compressed model as an artefact, once it has been proven to read back bit for bit; returns its bytes.

    They are the size: `evaluate(compressed).size.artefact`. A crash leaves the file that was there before. Raises
    ModelError for what cannot be held, CompressionError where the file cannot be written.
    """
    data = codec.write_checked(compressed)
    files.write_atomically(path, data)
    return len(data)


def load(path: Path) -> CompressedModel:
    """Read an artefact; `build()` of the result is an ordinary nn.Module with its weights, in evaluation mode.

    Nothing in the file is executed. Raises ArtefactError for what is no artefact or is damaged, NewerArtefactError for
    one of a later version, CompressionError where there is no such file.
    """
    return codec.read(files.read(path))


def convert(
    compressed: CompressedModel,
    format: str,
    path: Path,
    network: Network | str | None = None,
    *,
    progress: Progress = SILENT,
) -> "Verification":
    """Write a compressed model for other tools: "onnx", "torch-export", "safetensors" and others.

    The files are run in their own runtime over the whole test split before they are written; the result tells how far
    they are from the network that was evaluated. path: the file, or a new folder where the format has several files.
    network: as for `evaluate`. Raises UnknownNameError for a format that is not there, RecipeError where the recipe has
    no such files, ModelError where a package is missing or the check fails; then nothing is written.
    """
    # The formats bring the libraries of all runtimes, which nothing else here needs.
    from paretoscope import export
    from paretoscope.export import output

    subject = _opened(_network(compressed.architecture if network is None else network))
    original = export.Original(subject, compressed, progress)
    conversion = export.convert(compressed, format, subject, original=original)
    checked = export.verify(conversion, subject, compressed, original=original)
    if checked.problem is not None:
        raise ModelError(checked.problem)
    output.write(path, conversion.files)
    return checked


def _network(network: Network | str) -> Network:
    return open_network(network) if isinstance(network, str) else network


def _name(network: Network | str) -> str:
    return _network(network).name


@lru_cache(maxsize=OPEN)
def _opened(network: Network) -> Subject:
    return subjects.open_subject(network, _data.get(network))
