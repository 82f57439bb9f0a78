"""`paretoscope pack`, `unpack`, `decompress`, `inspect`: weights to artefacts and back, and what is in one."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from paretoscope.base import files
from paretoscope.base.errors import RecipeError
from paretoscope.base.text import listed
from paretoscope.cli.options import RecipeOptions, with_recipe
from paretoscope.cli.shared import Json, file_path, reporting, tell
from paretoscope.recipe.recipe import FULL_PRECISION, Code, Recipe


@reporting
@with_recipe
def pack(
    options: RecipeOptions,
    file: Annotated[
        Path,
        typer.Argument(
            parser=file_path,
            metavar="WEIGHTS",
            help="Any state dict: .safetensors, .pt, .pth, .bin, .ckpt, or the .index.json of shards.",
        ),
    ],
    out: Annotated[Path, typer.Option(parser=file_path, help="Where to write the artefact.", metavar="FILE")],
    size: Annotated[
        int | None,
        typer.Option(
            help="Most bytes of the artefact: lossless where that fits, else by the exchange rate that meets it."
        ),
    ] = None,
) -> None:
    """Compress the weights of any network, without its architecture or data; what was written is read back."""
    from paretoscope import codec
    from paretoscope.codec.checkpoints import load_checkpoint
    from paretoscope.measure.wording import MUCH, smaller
    from paretoscope.methods.pack import left_alone, share_touched
    from paretoscope.methods.pack import pack as pack_weights
    from paretoscope.model.packed import PackedModel
    from paretoscope.search.allot import pack_for_size

    implied: dict[str, Any] = {"weighting": "magnitude"} if options.settings["calibration"] == "rate" else {}
    if size is not None:
        options.refuse(("exchange",), "with --size the exchange rate is looked for")
        options.refuse(("clusters",), "--size needs integer codes, whose steps follow from a rate")
        grids = ("percentile", "power_of_two", "ternary", *["symmetric"] * (options.settings["symmetric"] is False))
        options.refuse(grids, "with --size weights are quantized by rate, on a grid around zero")
        if options.settings["calibration"] not in (None, "rate") or options.settings["bits"] in (1, FULL_PRECISION):
            raise RecipeError(
                "with --size weights are quantized by rate, with 2 to 16 bits at most; got another --calibration or "
                "--bits. Leave them out, or leave out --size."
            )
        if options.source is None:
            implied = {"bits": 12, "calibration": "rate", "weighting": "magnitude", "rest": "rate", "coder": "smallest"}
    recipe = options.build(implied=implied)
    if recipe.recover is not None:
        raise RecipeError("weights alone cannot be trained; got epochs. Leave them out, or train a model of the zoo.")
    files.check_writable(out)
    checkpoint = load_checkpoint(file)

    def packed(recipe: Recipe) -> PackedModel:
        return pack_weights(checkpoint.state, recipe, checkpoint.metadata)

    if size is not None:
        given = options.given.keys() - {"rest", "coder"}
        plain: tuple[Recipe, ...] = ()
        exact = not given & {"bits", "granularity", "calibration", "weighting"} and options.given.get("rest") != "rate"
        if exact and not (options.source and recipe.quantize):
            rest = options.given.get("rest", recipe.code.rest if options.source else "fp32")
            # Floats are coded by their frequencies whatever the coder: which file is smaller is a matter of bytes.
            coders = (recipe.code.coder,) if options.source or "coder" in options.given else ("ans", "smallest")
            plain = tuple(dataclasses.replace(recipe, quantize=None, code=Code(coder, rest)) for coder in coders)
        recipe = pack_for_size(recipe, plain, size, lambda each: len(codec.write(packed(each))))
    model = packed(recipe)
    data = codec.write_checked(model)
    files.write_atomically(out, data)
    size_bytes = checkpoint.size_bytes
    than = f"{smaller(size_bytes / len(data))} than {size_bytes:,} bytes of tensors" if size_bytes else "no values"
    touched = share_touched(model, checkpoint.state)
    print(f"{out}: {len(data):,} bytes, {than} ({recipe.describe()}); touched {touched:.1%} of the values")
    left = left_alone(model, checkpoint.state) if touched < MUCH and not recipe.lossless else {}
    untouched = [f"The recipe acts on {touched:.1%} of the values only. As they were: {listed(left)}."] * bool(left)
    tell([*checkpoint.notes, *model.notes, *untouched])


@reporting
def unpack(
    file: Annotated[Path, typer.Argument(parser=file_path, metavar="FILE", help="An artefact.")],
    out: Annotated[
        Path, typer.Option(parser=file_path, help="Where to write the state dict.", metavar="WEIGHTS.safetensors")
    ],
) -> None:
    """Decode an artefact to a state dict of the names, shapes and types that it was packed from."""
    from paretoscope import codec
    from paretoscope.methods import pack
    from paretoscope.model.packed import PackedModel

    compressed = codec.read(files.read(file))
    state = compressed.state_dict()
    data = pack.save_weights(state, compressed.metadata if isinstance(compressed, PackedModel) else None)
    files.write_atomically(out, data)
    print(f"{out}: {len(data):,} bytes, {len(state)} tensors")
    tell(compressed.notes)


@reporting
def decompress(
    file: Annotated[Path, typer.Argument(parser=file_path, metavar="FILE", help="An artefact.")],
    out: Annotated[
        Path,
        typer.Option(parser=file_path, help="Where to write the full state dict.", metavar="WEIGHTS.safetensors"),
    ],
) -> None:
    """Decode an artefact to a full state dict of floats, bit for bit what was evaluated."""
    from paretoscope import codec
    from paretoscope.export.weights import decoded

    compressed = codec.read(files.read(file))
    data = decoded(compressed)
    files.write_atomically(out, data)
    origin = compressed.architecture or "a state dict without a network"
    print(f"{out}: {len(data):,} bytes, {len(compressed.order)} tensors of {origin}")
    tell(compressed.notes)


@reporting
def inspect(
    file: Annotated[Path, typer.Argument(parser=file_path, metavar="FILE", help="An artefact.")],
    as_json: Json = False,
) -> None:
    """Print what is inside an artefact: recipe, figures, each tensor's codes and bits, and where all bytes go."""
    from paretoscope.codec.report import report, text

    found = report(files.read(file))
    print(json.dumps(found.to_dict(), indent=2) if as_json else text(found))
