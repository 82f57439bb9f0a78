"""The command line: everything the screen can do. Figures go to standard output, everything else to standard error."""

import typer

from paretoscope.cli import (
    dashboard,
    evaluate,
    exporting,
    latency,
    layers,
    models,
    networks,
    packing,
    recipes,
    report,
    search,
    training,
)
from paretoscope.cli.shared import start

app = typer.Typer(
    help="See how small and how fast a neural network can get, and what that costs in accuracy.\n\n"
    "Start with the command models, then try: evaluate simple-cnn --sparsity 0.8 --clusters 16 --bits 8",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

app.callback()(start)

# In the order of the help.
COMMANDS = (
    dashboard.run,
    models.models,
    models.presets,
    networks.add,
    networks.show,
    networks.remove,
    training.train,
    recipes.recipe,
    evaluate.evaluate,
    evaluate.compress,
    layers.layers,
    latency.latency,
    training.recover,
    layers.sensitivity,
    search.allot,
    search.suggest,
    report.report,
    packing.decompress,
    exporting.formats,
    exporting.export,
    packing.pack,
    packing.unpack,
    packing.inspect,
)
for command in COMMANDS:
    app.command()(command)
